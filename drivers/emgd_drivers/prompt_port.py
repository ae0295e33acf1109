"""A serial port for a device that must not be waited for: every call ends by the time that it was given.

Amplifiers use `serial_port.SerialPort`, whose calls may wait for the port; a stimulator's caller watches a lease.
"""

import contextlib
import errno
import os
import select
import termios
import time
from typing import Any, Final, Protocol

import serial

from emgd_drivers.api import DeviceLostError
from emgd_drivers.serial_port import GONE, cannot_open
from emgd_drivers.stimulator import StimulatorError

READ_BYTES: Final = 4096
NS_PER_S: Final = 1_000_000_000


class Wire(Protocol):
    """A way to a stimulator: bytes both ways, with deadlines in host time (CLOCK_MONOTONIC, ns).

    Raises DeviceLostError when nobody is at the other end.
    """

    def now_ns(self) -> int:
        """Host time."""

    def send(self, data: bytes, until_ns: int, doing: str) -> None:
        """Hand over all bytes; StimulatorError when the device has not taken them by `until_ns`."""

    def receive(self, until_ns: int, doing: str) -> bytes:
        """What has come; waits for the first byte until `until_ns`, empty when none came."""

    def abort(self, data: bytes) -> None:
        """Emergency: forget what waits to be sent, send `data`, let the device see the host go. Never waits,
        never fails.
        """

    def revive(self) -> None:
        """Let the device see the host again."""

    def fileno(self) -> int:
        """Readable when bytes have come."""

    def close(self) -> None:
        """Let go of the device; harmless when called again."""


class PromptPort:
    """A Wire over a serial port, ours alone. `name` is the device for people; `options` are pyserial's own."""

    def __init__(self, path: str, baud: int, name: str, **options: Any) -> None:
        self.path = path
        self.name = name
        try:
            self._port: Any = serial.Serial(path, baud, timeout=0, write_timeout=0, exclusive=True, **options)
            self._fd: Final = int(self._port.fileno())
            self._hang_up_on_close()
        except GONE as error:
            raise cannot_open(error, path, name) from None

    def now_ns(self) -> int:
        """Host time."""
        return time.monotonic_ns()

    def send(self, data: bytes, until_ns: int, doing: str) -> None:
        """Hand over all bytes; StimulatorError when the port has not taken them by `until_ns`."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor(doing), left) :]
            except BlockingIOError:
                if not self._wait(until_ns, doing, write=True):
                    raise StimulatorError(f"{self.name} took no bytes in time (at {doing}); stop it") from None
            except GONE as error:
                raise self._lost(error, doing) from None

    def receive(self, until_ns: int, doing: str) -> bytes:
        """What has come; waits for the first byte until `until_ns`."""
        if not self._wait(until_ns, doing):
            return b""
        try:
            data = os.read(self._descriptor(doing), READ_BYTES)
        except BlockingIOError:
            return b""
        except GONE as error:
            raise self._lost(error, doing) from None
        if not data:
            raise self._lost(OSError(errno.EIO, "hung up"), doing)
        return data

    def abort(self, data: bytes) -> None:
        """Throw away the output, write, lower DTR. Whatever fails, the rest is tried."""
        if not self._port.is_open:
            return
        with contextlib.suppress(*GONE):
            termios.tcflush(self._fd, termios.TCOFLUSH)
        with contextlib.suppress(*GONE):
            os.write(self._fd, data)
        self._set_dtr(False)

    def revive(self) -> None:
        """Raise DTR."""
        if self._port.is_open:
            self._set_dtr(True)

    def fileno(self) -> int:
        """Readable when bytes have come, or the device has gone."""
        return self._fd

    def close(self) -> None:
        """Let go of the port; the kernel lowers DTR."""
        with contextlib.suppress(*GONE):
            self._port.close()

    def _hang_up_on_close(self) -> None:
        """Let the kernel lower DTR whichever way this process ends: another program may have forbidden it."""
        settings = termios.tcgetattr(self._fd)
        settings[2] |= termios.HUPCL
        termios.tcsetattr(self._fd, termios.TCSANOW, settings)

    def _set_dtr(self, state: bool) -> None:
        # A pty has no modem lines (ENOTTY); its other end sees the port open and closed.
        with contextlib.suppress(*GONE):
            self._port.dtr = state

    def _descriptor(self, doing: str) -> int:
        if not self._port.is_open:
            raise DeviceLostError(f"{self.name} was closed (at {doing}); open it again")
        return self._fd

    def _wait(self, until_ns: int, doing: str, *, write: bool = False) -> bool:
        """Until the port has bytes, or takes some; False when `until_ns` came first."""
        fd = self._descriptor(doing)
        wait_s = max(0, until_ns - time.monotonic_ns()) / NS_PER_S
        readers, writers = ([], [fd]) if write else ([fd], [])
        try:
            return any(select.select(readers, writers, [], wait_s))
        except (*GONE, ValueError) as error:
            raise self._lost(error, doing) from None

    def _lost(self, error: Exception, doing: str) -> DeviceLostError:
        return DeviceLostError(f"{self.name} at {self.path} is gone (at {doing}: {error}); plug it in again")
