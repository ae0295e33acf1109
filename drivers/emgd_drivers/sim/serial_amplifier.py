"""What both simulated serial amplifiers have in common: a board clock, conversions in time, and the way to the host."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from emgd_drivers.fields import Field
from emgd_drivers.sim.ads1299 import Ads1299
from emgd_drivers.sim.faults import MAX_DRIFT_PPM
from emgd_drivers.sim.oscillator import Oscillator
from emgd_drivers.sim.serial_faults import ALLOWED_FORMS, parse_serial_faults
from emgd_drivers.sim.serial_model import SendBytes
from emgd_drivers.sim.serial_output import SerialOutput

TICK_HZ: Final = 2_000_000
"""Board clock: each sample rate takes a whole number of its ticks, and so does a microsecond."""

GROUPS_PER_S: Final = 1000
"""Samples of fast streams leave in groups of a millisecond, as a host asks about as often."""

CHUNK: Final = 256
"""Conversions worked out at once."""


COMMON_FIELDS: Final = (
    Field("seed", int, "draws the signal, jitter and noise bytes", 1, 0),
    Field("drift_ppm", float, "error of the crystal; positive = too slow", 0.0, -MAX_DRIFT_PPM, MAX_DRIFT_PPM),
    Field("jitter_ms", float, "frames are late by 0 to this", 0.0, 0, 1000),
    Field("faults", list, f"may be given again; one of {ALLOWED_FORMS}", (), 0, 1000),
)
"""Options that every board has, beside its serial number and rate."""


class Conditions(TypedDict, total=False):
    """In what conditions any board works; the defaults stand at SerialAmplifierModel."""

    faults: Sequence[str]
    drift_ppm: float
    jitter_ns: int
    seed: int
    now_ns: int


def conditions_of(options: Mapping[str, Any], now_ns: int) -> Conditions:
    """From the values of COMMON_FIELDS, for a board that is powered up at `now_ns`."""
    return Conditions(
        faults=tuple(options["faults"]),
        drift_ppm=options["drift_ppm"],
        jitter_ns=round(options["jitter_ms"] * 1e6),
        seed=options["seed"],
        now_ns=now_ns,
    )


class SerialAmplifierModel:
    """A SerialModel that streams conversions of its chip. A subclass says what commands do and how a frame looks.

    `drift_ppm` is that of the board clock, which also times the conversions; frames are late by 0 to `jitter_ns`.
    `faults` are strings of sim/serial_faults.py, ValueError for a bad one.
    """

    def __init__(
        self,
        chip: Ads1299,
        serial: str,
        buffer_bytes: int,
        *,
        faults: Sequence[str] = (),
        drift_ppm: float = 0.0,
        jitter_ns: int = 0,
        seed: int = 1,
        now_ns: int = 0,
    ) -> None:
        self.chip: Final = chip
        self.serial: Final = serial
        self._output = SerialOutput(buffer_bytes, parse_serial_faults(faults), jitter_ns=jitter_ns, seed=seed)
        self._clock = Oscillator(TICK_HZ, origin_ns=now_ns, drift_ppm=drift_ppm)
        self._busy_until_ns = now_ns
        self._streaming = False
        self._start_tick = 0
        self._ticks_per_sample = 1
        self._next_index = 0

    @property
    def blocked(self) -> bool:
        """Does something wait only for the host to take it?"""
        return self._output.blocked

    @property
    def unplugged(self) -> bool:
        """Has a fault pulled the plug?"""
        return self._output.unplugged

    @property
    def streaming(self) -> bool:
        """Are samples on their way?"""
        return self._streaming

    @property
    def lost_frames(self) -> int:
        """How many frames found no room."""
        return self._output.lost_frames

    def connect(self, send: SendBytes) -> None:
        """Hand bytes to `send` from now on."""
        self._output.connect(send)

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the host, cut anywhere."""
        self.run(now_ns)
        for byte in data:
            self._take(byte, max(now_ns, self._busy_until_ns))
        self._output.drain(now_ns)

    def run(self, now_ns: int) -> None:
        """Convert what is due until now and hand it over."""
        self._output.drain(now_ns)
        if self._streaming and not self.unplugged:
            self._convert(now_ns)
        self._output.drain(now_ns)

    def next_event_ns(self) -> int | None:
        """When to call `run` next."""
        due = self._output.next_ns()
        if not self._streaming or self.unplugged:
            return due
        group = max(1, TICK_HZ // self._ticks_per_sample // GROUPS_PER_S)
        sample_ns = self._clock.host_ns(self._tick(self._next_index + group - 1))
        return sample_ns if due is None else min(due, sample_ns)

    def _take(self, byte: int, now_ns: int) -> None:
        """A byte of a command; `now_ns` is when the firmware gets to it."""
        raise NotImplementedError

    def _frame(self, index: int, tick: int, sample: bytes) -> bytes:
        """Conversion `index`, complete at `tick`, as it goes over the wire."""
        raise NotImplementedError

    def _sent(self, *, had_room: bool) -> None:
        """A frame was put on its way, or lost for want of room."""

    def _answer(self, text: str, now_ns: int) -> None:
        self._output.answer(text.encode(), now_ns)

    def _start(self, now_ns: int) -> None:
        """Stream from now on; the first conversion is complete one sample later."""
        self._streaming = True
        self._ticks_per_sample = TICK_HZ // self.chip.rate_hz
        self._start_tick = self._clock.tick(now_ns)
        self._next_index = 0

    def _stop(self) -> None:
        self._streaming = False

    def _tick(self, index: int) -> int:
        """Board clock at the end of a conversion."""
        return self._start_tick + (index + 1) * self._ticks_per_sample

    def _convert(self, now_ns: int) -> None:
        complete = (self._clock.tick(now_ns) - self._start_tick) // self._ticks_per_sample
        while self._next_index < complete:
            first = self._next_index
            for index, sample in enumerate(self.chip.packed(first, min(CHUNK, complete - first)), first):
                tick = self._tick(index)
                frame = self._frame(index, tick, sample)
                if not self._output.has_room(len(frame)):
                    self._output.drain(now_ns)  # The host may have read all the while.
                self._sent(had_room=self._output.frame(frame, index, self._clock.host_ns(tick)))
                self._next_index = index + 1
