"""USB/IP, the server's part: what a kernel's vhci-hcd (or any other client) says, and what we answer.

Written after the kernel's Documentation/usb/usbip_protocol.rst, version 0x0111. All numbers are big endian.
"""

import struct
from enum import IntEnum
from typing import Final

from emgd_drivers.sim.bus.conversation import MAX_IN_FLIGHT, MAX_TRANSFER_BYTES, Conversation, PeerError
from emgd_drivers.sim.bus.descriptors import DIRECTION_IN
from emgd_drivers.sim.bus.pipe import Completion, TransferStatus
from emgd_drivers.sim.bus.port import Bus, BusError, Port
from emgd_drivers.sim.bus.usb_device import SetupPacket, UsbDevice

VERSION: Final = 0x0111

OPERATION: Final = struct.Struct(">HHI")
BUS_ID: Final = struct.Struct(">32s")
DEVICE: Final = struct.Struct(">256s32sIIIHHHBBBBBB")
SUBMIT: Final = struct.Struct(">IIIIIIiiiI8s")
UNLINK: Final = struct.Struct(">IIIIII24x")
RET_SUBMIT: Final = struct.Struct(">IIIIIiiiii8x")
RET_UNLINK: Final = struct.Struct(">IIIIIi24x")

URB_BYTES: Final = 48
"""Every message about a request has a header of this length."""

BUS_NUMBER: Final = 1
SPEED_HIGH: Final = 3

NO_ISOCHRONOUS: Final = frozenset({0, -1})
"""number_of_packets of a transfer that is not isochronous: the kernel says 0, its document 0xffffffff."""


class Operation(IntEnum):
    """What is asked for before a device is chosen; the answer has the same number without the highest bit."""

    IMPORT = 0x8003
    DEVLIST = 0x8005


ANSWER_MASK: Final = 0x7FFF


class OperationStatus(IntEnum):
    """How an operation ended (ST_... in the kernel's tools)."""

    OK = 0
    BUSY = 2
    NO_DEVICE = 4


class Command(IntEnum):
    """Messages about requests."""

    SUBMIT = 1
    UNLINK = 2
    RET_SUBMIT = 3
    RET_UNLINK = 4


class Direction(IntEnum):
    """Which way a request's data goes."""

    OUT = 0
    IN = 1


EPIPE, EOVERFLOW, ECONNRESET, ESHUTDOWN = 32, 75, 104, 108
"""Error numbers of Linux, whatever machine this runs on."""

STATUSES: Final = {
    TransferStatus.OK: 0,
    TransferStatus.STALL: -EPIPE,
    TransferStatus.BABBLE: -EOVERFLOW,
    TransferStatus.CANCELLED: -ECONNRESET,
    TransferStatus.GONE: -ESHUTDOWN,
}


class UsbIpConversation(Conversation):
    """One USB/IP client: it asks for the list and leaves, or imports a device and sends requests to it."""

    def __init__(self, bus: Bus) -> None:
        super().__init__()
        self._bus = bus
        self._device_id = 0
        self._in_flight: set[int] = set()
        self._unlinked: int | None = None

    def _take(self, data: bytearray, at: int, now_ns: int) -> int:
        if self._device is not None:
            return self._take_urb(self._device, data, at, now_ns)
        return self._take_operation(data, at)

    def _say(self, done: Completion) -> None:
        self._in_flight.discard(done.tag)
        if done.tag == self._unlinked:  # The answer to UNLINK says that.
            return
        head = (Command.RET_SUBMIT, done.tag, 0, 0, 0, STATUSES[done.status], done.moved_bytes, 0, 0, 0)
        self._out.append(RET_SUBMIT.pack(*head))
        if done.data:
            self._out.append(done.data)

    # Before a device is chosen.

    def _take_operation(self, data: bytearray, at: int) -> int:
        if len(data) - at < OPERATION.size:
            return 0
        version, code, _ = OPERATION.unpack_from(data, at)
        if version != VERSION:
            raise PeerError(f"it speaks USB/IP version 0x{version:04x}; 0x{VERSION:04x} is spoken here")
        if code == Operation.DEVLIST:
            self._list()
            return OPERATION.size
        if code != Operation.IMPORT:
            raise PeerError(f"there is no USB/IP operation 0x{code:04x}")
        if len(data) - at < OPERATION.size + BUS_ID.size:
            return 0
        (bus_id,) = BUS_ID.unpack_from(data, at + OPERATION.size)
        self._import(bus_id.split(b"\0")[0].decode("ascii", "replace"))
        return OPERATION.size + BUS_ID.size

    def _list(self) -> None:
        plugged = [(port, port.device) for port in self._bus.ports if port.device is not None]
        self._out.append(_answer(Operation.DEVLIST, OperationStatus.OK))
        self._out.append(len(plugged).to_bytes(4, "big"))
        for port, device in plugged:
            self._out.append(_record(port, device))
            for interface in device.description.interfaces:
                self._out.append(bytes([interface.class_code, interface.subclass, interface.protocol, 0]))
        self.ended = True

    def _import(self, bus_id: str) -> None:
        port = next((each for each in self._bus.ports if each.bus_id == bus_id and each.device is not None), None)
        if port is None:
            self._refuse(OperationStatus.NO_DEVICE)
            return
        try:
            device = self._attach(port)
        except BusError:
            self._refuse(OperationStatus.BUSY)
            return
        self._device_id = BUS_NUMBER << 16 | _device_number(port)
        self._out.append(_answer(Operation.IMPORT, OperationStatus.OK))
        self._out.append(_record(port, device))

    def _refuse(self, status: OperationStatus) -> None:
        self._out.append(_answer(Operation.IMPORT, status))
        self.ended = True

    # From then on.

    def _take_urb(self, device: UsbDevice, data: bytearray, at: int, now_ns: int) -> int:
        if len(data) - at < URB_BYTES:
            return 0
        fields = SUBMIT.unpack_from(data, at)
        command, tag, device_id, direction, endpoint, _, length, _, packets, _, setup = fields
        if device_id != self._device_id:
            raise PeerError(f"it names device 0x{device_id:08x}; it has imported 0x{self._device_id:08x}")
        if command == Command.UNLINK:
            self._unlink(device, tag, UNLINK.unpack_from(data, at)[5], now_ns)
            return URB_BYTES
        if command != Command.SUBMIT:
            raise PeerError(f"there is no USB/IP command {command} for a server")
        self._check_submit(tag, direction, endpoint, length, packets)
        has_data = direction == Direction.OUT
        taken = URB_BYTES + (length if has_data else 0)
        if len(data) - at < taken:
            return 0
        out = bytes(data[at + URB_BYTES : at + taken])
        if endpoint == 0:
            packet = SetupPacket.unpack(setup)
            if packet.length != length or (length and packet.is_in == has_data):
                raise PeerError(
                    f"request {tag}: its setup packet ({packet}) does not go with {length} bytes {direction=}"
                )
            device.control(tag, setup, out, now_ns)
        elif has_data:
            device.submit_out(tag, endpoint, out, now_ns)
        else:
            device.submit_in(tag, endpoint | DIRECTION_IN, length, now_ns)
        self._in_flight.add(tag)
        self._fetch(now_ns)
        return taken

    def _check_submit(self, tag: int, direction: int, endpoint: int, length: int, packets: int) -> None:
        """PeerError for a request that no host controller would send."""
        if direction not in (Direction.OUT, Direction.IN) or endpoint > 15:
            raise PeerError(f"request {tag} is for endpoint {endpoint}, direction {direction}: there is no such thing")
        if not 0 <= length <= MAX_TRANSFER_BYTES:
            raise PeerError(f"request {tag} has {length} bytes; up to {MAX_TRANSFER_BYTES} are possible")
        if packets not in NO_ISOCHRONOUS:
            raise PeerError(f"request {tag} is isochronous; the devices here have no such endpoint")
        if tag in self._in_flight:
            raise PeerError(f"request {tag} is in flight already")
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            raise PeerError(f"more than {MAX_IN_FLIGHT} requests are in flight")

    def _unlink(self, device: UsbDevice, tag: int, victim: int, now_ns: int) -> None:
        cancelled = device.cancel(victim)
        self._unlinked = victim if cancelled else None
        self._fetch(now_ns)
        self._unlinked = None
        status = -ECONNRESET if cancelled else 0
        self._out.append(RET_UNLINK.pack(Command.RET_UNLINK, tag, 0, 0, 0, status))


def _answer(operation: Operation, status: OperationStatus) -> bytes:
    return OPERATION.pack(VERSION, operation & ANSWER_MASK, status)


def _device_number(port: Port) -> int:
    """Number 1 is the root hub."""
    return int(port.bus_id.partition("-")[2]) + 1


def _record(port: Port, device: UsbDevice) -> bytes:
    """What a list or an import says of a device."""
    about = device.description
    path = f"/sys/devices/emgd/usb{BUS_NUMBER}/{port.bus_id}".encode()
    place = (path, port.bus_id.encode(), BUS_NUMBER, _device_number(port), SPEED_HIGH)
    identity = (about.vendor, about.product, about.bcd_device, about.class_code, about.subclass, about.protocol)
    return DEVICE.pack(*place, *identity, int(device.configured), 1, len(about.interfaces))
