"""What a reader hands over: a file's channels as they stand in it, and the choice of those that are played."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from emgd_drivers.replay.errors import RecordingError
from emgd_drivers.replay.sidecar import Sidecar
from emgd_drivers.replay.units import volt_unit

MAX_COUNT: Final = 2**23 - 1
"""Largest count that 24 bits on the device's wire can carry."""

_LISTED: Final = 12
"""Most channels that an error lists: enough to find one's own, few enough for a line."""


@dataclass(frozen=True, slots=True, eq=False)
class FileChannel:
    """One channel as a file holds it.

    `samples` has shape (n,) and holds integers or floats; a value times `scale` is in `unit` as the file spells it
    (None: the file does not say). `number` counts the file's channels from 0, `zero_count` is the count that the file
    calls 0 V, `saturation_count` the absolute count at which the converter ends.
    """

    number: int
    label: str
    samples: npt.NDArray[Any]
    rate_hz: float | None = None
    unit: str | None = None
    scale: float = 1.0
    zero_count: float = 0.0
    saturation_count: int = MAX_COUNT

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"channel {self.number} ({self.label})" if self.label else f"channel {self.number}"


@dataclass(frozen=True, slots=True)
class Contents:
    """A file's channels, and what its reader wants the user to know."""

    channels: tuple[FileChannel, ...]
    notes: tuple[str, ...] = ()


class Choice(NamedTuple):
    """The channels to play, in order and of one rate; the one that becomes marks; what was left out and why."""

    channels: tuple[FileChannel, ...]
    trigger: FileChannel | None
    notes: tuple[str, ...]


def saturation_count(lowest: int, highest: int) -> int:
    """Absolute count at which a converter from `lowest` to `highest` is saturated.

    One number cannot serve both ends of a lopsided range; it is then the far end, so that no good sample is called
    saturated.
    """
    return max(1, min(MAX_COUNT, max(highest, -lowest - 1)))


def as_file_channels(table: npt.NDArray[Any], labels: tuple[str, ...] = (), **common: Any) -> tuple[FileChannel, ...]:
    """Channels of a table of shape (n,) or (n, channels), with `common` fields for all of them."""
    columns = table[:, np.newaxis] if table.ndim == 1 else table
    names = labels or ("",) * columns.shape[1]
    limit = MAX_COUNT
    if table.dtype.kind in "iu":
        limit = saturation_count(int(np.iinfo(table.dtype).min), int(np.iinfo(table.dtype).max))
    return tuple(
        FileChannel(number, label, columns[:, number], saturation_count=limit, **common)
        for number, label in enumerate(names)
    )


def find_column(path: Path, names: Mapping[int, str], wanted: int | str) -> int:
    """The number of the column that a sidecar names by number or label; `names` maps all numbers to labels."""
    found = [number for number, label in names.items() if wanted in (number, label)]
    if len(found) == 1:
        return found[0]
    if found:
        numbers = " and ".join(map(str, found))
        raise RecordingError(path, f"the label {wanted!r} stands on columns {numbers}", "name the column by its number")
    listed = ", ".join(
        f"{number} {label!r}" if label else str(number) for number, label in list(names.items())[:_LISTED]
    )
    more = ", ..." if len(names) > _LISTED else ""
    raise RecordingError(path, f"has no column {wanted!r}", f"columns in the sidecar must be among {listed}{more}")


def choose(path: Path, contents: Contents, sidecar: Sidecar) -> Choice:
    """Which channels are played: those the sidecar names, else every voltage at the highest rate.

    The sidecar's trigger is never played. Raises RecordingError when nothing is left, or when the choice mixes rates.
    """
    by_number = {channel.number: channel for channel in contents.channels}
    names = {channel.number: channel.label for channel in contents.channels}
    trigger = None if sidecar.trigger is None else by_number[find_column(path, names, sidecar.trigger)]
    candidates = tuple(channel for channel in contents.channels if channel is not trigger)
    notes: tuple[str, ...] = ()
    if sidecar.columns is None:
        chosen, notes = _voltages_at_highest_rate(path, candidates, sidecar)
    else:
        numbers = [find_column(path, names, column) for column in sidecar.columns]
        chosen = tuple(by_number[number] for number in numbers if by_number[number] is not trigger)
    if not chosen:
        raise RecordingError(path, "holds no channel to play", "look at columns and trigger in the sidecar")
    _check_one_rate(path, (*chosen, trigger) if trigger is not None else chosen)
    return Choice(chosen, trigger, contents.notes + notes)


def _voltages_at_highest_rate(
    path: Path, candidates: tuple[FileChannel, ...], sidecar: Sidecar
) -> tuple[tuple[FileChannel, ...], tuple[str, ...]]:
    """The default choice, and a note for each channel that it leaves out."""
    told = sidecar.unit is not None or sidecar.uv_per_count is not None
    volts = [channel for channel in candidates if told or not channel.unit or volt_unit(channel.unit)]
    if candidates and not volts:
        units = ", ".join(f"{channel.name} in {channel.unit!r}" for channel in candidates[:_LISTED])
        raise RecordingError(path, f"no channel is a voltage: {units}", "say its unit in a sidecar")
    top = max((channel.rate_hz or 0.0 for channel in volts), default=0.0)
    notes = []
    for channel in candidates:
        if channel not in volts:
            notes.append(f"{channel.name} is left out: its unit {channel.unit!r} is not a voltage")
        elif channel.rate_hz is not None and channel.rate_hz < top:
            notes.append(f"{channel.name} is left out: its rate is {channel.rate_hz:g} Hz, not {top:g} Hz")
    return tuple(channel for channel in volts if channel.rate_hz is None or channel.rate_hz == top), tuple(notes)


def _check_one_rate(path: Path, channels: tuple[FileChannel, ...]) -> None:
    """All channels of a stream, and its trigger, are sampled together."""
    if len({channel.rate_hz for channel in channels}) > 1:
        rates = ", ".join(f"{channel.name} {channel.rate_hz:g} Hz" for channel in channels[:_LISTED])
        raise RecordingError(path, f"the chosen channels differ in rate: {rates}", "choose columns of one rate")
