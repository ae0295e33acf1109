"""A simulated stimulator behind a pseudo terminal, in a process of its own: opened as any serial port.

`python -m emgd_drivers.sim.stimulator_port --device ncs1 --link /tmp/ttyNCS --pulse-log /tmp/pulses`. It outlives
whoever uses the port, so its pulse log tells what a killed host left behind. Opening and closing the port stands for
DTR, which a pty does not have.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
import tty
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from emgd_drivers.fields import FieldError, check_fields
from emgd_drivers.sim.stimulator_faults import ALLOWED_FORMS
from emgd_drivers.sim.stimulator_model import Given, StimulatorModel
from emgd_drivers.sim.trigger_line import TriggerOutput

MODULES: Final = {"ncs1": "emgd_drivers.sim.stimulator", "rehamove3": "emgd_drivers.sim.rehamove"}
"""Device as written on the command line -> its module, with FIELDS and `make_model(options, now_ns)`."""

READ_BYTES: Final = 4096
NS_PER_S: Final = 1_000_000_000
USAGE_ERROR: Final = 2

LOOK_S: Final = 0.005
"""A pty does not tell when it is opened: while nobody has it open it is looked at this often."""

COMMANDS: Final = "fault KIND[=NUMBER][@PULSES], clear, unplug, plug, state, quit"


Make = Callable[[int, int], StimulatorModel]
"""Builds a device: powered up at a time (ns), for the how-manieth time."""


class PulseLog:
    """Every pulse that went through the electrodes, one line of JSON each, written when it is given."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, given: Given) -> None:
        """One line, in one piece."""
        os.write(self._fd, json.dumps(asdict(given)).encode() + b"\n")

    def close(self) -> None:
        """No more pulses."""
        os.close(self._fd)


class StimulatorPort:
    """One pty with a stimulator on its master side, and nobody on the other until a host comes."""

    def __init__(self, model: StimulatorModel, link: Path | None) -> None:
        self.model: Final = model
        self.master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self.master, False)
        slave_path = os.ttyname(slave)
        self._link = link
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(slave_path)
        self.path: Final = str(link or slave_path)
        # Only hosts shall have it open: then the kernel says when the last one is gone.
        os.close(slave)
        self.present = False
        self._poll = select.poll()
        self._poll.register(self.master, select.POLLIN)
        model.connect(self._send)

    def look(self, now_ns: int) -> None:
        """Has a host come or gone? And what did it write?"""
        found = dict(self._poll.poll(0))
        state = found.get(self.master, 0)
        hung_up = bool(state & select.POLLHUP)
        if not hung_up and not self.present:
            self.present = True
            self.model.host(True, now_ns)
        if state & select.POLLIN:
            with contextlib.suppress(BlockingIOError, OSError):
                self.model.receive(os.read(self.master, READ_BYTES), now_ns)
        if hung_up and self.present:
            self.present = False
            self.model.host(False, now_ns)

    def close(self) -> None:
        """Unplug: whoever has the slave open sees it hung up."""
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        os.close(self.master)

    def _send(self, data: bytes) -> int:
        try:
            return os.write(self.master, data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)  # The host is gone: nobody will ever take it.


class StimulatorServer:
    """Serves a stimulator behind a pty until told to end. `tell` hears its lines for whoever started it."""

    def __init__(
        self,
        make: Make,
        link: Path | None,
        *,
        pulse_log: Path | None = None,
        trigger: Path | None = None,
        control: Path | None = None,
        until_eof: bool = False,
    ) -> None:
        self._make = make
        self._link = link
        self._until_eof = until_eof
        self._boot = 0
        self._port: StimulatorPort | None = None
        self._ending = False
        self._log = PulseLog(pulse_log) if pulse_log else None
        self._trigger = TriggerOutput(trigger) if trigger else None
        self._control_path = control
        self._control: socket.socket | None = None
        if control is not None:
            control.unlink(missing_ok=True)
            self._control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._control.bind(str(control))

    def run(self) -> None:
        """Plug in, say `ready PATH`, serve; an end waits until the output is off."""
        woken, wake = socket.socketpair()
        with woken, wake:
            woken.setblocking(False)
            wake.setblocking(False)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _note)
            signal.set_wakeup_fd(wake.fileno())
            try:
                self._plug()
                while not self._ending or (self._port is not None and self._port.model.busy):
                    self._turn(woken)
            finally:
                signal.set_wakeup_fd(-1)
                self._close()

    def _turn(self, woken: socket.socket) -> None:
        """Wait for whatever comes first and see to it."""
        readers: list[Any] = [] if self._ending else [woken]
        readers += [self._control] if self._control is not None else []
        readers += [sys.stdin] if self._until_eof and not self._ending else []
        writers: list[int] = []
        wait_s = None
        port = self._port
        if port is not None:
            readers += [port.master] if port.present else []
            writers += [port.master] if port.present and port.model.blocked else []
            due_ns = port.model.next_event_ns()
            wait_s = None if due_ns is None else max(0, due_ns - time.monotonic_ns()) / NS_PER_S
            if not port.present:
                wait_s = LOOK_S if wait_s is None else min(wait_s, LOOK_S)
        readable, _, _ = select.select(readers, writers, [], wait_s)
        if port is not None:
            now_ns = time.monotonic_ns()
            port.look(now_ns)
            port.model.run(now_ns)
            if port.model.unplugged:
                self._unplug()
        self._hear(woken, readable)

    def _hear(self, woken: socket.socket, readable: Sequence[Any]) -> None:
        """Signals, and lines of control."""
        if woken in readable:
            woken.recv(READ_BYTES)
            self._ending = True
        if sys.stdin in readable:
            data = os.read(sys.stdin.fileno(), READ_BYTES)
            self._ending = not data
            for line in data.decode("utf-8", "replace").splitlines():
                _tell(self._obey(line))
        if self._control in readable and self._control is not None:
            data, sender = self._control.recvfrom(READ_BYTES)
            said = "\n".join(self._obey(line) for line in data.decode("utf-8", "replace").splitlines())
            if sender:
                with contextlib.suppress(OSError):
                    self._control.sendto(said.encode() + b"\n", sender)

    def _obey(self, line: str) -> str:
        """One line of control; `ok …` or `error …`."""
        word, _, rest = line.strip().partition(" ")
        now_ns = time.monotonic_ns()
        model = self._port.model if self._port is not None else None
        if word == "quit":
            self._ending = True
        elif word == "plug":
            self._plug(quiet=True)
        elif model is None:
            return "error it is unplugged; plug"
        elif word == "unplug":
            self._unplug(quiet=True)
        elif word == "state":
            return "ok " + json.dumps(model.describe())
        elif word == "clear":
            model.clear_faults(now_ns)
        elif word == "fault":
            try:
                model.add_fault(rest, now_ns)
            except ValueError as error:
                return f"error {error}"
        else:
            return f"error {word!r} is not understood; say one of {COMMANDS}"
        return "ok"

    def _plug(self, *, quiet: bool = False) -> None:
        if self._port is None:
            self._boot += 1
            model = self._make(time.monotonic_ns(), self._boot)
            if self._log is not None:
                model.on_pulse = self._log.write
            if self._trigger is not None:
                model.on_trigger = self._trigger.rise
            self._port = StimulatorPort(model, self._link)
        if not quiet:
            _tell(f"ready {self._port.path}")

    def _unplug(self, *, quiet: bool = False) -> None:
        if self._port is not None:
            self._port.model.host(False, time.monotonic_ns())
            self._port.close()
            self._port = None
            if not quiet and not self._ending:
                _tell("unplugged")

    def _close(self) -> None:
        self._unplug(quiet=True)
        if self._control is not None and self._control_path is not None:
            self._control.close()
            self._control_path.unlink(missing_ok=True)
        if self._trigger is not None:
            self._trigger.close()
        if self._log is not None:
            self._log.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end; the exit status."""
    given = _parser().parse_args(arguments)
    try:
        server = StimulatorServer(
            _make(given.device, json.loads(given.options), given.fault),
            given.link,
            pulse_log=given.pulse_log,
            trigger=given.trigger,
            control=given.control,
            until_eof=given.until_eof,
        )
        server.run()
    except (FieldError, ValueError, OSError) as error:
        print(f"simulated stimulator: {error}", file=sys.stderr)
        return USAGE_ERROR
    return 0


def _make(device: str, wanted: Mapping[str, Any], faults: Sequence[str]) -> Make:
    """How to build the device; ValueError in one line for what cannot be."""
    found = import_module(MODULES[device])
    options = check_fields(found.FIELDS, {**wanted, "faults": list(faults)})
    found.make_model(options, 0)  # Refuses what cannot be now, instead of at the next plug.

    def make(now_ns: int, boot: int) -> StimulatorModel:
        model: StimulatorModel = found.make_model(options, now_ns, boot)
        return model

    return make


def _tell(line: str) -> None:
    """To whoever started this process, if it still lives: its death must not end the device before its time."""
    with contextlib.suppress(BrokenPipeError):
        print(line, flush=True)


def _note(_number: int, _frame: object) -> None:
    """Signals arrive through the wake-up descriptor."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emgd_drivers.sim.stimulator_port",
        description="A simulated stimulator behind a pseudo terminal. It prints `ready PATH` once PATH can be opened, "
        f"and ends at SIGTERM or Ctrl-C, once its output is off. It obeys lines: {COMMANDS}.",
    )
    parser.add_argument("--device", default="ncs1", choices=sorted(MODULES))
    parser.add_argument("--link", type=Path, metavar="PATH", help="a symbolic link to the port, replaced if there")
    parser.add_argument("--options", default="{}", metavar="JSON", help='the device\'s own, such as {"load_ohm": 900}')
    parser.add_argument("--fault", action="append", default=[], help=f"may be given again; one of {ALLOWED_FORMS}")
    parser.add_argument("--pulse-log", type=Path, metavar="PATH", help="append a line for each pulse that is given")
    parser.add_argument("--trigger", type=Path, metavar="PATH", help="trigger line of a simulated amplifier")
    parser.add_argument("--control", type=Path, metavar="PATH", help="unix datagram socket that takes lines")
    parser.add_argument(
        "--until-eof", action="store_true", help="take lines from standard input, end when it is closed"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
