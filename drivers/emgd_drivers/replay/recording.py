"""A recording in memory, as the signal that a device model samples: counts, scale, labels and trigger marks."""

from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from emgd_drivers.replay.contents import Choice, Contents, FileChannel, choose
from emgd_drivers.replay.counts import Scale, write_counts
from emgd_drivers.replay.errors import RecordingError
from emgd_drivers.replay.sidecar import MIN_RATE_HZ, Sidecar

MAX_CHANNELS: Final = 1024
"""Most channels of an emg8 (docs/devices/emg8.md)."""

MARK_TRIGGER: Final = 1
"""Mark code of the trigger input (docs/devices/emg8.md); value 1 is a rising edge, 0 a falling one."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recorded signal, asked for by sample number.

    `counts` has shape (n, channels), int32; µV = count x `uv_per_count` of the channel. Where `quantised`, the file
    held no counts of at most 24 bits and these were made with an error of at most half a count. `source_unit` is the
    unit of the file's values. `notes` are sentences on what was left out or is odd. With `loop` the sample number runs
    on while the samples begin anew. `edges` are (sample number, 1 rising or 0 falling) of the trigger, ascending.
    """

    counts: npt.NDArray[np.int32]
    rate_hz: float
    uv_per_count: tuple[float, ...]
    labels: tuple[str, ...]
    saturation_counts: tuple[int, ...]
    source_unit: str
    quantised: bool = False
    loop: bool = False
    notes: tuple[str, ...] = ()
    edges: tuple[tuple[int, int], ...] = ()

    @property
    def channels(self) -> int:
        """How many channels."""
        return int(self.counts.shape[1])

    @property
    def length(self) -> int | None:
        """How many samples; None when looped, for then there is no end."""
        return None if self.loop else len(self.counts)

    def read(self, first: int, count: int) -> npt.NDArray[np.int32]:
        """Samples `first` to `first + count - 1`: a fresh int32 array of shape (count, channels), C order.

        Raises ValueError for a range outside the recording.
        """
        self._check_range(first, count)
        start = first % len(self.counts)
        if start + count <= len(self.counts):
            return self.counts[start : start + count].copy()
        return self.counts[np.arange(start, start + count) % len(self.counts)]

    def marks(self, first: int, count: int) -> list[tuple[int, int, int, int]]:
        """Trigger marks on those samples as (sample number, code, channel, value); ValueError as for `read`."""
        self._check_range(first, count)
        found = []
        for lap in range(first // len(self.counts), (first + count) // len(self.counts) + 1):
            start = lap * len(self.counts)
            low, high = (bisect_left(self.edges, (seq - start,)) for seq in (first, first + count))
            found += [(start + seq, MARK_TRIGGER, 0, value) for seq, value in self.edges[low:high]]
        return found

    def _check_range(self, first: int, count: int) -> None:
        if first < 0 or count < 0 or (not self.loop and first + count > len(self.counts)):
            end = "without end" if self.loop else f"{len(self.counts)} samples long"
            raise ValueError(f"samples {first} to {first + count} are outside a recording that is {end}")


def assemble(path: Path, contents: Contents, sidecar: Sidecar, *, loop: bool) -> Recording:
    """Make a recording of what a reader found and a sidecar said; raises RecordingError."""
    choice = choose(path, contents, sidecar)
    channel_count, samples = len(choice.channels), len(choice.channels[0].samples)
    if channel_count > MAX_CHANNELS:
        problem = f"has {channel_count} channels, the most are {MAX_CHANNELS}"
        raise RecordingError(path, problem, "choose columns in a sidecar")
    if samples == 0:
        raise RecordingError(path, "holds no samples", "record something first")
    _check_per_channel(path, sidecar, channel_count)
    rate_hz = _rate_hz(path, choice, sidecar)
    said = sidecar.uv_per_count if isinstance(sidecar.uv_per_count, tuple) else (sidecar.uv_per_count,) * channel_count
    counts = np.empty((samples, channel_count), dtype=np.int32)
    scales = [
        write_counts(counts[:, number], path, channel, sidecar.unit, said[number])
        for number, channel in enumerate(choice.channels)
    ]
    return Recording(
        counts=counts,
        rate_hz=rate_hz,
        uv_per_count=tuple(scale.uv_per_count for scale in scales),
        labels=sidecar.labels or tuple(channel.label or f"ch{at}" for at, channel in enumerate(choice.channels)),
        saturation_counts=tuple(scale.saturation_count for scale in scales),
        source_unit=", ".join(dict.fromkeys(scale.unit for scale in scales)),
        quantised=any(scale.quantised for scale in scales),
        loop=loop,
        notes=choice.notes + _zero_notes(choice.channels) + _quantised_notes(choice.channels, scales),
        edges=() if choice.trigger is None else _edges(path, choice.trigger),
    )


def _check_per_channel(path: Path, sidecar: Sidecar, channel_count: int) -> None:
    """Lists in a sidecar speak of every channel that is played."""
    for key, said in (("labels", sidecar.labels), ("uv_per_count", sidecar.uv_per_count)):
        if isinstance(said, tuple) and len(said) != channel_count:
            problem = f"the sidecar has {len(said)} {key} for {channel_count} channels"
            raise RecordingError(path, problem, "give one for each channel played")


def _rate_hz(path: Path, choice: Choice, sidecar: Sidecar) -> float:
    """The sidecar's rate, else the file's."""
    rate_hz = sidecar.rate_hz or choice.channels[0].rate_hz
    if rate_hz is None:
        raise RecordingError(path, "the file does not say its sample rate", "give rate_hz in a sidecar")
    if not rate_hz >= MIN_RATE_HZ:
        remedy = f"give rate_hz of {MIN_RATE_HZ:g} or more in a sidecar"
        raise RecordingError(path, f"the file's rate is {rate_hz:g} Hz", remedy)
    return float(rate_hz)


def _quantised_notes(channels: tuple[FileChannel, ...], scales: list[Scale]) -> tuple[str, ...]:
    """Samples that are not the file's own numbers must not pass for them."""
    return tuple(
        f"{channel.name}: the file's numbers were rounded to whole counts of {scale.uv_per_count:g} µV"
        for channel, scale in zip(channels, scales, strict=True)
        if scale.quantised
    )


def _zero_notes(channels: tuple[FileChannel, ...]) -> tuple[str, ...]:
    """A device's scale has no offset: what the file calls 0 V stays the count that it is, and that is said."""
    return tuple(
        f"{channel.name}: 0 V is count {round(channel.zero_count)} in the file; counts are played as they are"
        for channel in channels
        if round(channel.zero_count) != 0
    )


def _edges(path: Path, trigger: FileChannel) -> tuple[tuple[int, int], ...]:
    """Where the trigger crosses the middle of its range; its state at the start is not an edge."""
    levels = trigger.samples.astype(np.float64)
    if not np.isfinite(levels).all():
        problem = f"the trigger, {trigger.name}, has values that are no numbers"
        raise RecordingError(path, problem, "choose another trigger")
    high = levels > (levels.min() / 2 + levels.max() / 2)
    seqs = np.flatnonzero(high[1:] != high[:-1]) + 1
    return tuple((int(seq), int(high[seq])) for seq in seqs)
