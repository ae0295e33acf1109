"""A USB device as its host sees it, whatever carries the bytes: standard requests, endpoints, stalls, reset.

It knows no clock: host time (CLOCK_MONOTONIC, ns) comes in with every call that may depend on it. Requests of the host
carry a tag of the host's choice; how each ended is fetched with `drain`.
"""

import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from emgd_drivers.sim.bus.descriptors import DIRECTION_IN, DescriptorType, DeviceDescription
from emgd_drivers.sim.bus.pipe import Completion, InPipe, PipeFault, Planned, TransferStatus

NS_PER_MS: Final = 1_000_000

SETUP: Final = struct.Struct("<BBHHH")

ENDPOINT_HALT: Final = 0
"""Feature selector of CLEAR_FEATURE and SET_FEATURE on an endpoint."""


class StandardRequest(IntEnum):
    """bRequest of requests that every device knows."""

    GET_STATUS = 0
    CLEAR_FEATURE = 1
    SET_FEATURE = 3
    SET_ADDRESS = 5
    GET_DESCRIPTOR = 6
    GET_CONFIGURATION = 8
    SET_CONFIGURATION = 9
    GET_INTERFACE = 10
    SET_INTERFACE = 11


class Recipient(IntEnum):
    """bmRequestType of a standard request, without its direction; PORT is a hub's."""

    DEVICE = 0x00
    INTERFACE = 0x01
    ENDPOINT = 0x02
    PORT = 0x23


PORT_RESET: Final = (Recipient.PORT, StandardRequest.SET_FEATURE, 4)
"""bmRequestType, bRequest and wValue by which a host that has no other way asks for a bus reset: a hub's request."""


class RequestRefused(Exception):  # noqa: N818 - an answer (STALL), not an error
    """The device does not do what a control request asks for."""


@dataclass(frozen=True, slots=True)
class SetupPacket:
    """The 8 bytes that open a control transfer; `length` is wLength in bytes."""

    request_type: int
    request: int
    value: int
    index: int
    length: int

    @classmethod
    def unpack(cls, setup: bytes) -> Self:
        """From exactly 8 bytes."""
        return cls(*SETUP.unpack(setup))

    def pack(self) -> bytes:
        """The 8 bytes."""
        return SETUP.pack(self.request_type, self.request, self.value, self.index, self.length)

    @property
    def is_in(self) -> bool:
        """Does the data, if any, come from the device?"""
        return bool(self.request_type & DIRECTION_IN)


class UsbDevice(ABC):
    """A device in its configured state, as an operating system hands it on.

    `stream_in` is the address of the bulk IN endpoint that faults are asked for. Subclasses say what the device does;
    what they hand to `_send` travels as one transfer.
    """

    stream_in: int = 0x81

    def __init__(self, description: DeviceDescription) -> None:
        self.description: Final = description
        self.configured = True
        self.resets = 0
        self.refusals = 0
        self._strings = [description.string(index) for index in range(4)]
        self._pipes = {endpoint.address: InPipe(endpoint) for endpoint in description.endpoints if endpoint.is_in}
        self._outs = {endpoint.address: False for endpoint in description.endpoints if not endpoint.is_in}
        self._held_outs: list[tuple[int, int, bytes]] = []
        self._completed: list[Completion] = []
        self._held: list[Completion] = []
        self._muted_until_ns: int | None = None

    # What a device does.

    @property
    @abstractmethod
    def unplugged(self) -> bool:
        """Did the device go away by itself?"""

    @abstractmethod
    def _run(self, now_ns: int) -> None:
        """Let time pass; hand over what the host takes."""

    @abstractmethod
    def _next_ns(self) -> int | None:
        """When to call `_run` next; None = not before the host does something."""

    @abstractmethod
    def _answer(self, setup: SetupPacket, data: bytes, now_ns: int) -> bytes:
        """A class or vendor request. RequestRefused becomes STALL."""

    def _receive(self, endpoint: int, data: bytes, now_ns: int) -> None:
        """Data from the host. Whoever has no OUT endpoint is never called."""
        raise NotImplementedError

    @abstractmethod
    def _on_reset(self, now_ns: int) -> None:
        """The host resets the bus: fall back to silence."""

    @abstractmethod
    def report(self, now_ns: int) -> dict[str, int | str]:
        """What the device itself counts, for `status`."""

    # What a host does.

    def control(self, tag: int, setup: bytes, data: bytes, now_ns: int) -> None:
        """A control transfer: 8 bytes of setup and, for OUT, its data."""
        packet = SetupPacket.unpack(setup)
        self.run(now_ns)
        try:
            answer = self._requested(packet, data, now_ns)
        except RequestRefused:
            self.refusals += 1
            self._ended.append(Completion(tag, 0, TransferStatus.STALL))
        else:
            count = len(answer) if packet.is_in else len(data)
            self._ended.append(Completion(tag, 0, TransferStatus.OK, answer, count))
        self.run(now_ns)

    def submit_in(self, tag: int, endpoint: int, room_bytes: int, now_ns: int) -> None:
        """Ask an IN endpoint for one transfer of at most `room_bytes`."""
        pipe = self._pipes.get(endpoint)
        if pipe is None or pipe.halted or not self.configured:
            self._ended.append(Completion(tag, endpoint, TransferStatus.STALL))
            return
        pipe.waiting[tag] = room_bytes
        if not self._is_muted(now_ns):
            pipe.move(self._completed)
            if pipe.waiting:
                self._run(now_ns)

    def submit_out(self, tag: int, endpoint: int, data: bytes, now_ns: int) -> None:
        """Send data to an OUT endpoint."""
        if self._outs.get(endpoint, True) or not self.configured:
            self._ended.append(Completion(tag, endpoint, TransferStatus.STALL))
        elif self._is_muted(now_ns):
            self._held_outs.append((tag, endpoint, data))
        else:
            self._take_out(tag, endpoint, data, now_ns)

    def cancel(self, tag: int) -> bool:
        """Take a request back; False when it is over already (or never was)."""
        for pipe in self._pipes.values():
            if tag in pipe.waiting:
                del pipe.waiting[tag]
                self._completed.append(Completion(tag, pipe.endpoint.address, TransferStatus.CANCELLED))
                return True
        for at, (waiting, endpoint, _) in enumerate(self._held_outs):
            if waiting == tag:
                del self._held_outs[at]
                self._completed.append(Completion(tag, endpoint, TransferStatus.CANCELLED))
                return True
        for at, held in enumerate(self._held):
            if held.tag == tag:
                del self._held[at]
                self._completed.append(Completion(tag, held.endpoint, TransferStatus.CANCELLED))
                return True
        return False

    def drain(self, now_ns: int) -> list[Completion]:
        """Requests that ended since the last call, in the order in which they ended."""
        if self._held and not self._is_muted(now_ns):
            self._completed += self._held
            self._held = []
        if not self._completed:
            return []
        completed, self._completed = self._completed, []
        return completed

    def in_flight(self) -> int:
        """How many requests of the host have not ended."""
        return sum(len(pipe.waiting) for pipe in self._pipes.values()) + len(self._held_outs) + len(self._held)

    def reset(self, now_ns: int) -> None:
        """The host resets the bus: requests end, halts are cleared, the device falls silent; its clock goes on."""
        self.resets += 1
        self._end_all(TransferStatus.CANCELLED)
        for pipe in self._pipes.values():
            pipe.clear()
        self._outs = dict.fromkeys(self._outs, False)
        self.configured = True
        self._on_reset(now_ns)

    def pull(self) -> None:
        """The cable is pulled: every request ends with GONE."""
        self._end_all(TransferStatus.GONE)
        self._muted_until_ns = None

    # Time.

    def run(self, now_ns: int) -> None:
        """Let time pass."""
        if self._is_muted(now_ns):
            self._run(now_ns)  # Nothing is taken: the device's memory fills.
            return
        held, self._held_outs = self._held_outs, []
        for tag, endpoint, data in held:
            self._take_out(tag, endpoint, data, now_ns)
        for pipe in self._pipes.values():
            pipe.move(self._completed)
        self._run(now_ns)

    def next_event_ns(self) -> int | None:
        """When to call `run` and `drain` next; long past = at once, None = not before the host does something."""
        own_ns = self._next_ns()
        if self._muted_until_ns is None:
            return own_ns
        return self._muted_until_ns if own_ns is None else min(own_ns, self._muted_until_ns)

    # What can be made to go wrong.

    def stall(self) -> None:
        """Halt the stream's endpoint until the host clears it."""
        self._halt(self.stream_in)

    def plan(self, kind: PipeFault, times: int = 1, keep_bytes: int | None = None) -> None:
        """Let something happen to the next transfers of the stream's endpoint, each fault to one of them."""
        self._pipes[self.stream_in].planned.extend([Planned(kind, keep_bytes)] * times)

    def mute(self, until_ns: int) -> None:
        """Complete nothing before `until_ns`, on any endpoint."""
        self._muted_until_ns = until_ns

    def counts(self) -> dict[str, int]:
        """What went over the wire, for `status`. Transfers and bytes are those of the stream's endpoint."""
        pipe = self._pipes[self.stream_in]
        return {
            "transfers": pipe.transfers,
            "bytes": pipe.bytes,
            "in_flight": self.in_flight(),
            "faults_planned": len(pipe.planned),
            "refusals": self.refusals,
            "resets": self.resets,
        }

    def faults_done(self) -> Counter[str]:
        """How often each kind of fault hit a transfer."""
        return Counter(self._pipes[self.stream_in].faults)

    # Within.

    @property
    def _ended(self) -> list[Completion]:
        """Where requests go that ended just now: to the host, or held back while the device is mute."""
        return self._completed if self._muted_until_ns is None else self._held

    def _send(self, endpoint: int, transfer: bytes) -> bool:
        """Hand one transfer to the host; False when it takes none now."""
        return self._muted_until_ns is None and self._pipes[endpoint].send(transfer, self._completed)

    def _is_muted(self, now_ns: int) -> bool:
        if self._muted_until_ns is not None and self._muted_until_ns <= now_ns:
            self._muted_until_ns = None
        return self._muted_until_ns is not None

    def _take_out(self, tag: int, endpoint: int, data: bytes, now_ns: int) -> None:
        self._completed.append(Completion(tag, endpoint, TransferStatus.OK, b"", len(data)))
        self._receive(endpoint, data, now_ns)

    def _end_all(self, status: TransferStatus) -> None:
        # What a mute device did, the host will never know.
        self._completed.extend(Completion(held.tag, held.endpoint, status) for held in self._held)
        self._held.clear()
        for pipe in self._pipes.values():
            pipe.finish(status, self._completed)
        self._completed.extend(Completion(tag, endpoint, status) for tag, endpoint, _ in self._held_outs)
        self._held_outs.clear()

    def _requested(self, setup: SetupPacket, data: bytes, now_ns: int) -> bytes:
        if setup.request_type & ~DIRECTION_IN in {Recipient.DEVICE, Recipient.INTERFACE, Recipient.ENDPOINT}:
            handler = self._STANDARD.get((setup.request_type, setup.request))
            if handler is None:
                raise RequestRefused
            return handler(self, setup)[: setup.length]
        if (setup.request_type, setup.request, setup.value) == PORT_RESET:
            self.reset(now_ns)
            return b""
        return self._answer(setup, data, now_ns)[: setup.length]

    def _get_descriptor(self, setup: SetupPacket) -> bytes:
        kind, index = setup.value >> 8, setup.value & 0xFF
        if kind == DescriptorType.DEVICE and index == 0:
            return self.description.device()
        if kind == DescriptorType.CONFIGURATION and index == 0:
            return self.description.configuration()
        found = self._strings[index] if kind == DescriptorType.STRING and index < len(self._strings) else None
        if found is None:
            raise RequestRefused
        return found

    def _get_status(self, _setup: SetupPacket) -> bytes:
        return b"\0\0"

    def _get_endpoint_status(self, setup: SetupPacket) -> bytes:
        address = setup.index & 0xFF
        if address & ~DIRECTION_IN == 0:
            return b"\0\0"
        return bytes([self._is_halted(address), 0])

    def _endpoint_feature(self, setup: SetupPacket) -> bytes:
        address = setup.index & 0xFF
        if setup.value != ENDPOINT_HALT:
            raise RequestRefused
        if address & ~DIRECTION_IN == 0:
            return b""
        self._is_halted(address)
        if setup.request == StandardRequest.SET_FEATURE:
            self._halt(address)
        elif address in self._pipes:
            self._pipes[address].clear()
        else:
            self._outs[address] = False
        return b""

    def _get_configuration(self, _setup: SetupPacket) -> bytes:
        return bytes([self.configured])

    def _set_configuration(self, setup: SetupPacket) -> bytes:
        if setup.value > 1:
            raise RequestRefused
        self.configured = bool(setup.value)
        if not self.configured:
            self._end_all(TransferStatus.CANCELLED)
        for pipe in self._pipes.values():
            pipe.clear()
        self._outs = dict.fromkeys(self._outs, False)
        return b""

    def _interface(self, setup: SetupPacket) -> bytes:
        """GET_STATUS, GET_INTERFACE, SET_INTERFACE: there is one setting, number 0."""
        if setup.value or all(interface.number != setup.index for interface in self.description.interfaces):
            raise RequestRefused
        if setup.request == StandardRequest.GET_STATUS:
            return b"\0\0"
        return b"\0" if setup.request == StandardRequest.GET_INTERFACE else b""

    def _ignored(self, _setup: SetupPacket) -> bytes:
        """SET_ADDRESS: what carries the bytes has addresses of its own."""
        return b""

    _STANDARD: Final[dict[tuple[int, int], Callable[["UsbDevice", SetupPacket], bytes]]] = {
        (DIRECTION_IN | Recipient.DEVICE, StandardRequest.GET_STATUS): _get_status,
        (DIRECTION_IN | Recipient.DEVICE, StandardRequest.GET_DESCRIPTOR): _get_descriptor,
        (DIRECTION_IN | Recipient.DEVICE, StandardRequest.GET_CONFIGURATION): _get_configuration,
        (Recipient.DEVICE, StandardRequest.SET_ADDRESS): _ignored,
        (Recipient.DEVICE, StandardRequest.SET_CONFIGURATION): _set_configuration,
        (DIRECTION_IN | Recipient.INTERFACE, StandardRequest.GET_STATUS): _interface,
        (DIRECTION_IN | Recipient.INTERFACE, StandardRequest.GET_INTERFACE): _interface,
        (Recipient.INTERFACE, StandardRequest.SET_INTERFACE): _interface,
        (DIRECTION_IN | Recipient.ENDPOINT, StandardRequest.GET_STATUS): _get_endpoint_status,
        (Recipient.ENDPOINT, StandardRequest.CLEAR_FEATURE): _endpoint_feature,
        (Recipient.ENDPOINT, StandardRequest.SET_FEATURE): _endpoint_feature,
    }

    def _is_halted(self, address: int) -> bool:
        """RequestRefused when there is no such endpoint."""
        if address in self._pipes:
            return self._pipes[address].halted
        if address not in self._outs:
            raise RequestRefused
        return self._outs[address]

    def _halt(self, address: int) -> None:
        if address in self._pipes:
            self._pipes[address].halt(self._ended)
        else:
            self._outs[address] = True
