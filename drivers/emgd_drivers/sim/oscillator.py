"""The crystal of a simulated device: which tick it shows at which true host time.

All arithmetic is in whole numbers, so nothing accumulates: an hour in, a tick still has one exact instant.
"""

from bisect import bisect_right
from random import Random
from typing import Final

FS_PER_S: Final = 10**15
FS_PER_NS: Final = 10**6

SEGMENTS_PER_MIN: Final = 60
"""The frequency is constant for one nominal second at a time, then walks a step."""


class Oscillator:
    """A clock that shows tick 0 at `origin_ns` and counts `tick_hz` nominal ticks per second.

    `drift_ppm` is as the clock model has it: positive means that a tick is longer than nominal. `walk_ppm_per_min` is
    how far the drift has wandered after one minute (standard deviation); the way is drawn from `seed`.
    """

    def __init__(
        self, tick_hz: int, *, origin_ns: int = 0, drift_ppm: float = 0.0, walk_ppm_per_min: float = 0.0, seed: int = 0
    ) -> None:
        self.tick_hz: Final = tick_hz
        self._drift_ppm = drift_ppm
        self._step_ppm = walk_ppm_per_min / SEGMENTS_PER_MIN**0.5
        self._random = Random(seed)  # noqa: S311 - simulation, not cryptography
        # Segment i holds ticks [i * tick_hz, (i + 1) * tick_hz); the last one goes on for ever when nothing walks.
        self._starts_fs = [origin_ns * FS_PER_NS]
        self._lengths_fs = [self._next_length_fs()]

    def host_ns(self, tick: int) -> int:
        """The first host time (ns) at which the clock shows `tick` or more."""
        segment = tick // self.tick_hz
        while self._step_ppm and len(self._starts_fs) <= segment:
            self._add_segment()
        segment = max(0, min(segment, len(self._starts_fs) - 1))
        within_fs = (tick - segment * self.tick_hz) * self._lengths_fs[segment]
        scaled_fs = self._starts_fs[segment] * self.tick_hz + within_fs
        return -(-scaled_fs // (FS_PER_NS * self.tick_hz))

    def tick(self, host_ns: int) -> int:
        """What the clock shows at `host_ns`."""
        at_fs = host_ns * FS_PER_NS
        while self._step_ppm and self._starts_fs[-1] + self._lengths_fs[-1] <= at_fs:
            self._add_segment()
        segment = max(0, bisect_right(self._starts_fs, at_fs) - 1)
        within = (at_fs - self._starts_fs[segment]) * self.tick_hz // self._lengths_fs[segment]
        return segment * self.tick_hz + within

    def _add_segment(self) -> None:
        self._starts_fs.append(self._starts_fs[-1] + self._lengths_fs[-1])
        self._drift_ppm += self._random.gauss(0.0, self._step_ppm)
        self._lengths_fs.append(self._next_length_fs())

    def _next_length_fs(self) -> int:
        """How long `tick_hz` ticks take at the drift of now."""
        return round(FS_PER_S + self._drift_ppm * (FS_PER_S / 10**6))
