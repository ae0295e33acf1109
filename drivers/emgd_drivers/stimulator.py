"""What every stimulator driver offers. The service knows stimulators by this page alone.

One thread calls a driver: that of `emgd.stimulate`, which asks the gate before each pulse. A driver judges nothing and
remembers nothing that could make a pulse: one call of `pulse` is one pulse, trains are many calls, and a device that
runs trains by itself is not used that way. Whatever a driver cannot do in time or is not sure of is an error here and a
fault there.

Currents are peak values in microamperes, times are host times (CLOCK_MONOTONIC) in nanoseconds.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, TypeAlias

from emgd_drivers.api import DeviceError

MOST_BLOCKING_S: Final = 0.03
"""What `feed`, `pulse`, `poll`, `disarm` and `stop` may take at most: their caller watches a lease of 50 ms."""


class StimulatorError(DeviceError):
    """The stimulator answered wrongly, late or not at all: nobody knows what it does, so it must be stopped."""


@dataclass(frozen=True, slots=True)
class StimulatorInfo:
    """What a stimulator is and can do; fixed while it is open.

    `isolated`: its output is isolated from USB and from earth, and may be connected to a person (hazard H17).
    `has_watchdog`: it disables its output by itself when it is not fed. `has_stop`: it has an emergency stop that works
    whatever else it does. `has_trigger`: it can tell an amplifier of each pulse. `measures_load`: it can measure the
    resistance between its electrodes; otherwise somebody else has to say it. `reads_back`: it tells what it delivered.
    `most_ahead_us` is how far ahead a pulse may be asked for; where it is 0 the device knows no time, and a pulse has
    to be asked for when it is due.
    `notes` are sentences that a user of the stimulator should know, such as what it lacks.
    """

    driver: str
    serial: str
    firmware: str
    most_current_ua: int
    most_width_us: int
    most_compliance_v: int
    current_step_ua: int
    isolated: bool = False
    simulated: bool = False
    has_watchdog: bool = False
    has_stop: bool = False
    has_trigger: bool = False
    measures_load: bool = False
    reads_back: bool = False
    most_ahead_us: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """The device's own limits, which it holds whatever the host says.

    `interval_us` is the shortest time between the beginnings of two pulses, `mean_ua` the mean rectified current over
    10 s; their defaults are the hard ceilings of the gate. A device without these registers returns them as asked.
    """

    current_ua: int
    width_us: int
    compliance_v: int
    interval_us: int = 1000
    mean_ua: int = 1000


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the device says of a pulse that it gave. `load_ohm` 0: open. `limited`: it reached its voltage limit.

    `at_ns` is when it began, by the device's own clock as the host knows it; `sigma_ns` is how well.
    """

    seq: int
    at_ns: int
    sigma_ns: int
    current_ua: int
    width_us: int
    load_ohm: int
    dc_ua: int
    limited: bool


@dataclass(frozen=True, slots=True)
class Trouble:
    """What the device says of itself: it has stopped, and will not go on before it is reset. `text` is for people."""

    cause: str
    text: str


News: TypeAlias = Delivered | Trouble


class Stimulator(ABC):
    """An opened stimulator. Not thread-safe.

    All calls raise DeviceLostError when the device is gone, and StimulatorError when what it answers is not what it
    was asked.
    """

    @property
    @abstractmethod
    def info(self) -> StimulatorInfo:
        """What it is."""

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor that is readable when `poll` may have news."""

    @abstractmethod
    def reset(self) -> None:
        """Output off, 0 uA, disarmed, limits at nothing, watchdog expired, and verified to be so."""

    @abstractmethod
    def set_limits(self, limits: DeviceLimits) -> DeviceLimits:
        """Set the device's own limits; returns them as read back from it."""

    @abstractmethod
    def measure_load(self) -> int:
        """Resistance between the stimulating electrodes in ohm, 0 when open, by a current that nobody feels.

        DeviceRefusedError where `info.measures_load` is false.
        """

    @abstractmethod
    def feed(self, timeout_ms: int) -> None:
        """Feed its watchdog: unfed for `timeout_ms` it disables its output. Nothing where it has none."""

    @abstractmethod
    def arm(self) -> None:
        """Enable its output; `set_limits` and `feed` came before."""

    @abstractmethod
    def disarm(self) -> None:
        """Disable its output, and drop a pulse that waits for its time."""

    @abstractmethod
    def pulse(self, seq: int, at_ns: int, current_ua: int, width_us: int) -> None:
        """One pulse, at `at_ns` or at once when that is past. Returns when the device has echoed it, equal.

        DeviceRefusedError when the device says no: then there is no pulse.
        """

    @abstractmethod
    def poll(self) -> list[News]:
        """What the device said since; does not wait."""

    @abstractmethod
    def stop(self) -> None:
        """The emergency stop: first of all calls, in any state, whether or not the device answers the others."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the device, its output disabled; harmless when called again."""
