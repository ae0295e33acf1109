"""The sidecar: a small JSON file beside a recording that says what the recording itself does not.

What a sidecar says wins over what the file says. Every key is checked here, against one table; docs/replay.md explains
them.
"""

import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from emgd_drivers.replay.errors import RecordingError
from emgd_drivers.replay.units import COUNT, UV_PER_UNIT

MIN_RATE_HZ: Final = 1.0
"""The slowest rate that an emg8 can announce for a recording."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What the user said about a recording; None where nothing was said.

    `uv_per_count` is one number for all channels or one per channel; `columns` and `trigger` name a file's channels by
    number (from 0) or label; `axis` is the axis of a table along which time runs.
    """

    rate_hz: float | None = None
    unit: str | None = None
    uv_per_count: float | tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    columns: tuple[int | str, ...] | None = None
    trigger: int | str | None = None
    key: str | None = None
    axis: int | None = None
    skip_rows: int = 0
    rows: int | None = None


def _rate(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number >= MIN_RATE_HZ else None


def _number(value: Any) -> float | None:
    """A finite number; JSON's true and false are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _uv_per_count(value: Any) -> float | tuple[float, ...] | None:
    scales = [_number(item) or None for item in (value if isinstance(value, list) else [value])]
    known = tuple(scale for scale in scales if scale is not None)
    if not known or len(known) != len(scales):
        return None
    return known if isinstance(value, list) else known[0]


def _unit(value: Any) -> str | None:
    return value if value in (*UV_PER_UNIT, COUNT) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _labels(value: Any) -> tuple[str, ...] | None:
    good = isinstance(value, list) and value and all(_text(item) for item in value)
    return tuple(value) if good else None


def _index(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _column(value: Any) -> int | str | None:
    return _text(value) if isinstance(value, str) else _index(value)


def _columns(value: Any) -> tuple[int | str, ...] | None:
    good = isinstance(value, list) and value and all(_column(item) is not None for item in value)
    return tuple(value) if good else None


def _axis(value: Any) -> int | None:
    return value if _index(value) in (0, 1) else None


def _rows(value: Any) -> int | None:
    return _index(value) or None


class _Rule(NamedTuple):
    """How a key is checked (None: refused), and what a refusal calls allowed."""

    check: Callable[[Any], Any]
    allowed: str


_RULES: Final = {
    "rate_hz": _Rule(_rate, "a number of Hz, at least 1"),
    "unit": _Rule(_unit, ", ".join(f'"{unit}"' for unit in (*UV_PER_UNIT, COUNT))),
    "uv_per_count": _Rule(_uv_per_count, "a number of µV other than 0, or a list of one per channel"),
    "labels": _Rule(_labels, "a list of texts, one per channel"),
    "columns": _Rule(_columns, "a list of numbers counted from 0, or labels"),
    "trigger": _Rule(_column, "a number counted from 0, or a label"),
    "key": _Rule(_text, "the name of an array"),
    "axis": _Rule(_axis, "0 (time runs down the rows) or 1 (along them)"),
    "skip_rows": _Rule(_index, "a whole number of lines, 0 or more"),
    "rows": _Rule(_rows, "a whole number of rows, 1 or more"),
}

EVERY_FORMAT: Final = frozenset({"rate_hz", "unit", "uv_per_count", "labels", "columns", "trigger"})
"""Keys that mean something in every format."""


def beside(recording: Path) -> Path | None:
    """The sidecar that lies beside a recording: `<file>.json`, else `<stem>.json`, else None."""
    candidates = (recording.with_name(f"{recording.name}.json"), recording.with_suffix(".json"))
    return next((path for path in candidates if path.is_file()), None)


def load_sidecar(path: Path | None, keys: Collection[str]) -> Sidecar:
    """Read and check a sidecar; without a path, one that says nothing.

    `keys` are those that mean something for the recording's format. Raises RecordingError that names file, key, value
    and what is allowed.
    """
    if path is None:
        return Sidecar()
    said = _load_object(path)
    for key, value in said.items():
        if key not in keys:
            known = "is unknown" if key not in _RULES else "means nothing for this format"
            raise RecordingError(path, f"key {key!r} {known}", f"allowed: {', '.join(sorted(keys))}")
        if _RULES[key].check(value) is None:
            raise RecordingError(path, f"{key} is {json.dumps(value)}", f"allowed: {_RULES[key].allowed}")
    if "unit" in said and "uv_per_count" in said:
        raise RecordingError(path, "unit and uv_per_count both say what a count is", "leave one of them out")
    return Sidecar(**{key: _RULES[key].check(value) for key, value in said.items()})


def _load_object(path: Path) -> dict[str, Any]:
    """The JSON object in `path`."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordingError(path, f"the sidecar cannot be read: {error.strerror}", "look at the path") from None
    except UnicodeDecodeError as error:
        raise RecordingError(path, f"the sidecar is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RecordingError(path, f"{where}: the sidecar is not JSON: {error.msg}", "mend it there") from None
    except (ValueError, RecursionError) as error:
        raise RecordingError(path, f"the sidecar cannot be read: {error}", "write one flat JSON object") from None
    if not isinstance(said, dict):
        raise RecordingError(path, f"the sidecar is a JSON {type(said).__name__}", 'write an object: {"rate_hz": ...}')
    return said
