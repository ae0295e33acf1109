"""A verdict of the gate in words: what stands against a pulse, by how much, who says so, and what to do about it.

One table for all names of emgd_ext.gate.REASON_NAMES; docs/safety/limits.md lists them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from emgd.units import UNITS, is_most, shown
from emgd_ext import gate

if TYPE_CHECKING:
    from emgd.limits import LimitTable


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that stands against what was asked. `layer`, `allowed`: of a limit; None where there is none."""

    name: str
    layer: str | None
    asked: int | None
    allowed: int | None
    unit: str
    text: str

    def as_map(self) -> dict[str, Any]:
        """For messages and the audit log."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Words:
    """What stands against a pulse, of a limit with a place for the value ("{of}"), and what to do about it."""

    what: str
    remedy: str


_LIMITS: Final[Mapping[str, _Words]] = {
    "current_ua": _Words("the current{of}", "lower the current"),
    "width_us": _Words("the pulse width{of}", "use a shorter pulse"),
    "charge_nc": _Words("the charge{of} of the pulse", "lower the current or the width"),
    "energy_uj": _Words("the energy{of} of the pulse (into 1 kΩ)", "lower the current or the width"),
    "load_energy_uj": _Words(
        "the energy{of} of the pulse into these electrodes", "improve the contact, or lower the current or the width"
    ),
    "compliance_v": _Words("the output voltage{of} that the stimulator is set up for", "set it up for less"),
    "rate_mhz": _Words("the rate{of}", "wait longer between pulses"),
    "interval_us": _Words("the time{of} between pulses", "wait longer between pulses"),
    "pair_interval_us": _Words("the time{of} between the two pulses", "put them further apart"),
    "train_pulses": _Words("the number of pulses in a shot{of}", "ask for fewer pulses"),
    "train_duration_ms": _Words("the length{of} of the train", "ask for fewer pulses, or closer ones"),
    "train_rest_ms": _Words("the rest{of} since the last fast train", "wait"),
    "mean_current_ua": _Words("the mean current{of} over 10 s", "wait, or ask for fewer or weaker pulses"),
    "rms_ua_per_cm2": _Words(
        "the root mean square current density{of} over 10 s", "wait, ask for weaker pulses, or use larger electrodes"
    ),
    "site_pulses": _Words("the number of pulses at this site in a minute{of}", "wait, or ask for fewer"),
    "step_ua": _Words(
        "the step up{of} from the last current", "go up in smaller steps, or confirm the current by its number"
    ),
    "first_shot_ua": _Words("the first current{of} at a new site", "begin lower"),
    "impedance_ohm": _Words("the impedance{of} of the stimulating electrodes", "clean the skin, wet the electrodes"),
    "readback_current_percent": _Words(
        "the difference{of} between delivered and asked current", "check electrodes and stimulator, or go lower"
    ),
    "readback_current_ua": _Words(
        "the difference{of} between delivered and asked current", "check electrodes and stimulator, or go lower"
    ),
    "readback_width_percent": _Words("the difference{of} between delivered and asked width", "check the stimulator"),
    "readback_width_us": _Words("the difference{of} between delivered and asked width", "check the stimulator"),
    "dc_ua": _Words("the current{of} between the pulses", "take the electrodes off and have the stimulator checked"),
    "lease_ms": _Words("the time{of} since the lease was renewed", "take the lease again and renew it in time"),
    "idle_reset_ms": _Words("the time{of} in which nothing was done", "arm again"),
}

_ON_A_PERSON: Final = "take the electrodes off and have the stimulator checked"

_RULES: Final[Mapping[str, _Words]] = {
    "no_limits": _Words("no limits are set", "choose a profile"),
    "off": _Words("the stimulator is not connected", "plug it in and switch it on"),
    "disarmed": _Words("the stimulator is not armed", "arm it"),
    "busy": _Words(
        "that is not done while armed or while a shot is going on", "disarm, or wait until the shot is over"
    ),
    "cooldown": _Words("the last shot is not over: its pause or its readback is due", "wait"),
    "fault": _Words("a fault is latched", "remove its cause, acknowledge it and arm again"),
    "no_shot": _Words("no shot is waiting to be fired", "ask for one"),
    "time": _Words("the clock went backwards or jumped", "see that nothing holds the service up, then arm again"),
    "stale": _Words("the amplifier has sent no samples for 100 ms", "see that it is connected and running"),
    "saturated": _Words("every channel of the amplifier is saturated for a second", "check its electrodes"),
    "unstamped": _Words("the time of a pulse could not be recorded", "see that the amplifier's stream runs"),
    "old": _Words("the request, or its time, is more than 100 ms ago", "ask again"),
    "early": _Words(
        "the shot was asked for in the future, or more than a second ahead of its time", "ask nearer to its time"
    ),
    "holder": _Words("somebody else holds the lease, or nobody", "take the lease, or ask its holder"),
    "nonce": _Words("the number of the renewal is not higher than the last", "renew with rising numbers"),
    "site": _Words("this is not the site that is armed, or none was named", "arm the site that is meant"),
    "operator": _Words("no operator is named", "say who is responsible"),
    "shape": _Words("the numbers make no sense, alone or together", "see docs/safety/limits.md for what a shot is"),
    "load": _Words("nobody knows the impedance of the stimulating electrodes", "measure it"),
    "headroom": _Words(
        "the current needs more than 90 % of the voltage that the stimulator is set up for",
        "improve the contact or lower the current",
    ),
    "device_limits": _Words(
        "the stimulator's own limits are not set, are looser than those in force, or are below what is asked",
        "disarm and arm again, or ask for less",
    ),
    "not_isolated": _Words(
        "the stimulator or the amplifier is not isolated and must not be on a person", "use isolated devices"
    ),
    "too_soon": _Words("the last pulse was less than 200 ms ago", "wait, or ask for a train"),
    "history": _Words("more pulses were given in a minute than can be remembered", "wait"),
    "retry": _Words(
        "the last pulse did not come out as asked, and nothing above what came out is given", "go lower, or arm again"
    ),
    "readback_due": _Words("the stimulator has not yet said what it delivered", "wait"),
    "present": _Words("the cause of the fault is still there", "remove it first"),
    "readback_missing": _Words(
        "the stimulator did not say within 200 ms what it delivered", "check its cable, then acknowledge the fault"
    ),
    "readback_unexpected": _Words("the stimulator told of a pulse that nobody asked for", _ON_A_PERSON),
    "readback_far": _Words("the stimulator delivered more than 20 % off what was asked", _ON_A_PERSON),
    "readback_often": _Words(
        "two of five pulses were not delivered as asked", "check electrodes and stimulator, then acknowledge the fault"
    ),
    "stopped": _Words("the emergency stop was used", "make sure that all is well, then acknowledge it"),
    "device": _Words(
        "the stimulator reports an error or does not answer", "check it and its cable, then acknowledge the fault"
    ),
    "mark": _Words(
        "a trigger mark was missing, displaced or without a pulse",
        "check the trigger cable, then acknowledge the fault",
    ),
}

_FIGURE_OF: Final[Mapping[str, tuple[str, str, str]]] = {
    "headroom": ("compliance_v", "compliance_set_v", "V"),
    "retry": ("current_ua", "retry_ua", "µA"),
}
"""Rules with figures: what was asked, what is allowed (both names of figures), and the unit."""

_UNKNOWN: Final = "the gate named a reason that this version has no words for; nothing is given"


def explain(verdict: int, figures: Mapping[str, int] | None, table: "LimitTable | None") -> list[Refusal]:
    """Everything that a verdict names, the limits first; empty for 0.

    `figures` are those of Gate.figures, to which a caller may add `compliance_set_v` (for what the stimulator is set
    up) and `retry_ua` (what came out at the last mismatch). Where figures or table lack a number, the words do without.
    """
    known = figures or {}
    refusals = []
    for name in gate.names_in(verdict):
        if name in _LIMITS:
            # The step is at most a quarter of the last current, where that is less than the limit.
            allowed = known.get("step_allowed_ua") if name == "step_ua" else None
            refusals.append(limit_refusal(name, known.get(name), table, allowed))
        else:
            refusals.append(_rule(name, known))
    if verdict >> len(gate.REASON_NAMES):
        refusals.append(Refusal("unknown", None, None, None, "", _UNKNOWN))
    return refusals


def _rule(name: str, figures: Mapping[str, int]) -> Refusal:
    words, asked, allowed, unit = _RULES[name], None, None, ""
    text = words.what
    if name in _FIGURE_OF:
        asked_name, allowed_name, unit = _FIGURE_OF[name]
        asked, allowed = figures.get(asked_name), figures.get(allowed_name)
    if asked is not None and allowed is not None:
        text += f" (asked: {shown(asked, unit)}, at most: {shown(allowed, unit)})"
    return Refusal(name, None, asked, allowed, unit, f"{text}; {words.remedy}")


def limit_refusal(
    name: str, asked: int | None, table: "LimitTable | None", allowed: int | None = None, remedy: str | None = None
) -> Refusal:
    """A limit that was hit. `allowed` where it is less than the table's, `remedy` where it is not the usual one."""
    words, unit = _LIMITS[name], UNITS[name]
    bound = "what is allowed"
    if table:
        allowed = table.values[name] if allowed is None else allowed
        bound = f"the {shown(allowed, unit)} that {_who(name, table)}"
        if allowed != table.values[name]:
            bound = f"the {shown(allowed, unit)} (a quarter of the last current) that are allowed now"
    what = words.what.format(of="" if asked is None else f" of {shown(asked, unit)}")
    text = f"{what} is {'above' if is_most(name) else 'below'} {bound}; {remedy or words.remedy}"
    return Refusal(name, table.layers[name] if table else None, asked, allowed, unit, text)


def _who(name: str, table: "LimitTable") -> str:
    """Who allows that much, as the end of a sentence."""
    by_site = " in this site's configuration" if name in table.stated else ""
    return {
        "hard": f"emgd allows at {'most' if is_most(name) else 'least'}",
        "device": "this stimulator allows",
        "profile": f"the profile {table.profile}{by_site} allows",
        "session": "was set for this session",
    }[table.layers[name]]
