"""Each limit and rule at exactly what it allows, and one beyond: when a shot is asked for, and again when its pulse is
about to go.

Here the gate's memory is written directly. So a pulse can be wrong at the last moment although it was right when asked
for; the gate must not rely on having asked before.
"""

import gate_c
import pytest
from gate_c import NOW, along_fire, along_request, bent
from gate_rules import MS, S

# What is allowed to the last unit, what one unit does to it, and what then stands against the pulse.
AT_THE_EDGE = [
    ({"limit.current_ua": 5_000}, {"limit.current_ua": 4_999}, {"current_ua"}),
    ({"device_current_ua": 5_000}, {"device_current_ua": 4_999}, {"device_limits"}),
    ({"limit.width_us": 100}, {"limit.width_us": 99}, {"width_us"}),
    ({"device_width_us": 100}, {"device_width_us": 99}, {"device_limits"}),
    ({"limit.charge_nc": 500}, {"shot.current_ua": 5_001}, {"charge_nc"}),
    ({"limit.charge_nc": 500}, {"shot.width_us": 101}, {"charge_nc"}),
    ({"limit.energy_uj": 8, "shot.current_ua": 4_000, "shot.width_us": 500}, {"shot.current_ua": 4_001}, {"energy_uj"}),
    (
        {"limit.load_energy_uj": 16, "shot.current_ua": 4_000, "shot.width_us": 500, "load_ohm": 2_000},
        {"load_ohm": 2_001},
        {"load_energy_uj"},
    ),
    # The smallest excess there is: 194 uJ and 112 in 10^9, 2684 uJ and 1861 in 10^12, 300 V and 4 in 10^9.
    (
        {"limit.energy_uj": 194, "last_ua": 39_084, "shot.current_ua": 39_084, "shot.width_us": 126},
        {"shot.width_us": 127},
        {"energy_uj"},
    ),
    (
        {
            "limit.load_energy_uj": 2_684,
            "last_ua": 60_297,
            "shot.current_ua": 60_297,
            "shot.width_us": 139,
            "load_ohm": 5_310,
        },
        {"load_ohm": 5_311},
        {"load_energy_uj"},
    ),
    (
        {"compliance_v": 300, "last_ua": 31_399, "shot.current_ua": 31_399, "load_ohm": 8_598},
        {"load_ohm": 8_599},
        {"headroom"},
    ),
    ({"compliance_v": 100, "shot.current_ua": 8_000, "load_ohm": 11_250}, {"shot.current_ua": 8_001}, {"headroom"}),
    ({"compliance_v": 100, "shot.current_ua": 8_000, "load_ohm": 11_250}, {"load_ohm": 11_251}, {"headroom"}),
    ({"load_ohm": 1}, {"load_ohm": 0}, {"load"}),
    ({"load_ohm": 1}, {"load_ohm": -1}, {"load"}),
    ({"load_ohm": 12_000}, {"load_ohm": 12_001}, {"impedance_ohm"}),
    ({"limit.impedance_ohm": 20_000, "load_ohm": 20_000}, {"load_ohm": 20_001}, {"impedance_ohm"}),
    ({"load_ohm": 12_000}, {"load_ohm": 2**62}, {"impedance_ohm"}),
    # Nothing is computed with what no electrode has.
    (
        {"limit.impedance_ohm": 20_000, "load_ohm": 20_000, "compliance_v": 112},
        {"load_ohm": 20_001, "compliance_v": 111},
        {"impedance_ohm"},
    ),
    ({"limit.rate_mhz": 1_000, "last_ns": NOW - S}, {"last_ns": NOW - S + 1}, {"rate_mhz"}),
    ({"limit.rate_mhz": 3, "last_ns": NOW - 333_333_333_334}, {"last_ns": NOW - 333_333_333_333}, {"rate_mhz"}),
    ({"limit.interval_us": 300_000, "last_ns": NOW - 300 * MS}, {"last_ns": NOW - 300 * MS + 1}, {"interval_us"}),
    ({"limit.rate_mhz": 50_000, "last_ns": NOW - 200 * MS}, {"last_ns": NOW - 200 * MS + 1}, {"too_soon"}),
    ({"limit.rate_mhz": 50_000, "last_ns": NOW - 200 * MS}, {"last_ns": NOW}, {"too_soon", "interval_us", "rate_mhz"}),
    (
        {"limit.rate_mhz": 50_000, "last_ns": NOW - 200 * MS},
        {"last_ns": NOW + 9},
        {"too_soon", "interval_us", "rate_mhz"},
    ),
    ({"fast_ns": NOW - 10 * S}, {"fast_ns": NOW - 10 * S + 1}, {"train_rest_ms"}),
    ({"fast_ns": NOW - 10 * S}, {"fast_ns": NOW + S}, {"train_rest_ms"}),
    # 5 mA x 100 us are 500 nC, and 20 of them 1 uA over 10 s.
    (
        {"limit.mean_current_ua": 1, "booked": [(NOW - 10 * S + 1, 5_000, 100)] * 19},
        {"booked": [(NOW - 10 * S + 1, 5_000, 100)] * 19 + [(NOW - 1, 1, 1)]},
        {"mean_current_ua"},
    ),
    (
        {"limit.mean_current_ua": 1, "booked": [(NOW - 10 * S, 5_000, 100)] * 20},
        {"booked": [(NOW - 10 * S + 1, 5_000, 100)] * 20},
        {"mean_current_ua"},
    ),
    # 1 cm2 at 200 uA/cm2: 4 x 10^7 of the unit, of which a pulse of 5 mA has 250 000, one of 50 mA 25 000 000.
    (
        {
            "limit.rms_ua_per_cm2": 200,
            "area_mm2": 100,
            "booked": [(NOW - S, 5_000, 100)] * 59 + [(NOW - S, 50_000, 100)],
        },
        {"booked": [(NOW - S, 5_000, 100)] * 59 + [(NOW - S, 50_000, 100), (NOW - S, 1, 1)]},
        {"rms_ua_per_cm2"},
    ),
    (
        {"limit.rms_ua_per_cm2": 200, "area_mm2": 0, "booked": [(NOW - S, 50_000, 100)] * 3},
        {"area_mm2": 100},
        {"rms_ua_per_cm2"},
    ),
    (
        {"limit.site_pulses": 3, "booked": [(NOW - 60 * S + 1,)] * 2 + [(NOW - 60 * S,)] * 5},
        {"booked": [(NOW - 60 * S + 1,)] * 3},
        {"site_pulses"},
    ),
    ({"limit.site_pulses": 3, "booked": [(NOW, 1, 1, 6)] * 9}, {"booked": [(NOW, 1, 1, 5)] * 3}, {"site_pulses"}),
    ({"booked": [(NOW, 1, 1, 6)] * 255}, {"booked": [(NOW, 1, 1, 6)] * 256}, {"history"}),
    ({"limit.first_shot_ua": 5_000}, {"limit.first_shot_ua": 4_999}, {"first_shot_ua"}),
    ({"last_ua": 4_000}, {"shot.current_ua": 5_001}, {"step_ua"}),
    ({"last_ua": 1, "shot.current_ua": 501}, {"shot.current_ua": 502}, {"step_ua"}),
    ({"last_ua": 1_999, "shot.current_ua": 2_499}, {"shot.current_ua": 2_500}, {"step_ua"}),
    ({"last_ua": 2_003, "shot.current_ua": 2_503}, {"shot.current_ua": 2_504}, {"step_ua"}),
    ({"last_ua": 2_004, "shot.current_ua": 2_505}, {"shot.current_ua": 2_506}, {"step_ua"}),
    ({"last_ua": 4_000, "limit.step_ua": 400, "shot.current_ua": 4_400}, {"shot.current_ua": 4_401}, {"step_ua"}),
    ({"last_ua": 1_000, "confirmed_ua": 5_000}, {"confirmed_ua": 4_999}, {"step_ua"}),
    ({"limit.first_shot_ua": 5_000, "confirmed_ua": 9_000}, {"shot.current_ua": 5_001}, {"first_shot_ua"}),
    ({"retry_ua": 5_000}, {"retry_ua": 4_999}, {"retry"}),
    ({"sample_ns": NOW - 100 * MS}, {"sample_ns": NOW - 100 * MS - 1}, {"stale"}),
    ({"sample_ns": NOW + 100 * MS}, {"sample_ns": NOW + 100 * MS + 1}, {"stale"}),
    ({"saturated": 1, "saturated_ns": NOW - S}, {"saturated_ns": NOW - S - 1}, {"saturated"}),
    ({"saturated": 0, "saturated_ns": NOW - 2 * S}, {"saturated": 1}, {"saturated"}),
    ({"stamped": 1}, {"stamped": 0}, {"unstamped"}),
    ({"stamped": 1}, {"stamped": 2}, {"unstamped"}),
    ({"lease_until_ns": NOW + 1}, {"lease_until_ns": NOW}, {"lease_ms"}),
    ({"active_ns": NOW - 20 * S + 1}, {"active_ns": NOW - 20 * S}, {"idle_reset_ms"}),
    ({"now_ns": NOW}, {"now_ns": NOW + 1}, {"time"}),
    ({"now_ns": NOW - 500 * MS}, {"now_ns": NOW - 500 * MS - 1}, {"time"}),
]
# What ends an arming leaves nothing that could be judged further.
ENDS_ALL = {"stale", "lease_ms", "idle_reset_ms", "time"}


@pytest.mark.parametrize(("allowed", "beyond", "names"), AT_THE_EDGE)
@pytest.mark.parametrize("ask", [along_fire, along_request])
def test_allowed_to_the_last_unit_and_no_further(ask, allowed, beyond, names):
    assert ask(allowed) == set()
    against = ask({**allowed, **beyond})
    assert against == names if not names & ENDS_ALL else against > names


def fired_at_now(changes):
    """As `along_fire`, and what became of the shot."""
    gate = bent(changes, gate_c.firing_gate)
    names, pulse = gate_c.fire(gate, NOW)
    return gate, names, pulse


@pytest.mark.parametrize(
    ("allowed", "beyond", "names"),
    [
        # The next pulse of a train or pair: the last one went out as long ago as the rhythm says.
        ({"limit.rate_mhz": 10_000, "last_ns": NOW - 100 * MS}, {"last_ns": NOW - 100 * MS + 1}, {"rate_mhz"}),
        ({"limit.interval_us": 300_000, "last_ns": NOW - 300 * MS}, {"last_ns": NOW - 300 * MS + 1}, {"interval_us"}),
        ({"shot.first_ns": NOW - 8 * S + 100_000}, {"shot.first_ns": NOW - 8 * S + 99_999}, {"train_duration_ms"}),
        ({"shot.first_ns": NOW - 8 * S + 100_000}, {"shot.width_us": 101}, {"train_duration_ms"}),
        ({"shot.kind": 2, "last_ns": NOW - 1_500_000}, {"last_ns": NOW - 1_499_999}, {"pair_interval_us"}),
        ({"shot.kind": 2, "last_ns": NOW - 1_500_000}, {"last_ns": NOW + 1}, {"pair_interval_us"}),
        (
            {"shot.kind": 2, "last_ns": NOW - S, "shot.first_ns": NOW - S},
            {"shot.first_ns": NOW - 9 * S},
            {"train_duration_ms"},
        ),
        ({"fast_ns": NOW}, {"last_ns": NOW - 100 * MS}, {"rate_mhz"}),  # no rest is asked for within a train
        # Whatever pulse it is.
        ({"shot.due_ns": NOW - 100 * MS}, {"shot.due_ns": NOW - 100 * MS - 1}, {"old"}),
        ({"shot.due_ns": NOW + 20 * MS}, {"lease_until_ns": NOW + 20 * MS}, {"lease_ms"}),
        (
            {"shot.due_ns": NOW + 20 * MS, "lease_until_ns": NOW + 20 * MS + 1},
            {"lease_until_ns": NOW + 1},
            {"lease_ms"},
        ),
    ],
)
def test_the_next_pulse_keeps_the_rhythm_and_else_the_rest_is_given_up(allowed, beyond, names):
    train = {"shot.kind": 3, "shot.count": 3, "shot.left": 2, "shot.interval_us": 200_000, "last_ns": NOW - 500 * MS}
    gate, against, pulse = fired_at_now({**train, **allowed})
    assert against == set()
    assert (pulse.index, pulse.count, gate.shot.left) == (1, 3, 1)
    assert gate.shot.first_ns == allowed.get("shot.first_ns", NOW)
    gate, against, pulse = fired_at_now({**train, **allowed, **beyond})
    assert against == names
    assert (gate.shot.left, gate.awaited_count) == (0, 0)
    assert gate.state == gate_c.foreign()[1].EMGD_COOLDOWN


@pytest.mark.parametrize(
    ("allowed", "beyond", "names"),
    [
        ({"shot.due_ns": NOW + 20 * MS}, {"shot.due_ns": NOW + 20 * MS + 1}, {"early"}),
        ({"awaited.count": 1}, {"awaited.count": 2}, {"readback_due"}),
    ],
)
def test_a_pulse_that_has_to_wait_stays(allowed, beyond, names):
    assert fired_at_now(allowed)[1] == set()
    gate, against, _ = fired_at_now({**allowed, **beyond})
    assert against == names
    assert gate.shot.left == 1
    assert gate.state == gate_c.foreign()[1].EMGD_FIRING


def test_a_pulse_is_booked_with_all_it_was():
    gate, _, pulse = fired_at_now({"shot.due_ns": NOW + 20 * MS, "next_seq": 41, "site": 9})
    assert (pulse.seq, pulse.at_ns, pulse.current_ua, pulse.width_us) == (41, NOW + 20 * MS, 5_000, 100)
    booked, awaited = gate.dose.pulse[0], gate.awaited[0]
    assert (booked.at_ns, booked.site, booked.charge_pc, booked.squares) == (NOW + 20 * MS, 9, 500_000, 250_000)
    assert (awaited.seq, awaited.at_ns, awaited.current_ua, awaited.width_us) == (41, NOW + 20 * MS, 5_000, 100)
    assert gate.shot.first_ns == NOW + 20 * MS
    assert (gate.next_seq, gate.awaited_count, gate.last_ns) == (42, 1, NOW + 20 * MS)


@pytest.mark.parametrize(
    ("current_ua", "width_us", "squares"), [(1, 1, 1), (100, 1, 1), (101, 1, 2), (100_000, 1_000, 10**9)]
)
def test_squares_are_rounded_up(current_ua, width_us, squares):
    assert gate_c.foreign()[1].emgd_judge_booked(current_ua, width_us, 0, 0).squares == squares


@pytest.mark.parametrize(
    ("kind", "interval_us", "is_fast"),
    [(3, 199_999, True), (3, 200_000, False), (2, 5_000, False), (1, 0, False)],
)
def test_only_a_train_is_fast(kind, interval_us, is_fast):
    gate, _, _ = fired_at_now({"shot.kind": kind, "shot.interval_us": interval_us, "shot.count": 2, "shot.left": 2})
    assert (gate.fast_ns == NOW) == is_fast
    assert gate.shot.due_ns == NOW + interval_us * 1_000


def test_a_refused_fire_gives_zeros():
    ffi, lib = gate_c.foreign()
    for gate in (
        gate_c.new_gate(),
        bent({"load_ohm": 0}, gate_c.firing_gate),
        bent({"awaited.count": 2}, gate_c.firing_gate),
    ):
        fired = lib.emgd_gate_fire(gate, NOW)
        assert fired.why != 0
        assert bytes(ffi.buffer(ffi.addressof(fired, "pulse"))) == bytes(ffi.sizeof("emgd_pulse"))
