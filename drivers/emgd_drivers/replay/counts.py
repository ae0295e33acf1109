"""From a file's values to a device's counts: exact where the file holds counts, else quantised, and said to be."""

import math
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from emgd_drivers.replay.contents import MAX_COUNT, FileChannel
from emgd_drivers.replay.errors import RecordingError
from emgd_drivers.replay.units import COUNT, UV_PER_UNIT, volt_unit

MIN_COUNT: Final = -(2**23)
"""Smallest count that 24 bits on the device's wire can carry."""

QUANTISED_LIMIT: Final = 2**23 - 2
"""Largest absolute count of a quantised channel: one below full scale, so that it never looks saturated."""

SMALLEST_LSB_UV: Final = 1e-9
"""The finest step: a femtovolt, far below the noise of any electrode, and safe from underflow."""


class Scale(NamedTuple):
    """What the counts of one channel mean: µV = count x `uv_per_count`; `unit` is that of the file's values."""

    uv_per_count: float
    saturation_count: int
    quantised: bool
    unit: str


def write_counts(
    out: npt.NDArray[np.int32], path: Path, channel: FileChannel, unit: str | None, uv_per_count: float | None
) -> Scale:
    """Write one channel's counts to `out`, shape (n,); `unit`, `uv_per_count`: the sidecar's (None: as the file says).

    Integers that fit 24 bits stay as they are. All else becomes round(µV / lsb) with the finest lsb of the series
    1-2-5 that fits. Raises RecordingError for values that are not finite, and where nobody says what a value is in µV.
    """
    if channel.samples.dtype.kind not in "iuf":
        raise RecordingError(path, f"{channel.name} holds {channel.samples.dtype}", "store integers or floats")
    _check_finite(path, channel, channel.samples)
    unit = COUNT if uv_per_count is not None else _unit(path, channel, unit)
    uv_per_value = uv_per_count or (1.0 if unit == COUNT else _scale(path, channel) * UV_PER_UNIT[unit])
    if unit == COUNT:
        _check_whole(path, channel)
    if channel.samples.dtype.kind in "iu" or unit == COUNT:
        lowest, highest = int(channel.samples.min()), int(channel.samples.max())
        if lowest >= MIN_COUNT and highest <= MAX_COUNT:
            out[:] = channel.samples
            return Scale(uv_per_value, channel.saturation_count, quantised=False, unit=unit)
    with np.errstate(over="ignore"):
        values_uv = channel.samples.astype(np.float64) * uv_per_value
    _check_finite(path, channel, values_uv)
    lsb_uv = finest_lsb_uv(float(np.abs(values_uv).max()))
    out[:] = np.rint(values_uv / lsb_uv)
    return Scale(lsb_uv, MAX_COUNT, quantised=True, unit=unit)


def finest_lsb_uv(peak_uv: float) -> float:
    """The smallest of ... 0.1, 0.2, 0.5, 1, 2, 5 ... µV in which `peak_uv` is at most QUANTISED_LIMIT counts."""
    need_uv = peak_uv / QUANTISED_LIMIT
    if need_uv <= SMALLEST_LSB_UV:
        return SMALLEST_LSB_UV
    # Made from text, because 5 * 10.0**-6 is not the float 5e-6.
    series = (float(f"{step}e{power}") for power in count(math.floor(math.log10(need_uv))) for step in (1, 2, 5))
    return next(lsb_uv for lsb_uv in series if peak_uv / lsb_uv <= QUANTISED_LIMIT)


def _unit(path: Path, channel: FileChannel, said: str | None) -> str:
    """The unit of a channel: what the sidecar said, else what the file says."""
    unit = said or volt_unit(channel.unit or "")
    if unit is None:
        found = f"{channel.unit!r} is not a voltage" if channel.unit else "the file does not say what a value is in µV"
        raise RecordingError(
            path,
            f"{channel.name}: {found}",
            'give uv_per_count or unit in a sidecar ("count" plays 1 µV for each count)',
        )
    return unit


def _scale(path: Path, channel: FileChannel) -> float:
    """The file's own scale, which must be good for something."""
    if not math.isfinite(channel.scale) or channel.scale == 0.0:
        raise RecordingError(path, f"{channel.name} has no usable scale in the file", "give uv_per_count in a sidecar")
    return channel.scale


def _check_finite(path: Path, channel: FileChannel, values: npt.NDArray[Any]) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        at = int(np.argmin(finite))
        raise RecordingError(
            path,
            f"{channel.name}, sample {at} is {channel.samples[at]}, no number of µV",
            "cut or mend the recording there",
        )


def _check_whole(path: Path, channel: FileChannel) -> None:
    """Counts are whole numbers, even where a file stores them as floats."""
    whole = np.equal(np.rint(channel.samples), channel.samples)
    if not whole.all():
        at = int(np.argmin(whole))
        raise RecordingError(
            path,
            f"{channel.name}, sample {at} is {channel.samples[at]}, not a whole count",
            "give unit instead of uv_per_count",
        )
