"""What goes wrong on purpose in a simulated stimulator: faults as values and as the strings that people type.

Written `KIND[=NUMBER][@PULSES]`: it begins when so many pulses were given since the device was plugged in, 0 = at once.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class StimulatorFaultKind(StrEnum):
    """What happens."""

    MUTE = "mute"
    DEAF = "deaf"
    SLOW = "slow"
    ECHO = "echo"
    CURRENT = "current"
    WIDTH = "width"
    STUCK_RELAY = "stuck-relay"
    OPEN = "open"
    LOAD = "load"
    DC = "dc"
    BROWN_OUT = "brown-out"
    RESTART = "restart"
    UNPLUG = "unplug"
    NO_TRIGGER = "no-trigger"
    TRIGGER = "trigger"
    EXTRA_TRIGGER = "extra-trigger"
    STUCK_READBACK = "stuck-readback"
    NO_READBACK = "no-readback"


@dataclass(frozen=True, slots=True)
class _Form:
    """`number` is what the number says, empty where there is none."""

    text: str
    number: str = ""
    least: int = 0
    most: int = 0


FORMS: Final = {
    StimulatorFaultKind.MUTE: _Form("it answers nothing and reports nothing"),
    StimulatorFaultKind.DEAF: _Form("it hears nothing, STOP included"),
    StimulatorFaultKind.SLOW: _Form("each answer is late", "ms", 1, 10_000),
    StimulatorFaultKind.ECHO: _Form("the echo of a pulse has this much of its current", "percent", 0, 1000),
    StimulatorFaultKind.CURRENT: _Form("pulses have this much of their current; readback says so", "percent", 0, 1000),
    StimulatorFaultKind.WIDTH: _Form("pulses have this much of their width; readback says so", "percent", 1, 1000),
    StimulatorFaultKind.STUCK_RELAY: _Form("the output relay, once closed, never opens"),
    StimulatorFaultKind.OPEN: _Form("an electrode is off"),
    StimulatorFaultKind.LOAD: _Form("resistance between the electrodes, such as dry ones", "ohm", 1, 10_000_000),
    StimulatorFaultKind.DC: _Form("direct current of the baseline", "uA", -10_000, 10_000),
    StimulatorFaultKind.BROWN_OUT: _Form("the supply fails in the middle of the next pulse"),
    StimulatorFaultKind.RESTART: _Form("the firmware restarts"),
    StimulatorFaultKind.UNPLUG: _Form("the cable is pulled"),
    StimulatorFaultKind.NO_TRIGGER: _Form("the trigger line stays low"),
    StimulatorFaultKind.TRIGGER: _Form("the trigger is late by this much, negative = early", "us", -100_000, 100_000),
    StimulatorFaultKind.EXTRA_TRIGGER: _Form("a second trigger 5 ms after each"),
    StimulatorFaultKind.STUCK_READBACK: _Form("readback repeats what was measured last"),
    StimulatorFaultKind.NO_READBACK: _Form("no readback"),
}
"""How each fault is written."""

ALLOWED_FORMS: Final = ", ".join(
    kind + (f"={form.number.upper()}" if form.number else "") for kind, form in FORMS.items()
)

_KINDS: Final = frozenset(kind.value for kind in StimulatorFaultKind)
_PATTERN: Final = re.compile(r"(?P<kind>[a-z-]+)(=(?P<number>[+-]?\d{1,9}))?(@(?P<pulses>\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class StimulatorFault:
    """One thing that is wrong once `after` pulses were given."""

    kind: StimulatorFaultKind
    number: int = 0
    after: int = 0


def parse_stimulator_faults(texts: Iterable[str]) -> tuple[StimulatorFault, ...]:
    """From strings such as `current=120@3`; ValueError names a bad one and the forms there are."""
    return tuple(_parsed(text) for text in texts)


def _parsed(text: str) -> StimulatorFault:
    match = _PATTERN.fullmatch(text.strip())
    if match is None or match["kind"] not in _KINDS:
        raise ValueError(f"fault {text!r} is not understood; write KIND[=NUMBER][@PULSES], KIND one of {ALLOWED_FORMS}")
    kind = StimulatorFaultKind(match["kind"])
    form = FORMS[kind]
    if bool(form.number) != (match["number"] is not None):
        wanted = f"{kind}={form.number.upper()}" if form.number else f"{kind} without a number"
        raise ValueError(f"fault {text!r} is not understood; write {wanted}")
    number = int(match["number"] or 0)
    if not form.least <= number <= form.most:
        raise ValueError(f"fault {text!r}: the number is {number}; choose {form.least} to {form.most} {form.number}")
    return StimulatorFault(kind, number, int(match["pulses"] or 0))
