"""All drivers in one table, imported when one is asked for; drivers of others join it by an entry point.

An amplifier driver's module has FIELDS (its options, emgd_drivers.fields), `open_amplifier(options) -> Amplifier`,
and where its device can be plugged in, HOTPLUG: the udev subsystems whose news concern it, such as ("usb",).
docs/drivers.md is the long version. A stimulator driver's module is the same,
but for `open_stimulator(options) -> Stimulator`.
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
"""Group in which a package names its stimulator drivers."""

STIMULATORS: Final[dict[str, str]] = {
    "ncs1": "emgd_drivers.ncs1.driver",
    "sim-ncs1": "emgd_drivers.sim.stimulator_driver",
    "rehamove3": "emgd_drivers.rehamove.driver",
}
"""Name in the configuration -> module, of the stimulator drivers that come with emgd."""


def driver_names() -> tuple[str, ...]:
    """Every amplifier driver there is; ours win where a package uses one of our names."""
    return _names(DRIVERS, ENTRY_POINTS)


def driver_fields(name: str) -> Sequence[Field]:
    """The options of an amplifier driver; KeyError when there is no such driver."""
    return _fields(_module(name))


def hotplug_subsystems(name: str) -> tuple[str, ...]:
    """The udev subsystems in which its device appears; none for a device that cannot be plugged in."""
    return _hotplug(_module(name))


def open_amplifier(name: str, options: Mapping[str, Any]) -> Amplifier:
    """Open a device with checked options; raises DeviceError."""
    amplifier: Amplifier = _module(name).open_amplifier(options)
    return amplifier


def stimulator_names() -> tuple[str, ...]:
    """Every stimulator driver there is; ours win where a package uses one of our names."""
    return _names(STIMULATORS, STIMULATOR_ENTRY_POINTS)


def stimulator_fields(name: str) -> Sequence[Field]:
    """The options of a stimulator driver; KeyError when there is no such driver."""
    return _fields(_stimulator_module(name))


def stimulator_hotplug(name: str) -> tuple[str, ...]:
    """The udev subsystems in which its device appears; none for a device that cannot be plugged in."""
    return _hotplug(_stimulator_module(name))


def open_stimulator(name: str, options: Mapping[str, Any]) -> Stimulator:
    """Open a stimulator with checked options; raises DeviceError. It is not reset yet."""
    stimulator: Stimulator = _stimulator_module(name).open_stimulator(options)
    return stimulator


def _names(ours: Mapping[str, str], group: str) -> tuple[str, ...]:
    return (*ours, *(point.name for point in entry_points(group=group) if point.name not in ours))


def _fields(module: ModuleType) -> Sequence[Field]:
    fields: Sequence[Field] = module.FIELDS
    return fields


def _hotplug(module: ModuleType) -> tuple[str, ...]:
    return tuple(getattr(module, "HOTPLUG", ()))


def _module(name: str) -> ModuleType:
    return _found(name, DRIVERS, ENTRY_POINTS)


def _stimulator_module(name: str) -> ModuleType:
    return _found(name, STIMULATORS, STIMULATOR_ENTRY_POINTS)


def _found(name: str, ours: Mapping[str, str], group: str) -> ModuleType:
    if name in ours:
        return import_module(ours[name])
    for point in entry_points(group=group, name=name):
        module: ModuleType = point.load()
        return module
    raise KeyError(name)
