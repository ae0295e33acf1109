"""Units of the limits, their direction, and numbers for people: 60000 µA are 60 mA."""

from typing import Final

from emgd_ext import gate

_SUFFIXES: Final = {
    "_ua_per_cm2": "µA/cm²",
    "_ua": "µA",
    "_us": "µs",
    "_nc": "nC",
    "_uj": "µJ",
    "_v": "V",
    "_mhz": "mHz",
    "_ms": "ms",
    "_ohm": "Ω",
    "_percent": "%",
    "_pulses": "pulses",
}

_LARGER: Final = {
    "µA": "mA",
    "µA/cm²": "mA/cm²",
    "µs": "ms",
    "nC": "µC",
    "µJ": "mJ",
    "mHz": "Hz",
    "ms": "s",
    "Ω": "kΩ",
}
"""Unit -> the one a thousand times larger, which people think in and write by mistake."""


def unit_of(name: str) -> str:
    """The unit in a name's ending."""
    return next((unit for suffix, unit in _SUFFIXES.items() if name.endswith(suffix)), "")


UNITS: Final = {name: unit_of(name) for name in gate.LIMIT_NAMES}
"""Limit -> unit."""

_RANGES: Final = gate.ranges()


def is_most(name: str) -> bool:
    """Whether a limit is the most that is allowed; else it is the least."""
    return _RANGES[name].ceiling > _RANGES[name].end


def beyond(name: str, value: int, bound: int) -> bool:
    """Whether a value of a limit is looser than another."""
    return value > bound if is_most(name) else value < bound


def shown(value: int, unit: str) -> str:
    """A value for people, in the larger unit where that is shorter."""
    if unit in _LARGER and abs(value) >= 1000:
        return f"{value / 1000:.10g} {_LARGER[unit]}"
    if value == 1 and unit == "pulses":
        return "1 pulse"
    return f"{value} {unit}".rstrip()


def unit_hint(name: str, value: int) -> str:
    """What a value out of its range would mean in another unit, if that makes sense; else nothing."""
    unit, (ceiling, end) = UNITS[name], _RANGES[name]
    larger = _LARGER.get(unit)
    if larger is None:
        return ""
    least, most = sorted((ceiling, end))
    if value < least <= value * 1000 <= most:
        return f"if you mean {value} {larger}, write {value * 1000}: the unit is {unit}"
    if least <= value // 1000 <= most < value:
        return f"the unit is {unit}: {value} {unit} are {shown(value, unit)}"
    return ""
