"""Ways to be joined to a simulated device: by cable to a process of its own, or within this process on virtual time."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from emgd_drivers.api import DeviceError, DeviceLostError, DeviceNotFoundError
from emgd_drivers.emg8.exchange import Emg8Exchange, Stall
from emgd_drivers.emg8.protocol import Setup, request_name
from emgd_drivers.sim.link import ANSWER, MAX_MESSAGE_BYTES, READY, STALLED
from emgd_drivers.sim.model import Emg8Model
from emgd_drivers.sim.spec import DeviceSpec
from emgd_ext.source import FdSource

CONTROL_TIMEOUT_S: Final = 3.0
"""A control request is answered in well under a millisecond; but this device is a process, which may have to wait for a
processor."""

START_TIMEOUT_S: Final = 60.0
"""A long recording in a text format takes a while to read."""

END_TIMEOUT_S: Final = 2.0
"""How long the device's process may take to see that its cable is gone."""


class SimulatedTransport(Emg8Exchange):
    """What both ways have in common: the host's end of the bulk socket."""

    def __init__(self, bulk: socket.socket) -> None:
        self._bulk = bulk

    def source(self, _transfers_per_s: float, _transfer_bytes: int, /) -> FdSource:
        """Bulk IN, as much in flight as the socket holds. DeviceError when it was handed over before."""
        if self._bulk.fileno() < 0:
            raise DeviceError("the device's bulk endpoint was handed over before or is closed; open the device again")
        return FdSource(self._bulk.detach())

    def close(self) -> None:
        """Let go of the device; harmless when called again. A source that was handed over stays with its owner."""
        self._bulk.close()


class Cable(SimulatedTransport):
    """Starts a device as a process and joins it. DeviceNotFoundError says in one line why that cannot be.

    `saturation_counts` are those of the signal, one per channel; `notes` is what should be known of it; `pid` is the
    device's process.
    """

    def __init__(self, spec: DeviceSpec) -> None:
        bulk, device_bulk = _socketpair()
        super().__init__(bulk)
        self._control, device_control = _socketpair()
        with device_control, device_bulk:
            fds = (device_control.fileno(), device_bulk.fileno())
            command = [sys.executable, "-m", "emgd_drivers.sim.device", *map(str, fds), spec.to_json()]
            self._process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)
        self.pid: Final = self._process.pid
        try:
            ready = self._await_ready()
        except BaseException:
            self.close()
            raise
        self.saturation_counts: Final = tuple(ready["saturation_counts"])
        self.notes: Final = tuple(ready["notes"])

    def close(self) -> None:
        """Pull the cable; the device's process ends by itself."""
        super().close()
        self._control.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _await_ready(self) -> dict[str, Any]:
        """The device's first message."""
        self._control.settimeout(START_TIMEOUT_S)
        try:
            message = self._control.recv(MAX_MESSAGE_BYTES)
        except TimeoutError:
            raise DeviceNotFoundError(f"the simulated device was not ready after {START_TIMEOUT_S:g} s") from None
        if not message:
            raise DeviceNotFoundError("the simulated device ended while it started; what it printed says why")
        if message[:1] != READY:
            raise DeviceNotFoundError(message[1:].decode("utf-8", "replace"))
        self._control.settimeout(CONTROL_TIMEOUT_S)
        ready: dict[str, Any] = json.loads(message[1:])
        return ready

    def _exchange(self, setup: Setup, data: bytes) -> bytes:
        try:
            self._control.send(setup.pack() + data)
            message = self._control.recv(MAX_MESSAGE_BYTES)
        except TimeoutError:
            # A late answer would be taken for the next one, so this cable is of no more use.
            self._control.close()
            raise DeviceLostError(
                f"the simulated device gave no answer to {request_name(setup.request)} within {CONTROL_TIMEOUT_S:g} s; "
                "open it again"
            ) from None
        except OSError:
            message = b""
        if message[:1] == STALLED:
            raise Stall
        if message[:1] != ANSWER:
            raise DeviceLostError(f"the simulated device is gone (at {request_name(setup.request)}); open it again")
        return message[1:]


class InProcessTransport(SimulatedTransport):
    """A device model called directly. `clock_ns` tells host time, so that tests can run on time of their own."""

    def __init__(self, model: Emg8Model, clock_ns: Callable[[], int]) -> None:
        bulk, self._device_bulk = _socketpair()
        super().__init__(bulk)
        self._model = model
        self._clock_ns = clock_ns
        model.connect(self._send)

    def pump(self) -> None:
        """Let the device run until now: what it sends is then in the source, as far as that has room."""
        self._model.run(self._clock_ns())
        if self._model.unplugged:
            self._device_bulk.close()

    def close(self) -> None:
        """Let go of the model."""
        super().close()
        self._device_bulk.close()

    def _send(self, transfer: bytes) -> bool:
        with suppress(BlockingIOError):
            return self._device_bulk.send(transfer, socket.MSG_DONTWAIT) == len(transfer)
        return False

    def _exchange(self, setup: Setup, data: bytes) -> bytes:
        return self._model.control(setup.pack(), data, self._clock_ns())


def _socketpair() -> tuple[socket.socket, socket.socket]:
    """The host's end and the device's end; message bounds are kept."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
