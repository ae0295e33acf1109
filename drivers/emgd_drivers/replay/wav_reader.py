"""Reader of WAV files: 8, 16, 24 and 32-bit integers and floats, through SciPy."""

import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.io import wavfile

from emgd_drivers.replay.contents import Contents, as_file_channels
from emgd_drivers.replay.sidecar import Sidecar

_BYTE_ZERO: Final = 0x80
"""8-bit WAV is unsigned and this byte is silence: turning its one bit makes a byte signed."""

_HARMLESS: Final = "Chunk (non-data) not understood, skipping it."
"""SciPy's words on notes, tags and the like."""


def read(path: Path, sidecar: Sidecar) -> Contents:  # noqa: ARG001 - all readers are called alike
    """Counts as the converter gave them; full scale is 1 of the unit that the sidecar must name."""
    with warnings.catch_warnings(record=True) as caught:
        # A file cut short is warned of, and played as far as it goes: the warning becomes a note.
        warnings.simplefilter("always")
        rate_hz, table = wavfile.read(path)
    table, full_scale = _counts(table)
    notes = tuple(str(warning.message) for warning in caught if str(warning.message) != _HARMLESS)
    return Contents(as_file_channels(table, rate_hz=float(rate_hz), scale=1.0 / full_scale), notes)


def _counts(table: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """The table with bytes made signed and left-aligned 24-bit values put right; and its full scale in counts."""
    if table.dtype.kind == "f":
        return table, 1
    if table.dtype == np.uint8:
        return (table ^ _BYTE_ZERO).view(np.int8), 2**7
    if table.dtype.itemsize == 4 and not np.any(table & 0xFF):
        return table >> 8, 2**23
    return table, 2 ** (8 * table.dtype.itemsize - 1)
