"""The bytes of a simulated serial device on their way to the host: answers and frames in order, in bounded room.

A frame that finds no room is lost as a whole, as in a device whose host does not read. Answers are kept: the firmware
waits until it is rid of them.
"""

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final

from emgd_drivers.sim.serial_faults import SerialFault, damaged
from emgd_drivers.sim.serial_model import SendBytes

SEND_BYTES: Final = 4096
"""Most that is offered to the host in one go."""

MAX_ANSWER_BYTES: Final = 65536
"""Answers to a host that asks and never reads are lost beyond this, so that the model stays small."""


class SerialOutput:
    """Bytes that wait, up to `capacity_bytes` of frames. Frames are late by 0 to `jitter_ns`, drawn from `seed`.

    `blocked` tells that the host did not take all when last asked, `lost_frames` how many found no room.
    """

    def __init__(
        self, capacity_bytes: int, faults: Sequence[SerialFault] = (), *, jitter_ns: int = 0, seed: int = 1
    ) -> None:
        self.capacity_bytes: Final = capacity_bytes
        self.blocked = False
        self.unplugged = False
        self.lost_frames = 0
        self._faults = tuple(faults)
        self._jitter_ns = jitter_ns
        self._random = Random(seed)  # noqa: S311 - simulation, not cryptography
        self._waiting: deque[tuple[int, bytes | None]] = deque()
        self._waiting_bytes = 0
        self._leaving = bytearray()
        self._last_due_ns = 0
        self._send: SendBytes = _nobody

    def connect(self, send: SendBytes) -> None:
        """Hand bytes to `send` from now on."""
        self._send = send

    def next_ns(self) -> int | None:
        """When to drain next; None when nothing waits, or only for the host."""
        if self.blocked or self.unplugged or not self._waiting:
            return None
        return self._waiting[0][0]

    def answer(self, data: bytes, ready_ns: int) -> None:
        """An answer, after all that waits."""
        if self._used_bytes + len(data) <= self.capacity_bytes + MAX_ANSWER_BYTES:
            self._put(data, ready_ns)

    def has_room(self, frame_bytes: int) -> bool:
        """Does a frame of this length fit now?"""
        return self._used_bytes + frame_bytes <= self.capacity_bytes

    def frame(self, frame: bytes, index: int, ready_ns: int) -> bool:
        """Frame number `index` since the start of the stream; was there room for it?"""
        if not self.has_room(len(frame)):
            self.lost_frames += 1
            return False
        arriving: bytes | None = frame
        if self._faults and (faults := [fault for fault in self._faults if fault.hits(index)]):
            arriving = damaged(frame, faults, self._random)
        late_ns = self._random.randint(0, self._jitter_ns) if self._jitter_ns else 0
        self._put(arriving, ready_ns + late_ns)
        return True

    def drain(self, now_ns: int) -> None:
        """Hand over what is due, as far as the host takes it."""
        while not self.unplugged:
            self._gather(now_ns)
            if self._leaving:
                del self._leaving[: self._send(bytes(self._leaving))]
            self.blocked = bool(self._leaving)
            if self.blocked or not self._waiting or self._waiting[0][0] > now_ns:
                return

    @property
    def _used_bytes(self) -> int:
        return self._waiting_bytes + len(self._leaving)

    def _put(self, data: bytes | None, due_ns: int) -> None:
        self._last_due_ns = max(self._last_due_ns, due_ns)  # What is late holds up all that follows.
        self._waiting.append((self._last_due_ns, data))
        self._waiting_bytes += len(data or b"")

    def _gather(self, now_ns: int) -> None:
        """Move what is due to where it leaves from."""
        while self._waiting and self._waiting[0][0] <= now_ns and len(self._leaving) < SEND_BYTES:
            data = self._waiting[0][1]
            if data is None:
                if not self._leaving:
                    self.unplugged = True
                    self._waiting.clear()
                    self._waiting_bytes = 0
                return
            self._waiting.popleft()
            self._waiting_bytes -= len(data)
            self._leaving += data


def _nobody(_data: bytes) -> int:
    return 0
