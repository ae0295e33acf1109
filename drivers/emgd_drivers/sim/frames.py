"""From a signal to the frames of one stream: numbers, ticks, marks, and the faults that happen inside the device."""

from fractions import Fraction
from operator import itemgetter
from typing import Final

import numpy as np
import numpy.typing as npt

from emgd_drivers.emg8.protocol import (
    MAX_MARKS,
    TICK_HZ,
    FrameFlag,
    FrameType,
    Mark,
    MarkCode,
    Samples,
    encode_frame,
    frame_samples,
)
from emgd_drivers.sim.electrodes import CurrentSource
from emgd_drivers.sim.faults import Fault, FaultKind, FaultPlan
from emgd_drivers.sim.signal import Signal
from emgd_ext.kernels import saturated

WRAP_AFTER_FRAMES: Final = 8
"""So many frames come before the frame sequence wraps, when that is asked for."""

MAX_RISES: Final = 64
"""Of a trigger line that rises like mad, so many marks go into a frame and the rest into the next."""


class FrameMaker:
    """What a device remembers between START and END. Sample 0 is taken at `start_tick`, `current` is new with it."""

    def __init__(self, signal: Signal, plan: FaultPlan, start_tick: int, current: CurrentSource) -> None:
        self.next_sample = 0
        self.frames = 0
        self.discarded_frames = 0
        self.current: Final = current
        self._stimuli = 0
        self._rises: list[tuple[int, int]] = []
        self._signal = signal
        self._plan = plan
        self._start_tick = start_tick
        self._rate = Fraction(signal.rate_hz)
        self._frame_samples = frame_samples(signal.rate_hz, signal.channels)
        self._first_frame_seq = 2**32 - WRAP_AFTER_FRAMES if plan.wrap else 0
        self._discarded = False
        self._last: Samples = np.empty((0, signal.channels), np.int32)

    def tick_of(self, seq: int) -> int:
        """The tick at which sample `seq` is taken."""
        return self._start_tick + seq * TICK_HZ * self._rate.denominator // self._rate.numerator

    def taken_by(self, tick: int) -> int:
        """How many samples were taken when the clock showed `tick`; never more than the signal has."""
        ticks = max(0, tick - self._start_tick + 1)
        taken = -(-ticks * self._rate.numerator // (TICK_HZ * self._rate.denominator))
        return taken if self._signal.length is None else min(taken, self._signal.length)

    def due(self) -> int:
        """How many samples the next frame will hold; 0 when the signal is over."""
        if self._signal.length is None:
            return self._frame_samples
        return min(self._frame_samples, self._signal.length - self.next_sample)

    def discard(self, count: int) -> None:
        """Throw the next samples away; the next frame will say so."""
        self.next_sample += count
        self.discarded_frames += 1
        self._discarded = True

    def rise(self, tick: int, number: int) -> None:
        """The trigger line rose at `tick`: a mark at the first sample from there on, or at the first that is left."""
        self._rises.append((self.taken_by(tick - 1), number))
        self._rises.sort()

    def data(self, count: int) -> bytes:
        """A frame with the next `count` samples."""
        first = self.next_sample
        marks: list[Mark] = []
        if self.frames == 0:
            marks += [(first, MarkCode.ELECTRODE, channel, 1) for channel in sorted(self.current.off_channels)]
        faults = self._plan.at(self.frames)
        marks += [mark for fault in faults if (mark := self._mark_of(fault)) is not None]
        marks += self._risen(first, count)
        samples, changes = self.current.apply(self._signal.read(first, count), first)
        marks = sorted([*marks, *changes, *self._signal.marks(first, count)], key=itemgetter(0))
        for fault in faults:
            if fault.kind is FaultKind.SATURATE:
                samples = samples.copy()
                samples[:, fault.channel] = self._signal.saturation_counts[fault.channel]
        if len(marks) > MAX_MARKS:
            raise ValueError(f"{len(marks)} marks in the {count} samples from {first} on; a frame holds {MAX_MARKS}")
        self._last = samples
        return self._frame(samples, FrameType.DATA, marks)

    def end(self) -> bytes:
        """The END frame: its first sample number is how many samples there were."""
        return self._frame(self._last[:0], FrameType.END, [])

    def saturated_channels(self) -> npt.NDArray[np.bool_]:
        """Which channels were saturated in the last frame, shape (channels,)."""
        return saturated(np.ascontiguousarray(self._last), np.array(self._signal.saturation_counts, np.int32))

    def _risen(self, first: int, count: int) -> list[Mark]:
        """Marks of the trigger line in these samples; one whose sample is gone takes the first of them."""
        due = [rise for rise in self._rises if rise[0] < first + count][:MAX_RISES]
        self._rises = self._rises[len(due) :]
        return [(max(first, seq), MarkCode.STIMULUS, 0, number) for seq, number in due]

    def _mark_of(self, fault: Fault) -> Mark | None:
        """What a fault does to electrodes and stimuli from the next sample on; None for faults of another kind."""
        if fault.kind is FaultKind.STIMULUS:
            self._stimuli += 1
            return (self.next_sample, MarkCode.STIMULUS, 0, self._stimuli)
        if fault.kind is not FaultKind.ELECTRODE:
            return None
        if fault.electrode_on:
            self.current.put_back(fault.channel)
        else:
            self.current.take_off(fault.channel)
        return (self.next_sample, MarkCode.ELECTRODE, fault.channel, int(not fault.electrode_on))

    def _frame(self, samples: Samples, frame_type: FrameType, marks: list[Mark]) -> bytes:
        flags = FrameFlag.START if self.frames == 0 else FrameFlag(0)
        if self._discarded:
            flags |= FrameFlag.OVERFLOW
        if frame_type is FrameType.END:
            flags |= FrameFlag.END
        frame = encode_frame(
            samples,
            frame_seq=(self._first_frame_seq + self.frames) % 2**32,
            first=self.next_sample,
            tick=self.tick_of(self.next_sample),
            flags=flags,
            frame_type=frame_type,
            marks=marks,
        )
        self.next_sample += len(samples)
        self.frames += 1
        self._discarded = False
        return frame
