"""What goes wrong on purpose: faults of a simulated device, as values and as the strings that people type.

Frames are counted from 0 since START, as the device puts them on the wire; the END frame counts too.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

NS_PER: Final = {"us": 1e3, "ms": 1e6, "s": 1e9}

MAX_DRIFT_PPM: Final = 10_000.0
"""No crystal is off by more than a hundredth; a larger number is a slip of the finger."""


class FaultKind(StrEnum):
    """What happens to a frame."""

    DROP = "drop"
    REPEAT = "repeat"
    TRUNCATE = "truncate"
    CORRUPT = "corrupt"
    STALL = "stall"
    SATURATE = "saturate"
    ELECTRODE = "electrode"
    STIMULUS = "stimulus"
    UNPLUG = "unplug"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that happens at frame `frame`, or to `frames` frames from that one on.

    `byte` is how many bytes a truncated frame keeps, or which byte of a corrupt frame has its bits flipped (modulo the
    frame's length); `channel` is for saturate and electrode; `stall_ns` is how long delivery is held up;
    `electrode_on` puts an electrode back. A stimulus is one pulse at the first sample of each frame.
    """

    kind: FaultKind
    frame: int
    frames: int = 1
    byte: int = 0
    channel: int = 0
    stall_ns: int = 0
    electrode_on: bool = False

    def hits(self, frame: int) -> bool:
        """Does it happen to this frame?"""
        return self.frame <= frame < self.frame + self.frames


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All that is wrong with one device. `seed` draws jitter, clock walk and the synthetic signal.

    `drift_ppm` and `walk_ppm_per_min` are the oscillator's. Every transfer is late by `jitter_min_ns` to
    `jitter_max_ns`. `wrap` lets the frame sequence begin just below 2^32.
    """

    faults: tuple[Fault, ...] = ()
    wrap: bool = False
    drift_ppm: float = 0.0
    walk_ppm_per_min: float = 0.0
    jitter_min_ns: int = 0
    jitter_max_ns: int = 0
    seed: int = 1

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "FaultPlan":
        """From strings such as `drop@100+3` or `drift=50ppm`; ValueError names a bad one and the forms there are."""
        plan = cls()
        for text in texts:
            for form in FORMS:
                if match := form.pattern.fullmatch(text.strip()):
                    plan = _added(plan, form, match, text)
                    break
            else:
                raise ValueError(f"fault {text!r} is not understood; write one of {ALLOWED_FORMS}")
        return plan

    def at(self, frame: int) -> tuple[Fault, ...]:
        """What happens to this frame."""
        return tuple(fault for fault in self.faults if fault.hits(frame)) if self.faults else ()


@dataclass(frozen=True, slots=True)
class _Form:
    """How a fault is written. `kind` is None for what holds all the time."""

    shown: str
    pattern: re.Pattern[str]
    kind: FaultKind | None = None


_AT: Final = r"@(?P<frame>\d{1,18})"
_FRAMES: Final = r"(\+(?P<frames>[1-9]\d{0,17}))?"
_NUMBER: Final = r"\d{1,9}(\.\d{1,9})?"
_UNIT: Final = r"(?P<unit>us|ms|s)"


def _form(shown: str, pattern: str, kind: FaultKind | None = None) -> _Form:
    return _Form(shown, re.compile(pattern, re.ASCII), kind)


FORMS: Final = (
    _form("drop@FRAME[+FRAMES]", f"drop{_AT}{_FRAMES}", FaultKind.DROP),
    _form("repeat@FRAME[+FRAMES]", f"repeat{_AT}{_FRAMES}", FaultKind.REPEAT),
    _form("truncate@FRAME:BYTES_KEPT", rf"truncate{_AT}:(?P<byte>[1-9]\d{{0,8}})", FaultKind.TRUNCATE),
    _form("corrupt@FRAME:BYTE", rf"corrupt{_AT}:(?P<byte>\d{{1,9}})", FaultKind.CORRUPT),
    _form("stall@FRAME:TIME", rf"stall{_AT}:(?P<stall>{_NUMBER}){_UNIT}", FaultKind.STALL),
    _form("saturate@FRAME[+FRAMES]:CHANNEL", rf"saturate{_AT}{_FRAMES}:(?P<channel>\d{{1,4}})", FaultKind.SATURATE),
    _form("electrode@FRAME:CHANNEL[=on]", rf"electrode{_AT}:(?P<channel>\d{{1,4}})(?P<on>=on)?", FaultKind.ELECTRODE),
    _form("stimulus@FRAME[+FRAMES]", f"stimulus{_AT}{_FRAMES}", FaultKind.STIMULUS),
    _form("unplug@FRAME", f"unplug{_AT}", FaultKind.UNPLUG),
    _form("wrap", "(?P<wrap>wrap)"),
    _form("drift=50ppm", f"drift=(?P<drift>[+-]?{_NUMBER})ppm"),
    _form("walk=1ppm/min", f"walk=(?P<walk>{_NUMBER})ppm/min"),
    _form("jitter=0..2ms", rf"jitter=(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER}){_UNIT}"),
    _form("seed=1", r"seed=(?P<seed>\d{1,9})"),
)

ALLOWED_FORMS: Final = ", ".join(form.shown for form in FORMS) + " (TIME as in 20ms; units are us, ms, s)"


def _added(plan: FaultPlan, form: _Form, match: re.Match[str], text: str) -> FaultPlan:
    """The plan with one more entry."""
    found = {name: value for name, value in match.groupdict().items() if value is not None}
    if form.kind is not None:
        return replace(plan, faults=(*plan.faults, _fault(form.kind, found)))
    return replace(plan, **_continuous(found, text))


def _fault(kind: FaultKind, found: dict[str, str]) -> Fault:
    numbers = {name: int(found[name]) for name in ("frame", "frames", "byte", "channel") if name in found}
    stall_ns = round(float(found["stall"]) * NS_PER[found["unit"]]) if "stall" in found else 0
    return Fault(kind, **numbers, stall_ns=stall_ns, electrode_on="on" in found)


def _continuous(found: dict[str, str], text: str) -> dict[str, Any]:
    """The plan's fields that one string sets."""
    if "low" in found:
        low, high = (round(float(found[end]) * NS_PER[found["unit"]]) for end in ("low", "high"))
        if low > high:
            raise ValueError(f"fault {text!r} has its bounds the wrong way round; write the smaller one first")
        return {"jitter_min_ns": low, "jitter_max_ns": high}
    if "drift" in found:
        drift_ppm = float(found["drift"])
        if abs(drift_ppm) > MAX_DRIFT_PPM:
            raise ValueError(f"fault {text!r} is beyond any crystal; write -{MAX_DRIFT_PPM:g} to {MAX_DRIFT_PPM:g} ppm")
        return {"drift_ppm": drift_ppm}
    if "walk" in found:
        return {"walk_ppm_per_min": float(found["walk"])}
    if "seed" in found:
        return {"seed": int(found["seed"])}
    return {"wrap": True}
