"""Second-order sections by SciPy, in a process that ends afterwards.

SciPy's signal package takes 80 MB that a service would keep for ever to design a filter now and then. So the service
runs this module as a short-lived process (`python -m emgd.filter_design`): a JSON list of specs on standard input, a
JSON list of designs on standard output. Numbers survive exactly: JSON writes a double with all its digits.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

TIMEOUT_S: Final = 180.0
"""Importing SciPy takes most of a second, on a stalled machine several; on an emulated processor 15 s when it is alone
and more than 30 s beside other work. Nobody waits for this but a process that hangs."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Task:
    """What to design at one sample rate; None = that part is off. Cut-offs must fit the rate."""

    rate_hz: float
    high_pass_hz: float | None
    high_pass_order: int
    low_pass_hz: float | None
    low_pass_order: int
    notch_hz: float | None
    notch_q: float


@dataclass(frozen=True, slots=True)
class Sections:
    """Sections (n, 6) as SciPy writes them, and their states (n, 2) after an endless input of 1."""

    sections: Floats
    zi: Floats


def design(task: Task) -> Sections:
    """Butterworth high-pass and low-pass, each by itself, and a notch."""
    from scipy import signal  # noqa: PLC0415 - see above

    parts = []
    if task.high_pass_hz:
        parts.append(signal.butter(task.high_pass_order, task.high_pass_hz, "highpass", fs=task.rate_hz, output="sos"))
    if task.low_pass_hz:
        parts.append(signal.butter(task.low_pass_order, task.low_pass_hz, "lowpass", fs=task.rate_hz, output="sos"))
    if task.notch_hz:
        parts.append(signal.tf2sos(*signal.iirnotch(task.notch_hz, task.notch_q, fs=task.rate_hz)))
    if not parts:
        return Sections(np.empty((0, 6)), np.empty((0, 2)))
    sections = np.vstack(parts)
    return Sections(sections, signal.sosfilt_zi(sections))


def design_elsewhere(tasks: Sequence[Task]) -> list[Sections]:
    """The same in a process of its own. RuntimeError when that fails."""
    command = [sys.executable, "-m", "emgd.filter_design"]
    asked = json.dumps([asdict(task) for task in tasks])
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the filter design process failed: {done.stderr.strip()[-500:]}")
    return [Sections(_array(made["sections"], 6), _array(made["zi"], 2)) for made in json.loads(done.stdout)]


def _array(rows: list[Any], columns: int) -> Floats:
    return np.array(rows, np.float64).reshape(-1, columns)


def main() -> None:
    """Serve one request."""
    made = [design(Task(**task)) for task in json.load(sys.stdin)]
    json.dump([{"sections": one.sections.tolist(), "zi": one.zi.tolist()} for one in made], sys.stdout)


if __name__ == "__main__":
    main()
