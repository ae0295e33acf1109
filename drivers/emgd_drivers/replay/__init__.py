"""Recordings as signals: any of several file formats, opened as what a device model can sample.

A reader turns a file into channels (contents.py); choice, scale and trigger marks are then made alike for all formats
(recording.py). docs/replay.md tells users how to play a recording, and what stays exact.
"""

import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from emgd_drivers.replay.contents import Contents
from emgd_drivers.replay.errors import RecordingError
from emgd_drivers.replay.recording import Recording, assemble
from emgd_drivers.replay.sidecar import EVERY_FORMAT, Sidecar, beside, load_sidecar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Recording", "RecordingError", "open_recording"]

_log = logging.getLogger(__name__)


class _Format(NamedTuple):
    """A file format: its name, its reader as `module:function`, the sidecar keys that mean something for it."""

    name: str
    reader: str
    keys: frozenset[str] = EVERY_FORMAT


_WFDB: Final = _Format("WFDB", "wfdb_reader:read")
_TEXT: Final = _Format("a table in text", "csv_reader:read", EVERY_FORMAT | {"axis", "skip_rows", "rows"})

FORMATS: Final = {
    ".hea": _WFDB,
    ".dat": _WFDB,
    ".edf": _Format("EDF", "edf_reader:read_edf"),
    ".bdf": _Format("BDF", "edf_reader:read_bdf"),
    ".wav": _Format("WAV", "wav_reader:read"),
    ".csv": _TEXT,
    ".tsv": _TEXT,
    ".txt": _TEXT,
    ".npy": _Format("NumPy", "numpy_reader:read_npy", EVERY_FORMAT | {"axis"}),
    ".npz": _Format("NumPy", "numpy_reader:read_npz", EVERY_FORMAT | {"axis", "key"}),
}
"""Formats by suffix; readers are imported when first needed, for two of them need optional libraries."""


def open_recording(path: str | Path, *, loop: bool = False, sidecar: str | Path | None = None) -> Recording:
    """Open a recording as a signal; with `loop` it has no end.

    `sidecar` is a JSON file that says what the recording does not; by default the one beside it. Notes go to the log
    and to `Recording.notes`. Raises RecordingError, one line that says what to do, whatever is wrong with either file.
    """
    path = _existing_file(Path(path))
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise RecordingError(path, f"unknown suffix {path.suffix!r}", f"known are {', '.join(FORMATS)}")
    said = load_sidecar(beside(path) if sidecar is None else Path(sidecar), form.keys)
    recording = assemble(path, _read(path, form, said), said, loop=loop)
    for note in recording.notes:
        _log.warning("%s: %s", path, note)
    return recording


def _existing_file(path: Path) -> Path:
    """The file at `path`; a WFDB record may also be named without its suffix."""
    header = path.with_name(f"{path.name}.hea") if path.name else path
    found = next((candidate for candidate in (path, header) if candidate.is_file()), None)
    if found is None:
        problem = "is not a file" if path.exists() else "there is no such file"
        raise RecordingError(path, problem, "name one recording")
    return found


def _read(path: Path, form: _Format, sidecar: Sidecar) -> Contents:
    """What the format's reader finds; all that can go wrong inside becomes a RecordingError."""
    module, function = form.reader.split(":")
    try:
        reader: Callable[[Path, Sidecar], Contents] = getattr(import_module(f"{__name__}.{module}"), function)
    except (ImportError, OSError) as error:
        # OSError: a library that is there but lacks a shared object of the system.
        raise RecordingError(
            path, f"reading {form.name} needs a library that does not load ({error})", "pip install 'emgd[replay]'"
        ) from None
    try:
        return reader(path, sidecar)
    except RecordingError:
        raise
    except Exception as error:  # noqa: BLE001 - parsers of foreign bytes raise any type; all mean the same here
        detail = str(error) or type(error).__name__
        raise RecordingError(
            path, f"cannot be read as {form.name}: {detail}", "look whether the file is whole"
        ) from None
