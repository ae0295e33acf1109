"""The audit log: every request, verdict, pulse, limit table and state change, appended and chained.

What is written is handed to the kernel at once, so it outlives this process however that ends; `sync` makes it outlive
a failure of power, and is called where a slow disk harms nobody: before arming and after disarming. A record that
cannot be written is an AuditError, after which nothing is recorded any more and nothing may be armed until the log is
opened anew. The format is emgd_wire.audit's.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from emgd_wire.audit import MOST_LINE, RECOVERED, START, Damage, Record, Report, pack, parse, tear_fields, verify

__all__ = ["Audit", "AuditError", "Damage", "Report", "default_path", "verify"]

FILE_NAME: Final = "audit.jsonl"
LEAST_FREE: Final = 16 << 20
"""Bytes that must be free to arm: some 20000 records, more than a session makes."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class AuditError(Exception):
    """Nothing can be recorded: so nothing may be armed. The text says why and what to do."""


def default_path() -> Path:
    """In the service's state directory ($STATE_DIRECTORY), else in the user's."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0]) / FILE_NAME
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "emgd" / FILE_NAME


class Audit:
    """An open log, of which there is one writer. Any thread may record."""

    def __init__(self, path: Path, session: str, monotonic_ns: Callable[[], int], wall_ns: Callable[[], int]) -> None:
        self.path = path
        self._session = session
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns
        self._lock = threading.Lock()
        self._broken: str | None = None
        self._seq = 0
        self._head = START
        try:
            self._boot = _BOOT_ID.read_text(encoding="ascii").strip()
            self._fd = _open_file(path)
        except OSError as error:
            raise AuditError(f"{path}: {error.strerror or error}: see docs/safety/audit.md") from error
        try:
            self._continue()
        except BaseException:
            os.close(self._fd)
            raise

    @classmethod
    def open(
        cls,
        path: Path,
        session: str = "",
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Open or begin a log; its chain goes on where it ended. AuditError when it cannot be written or is damaged."""
        return cls(path, session, monotonic_ns, wall_ns)

    @property
    def head(self) -> tuple[int, str]:
        """How many records there are, and the last one's digest: kept elsewhere, it shows a log that was cut."""
        with self._lock:
            return self._seq, self._head

    def record(self, kind: str, **fields: Any) -> int:
        """Append a record; returns its number once the kernel has it. AuditError: it has not, and nothing may go out.

        Call it with what will be done before it is done.
        """
        with self._lock:
            return self._append(kind, fields)

    def check(self) -> None:
        """AuditError when arming must be refused: an earlier record failed, or the disk is nearly full."""
        if self._broken:
            raise AuditError(self._broken)
        try:
            found = os.fstatvfs(self._fd)
        except OSError as error:
            raise AuditError(f"{self.path}: {error.strerror or error}") from error
        free = found.f_bavail * found.f_frsize
        if free < LEAST_FREE:
            needed = f"{free >> 20} MiB are free on its disk, {LEAST_FREE >> 20} are needed"
            raise AuditError(f"{self.path}: {needed}: make room")

    def sync(self) -> None:
        """What was recorded outlives a failure of power. May take as long as the disk does: not while armed."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # What was not written may be dropped by the kernel and never told of again.
            self._broken = f"{self.path}: {error.strerror or error}: the disk did not take the audit log"
            raise AuditError(self._broken) from error

    def close(self) -> None:
        """Say that the log ended in order, and let go of it; harmless when called again."""
        if self._fd < 0:
            return
        with suppress(AuditError):
            self.record("closed")
            self.sync()
        with self._lock:
            os.close(self._fd)
            self._fd = -1
            self._broken = f"{self.path}: the audit log is closed"

    def _append(self, kind: str, fields: dict[str, Any], before: bytes = b"") -> int:
        if self._broken:
            raise AuditError(self._broken)
        body = {
            "seq": self._seq,
            "mono_ns": self._monotonic_ns(),
            "utc": _utc(self._wall_ns()),
            "boot": self._boot,
            "session": self._session,
            "kind": kind,
            "fields": fields,
            "prev": self._head,
        }
        try:
            line, digest = pack(body)
        except (TypeError, ValueError) as error:
            raise AuditError(f"{self.path}: a record of kind {kind!r} cannot be written: {error}") from error
        if len(line) > MOST_LINE:
            raise AuditError(f"{self.path}: a record of kind {kind!r} has {len(line)} bytes, more than {MOST_LINE}")
        self._write(before + line)
        self._seq += 1
        self._head = digest
        return self._seq - 1

    def _write(self, line: bytes) -> None:
        """All of it or an error that lasts: after a part of a line nothing may follow."""
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self._broken = f"{self.path}: {error.strerror or error}: free the disk, then restart the service"
            raise AuditError(self._broken) from error
        if written != len(line):
            self._broken = f"{self.path}: only a part of a record was written: free the disk, then restart the service"
            raise AuditError(self._broken)

    def _continue(self) -> None:
        """Find where the chain ended, say of a torn line that it is one, and begin."""
        last, fragment = self._end()
        if last is not None:
            self._seq, self._head = last.seq + 1, last.digest
        if fragment:
            self._append(RECOVERED, tear_fields(fragment), before=b"\n")
        self._append("opened", {})
        self.sync()

    def _end(self) -> tuple[Record | None, bytes]:
        """The last record, and what stands behind its newline."""
        try:
            size = os.fstat(self._fd).st_size
            end = os.pread(self._fd, min(size, 2 * MOST_LINE), max(0, size - 2 * MOST_LINE))
        except OSError as error:
            raise AuditError(f"{self.path}: {error.strerror or error}") from error
        lines = end.split(b"\n")
        fragment, whole = lines[-1], lines[:-1]
        if not whole and len(end) == size:
            return None, fragment
        last = parse(whole[-1]) if whole else None
        if last is None:
            raise AuditError(
                f"{self.path}: the last record is damaged, so its chain cannot go on: keep the file for inquiry, "
                "move it away, and restart the service; it begins a new one"
            )
        return last, fragment


def _open_file(path: Path) -> int:
    """The file for appending, ours alone; the folder knows of it even if the power fails now."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BlockingIOError:
        os.close(fd)
        raise OSError(0, "another service writes this audit log; give each its own audit_file") from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _utc(wall_ns: int) -> str:
    """Wall clock to the microsecond, always of the same length."""
    seconds, rest_ns = divmod(wall_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns // 1000:06d}Z"
