"""Reader of EDF, EDF+, BDF and BDF+ files."""

import math
import warnings
from pathlib import Path
from typing import Any, Final

import edfio

from emgd_drivers.replay.contents import Contents, FileChannel, saturation_count
from emgd_drivers.replay.errors import RecordingError
from emgd_drivers.replay.sidecar import Sidecar

_ENCODING: Final = "latin-1"
"""Headers should be ASCII, but many write the micro sign; Latin-1 has it, and accepts every byte."""


def read_edf(path: Path, sidecar: Sidecar) -> Contents:  # noqa: ARG001 - all readers are called alike
    """16-bit digital values as stored; annotations are not channels."""
    return _read(path, edfio.read_edf)


def read_bdf(path: Path, sidecar: Sidecar) -> Contents:  # noqa: ARG001 - all readers are called alike
    """24-bit digital values as stored; annotations are not channels."""
    return _read(path, edfio.read_bdf)


def _read(path: Path, library_read: Any) -> Contents:
    with warnings.catch_warnings(record=True) as caught:
        # A file cut short is warned of, and played as far as it goes: the warning becomes a note.
        warnings.simplefilter("always")
        edf = library_read(path, header_encoding=_ENCODING)
        channels = tuple(_channel(number, signal) for number, signal in enumerate(edf.signals))
        continuous = edf.is_continuous
    if not continuous:
        raise RecordingError(path, "has gaps in time (EDF+D)", "cut it into continuous files and play these")
    return Contents(channels, tuple(str(warning.message) for warning in caught))


def _channel(number: int, signal: Any) -> FileChannel:
    """One signal of the file."""
    counts = signal.digital_max - signal.digital_min
    scale = (signal.physical_max - signal.physical_min) / counts if counts else math.nan
    return FileChannel(
        number=number,
        label=signal.label,
        samples=signal.digital,
        rate_hz=signal.sampling_frequency,
        unit=signal.physical_dimension,
        scale=scale,
        zero_count=signal.digital_max - signal.physical_max / scale if scale and math.isfinite(scale) else 0.0,
        saturation_count=saturation_count(signal.digital_min, signal.digital_max),
    )
