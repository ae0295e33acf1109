"""Reader of tables in text: rows of numbers between commas, semicolons, tabs or blanks, with or without labels.

NumPy parses the numbers; what is decided here is where they begin, what separates them, which are wanted, and which
line is to blame.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
import numpy.typing as npt

from emgd_drivers.replay.contents import Contents, FileChannel, find_column
from emgd_drivers.replay.errors import RecordingError
from emgd_drivers.replay.sidecar import Sidecar

_COMMENTS: Final = ("#", "%")
"""A line that begins with one of these is skipped."""

_DELIMITERS: Final = ("\t", ";", ",")
"""Tried in this order, for a comma may also stand inside a label; none of them: blanks."""

_TIME_UNITS_S: Final = {
    **dict.fromkeys(("time", "t", "seconds", "time_s", "t_s", "time_seconds"), 1.0),
    **dict.fromkeys(("ms", "milliseconds", "time_ms", "t_ms"), 1e-3),
}
"""Labels of a time column as `_plain` writes them, and its unit in seconds."""

_WHOLE_RATE: Final = 1e-6
"""A rate this close to a whole number of Hz, relatively, is that number: times are written with few digits."""

_EXACT_IN_FLOAT: Final = 2**53
"""Up to here every whole number has a double of its own."""

_REMEDY: Final = "mend it, or leave it out with columns, skip_rows or rows in a sidecar"


class _Rows:
    """The rows of a table, line by line, each checked to have as many fields as the first."""

    def __init__(self, path: Path, file: TextIO, sidecar: Sidecar) -> None:
        """Look at the first row: `labels` are its texts if it is a header, else empty; `width` counts its fields."""
        self._path = path
        self._lines = _numbered_lines(file, sidecar.skip_rows)
        self._last = (0, "")
        first = next(self._lines, None)
        if first is None:
            raise RecordingError(path, "holds no rows", "look at the file, and at skip_rows in the sidecar")
        self.delimiter = next((mark for mark in _DELIMITERS if mark in first[1]), None)
        fields = self._split(first[1])
        self.width = len(fields)
        self.labels = () if any(map(_is_number, fields)) else tuple(fields)
        data = self._lines if self.labels else chain([first], self._lines)
        self._data = islice(data, sidecar.rows)

    def __iter__(self) -> Iterator[str]:
        for number, line in self._data:
            self._last = (number, line)
            width = len(line.split()) if self.delimiter is None else line.count(self.delimiter) + 1
            if width != self.width:
                raise RecordingError(
                    self._path, f"line {number} has {width} fields, the first has {self.width}", _REMEDY
                )
            yield line

    def numbers(self, columns: list[int]) -> npt.NDArray[np.float64]:
        """The wanted columns, shape (rows, len(columns)). RecordingError names the line and field that is no number."""
        rows = iter(self)
        first = next(rows, None)
        if first is None:
            return np.empty((0, len(columns)))
        try:
            table = np.loadtxt(
                chain([first], rows), delimiter=self.delimiter, comments=None, usecols=columns, ndmin=2, quotechar='"'
            )
        except ValueError as error:
            raise self._blame(columns, error) from None
        return table

    def _blame(self, columns: list[int], error: ValueError) -> RecordingError:
        """Which field of the last line handed out is no number."""
        number, line = self._last
        fields = self._split(line)
        for column in columns:
            if column < len(fields) and not _is_number(fields[column]):
                label = f" ({self.labels[column]})" if self.labels else ""
                problem = f"line {number}, column {column}{label}: {fields[column]!r} is not a number"
                return RecordingError(self._path, problem, _REMEDY)
        return RecordingError(self._path, f"line {number}: {error}", _REMEDY)

    def _split(self, line: str) -> list[str]:
        """The fields of a line, without blanks and quotes around them."""
        if self.delimiter is None:
            return [text.strip('"') for text in line.split()]
        fields = next(csv.reader([line], delimiter=self.delimiter, skipinitialspace=True))
        return [text.strip() for text in fields]


def read(path: Path, sidecar: Sidecar) -> Contents:
    """The table's columns as channels, or its rows where the sidecar's axis is 1; a time column gives the rate."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        rows = _Rows(path, file, sidecar)
        if sidecar.axis == 1:
            return _rows_as_channels(path, rows)
        names = dict(enumerate(rows.labels or ("",) * rows.width))
        time = next((number for number, label in names.items() if _plain(label) in _TIME_UNITS_S), None)
        wanted = _wanted(path, names, time, sidecar)
        clock = time if sidecar.rate_hz is None else None
        table = rows.numbers(wanted if clock is None else [*wanted, clock])
    rate_hz = None if clock is None else _rate_hz(path, table[:, -1] * _TIME_UNITS_S[_plain(names[clock])])
    values = _whole(table[:, : len(wanted)])
    channels = (FileChannel(number, names[number], values[:, at], rate_hz) for at, number in enumerate(wanted))
    return Contents(tuple(channels))


def _rows_as_channels(path: Path, rows: _Rows) -> Contents:
    """Each row is a channel."""
    if rows.labels:
        raise RecordingError(
            path, "a header row does not fit channels in rows", "leave it out with skip_rows in the sidecar"
        )
    values = _whole(rows.numbers(list(range(rows.width))))
    return Contents(tuple(FileChannel(number, "", row) for number, row in enumerate(values)))


def _numbered_lines(file: TextIO, skip_rows: int) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers counted from 1 as an editor does."""
    for number, line in enumerate(file, start=1):
        text = line.rstrip("\r\n")
        # Only blanks make a line empty: one of nothing but tabs is a row whose values are missing.
        if number > skip_rows and text.strip(" ") and not text.lstrip().startswith(_COMMENTS):
            yield number, text


def _wanted(path: Path, names: Mapping[int, str], time: int | None, sidecar: Sidecar) -> list[int]:
    """Columns to read as channels: those the sidecar names, else all but time; and the trigger."""
    if sidecar.columns is None:
        return [number for number in names if number != time]
    named = sidecar.columns if sidecar.trigger is None else (*sidecar.columns, sidecar.trigger)
    return list(dict.fromkeys(find_column(path, names, column) for column in named))


def _rate_hz(path: Path, times_s: npt.NDArray[np.float64]) -> float:
    """The rate of evenly spaced times; RecordingError names the first sample whose step is off by more than half."""
    remedy = "give rate_hz in a sidecar if the samples are evenly spaced all the same"
    steps_s = np.diff(times_s)
    usual_s = float(np.median(steps_s)) if len(steps_s) else 0.0
    if not usual_s > 0.0:
        raise RecordingError(path, "its time column does not count upwards", remedy)
    even = np.abs(steps_s - usual_s) <= usual_s / 2
    if not even.all():
        at = int(np.argmin(even))
        step = f"sample {at + 1} comes {steps_s[at]:g} s after the one before, usual are {usual_s:g} s"
        raise RecordingError(path, f"time is uneven: {step}", remedy)
    rate_hz = len(steps_s) / float(times_s[-1] - times_s[0])
    return float(round(rate_hz)) if abs(rate_hz - round(rate_hz)) <= _WHOLE_RATE * rate_hz else rate_hz


def _whole(table: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """The same table as integers if all its numbers are whole: text does not say which it holds."""
    whole = np.all(np.abs(table) <= _EXACT_IN_FLOAT) and np.array_equal(np.rint(table), table)
    return table.astype(np.int64) if whole else table


def _plain(label: str) -> str:
    """A label in lower case, with "_" for all that is neither letter nor digit."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
