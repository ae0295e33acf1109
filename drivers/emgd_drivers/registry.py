"""All drivers in one table, imported when one is asked for.

A driver's module has FIELDS (its options, emgd_drivers.fields), `open_amplifier(options) -> Amplifier`, and where its
device can be plugged in, HOTPLUG: the udev subsystems whose news concern it, such as ("usb",).
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from emgd_drivers.api import Amplifier
from emgd_drivers.fields import Field

DRIVERS: Final[dict[str, str]] = {
    "sim": "emgd_drivers.sim.driver",
    "replay": "emgd_drivers.replay.driver",
    "emg8": "emgd_drivers.emg8.driver",
}
"""Name in the configuration -> module."""


def driver_fields(name: str) -> Sequence[Field]:
    """The options of a driver; KeyError when there is no such driver."""
    fields: Sequence[Field] = _module(name).FIELDS
    return fields


def open_amplifier(name: str, options: Mapping[str, Any]) -> Amplifier:
    """Open a device with checked options; raises DeviceError."""
    amplifier: Amplifier = _module(name).open_amplifier(options)
    return amplifier


def _module(name: str) -> ModuleType:
    return import_module(DRIVERS[name])
