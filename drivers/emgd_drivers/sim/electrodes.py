"""Electrodes on the skin, as circuits, and what the device's test current makes of them (docs/devices/emg8.md, 4).

An electrode is a resistance in series with the skin's, beside which lies a capacity. The current is small and steady,
so its voltage is the circuit's complex impedance at the test frequency; what happens in the first milliseconds,
until the capacities are charged, is left out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, pi
from typing import Final

import numpy as np
import numpy.typing as npt

from emgd_drivers.api import ImpedanceTest, Side
from emgd_drivers.emg8.protocol import ALL_CHANNELS, Mark, MarkCode, Samples
from emgd_drivers.sim.signal import Signal

TEST: Final = ImpedanceTest(frequency_hz=31.25, current_na=24.0, has_marks=True)
"""The reference hardware's test current; the reasons stand in the device's description."""

MAX_CHANGES: Final = 64
"""Changes of the test current that wait for the next frame: far more than requests fit into a millisecond."""

MAX_OFF: Final = 64
"""Channels with an electrode that is off from the start: each has a mark in the first frame, which holds 256."""


@dataclass(frozen=True, slots=True)
class Electrode:
    """A resistance in series with a resistance and a capacity side by side (Ω, Ω, nF)."""

    series_ohm: float
    parallel_ohm: float = 0.0
    parallel_nf: float = 0.0

    def impedance(self, frequency_hz: float) -> complex:
        """Ω at a frequency."""
        return self.series_ohm + self.parallel_ohm / (
            1 + 2j * pi * frequency_hz * self.parallel_ohm * self.parallel_nf * 1e-9
        )


GOOD: Final = Electrode(400, 3_000, 47)
"""Prepared skin with gel: 3.4 kΩ at the test frequency."""

DRY: Final = Electrode(600, 40_000, 20)
"""Unprepared skin: 40 kΩ."""

OFF: Final = Electrode(1e9)
"""Nothing but the amplifier's own input: the test current drives it to the end of the range."""

BRIDGE_OHM: Final = 300.0
"""Gel from one electrode to the other."""

_STATES: Final = {"good": GOOD, "dry": DRY, "off": OFF}


@dataclass(frozen=True, slots=True)
class Pair:
    """The two electrodes of a channel, E1 and E2, and the resistance between them (Ω; infinite = none)."""

    positive: Electrode = GOOD
    negative: Electrode = GOOD
    bridge_ohm: float = inf

    @property
    def is_off(self) -> bool:
        """Has an electrode no contact?"""
        return OFF in (self.positive, self.negative)

    def transfer_ohm(self, sides: Side, frequency_hz: float) -> complex:
        """Voltage that the channel sees, E1 minus E2, over the test current that goes through `sides`."""
        z1, z2 = self.positive.impedance(frequency_hz), self.negative.impedance(frequency_hz)
        through = {Side.NONE: 0, Side.POSITIVE: z1, Side.NEGATIVE: -z2, Side.BOTH: z1 + z2}[sides]
        # The electrodes in series with the bridge are one mesh: it leaves this share of what there is without it.
        share = 1.0 if self.bridge_ohm == inf else self.bridge_ohm / (z1 + z2 + self.bridge_ohm)
        return through * share


_FORM: Final = re.compile(r"(?P<channel>\d{1,4})(:E(?P<side>[12]))?=(?P<state>good|dry|off|bridge)", re.ASCII)
ALLOWED_FORMS: Final = "CHANNEL:E1=STATE, CHANNEL:E2=STATE, CHANNEL=STATE, CHANNEL=bridge (STATE is good, dry or off)"


def parse_electrodes(texts: Iterable[str], channels: int) -> dict[int, Pair]:
    """Channel -> electrodes, from strings such as `0:E1=dry` or `3=bridge`; channels not named have good ones.

    Later strings add to earlier ones. ValueError names a bad one, and what there is instead.
    """
    pairs: dict[int, Pair] = {}
    for text in texts:
        match = _FORM.fullmatch(text.strip())
        if match is None or (match["state"] == "bridge" and match["side"]):
            raise ValueError(f"electrode {text!r} is not understood; write one of {ALLOWED_FORMS}")
        channel = int(match["channel"])
        if channel >= channels:
            raise ValueError(f"electrode {text!r} names channel {channel}; choose 0 to {channels - 1}")
        pairs[channel] = _changed(pairs.get(channel, Pair()), match["side"], match["state"])
    if sum(pair.is_off for pair in pairs.values()) > MAX_OFF:
        raise ValueError(f"electrodes of more than {MAX_OFF} channels are off; leave some of them on")
    return pairs


def _changed(pair: Pair, side: str | None, state: str) -> Pair:
    if state == "bridge":
        return replace(pair, bridge_ohm=BRIDGE_OHM)
    electrode = _STATES[state]
    return replace(
        pair,
        positive=pair.positive if side == "2" else electrode,
        negative=pair.negative if side == "1" else electrode,
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """From sample `seq` on the test current goes through `sides` of a channel, or of all."""

    seq: int
    channel: int
    sides: Side


class CurrentSource:
    """The test current of one stream: which electrodes it goes through, and what it adds to the samples.

    `pairs` maps channels to electrodes, good where none are given; `connected` tells which channels measure electrodes
    at all, and not a short circuit or a test signal.
    """

    def __init__(self, signal: Signal, pairs: Mapping[int, Pair], connected: Sequence[bool]) -> None:
        self._signal = signal
        self._placed = dict(pairs)
        self._pairs = dict(pairs)
        self._connected = tuple(connected)
        self._wanted = [Side.NONE] * signal.channels
        self._changes: list[_Change] = []
        self._flowing: dict[int, tuple[int, complex]] = {}  # channel -> first sample, µV
        self._sides = [Side.NONE] * signal.channels

    def sides(self, channel: int) -> Side:
        """The electrodes of a channel that the current goes through now."""
        return self._wanted[channel]

    @property
    def off_channels(self) -> set[int]:
        """Channels with an electrode that has no contact."""
        return {channel for channel, pair in self._pairs.items() if pair.is_off}

    # --- what happens to it

    def switch(self, seq: int, channel: int, sides: Side, *, streaming: bool) -> bool:
        """Obey a request that comes before sample `seq` (channel ALL_CHANNELS: all); False = too many at once."""
        every = channel == ALL_CHANNELS
        # A request that nothing was sampled under has not happened.
        waiting = [c for c in self._changes if c.seq != seq or not (every or c.channel == channel)]
        if streaming and len(waiting) >= MAX_CHANGES and not (every and sides is Side.NONE):
            return False
        for number in range(self._signal.channels) if every else [channel]:
            self._wanted[number] = sides
        if not streaming:
            self._changes = []
        elif len(waiting) < MAX_CHANGES or waiting[-1].sides or waiting[-1].channel != ALL_CHANNELS:
            self._changes = [*waiting, _Change(seq, channel, sides)]
        return True

    def end(self) -> None:
        """The stream is over, and so is the test."""
        self._wanted = [Side.NONE] * self._signal.channels
        self._changes.clear()

    def take_off(self, channel: int) -> None:
        """E1 of a channel loses contact."""
        self._replace(channel, replace(self._pairs.get(channel, Pair()), positive=OFF))

    def put_back(self, channel: int) -> None:
        """The electrodes of a channel are as they were placed, or good where they were placed badly."""
        pair = self._placed.get(channel, Pair())
        positive, negative = (GOOD if side == OFF else side for side in (pair.positive, pair.negative))
        self._replace(channel, replace(pair, positive=positive, negative=negative))

    def _replace(self, channel: int, pair: Pair) -> None:
        self._pairs[channel] = pair
        if channel in self._flowing:
            self._flowing[channel] = (self._flowing[channel][0], self._microvolts(channel))

    # --- samples

    def apply(self, samples: Samples, first: int) -> tuple[Samples, list[Mark]]:
        """The samples from `first` on with what the current adds to them, and the marks of what changes among them."""
        if not self._changes and not self._flowing:
            return samples, []
        end = first + len(samples)
        changes = [change for change in self._changes if change.seq < end]
        self._changes = self._changes[len(changes) :]
        samples = samples.copy()
        at, marks = first, []
        for change in changes:
            seq = max(change.seq, first)  # earlier than `first`: the frame that would have held it was thrown away
            self._add(samples[at - first : seq - first], at)
            self._begin(change)
            marks.append((seq, int(MarkCode.IMPEDANCE), change.channel, int(change.sides)))
            at = seq
        self._add(samples[at - first :], at)
        return samples, marks

    def _begin(self, change: _Change) -> None:
        every = range(self._signal.channels)
        for channel in every if change.channel == ALL_CHANNELS else [change.channel]:
            self._sides[channel] = change.sides
            self._flowing.pop(channel, None)
            if change.sides:
                self._flowing[channel] = (change.seq, self._microvolts(channel))

    def _microvolts(self, channel: int) -> complex:
        if not self._connected[channel]:
            return 0j
        pair = self._pairs.get(channel, Pair())
        return pair.transfer_ohm(self._sides[channel], TEST.frequency_hz) * TEST.current_na * 1e-3

    def _add(self, rows: Samples, first: int) -> None:
        """Add the sine to rows in place, up to the end of the converter's range."""
        if not len(rows) or not self._flowing:
            return
        channels = list(self._flowing)
        begun = np.array([since for since, _ in self._flowing.values()])
        scale = np.array([self._signal.uv_per_count[channel] for channel in channels])
        peak = np.array([uv for _, uv in self._flowing.values()]) / scale
        limit = np.array([self._signal.saturation_counts[channel] for channel in channels])
        seqs = np.arange(first, first + len(rows))[:, np.newaxis] - begun
        turns = seqs * (TEST.frequency_hz / self._signal.rate_hz) % 1.0
        added: npt.NDArray[np.float64] = (peak * np.exp(2j * pi * turns)).imag
        rows[:, channels] = np.clip(rows[:, channels] + np.rint(added), -limit, limit)
