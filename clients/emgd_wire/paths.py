"""Where the service's sockets lie; one rule for the service and its clients."""

import os
from pathlib import Path
from typing import Final

STREAM_SOCKET: Final = "stream.sock"
CONTROL_SOCKET: Final = "control.sock"
STOP_SOCKET: Final = "stop.sock"
SERVICE_DIR: Final = Path("/run/emgd")


def runtime_dir() -> Path:
    """The runtime directory: first of $EMGD_RUNTIME_DIR, /run/emgd, $XDG_RUNTIME_DIR/emgd, /tmp/emgd-<uid>.

    The directory is not made here; the service makes it.
    """
    if chosen := os.environ.get("EMGD_RUNTIME_DIR"):
        return Path(chosen)
    if SERVICE_DIR.is_dir():
        return SERVICE_DIR
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(base) / "emgd"
    return Path(f"/tmp/emgd-{os.getuid()}")  # noqa: S108 - made 0700 and its owner checked by the service


def stream_endpoint(directory: Path) -> str:
    """ZeroMQ address of the stream socket below `directory`."""
    return f"ipc://{directory / STREAM_SOCKET}"


def control_endpoint(directory: Path) -> str:
    """ZeroMQ address of the control socket below `directory`."""
    return f"ipc://{directory / CONTROL_SOCKET}"
