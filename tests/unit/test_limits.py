"""Layers of limits: each can only tighten, what is looser is named, and nothing is clamped in silence."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd import limits
from emgd.limits import PROFILES, LimitError, SiteLimitError, build, site_limits
from emgd.profiles import ENABLED
from emgd.units import UNITS, beyond, is_most, unit_hint
from emgd_ext import gate

DEVICE = {"current_ua": 100_000, "width_us": 1_000, "compliance_v": 400}
RANGES = gate.ranges()
NAMES = st.sampled_from(gate.LIMIT_NAMES)


def looser(name, value, by=1):
    return value + by if is_most(name) else value - by


def tighter_than(name, value):
    """Any value from the tightest up to `value`."""
    return st.integers(*sorted((RANGES[name].end, value)))


# --- profiles


@pytest.mark.requirement("REQ-034")
@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_states_every_limit_and_lies_below_the_ceilings(name):
    profile = PROFILES[name]
    assert set(profile.limits) == set(gate.LIMIT_NAMES)
    table = gate.Limits()
    assert table.merge(profile.limits, "profile") == ((), ())
    assert table.check() == ()
    assert table.values == profile.limits


@pytest.mark.requirement("REQ-034")
@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_holds_at_its_corner(name):
    """The strongest and longest pulse, at the fastest rhythm, is within charge, energy and mean current."""
    limit = PROFILES[name].limits
    current_ua, width_us = limit["current_ua"], limit["width_us"]
    energy_uj = current_ua**2 * width_us * 1_000 / 1e12
    assert current_ua * width_us / 1_000 <= limit["charge_nc"]
    assert energy_uj <= limit["energy_uj"] <= 50_000 / 5
    rhythm_ua = current_ua * width_us * 1e-6 * limit["rate_mhz"] / 1_000
    assert rhythm_ua <= limit["mean_current_ua"]
    assert limit["first_shot_ua"] <= limit["current_ua"]
    assert limit["step_ua"] <= limit["current_ua"]
    assert limit["lease_ms"] <= 1_000


@pytest.mark.parametrize("name", set(PROFILES) - {"h_reflex", "extended"})
def test_a_pulse_at_the_compliance_is_within_the_energy_into_any_load(name):
    limit = PROFILES[name].limits
    most_uj = limit["current_ua"] * 0.9 * limit["compliance_v"] * limit["width_us"] * 1e-6
    assert most_uj <= limit["load_energy_uj"]


@pytest.mark.requirement("REQ-035")
def test_the_cardiac_profile_is_the_tight_one():
    cardiac = PROFILES["cardiac"]
    assert cardiac.limits["width_us"] <= 200
    assert cardiac.limits["rate_mhz"] <= 1_000
    assert cardiac.limits["train_pulses"] == 1
    assert cardiac.acknowledge


@pytest.mark.requirement("REQ-034")
def test_extended_is_off_until_the_site_enables_it():
    with pytest.raises(LimitError, match="extended is not enabled in this site's configuration; use one of: motor, "):
        build("extended", site_limits({}), DEVICE, {})
    table = build("extended", site_limits({}, (*ENABLED, "extended")), DEVICE, {})
    assert table.values["current_ua"] == 100_000
    with pytest.raises(LimitError, match="there is no profile 'x'"):
        build("x", site_limits({}), DEVICE, {})


# --- layers


def test_the_layers_are_named_in_the_table():
    site = site_limits({"step_ua": 3_000, "motor": {"site_pulses": 20}})
    table = build("motor", site, {"current_ua": 70_000, "width_us": 500, "compliance_v": 400}, {"width_us": 150})
    named = {name: (table.values[name], table.layers[name]) for name in ("current_ua", "width_us", "step_ua", "dc_ua")}
    assert named == {
        "current_ua": (70_000, "device"),
        "width_us": (150, "session"),
        "step_ua": (3_000, "profile"),
        "dc_ua": (10, "profile"),
    }
    assert table.stated == {"step_ua", "site_pulses"}
    assert table.as_map()["digest"] == table.digest


@pytest.mark.requirement("REQ-030")
@given(
    profile=st.sampled_from(ENABLED),
    device=st.fixed_dictionaries({name: tighter_than(name, RANGES[name].ceiling) for name in DEVICE}),
    everywhere=st.dictionaries(NAMES, st.integers(0, 1_000)),
    own=st.dictionaries(NAMES, st.integers(0, 1_000)),
    session=st.dictionaries(NAMES, st.integers(0, 1_000)),
)
def test_each_layer_only_tightens(profile, device, everywhere, own, session):
    """Whatever the layers say, no limit is looser than any of them; a session that asks for more gets no table."""

    def between(name, bound, part):
        return RANGES[name].end + (bound - RANGES[name].end) * part // 1_000

    section = {name: between(name, RANGES[name].ceiling, part) for name, part in everywhere.items()}
    section[profile] = {name: between(name, PROFILES[profile].limits[name], part) for name, part in own.items()}
    asked = {name: between(name, RANGES[name].ceiling, part) for name, part in session.items()}
    site = site_limits(section)
    without = build(profile, site, device, {})
    outer = [dict(PROFILES[profile].limits), device, section, section[profile]]
    over = {name for name, value in asked.items() if beyond(name, value, without.values[name])}
    if over:
        with pytest.raises(LimitError) as refused:
            build(profile, site, device, asked)
        assert {one.name for one in refused.value.refusals} == over
        return
    table = build(profile, site, device, asked)
    for layer in (*outer, asked):
        for name, value in layer.items():
            if name in gate.LIMIT_NAMES:
                assert not beyond(name, table.values[name], value)
    assert table.limits.check() == ()


@pytest.mark.requirement("REQ-031")
@given(name=NAMES)
def test_a_session_that_asks_for_more_is_refused_with_limit_layer_asked_and_allowed(name):
    allowed = build("motor", site_limits({}), DEVICE, {}).values[name]
    asked = looser(name, allowed)
    with pytest.raises(LimitError) as refused:
        build("motor", site_limits({}), DEVICE, {name: asked})
    (only,) = refused.value.refusals
    assert (only.name, only.asked, only.allowed, only.unit) == (name, asked, allowed, UNITS[name])
    assert only.layer in {"hard", "profile"}
    assert only.text in str(refused.value)
    assert build("motor", site_limits({}), DEVICE, {name: allowed}).values[name] == allowed


def test_a_session_hears_of_every_mistake_at_once():
    with pytest.raises(LimitError) as refused:
        build("motor", site_limits({}), DEVICE, {"current_ua": 5, "step_ua": 6_000, "lease_ms": 1.5, "x": 1})
    texts = {one.name: one.text for one in refused.value.refusals}
    assert set(texts) == {"current_ua", "step_ua", "lease_ms", "limit"}
    assert "if you mean 5 mA, write 5000: the unit is µA" in texts["current_ua"]
    assert "lease_ms has to be an integer, not 1.5" in texts["lease_ms"]
    with pytest.raises(
        LimitError, match="site_pulses 0 pulses is tighter than makes sense; the tightest there is is 1"
    ):
        build("motor", site_limits({}), DEVICE, {"site_pulses": 0})
    with pytest.raises(LimitError, match="has to be an integer, not True"):
        build("motor", site_limits({}), DEVICE, {"site_pulses": True})


def test_a_device_that_could_do_more_is_held_by_the_ceiling_and_one_that_can_do_nothing_is_refused():
    table = build("sensory", site_limits({}), {"current_ua": 130_000, "width_us": 4_000, "compliance_v": 1_000}, {})
    assert table.values["current_ua"] == 40_000
    with pytest.raises(LimitError, match="the stimulator states current_ua 0, which is below the least") as refused:
        build("sensory", site_limits({}), {**DEVICE, "current_ua": 0}, {})
    assert [one.layer for one in refused.value.refusals] == ["device"]


@pytest.mark.requirement("REQ-009")
def test_a_table_that_contradicts_itself_is_refused():
    """Two pulses of a pair may not touch; no profile allows that, so a profile has to be broken to see it."""
    site = site_limits({})
    broken = limits.SiteLimits({"motor": {**PROFILES["motor"].limits, "width_us": 1_000, "pair_interval_us": 1_000}})
    assert build("motor", site, DEVICE, {}).limits.check() == ()
    with pytest.raises(LimitError) as refused:
        build("motor", broken, DEVICE, {})
    assert {one.name for one in refused.value.refusals} == {"width_us", "pair_interval_us"}


def test_the_digest_is_of_the_table_and_nothing_else():
    table = build("motor", site_limits({}), DEVICE, {})
    canonical = {"profile": "motor", "values": table.values, "layers": table.layers}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    assert table.digest == hashlib.sha256(text.encode()).hexdigest()
    assert build("motor", site_limits({}), DEVICE, {}).digest == table.digest
    assert build("motor", site_limits({}), DEVICE, {"step_ua": 4_999}).digest != table.digest
    assert build("rns", site_limits({}), DEVICE, {}).digest != table.digest


# --- the site's configuration


@pytest.mark.requirement("REQ-033")
def test_a_profile_above_the_sites_own_limits_is_tightened_and_that_is_shown():
    site = site_limits({"current_ua": 60_000})
    assert {one.profile for one in site.tightened} == {"motor", "rns"}
    assert site.tightened[0].text == "motor: current_ua is 60000 by [limits], not 80000"
    assert build("motor", site, DEVICE, {}).values["current_ua"] == 60_000
    assert build("sensory", site, DEVICE, {}).values["current_ua"] == 40_000


@pytest.mark.requirement("REQ-032")
@pytest.mark.parametrize("name", gate.LIMIT_NAMES)
def test_a_configuration_looser_than_a_ceiling_or_a_profile_is_refused(name):
    ceiling = RANGES[name].ceiling
    assert site_limits({name: ceiling}).profiles["motor"][name] == PROFILES["motor"].limits[name]
    with pytest.raises(SiteLimitError, match="is looser than the hard ceiling") as refused:
        site_limits({name: looser(name, ceiling)})
    assert (refused.value.table, refused.value.key) == ("limits", name)
    own = PROFILES["motor"].limits[name]
    assert site_limits({"motor": {name: own}}).tightened == ()
    with pytest.raises(SiteLimitError, match="is looser than the") as refused:
        site_limits({"motor": {name: looser(name, own)}})
    assert (refused.value.table, refused.value.key) == ("limits.motor", name)


@pytest.mark.requirement("REQ-032")
@pytest.mark.parametrize(
    ("section", "text"),
    [
        (
            {"current_ua": 50},
            "current_ua 50 µA is tighter than makes sense; if you mean 50 mA, write 50000: the unit is",
        ),
        ({"motor": {"current_ua": 50}}, "if you mean 50 mA, write 50000"),
        ({"width_us": 1}, "if you mean 1 ms, write 1000: the unit is µs"),
        ({"train_rest_ms": 30}, "is looser than the hard ceiling, 10000 ms; if you mean 30 s, write 30000"),
        ({"idle_reset_ms": 60}, "if you mean 60 s, write 60000"),
        ({"current_ua": 50_000_000}, "the unit is µA: 50000000 µA are 50000 mA"),
        ({"current_ua": 50_000.0}, "current_ua cannot be 50000.0 (allowed: integer, 1000 to 100000 µA)"),
        ({"current_ua": True}, "current_ua cannot be True"),
        ({"current_ma": 50}, "there is no limit 'current_ma' (allowed: current_ua, "),
        ({"ncs": {}}, "there is no profile 'ncs' (allowed: motor, "),
    ],
)
def test_a_mistake_of_units_is_refused_with_a_hint(section, text):
    with pytest.raises(SiteLimitError) as refused:
        site_limits(section)
    assert text in str(refused.value)


@given(name=NAMES, value=st.integers())
def test_a_hint_is_only_given_for_what_is_out_of_range(name, value):
    if min(RANGES[name]) <= value <= max(RANGES[name]):
        assert unit_hint(name, value) == ""
