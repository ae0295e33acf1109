"""A simulated serial amplifier behind a pseudo terminal, in a process of its own: opened as any serial port.

`python -m emgd_drivers.sim.pty --device cyton --link /tmp/ttyCyton`. What a pty cannot show: baud rates are taken and
mean nothing, the modem lines (DTR, RTS, CTS, DSR) answer ENOTTY, and no list of ports has it.
"""

import argparse
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Self

from emgd_drivers.fields import FieldError, check_fields
from emgd_drivers.sim import child
from emgd_drivers.sim.serial_amplifier import SerialAmplifierModel
from emgd_drivers.sim.serial_faults import ALLOWED_FORMS

MODULES: Final = {"cyton": "emgd_drivers.sim.cyton", "hackeeg": "emgd_drivers.sim.hackeeg"}
"""Device as written on the command line -> its module, with FIELDS and `make_model(options, now_ns)`."""

READ_BYTES: Final = 4096
NS_PER_S: Final = 1_000_000_000
USAGE_ERROR: Final = 2

START_TIMEOUT_S: Final = 60.0
"""A busy machine takes a while to start a process."""

END_TIMEOUT_S: Final = 10.0

Make = Callable[[int], SerialAmplifierModel]
"""Builds a device that is powered up at a time (ns)."""


class Port:
    """One pty with a device on its master side. The link, if wanted, points to the slave while the port is there."""

    def __init__(self, model: SerialAmplifierModel, link: Path | None) -> None:
        self.model: Final = model
        # Our own slave end keeps the port raw, and quiet while no host has it open.
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        slave_path = os.ttyname(self._slave)
        self._link = link
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(slave_path)
        self.path: Final = str(link or slave_path)
        model.connect(self._send)

    def receive(self, now_ns: int) -> None:
        """Hand what the host wrote to the device."""
        with contextlib.suppress(BlockingIOError):
            self.model.receive(os.read(self.master, READ_BYTES), now_ns)

    def close(self) -> None:
        """Unplug: whoever has the slave open sees it hung up."""
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self.master)

    def _send(self, data: bytes) -> int:
        try:
            return os.write(self.master, data)
        except BlockingIOError:
            return 0


class Server:
    """Serves a device behind a pty until told to end. Deadlines are absolute: being late once makes nothing later."""

    def __init__(self, make: Make, link: Path | None, *, until_eof: bool) -> None:
        self._make = make
        self._link = link
        self._until_eof = until_eof
        self._port: Port | None = None
        self._ended = False

    def run(self) -> None:
        """Plug in, say `ready PATH`, serve."""
        woken, wake = socket.socketpair()
        with woken, wake:
            woken.setblocking(False)
            wake.setblocking(False)
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _note)
            signal.set_wakeup_fd(wake.fileno())
            try:
                self._plug()
                while not self._ended:
                    self._turn(woken)
            finally:
                signal.set_wakeup_fd(-1)
                self._unplug()

    def _turn(self, woken: socket.socket) -> None:
        """Wait for whatever comes first and see to it."""
        readers: list[int] = [woken.fileno(), *([sys.stdin.fileno()] if self._until_eof else [])]
        writers: list[int] = []
        wait_s = None
        port = self._port
        if port is not None:
            readers.append(port.master)
            writers += [port.master] if port.model.blocked else []
            if (due_ns := port.model.next_event_ns()) is not None:
                wait_s = max(0, due_ns - time.monotonic_ns()) / NS_PER_S
        readable, _, _ = select.select(readers, writers, [], wait_s)
        if port is not None:
            now_ns = time.monotonic_ns()
            if port.master in readable:
                port.receive(now_ns)
            port.model.run(now_ns)
            if port.model.unplugged:
                self._unplug()
        if self._until_eof and sys.stdin.fileno() in readable:
            self._ended = not os.read(sys.stdin.fileno(), READ_BYTES)
        if woken.fileno() in readable:
            for number in woken.recv(READ_BYTES):
                self._obey(number)

    def _obey(self, number: int) -> None:
        if number == signal.SIGUSR1:
            self._unplug()
        elif number == signal.SIGUSR2:
            self._plug()
        else:
            self._ended = True

    def _plug(self) -> None:
        if self._port is None:
            self._port = Port(self._make(time.monotonic_ns()), self._link)
        print("ready", self._port.path, flush=True)

    def _unplug(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None
            if not self._ended:
                print("unplugged", flush=True)


class PtyDevice:
    """A device behind a pty in a process of its own, for as long as the context lasts.

    `device` is a key of MODULES; `options` are those of its FIELDS; `faults` are strings of sim/serial_faults.py.
    `path` is a link that stays the same over `unplug` and `plug`. RuntimeError when the process does not come up.
    """

    def __init__(
        self,
        device: str,
        *,
        link: Path | None = None,
        faults: Sequence[str] = (),
        options: Mapping[str, object] | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="emgd-pty-") if link is None else None
        self.path: Final = str(link if self._folder is None else Path(self._folder.name) / f"tty-{device}")
        command = [sys.executable, "-m", "emgd_drivers.sim.pty", "--device", device, "--link", self.path, "--until-eof"]
        for name, value in (options or {}).items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        for fault in faults:
            command += ["--fault", fault]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid: Final = self._process.pid
        try:
            self._expect(b"ready ")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
        self.close()

    def unplug(self) -> None:
        """Pull the plug; returns when the port is gone."""
        self._process.send_signal(signal.SIGUSR1)
        self._expect(b"unplugged")

    def plug(self) -> None:
        """Plug in a fresh device; returns when `path` is there again."""
        self._process.send_signal(signal.SIGUSR2)
        self._expect(b"ready ")

    def await_unplugged(self) -> None:
        """Wait until a fault has pulled the plug."""
        self._expect(b"unplugged")

    def close(self) -> None:
        """End the process; harmless when called again."""
        child.end(self._process, END_TIMEOUT_S)
        if self._folder is not None:
            self._folder.cleanup()

    def _expect(self, begin: bytes) -> None:
        """Read the process's next line."""
        stdout = self._process.stdout
        line = b""
        if stdout is not None and select.select([stdout], [], [], START_TIMEOUT_S)[0]:
            line = stdout.readline()
        if not line.startswith(begin):
            raise RuntimeError(f"the simulated port at {self.path} said {line!r}; what it printed says why")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end; the exit status."""
    given = _parser().parse_args(arguments)
    try:
        make = _make(given)
        Server(make, given.link, until_eof=given.until_eof).run()
    except (FieldError, ValueError, OSError) as error:
        print(f"simulated port: {error}", file=sys.stderr)
        return USAGE_ERROR
    return 0


def _make(given: argparse.Namespace) -> Make:
    """How to build the device; ValueError in one line for what cannot be."""
    found = import_module(MODULES[given.device])
    kinds = {field.name: field.kind for field in found.FIELDS}
    names = ("serial", "rate_hz", "seed", "drift_ppm", "jitter_ms")
    wanted: dict[str, Any] = {name: value for name in names if (value := getattr(given, name)) is not None}
    if kinds["rate_hz"] is int and "rate_hz" in wanted and wanted["rate_hz"].is_integer():
        wanted["rate_hz"] = int(wanted["rate_hz"])
    options = check_fields(found.FIELDS, wanted | {"faults": given.fault})
    found.make_model(options, 0)  # Refuses what cannot be now, instead of at the next plug.

    def make(now_ns: int) -> SerialAmplifierModel:
        model: SerialAmplifierModel = found.make_model(options, now_ns)
        return model

    return make


def _note(_number: int, _frame: object) -> None:
    """Signals arrive through the wake-up descriptor."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emgd_drivers.sim.pty",
        description="A simulated serial amplifier behind a pseudo terminal. It prints `ready PATH` once PATH can be "
        "opened, and ends at SIGTERM or Ctrl-C. SIGUSR1 unplugs it, SIGUSR2 plugs in a fresh one.",
    )
    parser.add_argument("--device", required=True, choices=sorted(MODULES))
    parser.add_argument("--link", type=Path, metavar="PATH", help="a symbolic link to the port, replaced if there")
    parser.add_argument("--rate-hz", type=float, help="samples per second until the host sets a rate")
    parser.add_argument("--serial", help="serial number")
    parser.add_argument("--seed", type=int, help="draws the signal, jitter and noise bytes")
    parser.add_argument("--drift-ppm", type=float, help="error of the crystal; positive = too slow")
    parser.add_argument("--jitter-ms", type=float, help="frames are late by 0 to this")
    parser.add_argument("--fault", action="append", default=[], help=f"may be given again; one of {ALLOWED_FORMS}")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input is closed, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
