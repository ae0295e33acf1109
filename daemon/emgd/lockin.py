"""A lock-in: how much of one frequency there is in samples, and how sure that is.

The window is a Hann window over whole cycles. So a constant offset, mains where the window holds whole cycles of it
too, and the slow wandering of electrodes fall out; noise and muscle near the frequency do not, and how strong they
are is read off the frequencies beside it, where the tone itself leaves nothing.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

NEIGHBOURS: Final = (*range(-9, -1), *range(2, 10))
"""Frequencies at which the noise is read, in steps of 1 / window. One step beside the tone a Hann window still lets it
through; nine are near enough that the noise there is the noise at the tone, and sixteen readings tell it to a fifth."""

LEAST_CYCLES: Final = 24
"""The lowest neighbour must stay clear of the constant offset."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tone:
    """Of each channel the amplitude (peak) at the frequency, corrected for what noise adds to it on average, and the
    standard uncertainty of that: shape (channels,) each, in the unit of the samples.
    """

    peak: Floats
    sigma: Floats


class LockIn:
    """One window of about `window_s`, filled by `add` until `missing` is 0."""

    def __init__(self, frequency_hz: float, rate_hz: float, channels: int, window_s: float) -> None:
        cycles = max(LEAST_CYCLES, round(window_s * frequency_hz))
        self.samples: Final = round(cycles * rate_hz / frequency_hz)
        self._turns_per_sample = frequency_hz / rate_hz + np.array([0, *NEIGHBOURS]) / self.samples
        self._sums = np.zeros((2 * len(self._turns_per_sample), channels))
        self._taken = 0
        self._offset: Floats | None = None

    @property
    def missing(self) -> int:
        """How many samples are still to come."""
        return self.samples - self._taken

    def add(self, rows: npt.NDArray[np.int32]) -> None:
        """The next samples, shape (n, channels), at most `missing` of them."""
        if len(rows) > self.missing:
            raise ValueError(f"{len(rows)} samples for a window that lacks {self.missing}")
        if not len(rows):
            return
        if self._offset is None:
            # A constant falls out anyway; without it, sums of a million counts do not cost the digits of a few.
            self._offset = rows[0].astype(np.float64)
        at = np.arange(self._taken, self._taken + len(rows))
        weights = 1 - np.cos(2 * np.pi * at / self.samples)
        angles = 2 * np.pi * (np.outer(self._turns_per_sample, at) % 1.0)
        basis = np.concatenate((np.cos(angles), np.sin(angles))) * weights
        self._sums += basis @ (rows - self._offset)
        self._taken += len(rows)

    def tone(self) -> Tone:
        """What the full window says."""
        half = len(self._turns_per_sample)
        power = (self._sums[:half] ** 2 + self._sums[half:] ** 2) * (2 / self.samples) ** 2
        # Noise adds its power in both phases to that of the tone, in the mean over many windows.
        variance = power[1:].mean(axis=0) / 2
        return Tone(np.sqrt(np.maximum(power[0] - 2 * variance, 0.0)), np.sqrt(variance))
