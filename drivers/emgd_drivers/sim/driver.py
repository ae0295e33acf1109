"""The `sim` driver of the configuration: an emg8 that plays synthetic EMG."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from emgd_drivers.api import Amplifier
from emgd_drivers.emg8.protocol import MAX_CHANNELS
from emgd_drivers.fields import Field, FieldError, Problem
from emgd_drivers.sim import DeviceSpec, open_simulated
from emgd_drivers.sim.electrodes import ALLOWED_FORMS as ELECTRODE_FORMS
from emgd_drivers.sim.electrodes import parse_electrodes
from emgd_drivers.sim.faults import ALLOWED_FORMS
from emgd_drivers.sim.model import SERIAL
from emgd_drivers.sim.spec import TRIGGER_HOLD_MS

MAX_SPEED: Final = 1000.0
"""Beyond it a paced recording is no slower than 0, as fast as possible."""

SPEED_FIELD: Final = Field("speed", float, "times real time; 0 = as fast as possible", 1.0, 0, MAX_SPEED)
FAULTS_FIELD: Final = Field("faults", list, "what goes wrong on the wire, such as drop@100", (), 0, 1000)

FIELDS: Final = (
    Field("channels", int, "how many channels", 8, 1, MAX_CHANNELS),
    Field("rate_hz", float, "samples per second and channel", 48_000.0, 1000, 100_000),
    Field("triggers", bool, "a trigger mark once a second", True),
    Field("serial", str, "serial number", SERIAL, 1, 32),
    Field("electrodes", list, "electrodes that are not good, such as 0:E1=dry or 3=bridge", (), 0, 4096),
    Field("trigger", Path, "trigger line: where a simulated stimulator tells of its pulses", None),
    Field("trigger_hold_ms", float, "how late that may come; frames then are, too", TRIGGER_HOLD_MS, 0, 100),
    SPEED_FIELD,
    FAULTS_FIELD,
)


def open_amplifier(options: Mapping[str, Any]) -> Amplifier:
    """Open the simulated amplifier; DeviceError or FieldError in one line."""
    electrodes = tuple(options.get("electrodes", ()))
    try:
        parse_electrodes(electrodes, options["channels"])
    except ValueError as error:
        raise FieldError(Problem.BAD, "electrodes", str(error), ELECTRODE_FORMS) from None
    trigger = options.get("trigger")
    if trigger is not None and options["speed"] != 1:
        raise FieldError(Problem.BAD, "trigger", "a trigger line needs real time", "speed 1")
    spec = {**options, "signal": "synthetic", "electrodes": electrodes, "trigger": str(trigger or "")}
    return open_with_faults(**spec)


def open_with_faults(*, faults: list[str], **spec: Any) -> Amplifier:
    """Open a simulated device; a fault that cannot be read is a mistake in a field."""
    try:
        wanted = DeviceSpec(faults=tuple(faults), **spec)
    except ValueError as error:
        raise FieldError(Problem.BAD, "faults", str(error), ALLOWED_FORMS) from None
    return open_simulated(wanted)
