"""usbredir, the host's part: what qemu's usb-redir device says, and what we answer. One device for each connection.

Written after the USB Network Redirection protocol, version 0.7. All numbers are little endian.
"""

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from emgd_drivers.sim.bus.conversation import MAX_IN_FLIGHT, MAX_TRANSFER_BYTES, Conversation, PeerError
from emgd_drivers.sim.bus.descriptors import DIRECTION_IN, EndpointKind
from emgd_drivers.sim.bus.pipe import Completion, TransferStatus
from emgd_drivers.sim.bus.port import BusError, Port
from emgd_drivers.sim.bus.usb_device import Recipient, SetupPacket, StandardRequest, UsbDevice

NAME: Final = b"emgd emulated bus"

HEADER: Final = struct.Struct("<III")
HEADER_64: Final = struct.Struct("<IIQ")
CAPABILITIES: Final = struct.Struct("<64sI")
INTERFACES: Final = struct.Struct("<I32s32s32s32s")
CONTROL: Final = struct.Struct("<BBBBHHH")
BULK: Final = struct.Struct("<BBHI")
INTERRUPT: Final = struct.Struct("<BBH")
CONNECT: Final = struct.Struct("<BBBBHH")
U16: Final = struct.Struct("<H")

SLOTS: Final = 32
"""Places in the tables of interfaces and endpoints: 16 OUT, then 16 IN."""

NO_ENDPOINT: Final = 255
SPEED_HIGH: Final = 2
CONTROL_PACKET_BYTES: Final = 64
VERSION_BYTES: Final = 64
"""Length of the free text that opens a hello."""

MAX_PACKET_BYTES: Final = MAX_TRANSFER_BYTES + 64
"""The longest packet: the longest transfer, and more than any header."""


class Kind(IntEnum):
    """Types of packets that are of use here."""

    HELLO = 0
    DEVICE_CONNECT = 1
    DEVICE_DISCONNECT = 2
    RESET = 3
    INTERFACE_INFO = 4
    EP_INFO = 5
    SET_CONFIGURATION = 6
    GET_CONFIGURATION = 7
    CONFIGURATION_STATUS = 8
    SET_ALT_SETTING = 9
    GET_ALT_SETTING = 10
    ALT_SETTING_STATUS = 11
    START_INTERRUPT_RECEIVING = 15
    STOP_INTERRUPT_RECEIVING = 16
    INTERRUPT_RECEIVING_STATUS = 17
    CANCEL_DATA_PACKET = 21
    FILTER_REJECT = 22
    FILTER_FILTER = 23
    CONTROL_PACKET = 100
    BULK_PACKET = 101
    INTERRUPT_PACKET = 103


class Capability(IntEnum):
    """Bits of the hello by which both sides agree on longer forms."""

    CONNECT_DEVICE_VERSION = 1
    EP_INFO_MAX_PACKET_SIZE = 4
    IDS_64_BITS = 5
    BULK_LENGTH_32_BITS = 6


CAPABILITY_BITS: Final = sum(1 << bit for bit in Capability)


class Status(IntEnum):
    """How a packet ended."""

    SUCCESS = 0
    CANCELLED = 1
    INVALID = 2
    IO_ERROR = 3
    STALL = 4
    BABBLE = 6


STATUSES: Final = {
    TransferStatus.OK: Status.SUCCESS,
    TransferStatus.STALL: Status.STALL,
    TransferStatus.BABBLE: Status.BABBLE,
    TransferStatus.CANCELLED: Status.CANCELLED,
    TransferStatus.GONE: Status.IO_ERROR,
}

Reply = Callable[[Completion], None]
"""Tells the peer how a request ended."""


class UsbRedirConversation(Conversation):
    """One peer that gets the device of `port`; the conversation is over at once when that cannot be had."""

    def __init__(self, port: Port) -> None:
        super().__init__()
        self._agreed = 0
        self._greeted = False
        self._last_tag = 0
        self._replies: dict[int, Reply] = {}
        self._tags: dict[int, int] = {}
        self._interrupts: dict[int, int] = {}
        try:
            self._attach(port)
        except BusError:
            self.ended = True
            return
        self._send(Kind.HELLO, 0, CAPABILITIES.pack(NAME, CAPABILITY_BITS))

    def output(self, now_ns: int) -> bytes:
        """What is to be sent now; a device that is gone is told of last."""
        out = super().output(now_ns)
        if self.ended and self._greeted:
            self._greeted = False
            self._send(Kind.DEVICE_DISCONNECT, 0, b"")
            out += super().output(now_ns)
        return out

    def _take(self, data: bytearray, at: int, now_ns: int) -> int:
        header = HEADER_64 if self._has(Capability.IDS_64_BITS) else HEADER
        if len(data) - at < header.size or self._device is None:
            return 0
        kind, length, packet_id = header.unpack_from(data, at)
        taken: int = header.size + length
        if length > MAX_PACKET_BYTES:
            raise PeerError(f"a usbredir packet of {length} bytes; up to {MAX_PACKET_BYTES} are possible")
        if len(data) - at < taken:
            return 0
        body = bytes(data[at + header.size : at + taken])
        if not self._greeted:
            self._greet(self._device, kind, body)
        else:
            handler = self._HANDLERS.get(kind)
            if handler is None:
                raise PeerError(f"a usbredir packet of type {kind}: there is no use for it here")
            size, handle = handler
            if len(body) < size:
                raise PeerError(f"a usbredir packet {Kind(kind).name} of {len(body)} bytes; it has at least {size}")
            handle(self, self._device, packet_id, body, now_ns)
            self._fetch(now_ns)
        return taken

    def _say(self, done: Completion) -> None:
        self._replies.pop(done.tag)(done)

    # Saying what the device is.

    def _greet(self, device: UsbDevice, kind: int, body: bytes) -> None:
        if kind != Kind.HELLO or len(body) < VERSION_BYTES:
            raise PeerError(f"usbredir begins with a hello, not with type {kind} of {len(body)} bytes")
        self._agreed = CAPABILITY_BITS & int.from_bytes(body[VERSION_BYTES : VERSION_BYTES + 4], "little")
        self._greeted = True
        self._describe(device)
        about = device.description
        ids = (SPEED_HIGH, about.class_code, about.subclass, about.protocol, about.vendor, about.product)
        version = U16.pack(about.bcd_device) if self._has(Capability.CONNECT_DEVICE_VERSION) else b""
        self._send(Kind.DEVICE_CONNECT, 0, CONNECT.pack(*ids) + version)

    def _describe(self, device: UsbDevice) -> None:
        """Interfaces and endpoints; also told anew with each configuration."""
        types, intervals, owners = bytearray([NO_ENDPOINT] * SLOTS), bytearray(SLOTS), bytearray(SLOTS)
        sizes = [0] * SLOTS
        for slot in (0, SLOTS // 2):
            types[slot], sizes[slot] = 0, CONTROL_PACKET_BYTES
        interfaces = device.description.interfaces
        for interface in interfaces:
            for endpoint in interface.endpoints:
                slot = (endpoint.address & DIRECTION_IN) >> 3 | endpoint.address & 0x0F
                types[slot], intervals[slot] = endpoint.kind, endpoint.interval
                owners[slot], sizes[slot] = interface.number, endpoint.packet_bytes
        packed_sizes = struct.pack(f"<{SLOTS}H", *sizes) if self._has(Capability.EP_INFO_MAX_PACKET_SIZE) else b""
        self._send(Kind.EP_INFO, 0, bytes(types + intervals + owners) + packed_sizes)
        columns = zip(
            *((each.number, each.class_code, each.subclass, each.protocol) for each in interfaces), strict=True
        )
        self._send(Kind.INTERFACE_INFO, 0, INTERFACES.pack(len(interfaces), *map(bytes, columns)))

    # What the peer may ask for: (device, packet id, body, now_ns).

    def _reset(self, device: UsbDevice, _packet_id: int, _body: bytes, now_ns: int) -> None:
        self._interrupts.clear()
        device.reset(now_ns)

    def _set_configuration(self, device: UsbDevice, packet_id: int, body: bytes, now_ns: int) -> None:
        def reply(done: Completion) -> None:
            if done.status is TransferStatus.OK:
                self._describe(device)
            self._send(Kind.CONFIGURATION_STATUS, packet_id, bytes([STATUSES[done.status], body[0]]))

        setup = SetupPacket(Recipient.DEVICE, StandardRequest.SET_CONFIGURATION, body[0], 0, 0)
        device.control(self._new_tag(reply), setup.pack(), b"", now_ns)

    def _get_configuration(self, device: UsbDevice, packet_id: int, _body: bytes, _now_ns: int) -> None:
        self._send(Kind.CONFIGURATION_STATUS, packet_id, bytes([Status.SUCCESS, device.configured]))

    def _set_alt_setting(self, device: UsbDevice, packet_id: int, body: bytes, now_ns: int) -> None:
        def reply(done: Completion) -> None:
            if done.status is TransferStatus.OK:
                self._describe(device)
            self._send(Kind.ALT_SETTING_STATUS, packet_id, bytes([STATUSES[done.status], *body[:2]]))

        setup = SetupPacket(Recipient.INTERFACE, StandardRequest.SET_INTERFACE, body[1], body[0], 0)
        device.control(self._new_tag(reply), setup.pack(), b"", now_ns)

    def _get_alt_setting(self, _device: UsbDevice, packet_id: int, body: bytes, _now_ns: int) -> None:
        self._send(Kind.ALT_SETTING_STATUS, packet_id, bytes([Status.SUCCESS, body[0], 0]))

    def _start_interrupts(self, device: UsbDevice, packet_id: int, body: bytes, now_ns: int) -> None:
        endpoint = body[0]
        found = [each for each in device.description.endpoints if each.address == endpoint]
        if not found or found[0].kind is not EndpointKind.INTERRUPT or not found[0].is_in:
            self._send(Kind.INTERRUPT_RECEIVING_STATUS, packet_id, bytes([Status.INVALID, endpoint]))
            return
        self._send(Kind.INTERRUPT_RECEIVING_STATUS, packet_id, bytes([Status.SUCCESS, endpoint]))
        if endpoint not in self._interrupts:
            self._ask_for_interrupt(device, endpoint, found[0].packet_bytes, now_ns)

    def _stop_interrupts(self, device: UsbDevice, packet_id: int, body: bytes, _now_ns: int) -> None:
        endpoint = body[0]
        tag = self._interrupts.pop(endpoint, None)
        if tag is not None:
            device.cancel(tag)
        self._send(Kind.INTERRUPT_RECEIVING_STATUS, packet_id, bytes([Status.SUCCESS, endpoint]))

    def _ask_for_interrupt(self, device: UsbDevice, endpoint: int, room_bytes: int, now_ns: int) -> None:
        """Keep one request in flight for the peer, as the protocol has it."""

        def reply(done: Completion) -> None:
            if self._interrupts.get(endpoint) != done.tag:
                return  # Stopped meanwhile.
            del self._interrupts[endpoint]
            if done.status is TransferStatus.OK:
                self._send(Kind.INTERRUPT_PACKET, 0, INTERRUPT.pack(endpoint, 0, len(done.data)) + done.data)
                self._ask_for_interrupt(device, endpoint, room_bytes, now_ns)
            else:
                self._send(Kind.INTERRUPT_RECEIVING_STATUS, 0, bytes([Status.STALL, endpoint]))

        tag = self._interrupts[endpoint] = self._new_tag(reply)
        device.submit_in(tag, endpoint, room_bytes, now_ns)

    def _cancel(self, device: UsbDevice, packet_id: int, _body: bytes, _now_ns: int) -> None:
        tag = self._tags.get(packet_id)
        if tag is not None:
            device.cancel(tag)

    def _refused(self, _device: UsbDevice, _packet_id: int, _body: bytes, _now_ns: int) -> None:
        raise PeerError("its filter refuses the device")

    def _filter(self, _device: UsbDevice, _packet_id: int, _body: bytes, _now_ns: int) -> None:
        """What the peer would refuse; it says so when it does."""

    def _control(self, device: UsbDevice, packet_id: int, body: bytes, now_ns: int) -> None:
        endpoint, request, request_type, _, value, index, length = CONTROL.unpack_from(body)
        data = body[CONTROL.size :]
        setup = SetupPacket(request_type, request, value, index, length)
        if endpoint & ~DIRECTION_IN or len(data) != (0 if setup.is_in else length):
            raise PeerError(f"control packet {packet_id}: endpoint {endpoint}, {len(data)} bytes and {setup}")

        def reply(done: Completion) -> None:
            echo = (endpoint, request, request_type, STATUSES[done.status], value, index, done.moved_bytes)
            self._send(Kind.CONTROL_PACKET, packet_id, CONTROL.pack(*echo) + done.data)

        device.control(self._data_tag(packet_id, reply), setup.pack(), data, now_ns)

    def _bulk(self, device: UsbDevice, packet_id: int, body: bytes, now_ns: int) -> None:
        endpoint, _, length, stream = BULK.unpack_from(body)
        data_at = BULK.size
        if self._has(Capability.BULK_LENGTH_32_BITS):
            if len(body) < BULK.size + U16.size:
                raise PeerError(f"bulk packet {packet_id} has {len(body)} bytes: it ends within its header")
            length |= U16.unpack_from(body, BULK.size)[0] << 16
            data_at += U16.size
        data = body[data_at:]
        is_in = bool(endpoint & DIRECTION_IN)
        if length > MAX_TRANSFER_BYTES or len(data) != (0 if is_in else length):
            raise PeerError(
                f"bulk packet {packet_id} for endpoint 0x{endpoint:02x}: {length} announced, {len(data)} there"
            )

        def reply(done: Completion) -> None:
            low, high = done.moved_bytes & 0xFFFF, done.moved_bytes >> 16
            head = BULK.pack(endpoint, STATUSES[done.status], low, stream)
            long = U16.pack(high) if self._has(Capability.BULK_LENGTH_32_BITS) else b""
            self._send(Kind.BULK_PACKET, packet_id, head + long + done.data)

        tag = self._data_tag(packet_id, reply)
        if is_in:
            device.submit_in(tag, endpoint, length, now_ns)
        else:
            device.submit_out(tag, endpoint, data, now_ns)

    _HANDLERS: Final[dict[int, tuple[int, Callable[["UsbRedirConversation", UsbDevice, int, bytes, int], None]]]] = {
        Kind.RESET: (0, _reset),
        Kind.SET_CONFIGURATION: (1, _set_configuration),
        Kind.GET_CONFIGURATION: (0, _get_configuration),
        Kind.SET_ALT_SETTING: (2, _set_alt_setting),
        Kind.GET_ALT_SETTING: (1, _get_alt_setting),
        Kind.START_INTERRUPT_RECEIVING: (1, _start_interrupts),
        Kind.STOP_INTERRUPT_RECEIVING: (1, _stop_interrupts),
        Kind.CANCEL_DATA_PACKET: (0, _cancel),
        Kind.FILTER_REJECT: (0, _refused),
        Kind.FILTER_FILTER: (0, _filter),
        Kind.CONTROL_PACKET: (CONTROL.size, _control),
        Kind.BULK_PACKET: (BULK.size, _bulk),
    }

    # Within.

    def _has(self, capability: Capability) -> bool:
        return bool(self._agreed & 1 << capability)

    def _send(self, kind: Kind, packet_id: int, body: bytes) -> None:
        # A hello is in the short form always: the other side has not said yet what it can do.
        header = HEADER_64 if self._has(Capability.IDS_64_BITS) and kind is not Kind.HELLO else HEADER
        self._out.append(header.pack(kind, len(body), packet_id) + body)

    def _new_tag(self, reply: Reply) -> int:
        self._last_tag += 1
        self._replies[self._last_tag] = reply
        return self._last_tag

    def _data_tag(self, packet_id: int, reply: Reply) -> int:
        """A tag for a data packet, which can be cancelled by its id."""
        if packet_id in self._tags:
            raise PeerError(f"packet {packet_id} is in flight already")
        if len(self._tags) >= MAX_IN_FLIGHT:
            raise PeerError(f"more than {MAX_IN_FLIGHT} packets are in flight")

        def finish(done: Completion) -> None:
            del self._tags[packet_id]
            reply(done)

        tag = self._tags[packet_id] = self._new_tag(finish)
        return tag
