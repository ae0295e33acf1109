"""What a simulated device shall be: one value that travels from the host's process to the device's."""

import json
from dataclasses import asdict, dataclass
from typing import Final

from emgd_drivers.sim.electrodes import parse_electrodes
from emgd_drivers.sim.faults import FaultPlan
from emgd_drivers.sim.model import SERIAL

TRIGGER_HOLD_MS: Final = 2.0
"""Two processes are woken one after the other; a machine that stalls needs more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """A simulated device. `signal` is "synthetic", or "recording" with the file at `path`.

    `channels`, `rate_hz`, `triggers`, `length` (samples, None = endless) and `electrodes` (the strings of
    sim/electrodes.py) are for the synthetic signal, `loop` and `sidecar` for a recording. `speed` 0 = as fast as
    possible. `faults` are the strings of sim/faults.py; ValueError when one of them is bad. `trigger` is where the
    trigger line of a simulated stimulator comes in (sim/trigger_line.py), empty = nowhere; its
    news may be late by `trigger_hold_ms`, as much later come the frames.
    """

    signal: str = "synthetic"
    channels: int = 8
    rate_hz: float = 48_000.0
    triggers: bool = False
    length: int | None = None
    path: str = ""
    loop: bool = False
    sidecar: str | None = None
    speed: float = 1.0
    serial: str = SERIAL
    faults: tuple[str, ...] = ()
    electrodes: tuple[str, ...] = ()
    fifo_bytes: int | None = None
    trigger: str = ""
    trigger_hold_ms: float = TRIGGER_HOLD_MS

    def __post_init__(self) -> None:
        if self.signal not in {"synthetic", "recording"}:
            raise ValueError(f"signal is {self.signal!r}; choose synthetic or recording")
        FaultPlan.parse(self.faults)
        if self.signal == "synthetic":
            parse_electrodes(self.electrodes, self.channels)
        elif self.electrodes:
            raise ValueError("electrodes are for the synthetic signal: a recording has those it was made with")

    def to_json(self) -> str:
        """For the command line of the device's process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "DeviceSpec":
        """From what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**(fields | {name: tuple(fields.get(name, ())) for name in ("faults", "electrodes")}))

    @property
    def plan(self) -> FaultPlan:
        """What goes wrong."""
        return FaultPlan.parse(self.faults)
