"""The `sim-ncs1` driver of the configuration: the ncs1 driver on a simulated stimulator in a process of its own."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from emgd_drivers.api import DeviceNotFoundError
from emgd_drivers.fields import Field, FieldError, Problem
from emgd_drivers.ncs1 import protocol
from emgd_drivers.ncs1.driver import Ncs1Stimulator
from emgd_drivers.prompt_port import PromptPort
from emgd_drivers.sim import stimulator
from emgd_drivers.sim.stimulator_faults import ALLOWED_FORMS, parse_stimulator_faults
from emgd_drivers.sim.stimulator_process import StimulatorProcess
from emgd_drivers.stimulator import Stimulator

FIELDS: Final = (
    *stimulator.FIELDS,
    Field("port", Path, "a simulated stimulator that runs already; default: start one", None),
    Field("pulse_log", Path, "append a line of JSON for each pulse that is given", None),
    Field("trigger", Path, "trigger line: the `trigger` of a simulated amplifier", None),
    Field("control", Path, "unix datagram socket that takes faults at run time", None),
    Field("answer_ms", int, "how long an answer is waited for, more on machines that stall", 100, 5, 5000),
)


class SimulatedStimulator(Ncs1Stimulator):
    """An ncs1 whose process ends when it is closed."""

    def __init__(self, port: PromptPort, process: StimulatorProcess | None, answer_s: float) -> None:
        self._process = process
        super().__init__(port, driver="sim-ncs1", simulated=True, answer_s=answer_s)

    def close(self) -> None:
        """Let go of the device and end it."""
        super().close()
        if self._process is not None:
            self._process.close()


def open_stimulator(options: Mapping[str, Any]) -> Stimulator:
    """Start a simulated stimulator, or find the one at `port`, and open it. DeviceError or FieldError in one line."""
    try:
        parse_stimulator_faults(options["faults"])
    except ValueError as error:
        raise FieldError(Problem.BAD, "faults", str(error), ALLOWED_FORMS) from None
    with contextlib.ExitStack() as undo:
        process = None
        if options["port"] is None:
            process = undo.enter_context(_started(options))
        path = str(options["port"] if process is None else process.path)
        port = PromptPort(path, protocol.BAUD, "sim-ncs1")
        undo.callback(port.close)
        opened = SimulatedStimulator(port, process, options["answer_ms"] / 1000)
        undo.pop_all()
        return opened


def _started(options: Mapping[str, Any]) -> StimulatorProcess:
    try:
        return StimulatorProcess(
            options={name: options[name] for name in ("serial", "drift_ppm", "load_ohm")},
            faults=options["faults"],
            pulse_log=options["pulse_log"],
            trigger=options["trigger"],
            control=options["control"],
        )
    except (RuntimeError, OSError) as error:
        raise DeviceNotFoundError(f"sim-ncs1: {error}") from None
