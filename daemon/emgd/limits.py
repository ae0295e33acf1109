"""The limits in force: layers hard -> device -> site and profile -> session, of which each can only tighten.

The arithmetic of tightening is the gate's own (emgd_ext.gate.Limits, proven); here is where the layers come from, and
what is said when one asks for more than the layers outside it allow. Nothing is clamped in silence: a looser value is
refused, with one exception that is shown, a profile above the site's own [limits].
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from emgd.profiles import ENABLED, PROFILES, Profile
from emgd.refusals import Refusal, limit_refusal
from emgd.units import UNITS, beyond, unit_hint
from emgd_ext import gate

__all__ = ["ENABLED", "PROFILES", "LimitError", "LimitTable", "Profile", "SiteLimitError", "SiteLimits", "Tightened"]

DEVICE_LIMITS: Final = ("current_ua", "width_us", "compliance_v")
"""Limits that a device has of its own."""


class LimitError(ValueError):
    """No table can be built: `refusals` name each limit, its layer, what was asked and what is allowed."""

    def __init__(self, refusals: Iterable[Refusal]) -> None:
        self.refusals = list(refusals)
        super().__init__("; ".join(one.text for one in self.refusals))


class SiteLimitError(ValueError):
    """A mistake in [limits] of the configuration: in which table, of which key."""

    def __init__(self, table: str, key: str | None, text: str, allowed: str) -> None:
        super().__init__(f"[{table}] {text} (allowed: {allowed})")
        self.table = table
        self.key = key
        self.text = text
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Tightened:
    """A profile's limit that the site's [limits] made tighter."""

    profile: str
    limit: str
    stated: int
    allowed: int

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.profile}: {self.limit} is {self.allowed} by [limits], not {self.stated}"


@dataclass(frozen=True, slots=True)
class SiteLimits:
    """What the site's configuration makes of the profiles: `profiles` has every limit of each profile that may be used.

    `stated` are the limits that come from the configuration and not from the profile as shipped, for each profile.
    """

    profiles: Mapping[str, Mapping[str, int]]
    stated: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tightened: tuple[Tightened, ...] = ()


@dataclass(frozen=True)
class LimitTable:
    """The limits in force for one profile. `stated` are those of the profile layer that come from the configuration."""

    profile: str
    limits: gate.Limits
    digest: str
    stated: frozenset[str] = frozenset()

    @property
    def values(self) -> dict[str, int]:
        """Limit -> value in its unit."""
        return self.limits.values

    @property
    def layers(self) -> dict[str, str]:
        """Limit -> the layer that set it."""
        return self.limits.layers

    def as_map(self) -> dict[str, Any]:
        """For messages, status and the audit log."""
        return {"profile": self.profile, "digest": self.digest, "values": self.values, "layers": self.layers}


def site_limits(section: Mapping[str, Any], enabled: Iterable[str] = ENABLED) -> SiteLimits:
    """The profiles as a site's [limits] and [limits.PROFILE] leave them; SiteLimitError where these are mistaken."""
    everywhere = {key: value for key, value in section.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in section.items() if isinstance(value, Mapping)}
    _check_table("limits", everywhere, {name: ceiling for name, (ceiling, _) in gate.ranges().items()}, "hard ceiling")
    for name, table in tables.items():
        if name not in PROFILES:
            raise SiteLimitError(f"limits.{name}", None, f"there is no profile {name!r}", ", ".join(PROFILES))
        _check_table(f"limits.{name}", table, PROFILES[name].limits, f"profile {name}")
    profiles: dict[str, Mapping[str, int]] = {}
    stated: dict[str, frozenset[str]] = {}
    tightened: list[Tightened] = []
    for name in PROFILES:
        if name in enabled:
            own = dict(PROFILES[name].limits) | dict(tables.get(name, {}))
            over = {limit for limit, value in everywhere.items() if beyond(limit, own[limit], value)}
            tightened += [Tightened(name, limit, own[limit], everywhere[limit]) for limit in sorted(over)]
            profiles[name] = MappingProxyType(own | {limit: everywhere[limit] for limit in over})
            stated[name] = frozenset(tables.get(name, {})) | over
    return SiteLimits(MappingProxyType(profiles), MappingProxyType(stated), tuple(tightened))


def _check_table(table: str, values: Mapping[str, Any], outer: Mapping[str, int], whose: str) -> None:
    """Each value: a limit there is, an integer, in its range and no looser than `outer`, which is `whose`."""
    for name, value in values.items():
        if name not in UNITS:
            raise SiteLimitError(table, name, f"there is no limit {name!r}", ", ".join(gate.LIMIT_NAMES))
        unit, (ceiling, end) = UNITS[name], gate.ranges()[name]
        bounds = sorted((outer[name], end))
        allowed = f"integer, {bounds[0]} to {bounds[1]} {unit}".rstrip()
        if not isinstance(value, int) or isinstance(value, bool):
            raise SiteLimitError(table, name, f"{name} cannot be {value!r}", allowed)
        if bounds[0] <= value <= bounds[1]:
            continue
        shown, hint = f"{value} {unit}".rstrip(), unit_hint(name, value)
        if beyond(name, value, outer[name]):
            bound, over = (ceiling, "hard ceiling") if beyond(name, value, ceiling) else (outer[name], whose)
            text = f"{name} {shown} is looser than the {over}, {bound} {unit}".rstrip()
        else:
            text = f"{name} {shown} is tighter than makes sense"
        raise SiteLimitError(table, name, text + (f"; {hint}" if hint else ""), allowed)


def build(profile: str, site: SiteLimits, device: Mapping[str, int], session: Mapping[str, int]) -> LimitTable:
    """The table for a profile on a device (`device`: its DEVICE_LIMITS), tightened by what the session asks for.

    LimitError when the profile may not be used, the device cannot be used, or the session asks for something looser.
    """
    if profile not in site.profiles:
        raise LimitError([_no_profile(profile, site)])
    limits = gate.Limits()
    _merge_device(limits, device)
    limits.merge(site.profiles[profile], "profile")
    stated = site.stated.get(profile, frozenset())
    outer = LimitTable(profile, limits, "", stated)
    refusals = [one for name, value in session.items() if (one := _judge_session(outer, name, value))]
    if refusals:
        raise LimitError(refusals)
    limits.merge(session, "session")
    if limits.check():
        raise LimitError([limit_refusal(name, limits.values[name], outer) for name in limits.check()])
    return LimitTable(profile, limits, _digest(profile, limits), stated)


def _no_profile(profile: str, site: SiteLimits) -> Refusal:
    usable = ", ".join(site.profiles)
    if profile in PROFILES:
        text = f"the profile {profile} is not enabled in this site's configuration; use one of: {usable}"
    else:
        text = f"there is no profile {profile!r}; use one of: {usable}"
    return Refusal("profile", "profile", None, None, "", text)


def _merge_device(limits: gate.Limits, device: Mapping[str, int]) -> None:
    """A device that could do more than the hard ceiling is held by that; one that can do next to nothing is refused."""
    capped: dict[str, int] = {}
    refusals = []
    for name in DEVICE_LIMITS:
        ceiling, end = gate.ranges()[name]
        capped[name] = min(device[name], ceiling)
        if capped[name] < end:
            text = f"the stimulator states {name} {device[name]}, which is below the least that is of use, {end}"
            refusals.append(Refusal(name, "device", device[name], end, UNITS[name], f"{text}; check its driver"))
    if refusals:
        raise LimitError(refusals)
    limits.merge(capped, "device")


def _judge_session(outer: LimitTable, name: str, value: int) -> Refusal | None:
    """What stands against a session's own value of a limit."""
    if name not in UNITS:
        text = f"there is no limit {name!r}; the limits are {', '.join(gate.LIMIT_NAMES)}"
        return Refusal("limit", None, None, None, "", text)
    allowed, end = outer.values[name], gate.ranges()[name].end
    if not isinstance(value, int) or isinstance(value, bool):
        return Refusal(name, None, None, allowed, UNITS[name], f"{name} has to be an integer, not {value!r}")
    if beyond(name, value, allowed):
        return limit_refusal(name, value, outer, remedy="a session can only tighten")
    if beyond(name, end, value):
        hint = unit_hint(name, value) or f"the tightest there is is {end}"
        text = f"{name} {value} {UNITS[name]} is tighter than makes sense; {hint}"
        return Refusal(name, None, value, end, UNITS[name], text)
    return None


def _digest(profile: str, limits: gate.Limits) -> str:
    """SHA-256 of the table as JSON with sorted keys and no spaces."""
    table = {"profile": profile, "values": limits.values, "layers": limits.layers}
    return hashlib.sha256(json.dumps(table, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
