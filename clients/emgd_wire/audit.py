"""The audit log's format, and how to tell whether a log is whole: docs/safety/audit.md is the long version.

A line is a JSON object of ASCII. Its last member is the SHA-256 of all bytes before it, and it has the digest of the
line before: no line can be changed, taken out or put in between without a trace. What is not seen without a digest that
was kept elsewhere is a log that was cut off at its end, or written anew from some line on.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

START: Final = "0" * 64
"""`prev` of the first record."""
MOST_LINE: Final = 65536
"""Bytes of a line with its newline: far more than any record needs, so that a broken file cannot fill the memory."""
RECOVERED: Final = "recovered"
"""Kind of the record that follows a torn line: the service died, or the power failed, while it was written."""

_OPEN: Final = b',"digest":"'
_CLOSE: Final = b'"}'
_TAIL: Final = len(_OPEN) + 64 + len(_CLOSE)


class Damage(StrEnum):
    """What is wrong with a log."""

    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"
    MOVED = "moved"
    TORN = "torn"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Record:
    """One line that is whole in itself."""

    seq: int
    prev: str
    digest: str
    kind: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found. `records` and `head` (digest of the last of them) are what is sound from the start on.

    `bad_line` counts from 1; None with a `damage` means that something is missing after the last line.
    """

    records: int
    head: str
    tears: int = 0
    damage: Damage | None = None
    bad_line: int | None = None
    text: str = ""


def pack(body: Mapping[str, Any]) -> tuple[bytes, str]:
    """A line with its newline, and its digest. `body` has every member but the digest."""
    start = json.dumps(body, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")[:-1]
    digest = hashlib.sha256(start).hexdigest()
    return start + _OPEN + digest.encode() + _CLOSE + b"\n", digest


def parse(line: bytes) -> Record | None:
    """A line (without its newline) that is whole in itself; None for any other."""
    start, tail = line[:-_TAIL], line[-_TAIL:]
    digest = hashlib.sha256(start).hexdigest()
    if tail != _OPEN + digest.encode() + _CLOSE:
        return None
    try:
        values = json.loads(line)
        seq, prev, kind = values["seq"], values["prev"], values["kind"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if type(seq) is not int or not isinstance(prev, str) or not isinstance(kind, str):
        return None
    return Record(seq, prev, digest, kind, values)


def tear_fields(fragment: bytes) -> dict[str, Any]:
    """What the record after a torn line says of it."""
    return {"bytes": len(fragment), "sha256": hashlib.sha256(fragment).hexdigest()}


def verify(path: Path, kept_head: str | None = None) -> Report:
    """Read a whole log; the report is of the first thing that is wrong. OSError when the file cannot be read.

    `kept_head` is the digest of a record, kept elsewhere: the log has to contain it.
    """
    with path.open("rb") as file:
        return _Verifier(file, kept_head).run()


class _Verifier:
    """Walks the lines; knows what the next record has to be."""

    def __init__(self, file: BinaryIO, kept_head: str | None) -> None:
        self.lines = self._read(file)
        self.kept_head = kept_head
        self.seq = 0
        self.head = START
        self.tears = 0
        self.broken: tuple[int, bytes] | None = None
        self.kept_seen = kept_head in (None, START)

    @staticmethod
    def _read(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        number = 0
        while line := file.readline(MOST_LINE):
            number += 1
            yield number, line

    def run(self) -> Report:
        for number, line in self.lines:
            report = self._take(number, line)
            if report is not None:
                return report
        if self.broken is not None:
            return self._bad(self.broken[0], Damage.ALTERED)
        if not self.kept_seen:
            text = "the digest that was kept is not of any record: the end was cut off, or the log was written anew"
            return Report(self.seq, self.head, self.tears, Damage.CUT, None, text)
        return Report(self.seq, self.head, self.tears)

    def _take(self, number: int, line: bytes) -> Report | None:
        """The next line; a report when something is wrong. A broken line may be a tear: the next record tells."""
        record = parse(line[:-1])
        if self.broken is not None and (record is None or line[-1:] != b"\n"):
            return self._bad(self.broken[0], Damage.ALTERED)
        if line[-1:] != b"\n":
            return self._bad(number, Damage.TORN if len(line) < MOST_LINE else Damage.ALTERED)
        if record is None:
            self.broken = number, line[:-1]
            return None
        damage = self._judge(record, None if self.broken is None else self.broken[1])
        if damage is not None:
            return self._bad(number if self.broken is None else self.broken[0], damage, record)
        self.tears += self.broken is not None
        self.broken = None
        self.seq, self.head = record.seq + 1, record.digest
        self.kept_seen = self.kept_seen or record.digest == self.kept_head
        return None

    def _judge(self, record: Record, fragment: bytes | None) -> Damage | None:
        """What is wrong with a record that is whole in itself and follows the sound ones, or a broken line."""
        if fragment is not None:
            expected = record.kind == RECOVERED and record.seq == self.seq and record.prev == self.head
            return None if expected and record.values.get("fields") == tear_fields(fragment) else Damage.ALTERED
        if record.seq > self.seq:
            return Damage.REMOVED
        if record.seq < self.seq:
            return Damage.INSERTED
        if record.prev != self.head:
            return Damage.ALTERED
        return Damage.REMOVED if record.kind == RECOVERED else None

    def _bad(self, number: int, damage: Damage, record: Record | None = None) -> Report:
        last = self.seq - 1
        if damage is Damage.REMOVED and record is not None and record.seq > self.seq and self._comes_later():
            damage = Damage.MOVED
        text = {
            Damage.ALTERED: "its bytes, or those of the line before, are not those that were written",
            Damage.REMOVED: f"records are missing before it (after record {last})",
            Damage.INSERTED: f"it does not belong there (after record {last})",
            Damage.MOVED: f"it stands before its place (after record {last})",
            Damage.TORN: "it ends in its middle: service or power failed while it was written, or it was cut",
            Damage.CUT: "",
        }[damage]
        return Report(self.seq, self.head, self.tears, damage, number, text)

    def _comes_later(self) -> bool:
        """Whether the record that is missing stands further down."""
        return any((record := parse(line.rstrip(b"\n"))) and record.seq == self.seq for _, line in self.lines)
