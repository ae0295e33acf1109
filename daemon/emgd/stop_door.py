"""The emergency stop's own door: a datagram socket that does one thing, whatever else is busy or broken.

Any datagram, an empty one too, is a stop. It needs no session, no lease and no protocol: `socat` can do it. The socket
belongs to the stimulus thread, so neither the control socket nor its thread are in the way (docs/decisions/0008).
"""

import contextlib
import socket
from pathlib import Path
from typing import Any, Final

from emgd_wire.paths import STOP_SOCKET

MOST_AT_ONCE: Final = 64
"""Datagrams read in one go: a flood of stops is a stop, and must not keep the thread from its work."""


class StopDoor:
    """The socket, made by the one who serves it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / STOP_SOCKET
        self.asked = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.bind(str(self.path))

    def fileno(self) -> int:
        """Readable when somebody wants a stop."""
        return self._socket.fileno()

    def take(self) -> tuple[bool, list[Any]]:
        """Whether a stop was asked for, and who is waiting to hear of it (those that bound a name)."""
        waiting: list[Any] = []
        for count in range(MOST_AT_ONCE):
            try:
                _, sender = self._socket.recvfrom(1)
            except BlockingIOError:
                return count > 0, waiting
            self.asked += 1
            if sender:
                waiting.append(sender)
        return True, waiting

    def tell(self, waiting: list[Any], text: str) -> None:
        """Answer; who does not listen any more, or whose queue is full, is not waited for."""
        for sender in waiting:
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), sender)

    def close(self) -> None:
        """Take the door away."""
        self._socket.close()
        self.path.unlink(missing_ok=True)
