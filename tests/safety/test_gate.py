"""The gate along its one good way, and what stands against a pulse elsewhere."""

import pytest

from emgd_ext.gate import LIMIT_NAMES, WAIT, Gate, Limits, bit, names_in, ranges

MS = 1_000_000
TABLE = {
    "current_ua": 50_000,
    "width_us": 200,
    "charge_nc": 20_000,
    "energy_uj": 2_000,
    "load_energy_uj": 5_000,
    "compliance_v": 300,
    "rate_mhz": 1_000,
    "interval_us": 100_000,
    "pair_interval_us": 5_000,
    "train_pulses": 10,
    "train_duration_ms": 4_000,
    "train_rest_ms": 30_000,
    "mean_current_ua": 100,
    "site_pulses": 30,
    "step_ua": 5_000,
    "first_shot_ua": 5_000,
    "impedance_ohm": 10_000,
    "readback_current_percent": 10,
    "readback_width_percent": 5,
    "dc_ua": 10,
    "lease_ms": 1_000,
    "idle_reset_ms": 60_000,
}
SHOT = {"holder": 7, "site": 5, "kind": 1, "current_ua": 5_000, "width_us": 200}


def armed_gate(**changes):
    limits = Limits()
    assert limits.merge({**TABLE, **changes}, "profile") == ((), ())
    gate = Gate(0)
    assert gate.set_limits(limits) == 0
    assert gate.connect(MS) == 0
    assert gate.take(7, 1, MS) == 0
    assert gate.stream(MS, MS) == 0
    verdict = gate.arm(
        2 * MS,
        holder=7,
        operator_id=1,
        site=5,
        load_ohm=1_000,
        compliance_v=limits.values["compliance_v"],
        device_current_ua=limits.values["current_ua"],
        device_width_us=limits.values["width_us"],
        isolated=True,
    )
    assert names_in(verdict) == ()
    return gate


@pytest.mark.requirement("REQ-011")
def test_a_shot_goes_through_and_is_read_back():
    gate = armed_gate()
    assert gate.request(3 * MS, **SHOT) == 0
    verdict, pulse = gate.fire(4 * MS)
    assert verdict == 0
    assert (pulse.current_ua, pulse.width_us, pulse.number, pulse.of) == (5_000, 200, 0, 1)
    assert gate.fire(4 * MS)[1] is None
    assert gate.readback(5 * MS, seq=pulse.seq, current_ua=5_000, width_us=200, load_ohm=1_000) == 0
    assert gate.state == "cooldown"


@pytest.mark.requirement("REQ-001", "REQ-003", "REQ-004", "REQ-006", "REQ-010", "REQ-012")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("first_shot_ua", {"current_ua": 5_001}),
        ("width_us", {"width_us": 201}),
        ("current_ua", {"current_ua": 100_001}),
        ("shape", {"current_ua": 0}),
        ("shape", {"kind": 4}),
        ("holder", {"holder": 8}),
        ("site", {"site": 6}),
        ("old", {"asked_ns": 3 * MS - 100 * MS - 1}),
        ("early", {"asked_ns": 3 * MS + 1}),
        ("rate_mhz", {"kind": 3, "count": 2, "interval_us": 999_999}),
        ("interval_us", {"kind": 3, "count": 2, "interval_us": 99_999}),
        ("pair_interval_us", {"kind": 2, "count": 2, "interval_us": 4_999}),
        ("train_pulses", {"kind": 3, "count": 11, "interval_us": 1_000_000}),
    ],
)
def test_a_refusal_names_what_was_hit(name, change):
    gate = armed_gate()
    verdict = gate.request(3 * MS, **{**SHOT, **change})
    assert name in names_in(verdict)
    assert gate.fire(4 * MS)[1] is None


@pytest.mark.requirement("REQ-009")
@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_a_table_is_refused_beyond_its_ceiling_and_not_clamped(name):
    ceiling, end = ranges()[name]
    looser = 1 if ceiling > end else -1
    for value, wrong in ((ceiling, ()), (ceiling + looser, (name,)), (end, ()), (end - looser, (name,))):
        limits = Limits()
        before = limits.values[name]
        assert limits.merge({name: value}, "device")[0] == wrong
        assert limits.values[name] == (before if wrong else value)


@pytest.mark.requirement("REQ-030")
def test_a_layer_can_only_tighten():
    limits = Limits()
    assert limits.merge({"current_ua": 40_000}, "device") == ((), ())
    assert limits.merge({"current_ua": 50_000}, "session") == ((), ("current_ua",))
    assert (limits.values["current_ua"], limits.layers["current_ua"]) == (40_000, "device")


@pytest.mark.requirement("REQ-015")
def test_a_lost_lease_disarms():
    gate = armed_gate()
    for now in range(3, 1_001, 50):
        gate.stream(now * MS, now * MS)
    assert gate.state == "armed"
    gate.stream(1_000 * MS, 1_000 * MS)
    assert bit("lease_ms") & gate.tick(1_001 * MS)
    assert gate.state == "idle"
    assert "disarmed" in names_in(gate.request(1_002 * MS, **SHOT))


@pytest.mark.requirement("REQ-018")
def test_samples_that_stop_disarm():
    gate = armed_gate()
    assert gate.tick(101 * MS) == 0
    assert gate.tick(101 * MS + 1) == bit("stale")
    assert gate.state == "idle"


@pytest.mark.requirement("REQ-019", "REQ-022")
def test_a_readback_that_does_not_come_is_a_fault():
    gate = armed_gate()
    assert gate.request(3 * MS, **SHOT) == 0
    assert gate.fire(4 * MS)[0] == 0
    for now in (90, 180, 204):
        gate.stream(now * MS, now * MS)
    assert gate.state == "cooldown"
    assert gate.tick(204 * MS + 1) == bit("readback_missing")
    assert gate.state == "fault"
    assert gate.acknowledge(205 * MS, operator_id=0)
    assert gate.acknowledge(205 * MS, operator_id=1, present=bit("readback_missing"))
    assert gate.acknowledge(205 * MS, operator_id=1) == 0
    assert gate.state == "off"


@pytest.mark.requirement("REQ-023")
def test_a_clock_that_goes_back_is_a_fault():
    gate = armed_gate()
    assert gate.tick(2 * MS - 1) == bit("time")
    assert gate.state == "fault"


@pytest.mark.requirement("REQ-024")
def test_stop_is_taken_from_every_state_and_ends_a_train():
    gate = armed_gate()
    assert gate.request(3 * MS, **{**SHOT, "kind": 3, "count": 3, "interval_us": 1_000_000}) == 0
    assert gate.fire(4 * MS)[0] == 0
    gate.stop()
    assert gate.state == "fault"
    verdict, pulse = gate.fire(5 * MS)
    assert pulse is None
    assert verdict & ~WAIT
    fresh = Gate(0)
    fresh.stop()
    assert fresh.state == "fault"
