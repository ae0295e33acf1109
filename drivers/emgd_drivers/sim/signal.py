"""What a simulated device measures: the interface of all signals, and one that is made up.

A signal is asked for samples by number, may be asked twice, and gives the same answer each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from emgd_drivers.api import Mode
from emgd_drivers.emg8.protocol import MAX_CHANNELS, MAX_COUNT, UV_PER_COUNT, Mark, MarkCode, Samples

RATE_BOUNDS_HZ: Final = (1000.0, 100_000.0)
"""Sample rates of the reference hardware."""

LOOP_S: Final = 4.0
"""The made-up signal repeats after this: long enough that nobody sees it, short enough to be made at once."""

MAX_LOOP_VALUES: Final = 4_000_000
"""With very many channels the loop is shorter, so that it stays below 16 MB and is made in a fraction of a second."""

NOISE_UV: Final = 3.0
"""Noise of electrodes and amplifier, standard deviation."""

HUM_UV: Final = 10.0
HUM_HZ: Final = 50.0

UNITS: Final = 3
"""Motor units that each channel sees."""

FIRING_HZ: Final = (6.0, 15.0)
FIRING_JITTER: Final = 0.1
"""Scatter of the intervals between firings, as a part of the interval."""

MUAP_UV: Final = (200.0, 1000.0)
MUAP_WIDTH_S: Final = (0.0008, 0.002)
"""Standard deviation of the bell whose derivatives are the potentials: they last 5 to 12 ms."""

TEST_UV: Final = 1000.0
TEST_HZ: Final = 10.0
"""Square wave of the test mode."""


@dataclass(frozen=True, slots=True)
class ChannelSetting:
    """How one channel is set by SET_CHANNEL."""

    gain: int = 1
    mode: Mode = Mode.NORMAL


class Signal(Protocol):
    """Samples by number. `length` in samples, None = endless; `saturation_counts` are absolute, one per channel."""

    @property
    def channels(self) -> int:
        """How many channels, 1 to 1024."""

    @property
    def rate_hz(self) -> float:
        """Samples per second and channel."""

    @property
    def uv_per_count(self) -> tuple[float, ...]:
        """µV per count of each channel."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each channel."""

    @property
    def saturation_counts(self) -> tuple[int, ...]:
        """Absolute count from which each channel is saturated."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be known of it, one sentence each."""

    @property
    def length(self) -> int | None:
        """How many samples there are; None when it never ends."""

    def read(self, first: int, count: int) -> Samples:
        """Samples `first` and on: int32 of shape (count, channels), C order, all of them below `length`."""

    def marks(self, first: int, count: int) -> list[Mark]:
        """Marks of these samples, in order."""


@runtime_checkable
class TunableSignal(Signal, Protocol):
    """A signal that is made at any rate, gain and mode; others are as they were recorded."""

    @property
    def rate_bounds_hz(self) -> tuple[float, float]:
        """Lowest and highest rate."""

    def tuned(self, rate_hz: float, settings: Sequence[ChannelSetting]) -> Self:
        """The same signal as the device would have it with these settings, one per channel."""


class SyntheticEmg:
    """Believable EMG, the same for the same `seed`.

    On each channel a few motor units fire at 6 to 15/s, potentials of 200 to 1000 µV with two or three phases, in noise
    of 3 µV. Of several channels the last is at rest; of three or more the one before it has 50 Hz hum.
    With `triggers` there is a trigger mark every second. `length` in samples, None = endless.
    """

    def __init__(
        self,
        channels: int = 8,
        rate_hz: float = 48_000.0,
        *,
        seed: int = 1,
        length: int | None = None,
        triggers: bool = False,
        settings: Sequence[ChannelSetting] = (),
        rate_bounds_hz: tuple[float, float] = RATE_BOUNDS_HZ,
    ) -> None:
        if not 1 <= channels <= MAX_CHANNELS:
            raise ValueError(f"the synthetic signal has {channels} channels; choose 1 to {MAX_CHANNELS}")
        if not rate_bounds_hz[0] <= rate_hz <= rate_bounds_hz[1]:
            low, high = rate_bounds_hz
            raise ValueError(f"the synthetic signal has a rate of {rate_hz:g} Hz; choose {low:g} to {high:g} Hz")
        if length is not None and length < 0:
            raise ValueError(f"the synthetic signal has a length of {length} samples; choose 0 or more, or none")
        self.channels: Final = channels
        self.rate_hz: Final = rate_hz
        self.length: Final = length
        self.rate_bounds_hz: Final = rate_bounds_hz
        self.labels: Final = tuple(f"EMG {number}" for number in range(1, channels + 1))
        self.saturation_counts: Final = (MAX_COUNT,) * channels
        self.notes: Final = ("synthetic signal, not from a person",)
        self._seed = seed
        self._triggers = triggers
        self._settings = tuple(settings) or (ChannelSetting(),) * channels
        self.uv_per_count: Final = tuple(UV_PER_COUNT / setting.gain for setting in self._settings)
        counts = np.rint(self._loop_uv() / np.array(self.uv_per_count))
        self._loop: Samples = np.clip(counts, -MAX_COUNT, MAX_COUNT).astype(np.int32)
        self._loop.setflags(write=False)

    def tuned(self, rate_hz: float, settings: Sequence[ChannelSetting]) -> Self:
        """The same signal at another rate, gain or mode; ValueError for a rate out of bounds."""
        return type(self)(
            self.channels,
            rate_hz,
            seed=self._seed,
            length=self.length,
            triggers=self._triggers,
            settings=settings,
            rate_bounds_hz=self.rate_bounds_hz,
        )

    def read(self, first: int, count: int) -> Samples:
        """Samples `first` and on, shape (count, channels)."""
        begin = first % len(self._loop)
        if begin + count <= len(self._loop):
            return self._loop[begin : begin + count]
        return np.take(self._loop, range(begin, begin + count), axis=0, mode="wrap")

    def marks(self, first: int, count: int) -> list[Mark]:
        """A rising trigger edge every second, if wanted."""
        if not self._triggers:
            return []
        period = round(self.rate_hz)
        return [(seq, MarkCode.TRIGGER, 0, 1) for seq in range(-(-first // period) * period, first + count, period)]

    def _loop_uv(self) -> npt.NDArray[np.float64]:
        """One turn of the loop in µV, shape (samples, channels)."""
        rng = np.random.default_rng(self._seed)
        samples = max(1, min(round(LOOP_S * self.rate_hz), MAX_LOOP_VALUES // self.channels))
        loop = rng.normal(0.0, NOISE_UV, (samples, self.channels))
        turns = np.arange(samples) / samples
        for channel, setting in enumerate(self._settings):
            at_rest = channel == self.channels - 1 and self.channels > 1
            if setting.mode == Mode.TEST:
                loop[:, channel] += TEST_UV * np.where(_whole_turns(TEST_HZ, samples, self.rate_hz, turns) < 0, -1, 1)
            elif setting.mode == Mode.NORMAL and not at_rest:
                self._add_units(loop[:, channel], rng)
            if channel == self.channels - 2 and channel > 0 and setting.mode == Mode.NORMAL:
                loop[:, channel] += HUM_UV * _whole_turns(HUM_HZ, samples, self.rate_hz, turns)
        return loop

    def _add_units(self, uv: npt.NDArray[np.float64], rng: np.random.Generator) -> None:
        """Let some motor units fire in one channel."""
        for _ in range(UNITS):
            muap = _muap(rng, self.rate_hz)
            firings = max(1, round(rng.uniform(*FIRING_HZ) * len(uv) / self.rate_hz))
            interval = len(uv) / firings
            scatter = rng.normal(0.0, FIRING_JITTER, firings)
            starts = ((rng.uniform() + np.arange(firings) + scatter) * interval).astype(int)
            places = (starts[:, np.newaxis] + np.arange(len(muap))) % len(uv)
            uv += np.bincount(places.ravel(), np.tile(muap, firings), len(uv))


def _muap(rng: np.random.Generator, rate_hz: float) -> npt.NDArray[np.float64]:
    """A motor unit action potential in µV: first (two phases) or second (three phases) derivative of a bell."""
    width = rng.uniform(*MUAP_WIDTH_S) * rate_hz
    x = np.arange(-3 * width, 3 * width) / width
    bell = np.exp(-(x**2) / 2)
    shape = -x * bell if rng.uniform() < 0.5 else (1 - x**2) * bell
    sign = -1.0 if rng.uniform() < 0.5 else 1.0
    muap: npt.NDArray[np.float64] = sign * rng.uniform(*MUAP_UV) * shape / np.abs(shape).max()
    return muap


def _whole_turns(
    frequency_hz: float, samples: int, rate_hz: float, turns: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """A sine of about this frequency that fits into the loop without a seam."""
    sine: npt.NDArray[np.float64] = np.sin(2 * np.pi * max(1, round(frequency_hz * samples / rate_hz)) * turns)
    return sine
