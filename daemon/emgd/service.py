"""The whole service in one visible order: what is built, what runs, and the same undone in reverse."""

import fcntl
import logging
import os
import signal
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import zmq

from emgd.acquisition import Acquisition
from emgd.clients import Clients
from emgd.config import Config
from emgd.control import Control
from emgd.electrodes import Electrodes
from emgd.impedance import Reason
from emgd.publish import Publishing
from emgd.supervisor import Supervisor
from emgd.verbs import Verbs
from emgd_drivers.registry import open_amplifier
from emgd_wire.paths import CONTROL_SOCKET, STREAM_SOCKET, runtime_dir

log = logging.getLogger("emgd.service")

DEVICE: Final = "amp0"
"""Name of the one amplifier."""

LOCK_FILE: Final = "emgd.lock"
SOCKET_UMASK: Final = 0o117
"""Sockets are made 0660: the right to open them is the right to use them."""


class ServiceError(RuntimeError):
    """The service cannot run here; the text says what to do."""


class Service:
    """A running service. Built by `start`, undone by `close`; `run` serves in between."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.directory = config.service["runtime_dir"] or runtime_dir()
        self.session = os.urandom(8).hex()
        self.started_ns = time.monotonic_ns()
        self.clients = Clients()
        self._undo = ExitStack()
        self._realtime_offset_ns = time.time_ns() - time.monotonic_ns()

    def start(self) -> None:
        """Build and start the parts; on failure undo what was built. DeviceError, ServiceError, ValueError say why."""
        with ExitStack() as undo:
            take_directory(self.directory, undo)
            amplifier = open_amplifier(self.config.driver, self.config.device)
            undo.callback(amplifier.close)
            self.acquisition = Acquisition(DEVICE, amplifier, self.config)
            context: zmq.Context[Any] = zmq.Context()
            undo.callback(context.term)
            old_umask = os.umask(SOCKET_UMASK)
            try:
                self.publishing = Publishing(
                    context, self.directory, self.acquisition, self.session, self.config.stream["queue_s"]
                )
                undo.callback(self.publishing.stop)
                self.control = Control(context, self.directory, Verbs(self).table)
                undo.callback(self.control.close)
            finally:
                os.umask(old_umask)
            self.electrodes = Electrodes(self.acquisition, self.publishing, no_stimulator)
            self.supervisor = Supervisor(self.acquisition, self.publishing, self.control, self.electrodes)
            self.publishing.start()
            self.electrodes.introduce(time.monotonic_ns())
            self.describe_streams()
            undo.callback(self.acquisition.stop)
            if self.config.stream["wait"]:
                self.supervisor.set_state("waiting", f"{amplifier.info.serial} waits for the first subscriber")
            else:
                self.supervisor.start_device()
            self._undo = undo.pop_all()

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until SIGINT or SIGTERM; `ready` is called once the signals are in hand."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.supervisor.request_stop)
        ready()
        self.supervisor.run()

    def close(self) -> None:
        """Undo everything, last built first."""
        self.supervisor.stop_check(Reason.SERVICE, "the service is ending", time.monotonic_ns())
        self.supervisor.set_state("stopped", "the service is ending")
        self._undo.close()

    # --- what the verbs need

    def realtime_offset_ns(self) -> int:
        """What to add to host time to get UTC, as of the start of the session."""
        return self._realtime_offset_ns

    def describe_streams(self) -> None:
        """Publish the descriptions of the data streams (again)."""
        self.supervisor.describe_streams(self._realtime_offset_ns)

    def start_check(self, channels: list[int] | None, now_ns: int) -> dict[str, Any]:
        """Begin an impedance check. NotStreamingError, BusyError, InterlockError."""
        return self.supervisor.start_check(channels, now_ns)

    def stop_check(self, now_ns: int) -> bool:
        """Give the impedance check up for a client; False when none runs."""
        return self.supervisor.stop_check(Reason.CLIENT, "a client asked for it", now_ns)

    def device_map(self) -> dict[str, Any]:
        """The `device` map of `status`."""
        info = self.acquisition.info
        return {
            "name": self.acquisition.name,
            "driver": info.driver,
            "serial": info.serial,
            "firmware": info.firmware,
            "simulated": info.simulated,
            "state": self.supervisor.state,
            "text": self.supervisor.text,
            "rate_hz": info.rate_hz,
            "channels": info.channel_count,
            "speed": info.speed,
        }

    def control_map(self) -> dict[str, Any]:
        """The `control` map of `status`."""
        return {"requests": self.control.requests, "errors": dict(self.control.errors)}


def no_stimulator() -> str | None:
    """What forbids a test current through electrodes: nothing, as long as this service drives no stimulator."""
    return None


def take_directory(directory: Path, undo: ExitStack) -> None:
    """Make the runtime directory ours alone, and clear sockets that a dead service left behind."""
    try:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(
            f"{directory}: cannot be made: {error.strerror}; choose another with --runtime-dir"
        ) from None
    found = directory.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise ServiceError(f"{directory}: is a symbolic link; name the directory itself with --runtime-dir")
    if found.st_uid != os.getuid():
        raise ServiceError(f"{directory}: belongs to user {found.st_uid}; choose another with --runtime-dir")
    if stat.S_IMODE(found.st_mode) & 0o002:
        raise ServiceError(f"{directory}: anybody may write there; chmod o-w it, or choose another with --runtime-dir")
    lock = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    undo.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        raise ServiceError(
            f"{directory}: another service runs there (process {holder or '?'}); "
            "stop it, or choose another with --runtime-dir"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    for name in (STREAM_SOCKET, CONTROL_SOCKET):
        (directory / name).unlink(missing_ok=True)
        undo.callback((directory / name).unlink, missing_ok=True)
