"""A serial device on USB: CDC-ACM, which every operating system makes a serial port of, around a serial model.

Written after the USB class definitions for communications devices 1.2 and their subclass PSTN 1.2 (abstract control).
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from emgd_drivers.sim.bus.descriptors import BCD_DEVICE, DeviceDescription, Endpoint, EndpointKind, Interface
from emgd_drivers.sim.bus.usb_device import RequestRefused, SetupPacket, UsbDevice
from emgd_drivers.sim.serial_model import SerialModel

NOTIFY_IN: Final = 0x81
DATA_OUT: Final = 0x02
DATA_IN: Final = 0x83

COMMUNICATIONS: Final = 0x02
ABSTRACT_CONTROL: Final = 0x02
AT_COMMANDS: Final = 0x01
DATA_CLASS: Final = 0x0A

NOTIFY_PACKET_BYTES: Final = 16
"""A notification has 10 bytes."""

NOTIFY_INTERVAL: Final = 9
"""bInterval: 2^8 x 125 µs = 32 ms."""

BUFFER_BYTES: Final = 4096
"""What the device puts on its way at once: a few packets, as a microcontroller's driver does."""

LINE_CODING: Final = struct.Struct("<IBBB")
USUAL_CODING: Final = LINE_CODING.pack(115_200, 0, 0, 8)
"""115200 baud, 1 stop bit, no parity, 8 data bits."""

NOTIFICATION: Final = struct.Struct("<BBHHHH")

CLASS_OUT: Final = 0x21
CLASS_IN: Final = 0xA1
"""bmRequestType of a class request to an interface."""

DTR: Final = 1
RTS: Final = 2


class ClassRequest(IntEnum):
    """bRequest of class requests."""

    SET_LINE_CODING = 0x20
    GET_LINE_CODING = 0x21
    SET_CONTROL_LINE_STATE = 0x22
    SEND_BREAK = 0x23


SERIAL_STATE: Final = 0x20
"""bNotificationCode: the state of the line."""

CARRIER_AND_READY: Final = 0x03
"""Bits DCD and DSR of SERIAL_STATE: the device is there and ready."""

FUNCTIONS: Final = bytes.fromhex("05 24 00 10 01  05 24 01 00 01  04 24 02 02  05 24 06 00 01")
"""Functional descriptors: CDC 1.10; no call management, data interface 1; line coding and state; union of 0 and 1."""


@dataclass(frozen=True, slots=True)
class UsbIdentity:
    """Who a device says it is."""

    vendor: int
    product: int
    manufacturer: str
    name: str
    bcd_device: int = BCD_DEVICE


def cdc_description(identity: UsbIdentity, serial: str) -> DeviceDescription:
    """What a CDC-ACM device says of itself."""
    notify = Endpoint(NOTIFY_IN, EndpointKind.INTERRUPT, NOTIFY_PACKET_BYTES, NOTIFY_INTERVAL)
    data = (Endpoint(DATA_OUT), Endpoint(DATA_IN))
    return DeviceDescription(
        vendor=identity.vendor,
        product=identity.product,
        class_code=COMMUNICATIONS,
        bcd_device=identity.bcd_device,
        strings=(identity.manufacturer, identity.name, serial),
        interfaces=(
            Interface(0, COMMUNICATIONS, ABSTRACT_CONTROL, AT_COMMANDS, (notify,), FUNCTIONS),
            Interface(1, DATA_CLASS, endpoints=data),
        ),
    )


class CdcAcmDevice(UsbDevice):
    """A serial model on a bus. What the host does not ask for waits in the model."""

    stream_in = DATA_IN

    def __init__(self, model: SerialModel, identity: UsbIdentity, serial: str) -> None:
        super().__init__(cdc_description(identity, serial))
        self.line_coding = USUAL_CODING
        self.lines = 0
        self.received_bytes = 0
        self._model = model
        self._notification: bytes | None = None
        model.connect(self._send_bytes)

    @property
    def unplugged(self) -> bool:
        """Most serial models stay where they are; those with faults may say that they are gone."""
        return bool(getattr(self._model, "unplugged", False))

    def report(self, _now_ns: int) -> dict[str, int | str]:
        """What the host has set, and how much it sent."""
        return {
            "state": "open" if self.lines & DTR else "closed",
            "baud": LINE_CODING.unpack(self.line_coding)[0],
            "dtr": self.lines & DTR,
            "rts": (self.lines & RTS) >> 1,
            "received_bytes": self.received_bytes,
        }

    def _run(self, now_ns: int) -> None:
        self._model.run(now_ns)
        self._notify()

    def _next_ns(self) -> int | None:
        return self._model.next_event_ns()

    def _receive(self, _endpoint: int, data: bytes, now_ns: int) -> None:
        self.received_bytes += len(data)
        self._model.receive(data, now_ns)

    def _on_reset(self, now_ns: int) -> None:
        self.line_coding = USUAL_CODING
        self._set_lines(0, now_ns)
        self._notification = None

    def _set_lines(self, lines: int, now_ns: int) -> None:
        """DTR and RTS. Most serial models do not care; a stimulator must know whether a host is there."""
        changed = (lines ^ self.lines) & DTR
        self.lines = lines
        if changed and (host := getattr(self._model, "host", None)) is not None:
            host(bool(lines & DTR), now_ns)

    def _answer(self, setup: SetupPacket, data: bytes, now_ns: int) -> bytes:
        if (setup.request_type, setup.request) == (CLASS_IN, ClassRequest.GET_LINE_CODING):
            return self.line_coding
        if setup.request_type != CLASS_OUT:
            raise RequestRefused
        if setup.request == ClassRequest.SET_LINE_CODING and len(data) == LINE_CODING.size:
            self.line_coding = data
        elif setup.request == ClassRequest.SET_CONTROL_LINE_STATE:
            if setup.value & DTR and not self.lines & DTR:
                self._notification = NOTIFICATION.pack(CLASS_IN, SERIAL_STATE, 0, 0, 2, CARRIER_AND_READY)
            self._set_lines(setup.value, now_ns)
        elif setup.request != ClassRequest.SEND_BREAK:
            raise RequestRefused
        return b""

    def _send_bytes(self, data: bytes) -> int:
        """Put bytes of the model on their way; how many."""
        sent = data[:BUFFER_BYTES]
        return len(sent) if sent and self._send(DATA_IN, sent) else 0

    def _notify(self) -> None:
        """Tell the state of the line, once the host asks."""
        if self._notification is not None and self._send(NOTIFY_IN, self._notification):
            self._notification = None
