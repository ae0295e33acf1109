"""A cart on which things fail: a service in a process that can be killed, stopped and kept from running, and a
simulated stimulator in a process that outlives it and writes down each pulse at the instant at which it gives it.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

from service import EMGD, service
from stimulating import FAULTS, LEASE_S, PATIENCE_S, STALLS, Stimulating, pulses_in

from emgd_client import RefusedError, Shot
from emgd_client.messages import Pulse
from emgd_drivers.sim.stimulator_process import StimulatorProcess

LAUNCHER = Path(__file__).parent / "failing_daemon.py"

ANSWER_MS = 400
"""How long the service waits for an answer of the device. Shipped are 30 ms, which a machine that stands still cannot
keep; more than a second, and a device that is silent would make the service look so."""

NS_PER_S = 1_000_000_000
LEASE_NS = int(LEASE_S * NS_PER_S)
WATCHDOG_NS = 500_000_000
"""The device's own, as the service sets it."""

LATE_NS = 100_000_000
"""A pulse that was let out in time may be held up on the way, on a machine that stands still: what is later than this
the device refuses."""

STALE_NS = 100_000_000
"""Samples older than this disarm."""

ARMED = {"armed", "firing", "cooldown"}
PROFILE = "sfemg"
CURRENT_UA = 1_000
"""As much as may be first."""

TRAIN = Shot(CURRENT_UA, 100, "train", count=45, interval_us=200_000)
"""Nine seconds, the longest and fastest that needs no rest afterwards: every case ends it before its time."""

PERIOD_S = TRAIN.interval_us / 1e6
ELECTRODES = (f"place {number}" for number in count(1))
"""Another one for each client: pulses at one site in a minute are limited."""


class Cart:
    """Stimulator, amplifier and service. `restart` gives a new service with the same stimulator."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "pulses.jsonl"
        self.audit = folder / "audit.jsonl"
        self._undo = ExitStack()
        self._service = ExitStack()
        self.device = self._undo.enter_context(StimulatorProcess(pulse_log=self.log, trigger=folder / "trigger"))
        self._config = folder / "emgd.toml"
        self._config.write_text(f"""[device]
channels = 2
rate_hz = 4000.0
triggers = false
trigger = "{folder}/trigger"
trigger_hold_ms = 20

[stimulator]
driver = "sim-ncs1"
port = "{self.device.path}"
audit_file = "{self.audit}"
answer_ms = {ANSWER_MS}
""")
        self.running = None

    def started(self):
        """The service, with its amplifier: begun anew where that is not so any more."""
        if self.running is not None and self.running.ask("status")["device"]["state"] in ("lost", "stopped"):
            self.end()
        if self.running is None:
            door = self.folder / "trouble"
            door.unlink(missing_ok=True)
            launcher = (sys.executable, LAUNCHER, door, EMGD[-1])
            self.running = self._service.enter_context(service("run", "--config", self._config, launcher=launcher))
        return self.running

    def end(self):
        """End the service, in order unless it was killed."""
        self.running = None
        self._service.close()

    def close(self):
        self.end()
        self._undo.close()

    def trouble(self, text):
        """Have trouble made in the service's process (failing_daemon.py)."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.sendto(text.encode(), str(self.folder / "trouble"))

    def mend(self):
        """The stimulator is plugged in, and nothing is wrong with it."""
        self.device.tell("plug")
        self.device.tell("clear")

    def signal(self, number):
        os.kill(self.running.process.pid, number)

    def amplifier_pid(self):
        """The simulated amplifier's process, the only child that the service has."""
        tasks = Path(f"/proc/{self.running.process.pid}/task").glob("*/children")
        (pid,) = [int(word) for task in tasks for word in task.read_text().split()]
        return pid

    def pulses(self):
        return pulses_in(self.log)

    def after(self, bound_ns):
        """Pulses that were given after an instant."""
        return [one for one in self.pulses() if one["at_ns"] > bound_ns]

    def output(self):
        """What the device says of its output."""
        return self.device.state()

    def await_device(self, condition, what):
        give_up = time.monotonic() + PATIENCE_S
        while not condition(self.output()):
            assert time.monotonic() < give_up, f"{what}: {self.output()}"
            time.sleep(0.02)

    def is_silent(self, bound_ns, wait_s=3 * PERIOD_S):
        """None after `bound_ns`, and none for the time in which a train would have given several."""
        given = len(self.pulses())
        time.sleep(wait_s)
        assert self.after(bound_ns) == []
        assert len(self.pulses()) == given


class Hand(Stimulating):
    """A client at the cart that gives trains."""

    def __init__(self, cart):
        super().__init__(cart.started(), PROFILE, next(ELECTRODES))
        self.cart = cart
        try:
            self.until(lambda: self.status()["there"], "the stimulator is there")
            self.stimulator.acknowledge("mw")
            self.until(lambda: self.state() == "idle", "the stimulator is idle")
        except BaseException:
            self.__exit__()
            raise

    def status(self):
        """What the service says, once it says something: it may have been kept from it."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.stimulator.status()
            except RefusedError as error:
                if error.refusals or time.monotonic() > give_up:
                    raise
                time.sleep(0.1)

    def state(self):
        return self.status()["state"]

    def told(self, accepted):
        """What is told of each pulse of a shot."""
        return [one for one in self.heard if isinstance(one, Pulse) and one.shot == accepted["shot"]]

    def fire(self, shot):
        if shot.current_ua > CURRENT_UA and not self.status()["last_ua"]:
            self.stimulator.fire(Shot(CURRENT_UA, shot.width_us))
            self.until(lambda: self.state() not in ("firing", "cooldown"), "the end of the first pulse")
        self.stimulator.confirm(shot.current_ua)
        return self.stimulator.fire(shot)

    def training(self, current_ua=CURRENT_UA):
        """A train has begun and goes on."""
        shot = replace(TRAIN, current_ua=current_ua)
        give_up = time.monotonic() + PATIENCE_S
        while True:
            before = len(self.cart.pulses())
            self.retry("a train", self.take, self.arm, lambda: self.fire(shot))
            self.until(
                lambda before=before: len(self.cart.pulses()) >= before + 2 or self.state() != "firing", "pulses"
            )
            if len(self.cart.pulses()) >= before + 2 and self.state() == "firing":
                return
            assert time.monotonic() < give_up, f"no train goes on: {self.stimulator.status()['text']}"
            self.recover()

    def provoke(self, make, expected, current_ua=CURRENT_UA):
        """During a train something happens that has to end in one of these reasons, latched or not; the number of
        pulses that were given from then on. Where the machine stood still before it was seen: once more.
        """
        give_up = time.monotonic() + PATIENCE_S
        while True:
            self.training(current_ua)
            before = len(self.cart.pulses())
            make()
            self.until(lambda: self.state() != "firing", "the end of the train")
            status = self.status()
            reasons = set(status["reasons"])
            assert status["state"] not in ARMED, f"the train went on to its end: {status['text']}"
            if reasons & expected:
                return len(self.cart.pulses()) - before
            assert reasons <= STALLS | FAULTS, status["text"]
            assert time.monotonic() < give_up, status["text"]
            self.mend()

    def mend(self):
        """The device is as good as new, and the service has seen it."""
        self.cart.mend()
        self.until(lambda: self.status()["there"], "the stimulator is there")
        if self.state() == "fault":
            self.stimulator.acknowledge("mw")
        self.until(lambda: self.state() == "idle", "idle")

    def finds_nothing_restored(self):
        """Idle, no earlier strength; the device's output off, its limits nothing, its watchdog not fed."""
        status = self.status()
        assert (status["state"], status["last_ua"], status["confirmed_ua"]) == ("idle", 0, 0)
        assert (status["site"], status["pulses_left"]) == (None, 0)
        self.cart.await_device(lambda output: output["state"] == "off", "the device is off")
        output = self.cart.output()
        assert (output["relay"], output["fed"], output["limits"]) == (False, False, [0] * 5)


class Program:
    """`emgctl stim ...` as a program of its own, in whose middle something can happen."""

    def __init__(self, cart, *arguments):
        where = ["--site", f"right,median,{next(ELECTRODES)}", "--operator", "mw", "--profile", PROFILE]
        command = [sys.executable, "-m", "emgd_client.emgctl", "stim", *arguments, *where]
        command += ["--runtime-dir", str(cart.running.directory)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def signal(self, number):
        self.process.send_signal(number)
        return time.monotonic_ns()


def arming_program(cart, hand):
    """A program that has armed and waits to be told what to do."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        program = Program(cart, "arm")
        if program.process.stdout.readline().startswith("armed"):
            return program
        with program:
            hand.recover()
        assert time.monotonic() < give_up, "nothing was armed"


def train_program(cart, hand):
    """A program whose train goes on."""
    words = ["--current-ma", "1", "--width-us", "100", "--count", str(TRAIN.count), "--rate-hz", str(1 / PERIOD_S)]
    give_up = time.monotonic() + PATIENCE_S
    while True:
        before = len(cart.pulses())
        program = Program(cart, "train", *words)
        while len(cart.pulses()) < before + 2 and program.process.poll() is None:
            time.sleep(0.02)
        if program.process.poll() is None and hand.state() == "firing":
            return program
        program.process.kill()
        said = program.process.communicate()
        assert time.monotonic() < give_up, f"no train began: {said}"
        hand.until(lambda: hand.status()["holder"] is None, "the lease is over")
        hand.recover()


def lease_end_ns(hand, failed_ns):
    """Until when a client that failed at `failed_ns` had the lease. What it said before may be heard later by a machine
    that stands still, so the service is asked; then wait until the lease is over.
    """
    ends = [failed_ns + LEASE_NS]

    def over():
        status = hand.status()
        if status["holder"] is not None:
            ends.append(status["lease_until_ns"])
        return status["holder"] is None

    hand.until(over, "the lease is over")
    return max(ends)


def utc_texts(path):
    return [json.loads(line)["utc"] for line in path.read_text().splitlines()]


KILL, STOP, CONTINUE = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT
