"""The FIFO between a device's converter and its bulk endpoint, and all that can happen to a frame from there on.

A frame waits here until the host takes it. Bytes are counted as the firmware counts them: a frame that the cable loses
has left the FIFO all the same.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from emgd_drivers.sim.faults import Fault, FaultKind, FaultPlan

Send = Callable[[bytes], bool]
"""Hands one transfer to the host; False when the host takes nothing now."""


@dataclass(slots=True)
class _Waiting:
    """A transfer and when it is due, unless one before it is late. `frame_bytes` is what it frees, 0 for a repeat."""

    due_ns: int
    transfer: bytes | None
    frame_bytes: int
    unplugs: bool = False


class Fifo:
    """Frames that wait, up to `capacity_bytes`. `blocked` tells that the host took nothing when last asked."""

    def __init__(self, capacity_bytes: int, plan: FaultPlan) -> None:
        self.capacity_bytes = capacity_bytes
        self.frames_sent = 0
        self.blocked = False
        self.unplugged = False
        self._plan = plan
        self._random = Random(plan.seed)  # noqa: S311 - simulation, not cryptography
        self._waiting: deque[_Waiting] = deque()
        self._used_bytes = 0

    def has_room(self, frame_bytes: int) -> bool:
        """Does a frame of this length fit now?"""
        return self._used_bytes + frame_bytes <= self.capacity_bytes

    def next_ns(self) -> int | None:
        """When the frame at the head is due, None when nothing waits."""
        return self._waiting[0].due_ns if self._waiting else None

    def clear(self) -> None:
        """Forget all that waits and begin to count anew."""
        self._waiting.clear()
        self._used_bytes = 0
        self.frames_sent = 0

    def push(self, frame: bytes, index: int, ready_ns: int) -> None:
        """Frame number `index` since START is complete at `ready_ns`. It goes in whether or not there is room."""
        faults = self._plan.at(index)
        late_ns = self._random.randint(self._plan.jitter_min_ns, self._plan.jitter_max_ns) if self._has_jitter else 0
        late_ns += sum(fault.stall_ns for fault in faults)
        due_ns = ready_ns + late_ns
        self._used_bytes += len(frame)
        transfer: bytes | None = frame
        copies = 1
        for fault in faults:
            if fault.kind is FaultKind.UNPLUG:
                self._waiting.append(_Waiting(due_ns, None, 0, unplugs=True))
            elif fault.kind is FaultKind.DROP:
                transfer = None
            elif fault.kind is FaultKind.REPEAT:
                copies = 2
            elif transfer:
                transfer = _damaged(transfer, fault)
        self._waiting.append(_Waiting(due_ns, transfer, len(frame)))
        self._waiting.extend(_Waiting(due_ns, transfer, 0) for _ in range(copies - 1))

    def drain(self, now_ns: int, send: Send) -> None:
        """Hand over what is due, as far as the host takes it."""
        while self._waiting and self._waiting[0].due_ns <= now_ns and not (self.blocked or self.unplugged):
            head = self._waiting[0]
            if head.unplugs:
                self.unplugged = True
                self._waiting.clear()
            elif head.transfer is not None and not send(head.transfer):
                self.blocked = True
            else:
                self._waiting.popleft()
                self._used_bytes -= head.frame_bytes
                self.frames_sent += head.frame_bytes > 0

    @property
    def _has_jitter(self) -> bool:
        return self._plan.jitter_max_ns > 0


def _damaged(transfer: bytes, fault: Fault) -> bytes:
    """A transfer that was cut, or one byte of which has all bits flipped."""
    if fault.kind is FaultKind.TRUNCATE:
        return transfer[: min(fault.byte, len(transfer) - 1)]
    if fault.kind is FaultKind.CORRUPT:
        at = fault.byte % len(transfer)
        return transfer[:at] + bytes([transfer[at] ^ 0xFF]) + transfer[at + 1 :]
    return transfer
