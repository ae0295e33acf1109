"""The emergency stop: a datagram to the service's stop door. It needs no client, no session, no lease and no ZeroMQ."""

import socket
from pathlib import Path
from typing import Final

from emgd_client.errors import NotStoppedError
from emgd_wire.paths import STOP_SOCKET, runtime_dir

CONFIRM_S: Final = 0.5
"""Longest wait for the word that the stimulator has the stop: many times what it takes."""

STOPPED: Final = "stopped"
"""How an answer begins when all is well."""


def emergency_stop(directory: Path | str | None = None, timeout_s: float = CONFIRM_S) -> str:
    """Stop the stimulator, whoever uses it; returns what the service says.

    Nothing can be given afterwards before somebody has acknowledged it. NotStoppedError when nobody has confirmed it:
    then it may have worked or not, and the stimulator has to be switched off by hand.
    """
    path = (runtime_dir() if directory is None else Path(directory)) / STOP_SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.settimeout(timeout_s)
        try:
            door.bind("")  # any free name, so that there can be an answer
            door.sendto(b"stop", str(path))
            said = door.recv(256).decode("utf-8", "replace")
        except TimeoutError:
            raise NotStoppedError(path, "no answer") from None
        except OSError as error:
            raise NotStoppedError(path, (error.strerror or str(error)).lower()) from None
    if not said.startswith(STOPPED):
        raise NotStoppedError(path, said)
    return said
