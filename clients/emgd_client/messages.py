"""What a client is handed: blocks of samples and events, as frozen dataclasses. `decoding` makes them from bytes."""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.int32] | NDArray[np.float32]
Origin: TypeAlias = Literal["live", "history"]

NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive samples of all channels of one stream.

    `samples` has shape (samples, channels), read-only; int32 counts (`raw`) or float32 µV (`filtered`). `seq` is the
    number of the first sample and `host_time_ns` its CLOCK_MONOTONIC time. `gap_before` samples directly before `seq`
    do not exist anywhere; `dropped_before` samples since the last block were dropped for this client and could not be
    fetched again.
    """

    stream: str
    session: str
    seq: int
    samples: Samples
    host_time_ns: int
    flags: int
    channel_flags: bytes
    gap_before: int = 0
    dropped_before: int = 0
    origin: Origin = "live"

    @property
    def count(self) -> int:
        """How many samples."""
        return len(self.samples)

    @property
    def end(self) -> int:
        """Number of the sample that follows this block."""
        return self.seq + self.count

    def from_sample(self, seq: int, rate_hz: float) -> "Block":
        """The part of this block from sample `seq` (within the block) on; its time follows from the nominal rate."""
        skipped = seq - self.seq
        time_ns = self.host_time_ns + round(skipped * NS_PER_S / rate_hz)
        return replace(self, seq=seq, samples=self.samples[skipped:], host_time_ns=time_ns, gap_before=0)

    def latency_ns(self, received_ns: int, rate_hz: float) -> int:
        """From the instant of the block's last sample to `received_ns` (CLOCK_MONOTONIC), in nanoseconds."""
        return received_ns - self.host_time_ns - round((self.count - 1) * NS_PER_S / rate_hz)


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples `seq … seq + count - 1` that the service itself does not have; see the protocol for `causes`."""

    stream: str
    session: str
    seq: int
    count: int
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Samples `seq … seq + count - 1`, dropped for this client alone, that the history did not give back either."""

    stream: str
    session: str
    seq: int
    count: int


@dataclass(frozen=True, slots=True)
class Mark:
    """An instant tied to sample `seq`; `value` means what the protocol says for `code`."""

    stream: str
    session: str
    seq: int
    host_time_ns: int
    code: str
    value: int
    channel: int


@dataclass(frozen=True, slots=True)
class Clock:
    """The model that ties device ticks to host time, as of `host_time_ns`."""

    stream: str
    session: str
    host_time_ns: int
    state: str
    offset_ns: float
    drift_ppm: float
    sigma_ns: float
    age_ns: int
    observations: int
    rejected: int


@dataclass(frozen=True, slots=True)
class State:
    """The device's connection; `seq` is the number of the next sample, `text` one sentence for people."""

    stream: str
    session: str
    seq: int
    device: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where the stimulating electrodes are; `id` is what shots name it by."""

    id: str
    side: str
    limb: str
    nerve: str
    electrodes: str


@dataclass(frozen=True, slots=True)
class StimulatorState(State):
    """What the stimulator is ready for; `reasons` are names of what ended the last state, for programs.

    `seq` is the number of the amplifier's next sample.
    """

    reasons: tuple[str, ...]
    holder: str | None
    profile: str | None
    site: Site | None
    operator: str | None
    limits: str | None

    @property
    def armed(self) -> bool:
        """A pulse may be given."""
        return self.state in ("armed", "firing", "cooldown")


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the stimulator says that it gave. `load_ohm` 0: open. `limited`: it reached its voltage limit."""

    at_ns: int
    sigma_ns: int
    current_ua: int
    width_us: int
    load_ohm: int
    dc_ua: int
    limited: bool


@dataclass(frozen=True, slots=True)
class Pulse:
    """A pulse that was commanded, as it ended: `delivered` is None when nobody knows of it.

    `mark_seq` is the sample at which the amplifier saw it begin, None without a trigger cable.
    """

    stream: str
    session: str
    pulse: int
    shot: int
    number: int
    of: int
    site: Site | None
    profile: str | None
    operator: str | None
    at_ns: int
    current_ua: int
    width_us: int
    delivered: Delivered | None
    reasons: tuple[str, ...]
    mark_seq: int | None
    mark_ns: int | None


@dataclass(frozen=True, slots=True)
class Electrode:
    """One electrode: |Z| in Ω at the test frequency with its standard uncertainty, None where the channel was
    saturated; `state` is good, dry, off, bridge or unknown.
    """

    ohm: float | None
    sigma_ohm: float | None
    state: str


@dataclass(frozen=True, slots=True)
class ElectrodePair:
    """The electrodes of a channel, which measures E1 minus E2, and what lies between them (Ω)."""

    channel: int
    label: str
    e1: Electrode
    e2: Electrode
    between_ohm: float | None
    between_sigma_ohm: float | None
    bridge: bool

    @property
    def good(self) -> bool:
        """Both electrodes are good, and nothing bridges them."""
        return self.e1.state == self.e2.state == "good" and not self.bridge


@dataclass(frozen=True, slots=True)
class Impedance:
    """Where an impedance check is, or how it ended: `state` and all else as in docs/protocol.md.

    `seq` and `count` are from the first measured sample to the last. `results` are empty until `state` is done.
    """

    stream: str
    session: str
    seq: int
    count: int
    host_time_ns: int
    check: int
    state: str
    side: str | None
    step: int
    steps: int
    attempt: int
    channels: tuple[int, ...]
    ready_ns: int | None
    reason: str | None
    text: str
    frequency_hz: float
    current_na: float
    windows: tuple[tuple[str, int, int], ...]
    results: tuple[ElectrodePair, ...]

    @property
    def over(self) -> bool:
        """The check has come to its end, good or bad."""
        return self.state in ("done", "aborted")

    @property
    def all_good(self) -> bool:
        """Every electrode that was asked for was measured and found good."""
        return self.state == "done" and all(pair.good for pair in self.results)


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of a stream; `filter` is the map of the protocol for `filtered` streams, else None."""

    label: str
    uv_per_count: float
    saturation_count: int
    gain: int
    mode: str
    filter: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Description:
    """What a stream is, and `notes` that a user of the samples should know.

    `isolated`: a stimulator may be used beside this device.
    `session` and `oldest`, the oldest sample in the history, are None where the list of streams was asked for.
    """

    stream: str
    kind: str
    device: str
    driver: str
    serial: str
    firmware: str
    simulated: bool
    isolated: bool
    rate_hz: float
    speed: float
    dtype: str
    unit: str
    block_samples: int
    history_samples: int
    realtime_offset_ns: int
    notes: tuple[str, ...]
    channels: tuple[Channel, ...]
    session: str | None = None
    oldest: int | None = None

    @property
    def uv_per_count(self) -> NDArray[np.float64]:
        """µV per count of each channel, shape (channels,): multiply raw samples with it."""
        return np.array([channel.uv_per_count for channel in self.channels])


Message: TypeAlias = Block | Gap | Mark | Clock | State | Impedance | Pulse | Description


@dataclass(frozen=True, slots=True, eq=False)
class HistoryReply:
    """One answer of `history`: what is there of `seq … seq + count - 1`; ask from `next_seq` on for the rest."""

    session: str
    seq: int
    count: int
    next_seq: int
    oldest: int
    newest: int
    expired: int
    blocks: tuple[Block, ...]
    gaps: tuple[Gap, ...]
