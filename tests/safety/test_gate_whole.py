"""A verdict names everything that stands against, not the first that was found."""

import gate_c
from gate_c import NOW, along_fire, along_request, bent
from gate_rules import MS, S

from emgd_ext.gate import bit, names_in

# Of everything too much; the current is still one that can be computed with.
ALL_WRONG = {
    "limit.current_ua": 9_000,
    "limit.width_us": 400,
    "limit.charge_nc": 10,
    "limit.energy_uj": 1,
    "limit.load_energy_uj": 1,
    "limit.impedance_ohm": 19_000,
    "limit.mean_current_ua": 1,
    "limit.rms_ua_per_cm2": 100,
    "limit.site_pulses": 3,
    "limit.first_shot_ua": 5_000,
    "limit.train_duration_ms": 10,
    "area_mm2": 1,
    "device_current_ua": 9_000,
    "compliance_v": 100,
    "load_ohm": 19_001,
    "retry_ua": 4_000,
    "last_ns": NOW - MS,
    "fast_ns": NOW - MS,
    "booked": [(NOW - MS, 9_000, 400)] * 256,
    "stamped": 0,
    "saturated": 1,
    "saturated_ns": NOW - 2 * S,
    "shot.current_ua": 9_001,
    "shot.width_us": 401,
}
SIZE = {
    "current_ua",
    "width_us",
    "charge_nc",
    "energy_uj",
    "device_limits",
    "impedance_ohm",
    "load_energy_uj",
    "headroom",
}
DOSE = {"mean_current_ua", "rms_ua_per_cm2", "site_pulses", "history", "retry", "first_shot_ua"}
RHYTHM = {"interval_us", "rate_mhz"}
BEGIN = RHYTHM | {"too_soon", "train_rest_ms"}
STREAM = {"unstamped", "saturated"}


def test_all_that_stands_against_a_pulse_is_named():
    late = {**ALL_WRONG, "shot.due_ns": NOW - S}
    assert along_fire(late) == SIZE | DOSE | BEGIN | STREAM | {"old"}
    assert along_request(ALL_WRONG) == SIZE | DOSE | BEGIN | STREAM
    ahead = {**ALL_WRONG, "shot.due_ns": NOW + 20 * MS, "lease_until_ns": NOW + 1, "last_ns": NOW + 19 * MS}
    assert along_fire(ahead) == SIZE | DOSE | BEGIN | STREAM | {"lease_ms"}
    next_one = {**ALL_WRONG, "shot.kind": 3, "shot.count": 3, "shot.left": 1, "shot.first_ns": NOW - S}
    assert along_fire(next_one) == SIZE | DOSE | RHYTHM | STREAM | {"train_duration_ms"}
    second = {**next_one, "shot.kind": 2, "last_ns": NOW}
    assert along_fire(second) == SIZE | DOSE | STREAM | {"train_duration_ms", "pair_interval_us"}
    stepped = {**ALL_WRONG, "last_ua": 1_000}
    assert along_fire(stepped) == (SIZE | DOSE | BEGIN | STREAM | {"step_ua"}) - {"first_shot_ua"}


def whole_verdict(changes, **request):
    ffi, lib = gate_c.foreign()
    shot = {"kind": 3, "count": 50, "interval_us": 1_000, "current_ua": 9_001, "width_us": 401, "holder": 8, "site": 6}
    made = ffi.new("emgd_request *", {**shot, **request})
    return set(names_in(lib.emgd_gate_request(bent(changes, gate_c.new_gate), made, NOW)))


def test_all_that_stands_against_a_shot_is_named():
    rhythm = {"train_pulses", "train_duration_ms"}
    wrong = SIZE | DOSE | BEGIN | STREAM | rhythm
    assert whole_verdict(ALL_WRONG, asked_ns=NOW + 1) == wrong | {"early", "holder"}
    assert whole_verdict(ALL_WRONG, asked_ns=NOW - S) == wrong | {"old", "holder"}
    assert whole_verdict(ALL_WRONG, begin_ns=1, asked_ns=NOW + 1, holder=7) == wrong | {"old", "early", "site"}
    assert whole_verdict(ALL_WRONG, begin_ns=1, asked_ns=1, kind=9) == STREAM | {"old", "shape", "holder"}
    pair = {"kind": 2, "count": 2}
    few = wrong - {"train_pulses"} | {"pair_interval_us"}
    assert whole_verdict({**ALL_WRONG, "limit.train_duration_ms": 1}, asked_ns=NOW, **pair) == few | {"holder"}
    nowhere = {**ALL_WRONG, "sample_ns": 0}
    assert whole_verdict(nowhere, asked_ns=NOW) >= {"stale", "unstamped", "saturated", "disarmed", "holder"}
    huge = {"current_ua": 100_001, "width_us": 1_001, "count": 501, "interval_us": 10_000_001}
    assert whole_verdict({}, asked_ns=NOW, holder=7, site=5, **huge) == rhythm | {"current_ua", "width_us"}


def test_all_that_stands_against_an_arming_is_named():
    ffi, lib = gate_c.foreign()
    seen = {"sample_ns": 0, "stamped": 0, "saturated": 1, "saturated_ns": 0, "awaited.count": 1}
    own = {"compliance_v": 401, "device_current_ua": 100_001, "device_width_us": 1_001}
    always = {"stale", "saturated", "unstamped", "holder", "operator", "site", "not_isolated", "readback_due"}
    always |= {"compliance_v", "current_ua", "width_us", "device_limits"}
    for state, because in ((lib.EMGD_IDLE, set()), (lib.EMGD_OFF, {"off"}), (lib.EMGD_FAULT, {"fault", "mark"})):
        for load_ohm, why in ((0, "load"), (20_001, "impedance_ohm")):
            gate = bent({**seen, "state": state, "faults": bit("mark")}, gate_c.new_gate)
            arming = ffi.new("emgd_arming *", {**own, "holder": 8, "load_ohm": load_ohm, "isolated": 2})
            assert set(names_in(lib.emgd_gate_arm(gate, arming, NOW))) == always | because | {why}
    gate = bent({"stamped": 0}, gate_c.new_gate)
    good = {"compliance_v": 1, "device_current_ua": 1, "device_width_us": 1, "load_ohm": 1, "isolated": 1, "site": 1}
    arming = ffi.new("emgd_arming *", {**good, "holder": 7, "operator_id": 1})
    assert set(names_in(lib.emgd_gate_arm(gate, arming, NOW))) == {"unstamped", "busy"}


def test_all_that_stands_against_a_confirmation_is_named():
    _, lib = gate_c.foreign()
    gate = bent({"state": lib.EMGD_IDLE}, gate_c.new_gate)
    assert set(names_in(lib.emgd_gate_confirm(gate, 8, 10**9, NOW))) == {
        "disarmed",
        "holder",
        "current_ua",
        "device_limits",
    }
    assert set(names_in(lib.emgd_gate_confirm(gate, 0, 0, NOW))) == {"disarmed", "holder", "shape"}
    late = set(names_in(lib.emgd_gate_confirm(gate_c.new_gate(), 7, 0, NOW + 2 * S)))
    assert late == {"lease_ms", "stale", "time", "disarmed", "holder", "shape"}
