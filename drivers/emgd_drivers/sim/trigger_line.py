"""The trigger line between a simulated stimulator and a simulated amplifier in two processes: a unix datagram socket.

The amplifier listens at a path, the stimulator sends a datagram for each rise of the line. A line to nobody is a line
that is not plugged in: the stimulator does not care.
"""

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

RISE: Final = struct.Struct("<QI")
"""Host time (CLOCK_MONOTONIC, ns) at which the line rose, and the number of the pulse."""


class TriggerOutput:
    """The stimulator's end. `missed` counts rises that nobody could be told of."""

    def __init__(self, path: Path) -> None:
        self.missed = 0
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def rise(self, at_ns: int, number: int) -> None:
        """The line goes up."""
        try:
            self._socket.sendto(RISE.pack(at_ns, number & 0xFFFFFFFF), self._path)
        except OSError:
            self.missed += 1

    def close(self) -> None:
        """Take the plug out."""
        self._socket.close()


class TriggerInput:
    """The amplifier's end, at `path` while it is open. What lies there from a former run is replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        path.unlink(missing_ok=True)
        self._socket.bind(str(path))

    def fileno(self) -> int:
        """Readable when the line rose."""
        return self._socket.fileno()

    def rises(self) -> Iterator[tuple[int, int]]:
        """(host time in ns, number) of each rise since."""
        while True:
            try:
                data = self._socket.recv(RISE.size + 1)
            except BlockingIOError:
                return
            if len(data) == RISE.size:
                at_ns, number = RISE.unpack(data)
                yield at_ns, number

    def close(self) -> None:
        """Take the plug out."""
        self._socket.close()
        with contextlib.suppress(OSError):
            self._path.unlink()
