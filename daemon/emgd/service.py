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

from emgd.acquisition import STREAMS, Acquisition
from emgd.clients import Clients
from emgd.config import Config
from emgd.connection import LIVE, Connection, Event, State
from emgd.control import Control
from emgd.deferred import Deferred
from emgd.electrodes import Electrodes
from emgd.hotplug import Hotplug
from emgd.impedance import Reason
from emgd.publish import Publishing
from emgd.stim_commands import Command
from emgd.stimulus import Stimulus
from emgd.stop_door import StopDoor
from emgd.supervisor import Supervisor
from emgd.verb import Caller
from emgd.verbs import Verbs
from emgd_drivers.api import Amplifier, DeviceError
from emgd_drivers.registry import hotplug_subsystems
from emgd_wire.paths import CONTROL_SOCKET, STOP_SOCKET, STREAM_SOCKET, runtime_dir

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
        self.acquisition: Acquisition | None = None
        self.electrodes: Electrodes | None = None
        self.connection = Connection(config.driver, config.device, self._tell)
        self._undo = ExitStack()
        self._realtime_offset_ns = time.time_ns() - time.monotonic_ns()

    def start(self) -> None:
        """Build and start the parts; on failure undo what was built. DeviceError, ServiceError, ValueError say why."""
        with ExitStack() as undo:
            take_directory(self.directory, undo)
            context: zmq.Context[Any] = zmq.Context()
            undo.callback(context.term)
            old_umask = os.umask(SOCKET_UMASK)
            try:
                self.publishing = Publishing(context, self.directory, DEVICE, self.session)
                undo.callback(self.publishing.stop)
                self.control = Control(context, self.directory, Verbs(self).table)
                undo.callback(self.control.close)
                door = StopDoor(self.directory) if self.config.stimulator.driver else None
            finally:
                os.umask(old_umask)
            self.stimulus = Stimulus(self.config, self.session, door, self.publishing)
            self.supervisor = Supervisor(
                self.connection,
                Hotplug(hotplug_subsystems(self.config.driver)),
                self.publishing,
                self.control,
                self._adopt,
                self._slept,
                wait=self.config.stream["wait"],
            )
            self.publishing.start()
            undo.callback(self._let_go)
            self.stimulus.start()
            undo.callback(self.stimulus.stop)
            try:
                self.supervisor.connect()
            except DeviceError as error:
                if not self.connection.returns:
                    raise
                self.connection.failed(error)
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
        self.connection.fire(Event.CLOSED, "the service is ending")
        self._undo.close()

    # --- what the supervisor needs

    def _adopt(self, amplifier: Amplifier) -> tuple[Acquisition, Electrodes]:
        """The first time that the device is there: make its path to the ring, and publish it."""
        try:
            acquisition = Acquisition(DEVICE, amplifier, self.config)
        except ValueError as error:
            raise DeviceError(f"{amplifier.info.serial}: {error}") from None
        self.publishing.attach(acquisition, self.config.stream["queue_s"])
        self.acquisition = acquisition
        self.electrodes = Electrodes(acquisition, self.publishing, self.stimulus.interlock.forbids_test)
        self.stimulus.adopt(acquisition, self.electrodes)
        self.electrodes.introduce(time.monotonic_ns())
        self.describe_streams()
        return acquisition, self.electrodes

    def _slept(self, slept_ns: int) -> None:
        """UTC went on while the machine slept, host time did not."""
        self._realtime_offset_ns += slept_ns
        self.describe_streams()

    def _let_go(self) -> None:
        if self.acquisition:
            self.acquisition.stop()

    def _tell(self, state: State, text: str) -> None:
        """Log a new state of the connection, and publish it."""
        level = logging.WARNING if state in (State.LOST, State.SILENT, State.DENIED) else logging.INFO
        log.log(level, "%s: %s: %s", DEVICE, state, text)
        if state not in LIVE and self.electrodes:
            self.electrodes.lose(text, time.monotonic_ns())
        seq = self.acquisition.loop.next_seq if self.acquisition else 0
        self.publishing.post_state(state.value, text, seq, time.monotonic_ns())

    # --- what the verbs need

    def realtime_offset_ns(self) -> int:
        """What to add to host time to get UTC, as of the start of the session or the last time the machine slept."""
        return self._realtime_offset_ns

    def describe_streams(self) -> None:
        """Publish the descriptions of the data streams (again)."""
        if acquisition := self.acquisition:
            for kind in STREAMS:
                description = acquisition.describe(kind, self._realtime_offset_ns)
                self.publishing.describe(description, acquisition.oldest(), time.monotonic_ns())

    def start_check(self, channels: list[int] | None, now_ns: int) -> dict[str, Any]:
        """Begin an impedance check. NotStreamingError, BusyError, InterlockError."""
        with self.stimulus.interlock.begin_test():
            return self.supervisor.start_check(channels, now_ns)

    def stop_check(self, now_ns: int) -> bool:
        """Give the impedance check up for a client; False when none runs."""
        return self.supervisor.stop_check(Reason.CLIENT, "a client asked for it", now_ns)

    def ask_stimulus(self, caller: Caller, command: Command) -> Deferred:
        """Have a command obeyed by the stimulus thread. WireError where there is no stimulator."""
        name = self.clients.name_of(caller.routing_id)
        return self.stimulus.ask(caller, name, command, self.control.replies)

    def leave_stimulus(self, caller: Caller) -> None:
        """A client is gone, and its lease with it."""
        self.stimulus.leave(caller, self.clients.name_of(caller.routing_id))

    def stimulus_map(self) -> dict[str, Any] | None:
        """The `stimulator` map of `status`."""
        return self.stimulus.as_map()

    def device_map(self) -> dict[str, Any]:
        """The `device` map of `status`; what only the device knows is None until it was there."""
        info = self.acquisition.info if self.acquisition else None
        return {
            "name": DEVICE,
            "driver": info.driver if info else self.config.driver,
            "serial": info.serial if info else self.config.device.get("serial"),
            "firmware": info.firmware if info else None,
            "simulated": info.simulated if info else None,
            "isolated": info.isolated if info else None,
            "state": self.connection.state.value,
            "text": self.connection.text,
            "rate_hz": info.rate_hz if info else None,
            "channels": info.channel_count if info else None,
            "speed": info.speed if info else None,
        }

    def control_map(self) -> dict[str, Any]:
        """The `control` map of `status`."""
        return {"requests": self.control.requests, "errors": dict(self.control.errors)}


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
    for name in (STREAM_SOCKET, CONTROL_SOCKET, STOP_SOCKET):
        (directory / name).unlink(missing_ok=True)
        undo.callback((directory / name).unlink, missing_ok=True)
