"""How long does a stimulus outlive a failure? Client, service and cable fail in the middle of a train, again and again.

    python benchmarks/stim_failures.py [--repetitions 20] [--only NAME] [--json]

Service, amplifier, stimulator and client are processes of their own, as shipped; the stimulator's own model writes down
each pulse at the instant at which it gives it, and outlives the service. The train is the fastest that any profile
allows (`sfemg`, 10 Hz). Exit status 1 when a pulse came after its bound.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emgd_drivers.sim.stimulator_process import StimulatorProcess

PERIOD_S = 0.1
TRAIN = ("--profile", "sfemg", "--current-ma", "1", "--width-us", "100", "--count", "100", "--rate-hz", "10")
SITE = ("--site", "right,median,wrist", "--operator", "bench")

BEGUN = 3
"""Pulses after which a train goes on; then it fails within the next period, at any phase of it."""

TRIES = 20
"""A machine that stands still ends trains by itself, and they do not count."""

START_S = 12.0
"""Longest wait for a train: a fault that is latched before it refuses it for good."""
LOOK_S = 0.005
ANSWER_MS = 400
"""For the stimulator's answers; the 30 ms that are shipped would end trains on a machine that stands still."""


@dataclass(frozen=True)
class Failure:
    """`bound_ms`: from the failure on, no pulse is later than this. `wait_s`: how long it is watched."""

    text: str
    bound_ms: int
    wait_s: float
    make: Callable[["Bench"], None]


class Bench:
    """A stimulator, a service, and a client whose train goes on."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "pulses.jsonl"
        self.device = StimulatorProcess(pulse_log=self.log, trigger=folder / "trigger")
        config = folder / "emgd.toml"
        config.write_text(
            f'[device]\nchannels = 2\nrate_hz = 4000.0\ntrigger = "{folder}/trigger"\ntrigger_hold_ms = 20\n'
            f'[stimulator]\ndriver = "sim-ncs1"\nport = "{self.device.path}"\naudit_file = "{folder}/audit.jsonl"\n'
            f"answer_ms = {ANSWER_MS}\n",
            encoding="utf-8",
        )
        where = ["--runtime-dir", str(folder)]
        command = [sys.executable, "-m", "emgd.main", "run", "--config", str(config), "--log-level", "error", *where]
        quiet = subprocess.DEVNULL
        self.service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, text=True)
        assert self.service.stdout is not None
        self.service.stdout.readline()
        self._client = [sys.executable, "-m", "emgd_client.emgctl", "stim", "train", *SITE, *TRAIN, *where]
        self.client = self._begin()

    def _begin(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self._client, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def pulses_ns(self) -> list[int]:
        """When each pulse was given."""
        text = self.log.read_text(encoding="ascii") if self.log.exists() else ""
        return [json.loads(line)["at_ns"] for line in text.splitlines()]

    def goes_on(self) -> bool:
        """Wait until the train does, and for some part of a period; False when it ended."""
        give_up = time.monotonic() + START_S
        while (given := len(self.pulses_ns())) < BEGUN:
            ended = self.client.poll() is not None
            if (ended and given) or time.monotonic() > give_up:
                return False
            if ended:  # refused: the amplifier's clock is not known yet
                self.client = self._begin()
            time.sleep(LOOK_S)
        time.sleep(random.uniform(0, PERIOD_S))  # noqa: S311 - a phase, and no secret
        return time.monotonic_ns() - self.pulses_ns()[-1] < 2 * PERIOD_S * 1e9

    def close(self) -> None:
        """End what still lives."""
        for process in (self.client, self.service):
            if process.poll() is None:
                process.kill()
            process.wait()
        self.device.close()


FAILURES = {
    "client-kill": Failure("client: SIGKILL", 1050, 1.6, lambda bench: bench.client.kill()),
    "client-stop": Failure("client: SIGSTOP", 1050, 1.6, lambda bench: os.kill(bench.client.pid, signal.SIGSTOP)),
    "service-kill": Failure("service: SIGKILL", 500, 1.1, lambda bench: bench.service.kill()),
    "service-stop": Failure("service: SIGSTOP", 500, 1.1, lambda bench: os.kill(bench.service.pid, signal.SIGSTOP)),
    "unplug": Failure("stimulator: unplugged", 50, 0.6, lambda bench: bench.device.tell("unplug") and None),
}


def once(failure: Failure) -> tuple[float, int] | None:
    """Time in ms from the failure to the last pulse after it (0: none), and pulses after the bound; None: no train."""
    with tempfile.TemporaryDirectory(prefix="emgd-") as folder:
        bench = Bench(Path(folder))
        try:
            if not bench.goes_on():
                return None
            failed_ns = time.monotonic_ns()
            failure.make(bench)
            time.sleep(failure.wait_s)
            after_ms = [(at_ns - failed_ns) / 1e6 for at_ns in bench.pulses_ns() if at_ns > failed_ns]
            return max(after_ms, default=0.0), sum(ms > failure.bound_ms for ms in after_ms)
        finally:
            bench.close()


def measure(name: str, repetitions: int) -> dict[str, Any]:
    """The figures of one failure."""
    failure, times, late, tries = FAILURES[name], [], 0, 0
    while len(times) < repetitions and tries < TRIES * repetitions:
        tries += 1
        if (found := once(failure)) is not None:
            times.append(found[0])
            late += found[1]
            print(f"\r{failure.text}: {len(times)} of {repetitions}  ", end="", file=sys.stderr, flush=True)
    times.sort()
    return {
        "failure": failure.text,
        "count": len(times),
        "tries": tries,
        "without_a_pulse": sum(ms == 0 for ms in times),
        "p50_ms": round(statistics.median(times), 1),
        "p90_ms": round(times[min(len(times) - 1, len(times) * 9 // 10)], 1),
        "max_ms": round(times[-1], 1),
        "bound_ms": failure.bound_ms,
        "after_bound": late,
    }


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="How long does a stimulus outlive a failure?")
    parser.add_argument("--repetitions", type=int, default=20, metavar="N")
    parser.add_argument("--only", action="append", choices=list(FAILURES), help="may be given again; default: all")
    parser.add_argument("--json", action="store_true", help="all figures as JSON")
    options = parser.parse_args()
    rows = [measure(name, options.repetitions) for name in options.only or FAILURES]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        print("\rfailure                  count     none   p50 ms   p90 ms   max ms bound ms    later")
        for row in rows:
            shown = [row[name] for name in ("count", "without_a_pulse", "p50_ms", "p90_ms", "max_ms", "bound_ms")]
            print(f"{row['failure']:<21}", *(f"{value:>8}" for value in shown), f"{row['after_bound']:>8}")
    return 1 if any(row["after_bound"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
