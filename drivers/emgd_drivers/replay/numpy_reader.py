"""Reader of NumPy files: one array, or an archive of several with scalars that describe them."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emgd_drivers.replay.contents import Contents, as_file_channels
from emgd_drivers.replay.errors import RecordingError
from emgd_drivers.replay.sidecar import Sidecar

_RATE_KEYS: Final = ("rate_hz", "fs_hz")
"""Scalars in an archive that are understood as the sample rate in Hz."""

_LSB_KEY: Final = "lsb_uV"
"""Scalar in an archive that is understood as the µV of one count."""

_LABELS_KEY: Final = "labels"
"""Array of texts in an archive that is understood as the channels' labels."""


def read_npy(path: Path, sidecar: Sidecar) -> Contents:
    """One array of shape (n,), (n, channels) or (channels, n)."""
    table = np.load(path, mmap_mode="r", allow_pickle=False)
    return Contents(as_file_channels(_samples_first(path, table, "the array", sidecar)))


def read_npz(path: Path, sidecar: Sidecar) -> Contents:
    """The array that the sidecar names, or the only one that can be a signal."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    key = sidecar.key or _only_signal(path, arrays)
    if key not in arrays:
        raise RecordingError(path, f"has no array {key!r}", f"key in the sidecar must be one of {', '.join(arrays)}")
    table = _samples_first(path, arrays[key], f"array {key!r}", sidecar)
    common: dict[str, Any] = {"rate_hz": next((_scalar(arrays, name) for name in _RATE_KEYS if name in arrays), None)}
    lsb_uv = _scalar(arrays, _LSB_KEY)
    if lsb_uv is not None:
        common |= {"scale": lsb_uv, "unit": "uV"}
    labels = arrays.get(_LABELS_KEY)
    channels = 1 if table.ndim == 1 else table.shape[1]
    known = labels is not None and labels.dtype.kind == "U" and labels.shape == (channels,)
    return Contents(as_file_channels(table, tuple(map(str, labels)) if known and labels is not None else (), **common))


def _samples_first(path: Path, table: npt.NDArray[Any], what: str, sidecar: Sidecar) -> npt.NDArray[Any]:
    """`table` with time along its first axis: the sidecar's axis, else the longer one."""
    if table.ndim not in (1, 2):
        raise RecordingError(path, f"{what} has {table.ndim} dimensions", "store samples x channels")
    if table.ndim == 1:
        return table
    axis = sidecar.axis if sidecar.axis is not None else int(table.shape[1] > table.shape[0])
    return table.T if axis == 1 else table


def _only_signal(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> str:
    """The name of the only array of numbers with one or two axes."""
    signals = [
        name
        for name, array in arrays.items()
        if array.dtype.kind in "iuf" and array.ndim in (1, 2) and name not in (*_RATE_KEYS, _LSB_KEY)
    ]
    if len(signals) != 1:
        found = ", ".join(f"{name} {arrays[name].shape}" for name in signals) or "none"
        raise RecordingError(path, f"arrays that could be the signal: {found}", "name one with key in a sidecar")
    return signals[0]


def _scalar(arrays: dict[str, npt.NDArray[Any]], name: str) -> float | None:
    """A single number of an archive, if it is there."""
    array = arrays.get(name)
    return float(array.item()) if array is not None and array.dtype.kind in "iuf" and array.size == 1 else None
