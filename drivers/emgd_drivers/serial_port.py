"""Serial ports of devices: found, opened, and asked with errors that say what to do. pyserial does the work.

pyserial raises three kinds of exceptions where a port has gone: its own, plain OSError, and termios.error, which is
neither. All of them mean the same to a driver.
"""

import errno
import os
import termios
import time
from typing import Any, Final

import serial
from serial.tools import list_ports

from emgd_drivers.api import DeviceError, DeviceLostError, DeviceNotFoundError, DevicePermissionError
from emgd_drivers.usb.errors import GROUP, RULES_FILE, group_of, user_name
from emgd_ext.source import SerialSource

GONE: Final = (serial.SerialException, OSError, termios.error)

READ_S: Final = 0.02
"""How long one look for an answer waits."""


def find_port(vendor: int, product: int, serial_number: str | None, what: str) -> tuple[str, str]:
    """(path, serial number) of the only port of this kind, or the one with that number. DeviceNotFoundError, or
    DeviceError where there are several to choose from.
    """
    ports = [port for port in list_ports.comports() if (port.vid, port.pid) == (vendor, product)]
    matching = [port for port in ports if serial_number in (None, port.serial_number)]
    listed = ", ".join(f"{port.serial_number or 'without serial number'} at {port.device}" for port in ports)
    if not matching:
        wanted = f" with serial number {serial_number}" if serial_number else ""
        there = f"; connected: {listed}" if listed else ""
        raise DeviceNotFoundError(f"no {what} (USB {vendor:04x}:{product:04x}){wanted} is connected{there}")
    if len(matching) > 1:
        raise DeviceError(f"{len(matching)} devices {what} are connected: {listed}; say which one with `serial`")
    return matching[0].device, matching[0].serial_number or ""


class SerialPort:
    """An open port, ours alone. `name` is the device for people."""

    def __init__(self, path: str, baud: int, name: str) -> None:
        self.path = path
        self.name = name
        try:
            self._port: Any = serial.Serial(path, baud, timeout=READ_S, exclusive=True)
        except GONE as error:
            raise cannot_open(error, path, name) from None

    def write(self, data: bytes, doing: str) -> None:
        """Send bytes. DeviceLostError names what was being done."""
        try:
            self._port.write(data)
            self._port.flush()
        except GONE as error:
            raise self._lost(error, doing) from None

    def read_until(self, end: bytes, timeout_s: float, doing: str) -> bytes:
        """Everything up to and with `end`. DeviceError when it does not come within `timeout_s`."""
        answer = b""
        give_up_s = time.monotonic() + timeout_s
        while not answer.endswith(end):
            if time.monotonic() > give_up_s:
                shown = repr(answer[-60:])
                raise DeviceError(f"{self.name} gave no whole answer to {doing} within {timeout_s:g} s, only {shown}")
            answer += self._read(doing)
        return answer

    def drain(self, quiet_s: float, timeout_s: float, doing: str) -> None:
        """Throw away what still comes, until nothing has come for `quiet_s`."""
        now_s = heard_s = time.monotonic()
        give_up_s = now_s + timeout_s
        while now_s - heard_s < quiet_s:
            if now_s > give_up_s:
                raise DeviceError(f"{self.name} goes on sending after {doing}; unplug it, plug it in again")
            heard = self._read(doing)
            now_s = time.monotonic()
            heard_s = now_s if heard else heard_s

    def check(self) -> None:
        """Is it still there? DeviceLostError."""
        try:
            termios.tcgetattr(self._port.fileno())
        except GONE as error:
            raise self._lost(error, "looking for it") from None

    def source(self, gather_us: int = 0) -> SerialSource:
        """The bytes for the sample loop: a descriptor of its own, so that closing this port takes nothing from it."""
        try:
            return SerialSource(os.dup(self._port.fileno()), gather_us=gather_us)
        except GONE as error:
            raise self._lost(error, "handing over its bytes") from None

    def close(self) -> None:
        """Let go of the port; harmless when called again."""
        try:
            self._port.close()
        except GONE:  # it is gone, and that is what was wanted
            return

    def _read(self, doing: str) -> bytes:
        try:
            return bytes(self._port.read(max(1, self._port.in_waiting)))
        except GONE as error:
            raise self._lost(error, doing) from None

    def _lost(self, error: Exception, doing: str) -> DeviceLostError:
        return DeviceLostError(f"{self.name} at {self.path} is gone (at {doing}: {error}); plug it in again")


def cannot_open(error: Exception, path: str, name: str) -> DeviceError:
    """What to raise where a port could not be opened: the text says what to do."""
    number = getattr(error, "errno", None)
    if number in (errno.EACCES, errno.EPERM):
        user, group = user_name(), group_of(path)
        return DevicePermissionError(
            f"{name}: {user} may not open {path}; the group {group} may ({RULES_FILE} makes it {GROUP}): "
            f"sudo usermod -aG {group} {user}, then log in again"
        )
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        ports = ", ".join(port.device for port in list_ports.comports()) or "none"
        return DeviceNotFoundError(f"{name}: there is no port {path}; ports that are there: {ports}")
    if number in (errno.EAGAIN, errno.EBUSY):
        return DeviceError(f"{name}: {path} is in use by another program; close it")
    return DeviceError(f"{name}: {path} cannot be opened: {error}")
