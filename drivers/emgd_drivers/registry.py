"""All drivers in one table, imported when one is asked for; drivers of others join it by an entry point.

A driver's module has FIELDS (its options, emgd_drivers.fields), `open_amplifier(options) -> Amplifier`, and where its
device can be plugged in, HOTPLUG: the udev subsystems whose news concern it, such as ("usb",). docs/drivers.md is the
long version.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Final

from emgd_drivers.api import Amplifier
from emgd_drivers.fields import Field

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


def _module(name: str) -> ModuleType:
    if name in DRIVERS:
        return import_module(DRIVERS[name])
    for point in entry_points(group=ENTRY_POINTS, name=name):
        module: ModuleType = point.load()
        return module
    raise KeyError(name)
