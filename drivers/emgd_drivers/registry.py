"""All drivers in one table, imported when one is asked for; drivers of others join it by an entry point.

A driver's module has FIELDS (its options, emgd_drivers.fields), `open_amplifier(options) -> Amplifier`, and where its
device can be plugged in, HOTPLUG: the udev subsystems whose news concern it, such as ("usb",). docs/drivers.md is the
long version. A stimulator's module has FIELDS and `open_stimulator(options) -> Stimulator`.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Final

from emgd_drivers.api import Amplifier
from emgd_drivers.fields import Field
from emgd_drivers.stimulator import Stimulator

ENTRY_POINTS: Final = "emgd.drivers"
"""Group in which a package names its drivers: `name = "package.module"`."""

DRIVERS: Final[dict[str, str]] = {
    "sim": "emgd_drivers.sim.driver",
    "replay": "emgd_drivers.replay.driver",
    "emg8": "emgd_drivers.emg8.driver",
    "cyton": "emgd_drivers.cyton.driver",
    "hackeeg": "emgd_drivers.hackeeg.driver",
}
"""Name in the configuration -> module, of the drivers that come with emgd."""

STIMULATOR_ENTRY_POINTS: Final = "emgd.stimulators"
"""The same as ENTRY_POINTS, of stimulators."""

STIMULATORS: Final[dict[str, str]] = {}
"""The same as DRIVERS, of stimulators."""


def driver_names() -> tuple[str, ...]:
    """Every driver there is; ours win where a package uses one of our names."""
    return (*DRIVERS, *(point.name for point in entry_points(group=ENTRY_POINTS) if point.name not in DRIVERS))


def driver_fields(name: str) -> Sequence[Field]:
    """The options of a driver; KeyError when there is no such driver."""
    fields: Sequence[Field] = _module(name).FIELDS
    return fields


def hotplug_subsystems(name: str) -> tuple[str, ...]:
    """The udev subsystems in which its device appears; none for a device that cannot be plugged in."""
    return tuple(getattr(_module(name), "HOTPLUG", ()))


def open_amplifier(name: str, options: Mapping[str, Any]) -> Amplifier:
    """Open a device with checked options; raises DeviceError."""
    amplifier: Amplifier = _module(name).open_amplifier(options)
    return amplifier


def stimulator_names() -> tuple[str, ...]:
    """Every stimulator driver there is; ours win where a package uses one of our names."""
    points = entry_points(group=STIMULATOR_ENTRY_POINTS)
    return (*STIMULATORS, *(point.name for point in points if point.name not in STIMULATORS))


def stimulator_fields(name: str) -> Sequence[Field]:
    """The options of a stimulator driver; KeyError when there is no such driver."""
    fields: Sequence[Field] = _module(name, STIMULATORS, STIMULATOR_ENTRY_POINTS).FIELDS
    return fields


def open_stimulator(name: str, options: Mapping[str, Any]) -> Stimulator:
    """Open a stimulator with checked options; raises DeviceError."""
    stimulator: Stimulator = _module(name, STIMULATORS, STIMULATOR_ENTRY_POINTS).open_stimulator(options)
    return stimulator


def _module(name: str, drivers: Mapping[str, str] = DRIVERS, group: str = ENTRY_POINTS) -> ModuleType:
    if name in drivers:
        return import_module(drivers[name])
    for point in entry_points(group=group, name=name):
        module: ModuleType = point.load()
        return module
    raise KeyError(name)
