"""One endpoint of an emulated device: what the host asked for, what waits for it, and what goes wrong on the way.

A transfer of the device travels in packets of the endpoint's size and is ended by a short one, or by a packet of no
bytes where its length is a multiple of that size. The host's request (its URB) completes with that end, or when its
buffer is full; the two need not fall together.
"""

from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, NamedTuple

from emgd_drivers.sim.bus.descriptors import Endpoint

FLIPPED_BITS: Final = 0xFF
"""A corrupted byte has all its bits flipped: no check could miss that by luck."""


class TransferStatus(Enum):
    """How a request of the host ended."""

    OK = "ok"
    STALL = "stall"
    BABBLE = "babble"
    CANCELLED = "cancelled"
    GONE = "gone"


class Completion(NamedTuple):
    """The end of one request. `data` is what came in, `moved_bytes` how much went either way."""

    tag: int
    endpoint: int
    status: TransferStatus
    data: bytes = b""
    moved_bytes: int = 0


class PipeFault(StrEnum):
    """What may happen to the next transfer of a bulk IN endpoint."""

    BABBLE = "babble"
    SHORT = "short"
    CORRUPT = "corrupt"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault that waits for its transfer. `keep_bytes` is what a short one keeps, None = half."""

    kind: PipeFault
    keep_bytes: int | None = None


class Filled(NamedTuple):
    """What one request took of a transfer, and what is `left` of it: b"" = only its end, None = nothing."""

    status: TransferStatus
    data: bytes
    left: bytes | None


def fill(transfer: bytes, room_bytes: int, packet_bytes: int) -> Filled:
    """Let a transfer, or what is left of it, run into a request with a buffer of `room_bytes`.

    A buffer that is no multiple of the packet size is overrun by the packet that does not fit: babble, after which the
    device gives this transfer up. A buffer that is a multiple is filled, and the next request gets the rest.
    """
    count = len(transfer)
    if count < room_bytes or (count == room_bytes and (count == 0 or count % packet_bytes)):
        return Filled(TransferStatus.OK, transfer, None)
    if room_bytes == 0 or room_bytes % packet_bytes:
        return Filled(TransferStatus.BABBLE, transfer[:room_bytes], None)
    return Filled(TransferStatus.OK, transfer[:room_bytes], transfer[room_bytes:])


class InPipe:
    """An endpoint that sends. Requests of the host wait in `waiting`, tag to buffer size, oldest first."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint: Final = endpoint
        self.halted = False
        self.waiting: OrderedDict[int, int] = OrderedDict()
        self.planned: deque[Planned] = deque()
        self.faults: Counter[str] = Counter()
        self.transfers = 0
        self.bytes = 0
        self._left: bytes | None = None
        self._babbles = False

    def send(self, transfer: bytes, completed: list[Completion]) -> bool:
        """Put one transfer on the wire; False when the host asks for none now, or has not yet taken the last one."""
        if self.halted or self._left is not None or not self.waiting:
            return False
        if self.planned:
            faulty = self._with_fault(transfer, self.planned.popleft())
            if faulty is None:
                return True
            transfer = faulty
        self._left = transfer
        self.move(completed)
        return True

    def move(self, completed: list[Completion]) -> None:
        """Fill requests with what is left of a transfer."""
        while self._left is not None and self.waiting and not self.halted:
            tag, room_bytes = self.waiting.popitem(last=False)
            if self._babbles:
                padded = self._left.ljust(room_bytes, b"\0")[:room_bytes]
                filled = Filled(TransferStatus.BABBLE, padded, None)
                self._babbles = False
            else:
                filled = fill(self._left, room_bytes, self.endpoint.packet_bytes)
            self._left = filled.left
            self.transfers += 1
            self.bytes += len(filled.data)
            completed.append(Completion(tag, self.endpoint.address, filled.status, filled.data, len(filled.data)))

    def halt(self, completed: list[Completion]) -> None:
        """Answer STALL to all that waits and that comes, until the host clears it."""
        self.halted = True
        self.finish(TransferStatus.STALL, completed)

    def clear(self) -> None:
        """Begin anew: forget the transfer that was on its way."""
        self.halted = False
        self._left = None
        self._babbles = False

    def finish(self, status: TransferStatus, completed: list[Completion]) -> None:
        """End all that waits in one way."""
        completed.extend(Completion(tag, self.endpoint.address, status) for tag in self.waiting)
        self.waiting.clear()

    def _with_fault(self, transfer: bytes, fault: Planned) -> bytes | None:
        """The transfer as the wire leaves it; None when nothing comes."""
        self.faults[fault.kind.value] += 1
        match fault.kind:
            case PipeFault.DROP:
                return None
            case PipeFault.BABBLE:
                self._babbles = True
                return transfer
            case PipeFault.SHORT:
                keep_bytes = len(transfer) // 2 if fault.keep_bytes is None else fault.keep_bytes
                return transfer[: max(0, min(keep_bytes, len(transfer) - 1))]
            case PipeFault.CORRUPT:
                at = len(transfer) // 2
                return transfer[:at] + bytes(byte ^ FLIPPED_BITS for byte in transfer[at : at + 1]) + transfer[at + 1 :]
