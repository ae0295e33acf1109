"""USB descriptors as bytes: what a device says of itself when it is enumerated (USB 2.0, chapter 9.6)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

DEVICE: Final = struct.Struct("<BBHBBBBHHHBBBB")
CONFIGURATION: Final = struct.Struct("<BBHBBBBB")
INTERFACE: Final = struct.Struct("<BBBBBBBBB")
ENDPOINT: Final = struct.Struct("<BBBBHB")

BCD_USB: Final = 0x0200
"""USB 2.0; a device that claims more would be asked for descriptors that it does not have."""

BCD_DEVICE: Final = 0x0100

CONTROL_PACKET_BYTES: Final = 64
"""Packet size of endpoint 0: high speed allows no other."""

BULK_PACKET_BYTES: Final = 512
"""Packet size of bulk endpoints: high speed allows no other."""

BUS_POWERED: Final = 0x80
"""bmAttributes: bit 7 is always set; neither self-powered nor able to wake the host."""

MAX_POWER_2MA: Final = 50
"""100 mA, in the unit of the descriptor: every port grants that."""

ENGLISH: Final = 0x0409
"""The one language of the strings: English (United States)."""

MAX_STRING_UNITS: Final = 126
"""Most UTF-16 units in a string: a descriptor's length is one byte."""

DIRECTION_IN: Final = 0x80
"""Bit of an endpoint's address, and of bmRequestType, that means device to host."""


class DescriptorType(IntEnum):
    """bDescriptorType."""

    DEVICE = 1
    CONFIGURATION = 2
    STRING = 3
    INTERFACE = 4
    ENDPOINT = 5


class EndpointKind(IntEnum):
    """bmAttributes of an endpoint: how it transfers."""

    BULK = 2
    INTERRUPT = 3


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint. `interval` is bInterval: an interrupt endpoint is asked every 2^(interval-1) x 125 µs."""

    address: int
    kind: EndpointKind = EndpointKind.BULK
    packet_bytes: int = BULK_PACKET_BYTES
    interval: int = 0

    @property
    def is_in(self) -> bool:
        """Does it send to the host?"""
        return bool(self.address & DIRECTION_IN)

    def pack(self) -> bytes:
        """7 bytes."""
        head = (ENDPOINT.size, DescriptorType.ENDPOINT, self.address, self.kind)
        return ENDPOINT.pack(*head, self.packet_bytes, self.interval)


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface without alternate settings. `extra` is what its class puts between interface and endpoints."""

    number: int
    class_code: int
    subclass: int = 0
    protocol: int = 0
    endpoints: tuple[Endpoint, ...] = ()
    extra: bytes = b""

    def pack(self) -> bytes:
        """The interface with all that belongs to it."""
        head = (INTERFACE.size, DescriptorType.INTERFACE, self.number, 0, len(self.endpoints))
        own = INTERFACE.pack(*head, self.class_code, self.subclass, self.protocol, 0)
        return own + self.extra + b"".join(endpoint.pack() for endpoint in self.endpoints)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDescription:
    """A high-speed device with one configuration, number 1. `strings` are manufacturer, product, serial number."""

    vendor: int
    product: int
    strings: tuple[str, str, str]
    interfaces: tuple[Interface, ...]
    class_code: int = 0
    subclass: int = 0
    protocol: int = 0
    bcd_device: int = BCD_DEVICE

    def device(self) -> bytes:
        """The device descriptor, 18 bytes; its string indices are 1, 2 and 3."""
        head = (DEVICE.size, DescriptorType.DEVICE, BCD_USB, self.class_code, self.subclass, self.protocol)
        return DEVICE.pack(*head, CONTROL_PACKET_BYTES, self.vendor, self.product, self.bcd_device, 1, 2, 3, 1)

    def configuration(self) -> bytes:
        """The configuration descriptor with all that belongs to it."""
        body = b"".join(interface.pack() for interface in self.interfaces)
        head = (CONFIGURATION.size, DescriptorType.CONFIGURATION, CONFIGURATION.size + len(body))
        return CONFIGURATION.pack(*head, len(self.interfaces), 1, 0, BUS_POWERED, MAX_POWER_2MA) + body

    def string(self, index: int) -> bytes | None:
        """String descriptor `index`; 0 is the list of languages, None means that there is no such string."""
        if index == 0:
            return _headed(DescriptorType.STRING, ENGLISH.to_bytes(2, "little"))
        return string_descriptor(self.strings[index - 1]) if index <= len(self.strings) else None

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Endpoints of all interfaces."""
        return [endpoint for interface in self.interfaces for endpoint in interface.endpoints]


def string_descriptor(text: str) -> bytes:
    """One string; ValueError when it is too long for a descriptor."""
    units = text.encode("utf-16-le")
    if len(units) > 2 * MAX_STRING_UNITS:
        raise ValueError(f"the string {text!r} is too long for a USB descriptor; {MAX_STRING_UNITS} characters fit")
    return _headed(DescriptorType.STRING, units)


def _headed(kind: DescriptorType, body: bytes) -> bytes:
    return bytes([2 + len(body), kind]) + body
