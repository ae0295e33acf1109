"""Each limit and rule at exactly what it allows, and one beyond: when a shot is asked for, and again when its pulse is
about to go.

Here the gate's memory is written directly. So a pulse can be wrong at the last moment although it was right when asked
for; the gate must not rely on having asked before.
"""

import gate_c
import pytest
from gate_rules import MS, S

from emgd_ext.gate import LIMIT_NAMES, bit, names_in

NOW = 10 * S  # of gate_c.new_gate


def bend(gate, changes):
    """Write fields of a gate: `shot.x`, `limit.x`, or a field of its own; `booked`: pulses that went out."""
    for path, value in changes.items():
        if path == "booked":
            for pulse in value:
                gate_c.book(gate, *pulse)
        elif path.startswith("awaited."):
            gate.awaited_count = value
            for place in range(value):
                gate.awaited[place].at_ns = gate.now_ns
        elif not path.startswith("limit."):
            target = gate.shot if path.startswith("shot.") else gate
            setattr(target, path.removeprefix("shot."), value)


def bent(changes, build):
    table = {path[6:]: value for path, value in changes.items() if path.startswith("limit.")}
    gate = build(table)
    bend(gate, changes)
    return gate


def along_fire(changes):
    return gate_c.fire(bent(changes, gate_c.firing_gate), NOW)[0]


def along_request(changes):
    ffi, lib = gate_c.foreign()
    gate = bent(changes, gate_c.new_gate)
    firing = gate_c.firing_gate()
    shot = firing.shot
    request = ffi.new("emgd_request *")
    request.holder, request.site, request.kind, request.count = 7, 5, shot.kind, shot.count
    request.asked_ns = NOW
    request.current_ua = changes.get("shot.current_ua", shot.current_ua)
    request.width_us = changes.get("shot.width_us", shot.width_us)
    return set(names_in(lib.emgd_gate_request(gate, request, NOW)))


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
        pulse = ffi.new("emgd_pulse *", {name: 99 for name, _ in ffi.typeof("emgd_pulse").fields})
        assert lib.emgd_gate_fire(gate, NOW, pulse) != 0
        assert bytes(ffi.buffer(pulse)) == bytes(ffi.sizeof("emgd_pulse"))


@pytest.mark.parametrize(
    ("changes", "warned"),
    [
        # 1 cm2 at 2 mA/cm2: 4 x 10^9 of the unit, which 100 mA x 1 ms fill four times.
        ({"area_mm2": 100, "booked": [(NOW, 100_000, 1_000)] * 4}, 0),
        ({"area_mm2": 100, "booked": [(NOW, 100_000, 1_000)] * 4 + [(NOW, 1, 1)]}, 2),
        # 1 mm2: 400 000, which 2 mA x 1 ms fill.
        ({"area_mm2": 1, "booked": [(NOW, 2_000, 1_000)]}, 0),
        ({"area_mm2": 1, "booked": [(NOW, 2_000, 1_000), (NOW, 1, 1)]}, 2),
        ({"area_mm2": 1, "booked": [(NOW - 10 * S, 80_000, 1_000)]}, 0),
        ({"area_mm2": 0, "booked": [(NOW, 80_000, 1_000)]}, 0),
        ({"load_ohm": 5_000}, 0),
        ({"load_ohm": 5_001}, 1),
        ({"load_ohm": 5_001, "area_mm2": 1, "booked": [(NOW, 80_000, 1_000)]}, 3),
    ],
)
def test_what_is_warned_of(changes, warned):
    assert gate_c.foreign()[1].emgd_gate_warnings(bent(changes, gate_c.new_gate)) == warned


def figures(changes, **request):
    """What a shot would be judged by, where it is known: name -> value."""
    ffi, lib = gate_c.foreign()
    request = ffi.new("emgd_request *", {"kind": 1, "current_ua": 5_000, "width_us": 100, "count": 1, **request})
    found = lib.emgd_gate_figures(bent(changes, gate_c.new_gate), request)
    return {name: found.asked[number] for number, name in enumerate(LIMIT_NAMES) if found.asked[number]}


@pytest.mark.parametrize("begin_ns", [NOW + S, NOW + S + 1, 2**63 - 1])
@pytest.mark.parametrize(("last_ns", "interval_us"), [(NOW + S - 5_000, 5), (NOW + S - 4_999, 4), (NOW + S - 5_999, 5)])
def test_a_shot_is_judged_a_second_ahead_at_most(begin_ns, last_ns, interval_us):
    assert figures({"last_ns": last_ns}, begin_ns=begin_ns)["interval_us"] == interval_us


@pytest.mark.parametrize(
    ("load_ohm", "energy_uj", "volts"),
    [(0, None, None), (1, 1, 1), (20_000, 50, 112), (20_001, None, None), (-1, None, None)],
)
def test_what_depends_on_the_load_is_told_where_it_is_known(load_ohm, energy_uj, volts):
    found = figures({"load_ohm": load_ohm})
    assert (found.get("load_energy_uj"), found.get("compliance_v")) == (energy_uj, volts)


def test_all_figures_of_a_pulse():
    gave = {"booked": [(NOW - S, 5_000, 100)] * 3, "last_ns": NOW - S, "fast_ns": NOW - 2 * S}
    single = {
        "current_ua": 5_000,
        "width_us": 100,
        "charge_nc": 500,
        "energy_uj": 3,
        "load_energy_uj": 3,
        "compliance_v": 6,
        "rate_mhz": 1_000,
        "interval_us": 1_000_000,
        "train_pulses": 1,
        "train_rest_ms": 2_000,
        "mean_current_ua": 1,
        "site_pulses": 4,
        "first_shot_ua": 5_000,
        "impedance_ohm": 1_000,
    }
    assert figures(gave) == single
    pair = {**single, "train_pulses": 2, "site_pulses": 5, "pair_interval_us": 7_000, "train_duration_ms": 8}
    assert figures(gave, kind=2, count=2, interval_us=7_000) == pair
    train = {
        **single,
        "train_pulses": 3,
        "site_pulses": 6,
        "interval_us": 300_000,
        "rate_mhz": 3_334,
        "train_duration_ms": 601,
    }
    assert figures(gave, kind=3, count=3, interval_us=300_000) == train
    slow = {**train, "interval_us": 1_000_000, "rate_mhz": 1_000, "train_duration_ms": 4_001}
    assert figures(gave, kind=3, count=3, interval_us=2_000_000) == slow
    # Which of both is told is decided by a microsecond.
    shorter = {**train, "interval_us": 999_500, "rate_mhz": 1_001, "train_duration_ms": 2_000}
    assert figures(gave, kind=3, count=3, interval_us=999_500) == shorter
    longer = {**train, "interval_us": 1_000_000, "rate_mhz": 1_000, "train_duration_ms": 2_002}
    assert figures(gave, kind=3, count=3, interval_us=1_000_500) == longer
    stepped = {**single, "step_ua": 2_000}
    del stepped["first_shot_ua"]
    assert figures({**gave, "last_ua": 3_000}) == stepped
    shapeless = {"current_ua": 5_000, "width_us": 100, "train_pulses": 2, "impedance_ohm": 1_000}
    assert figures(gave, count=2) == shapeless


@pytest.mark.parametrize(
    ("current_ua", "width_us", "load_ohm", "told"),
    [
        (39_084, 127, 1_000, {"energy_uj": 195, "load_energy_uj": 195, "charge_nc": 4_964}),
        (60_297, 139, 5_311, {"load_energy_uj": 2_685}),
        (4_000, 500, 2_000, {"energy_uj": 8, "load_energy_uj": 16, "charge_nc": 2_000}),
        (8_000, 100, 11_250, {"compliance_v": 100}),
        (31_399, 100, 8_599, {"compliance_v": 301}),
        (5_001, 100, 1_000, {"charge_nc": 501}),
    ],
)
def test_energy_charge_and_voltage_are_rounded_up(current_ua, width_us, load_ohm, told):
    found = figures({"load_ohm": load_ohm}, current_ua=current_ua, width_us=width_us)
    assert told.items() <= found.items()


def test_times_are_rounded_down_and_the_mean_up():
    assert figures({"fast_ns": NOW - 2 * S + 1})["train_rest_ms"] == 1_999
    assert figures({"last_ns": NOW - 2 * S + 1})["interval_us"] == 1_999_999
    twenty = [(NOW - S, 5_000, 100)] * 19
    assert figures({"booked": twenty})["mean_current_ua"] == 1
    assert figures({"booked": [*twenty, (NOW - S, 1, 1)]})["mean_current_ua"] == 2


def test_what_is_forgotten_by_a_wrong_clock_and_an_acknowledgement():
    _, lib = gate_c.foreign()
    gate = gate_c.new_gate()
    never_ns = gate.last_ns
    assert lib.emgd_gate_tick(gate, -1) == bit("time")
    assert (gate.sample_ns, gate.now_ns, gate.holder) == (never_ns, NOW, 0)
    gate.good = 0
    assert lib.emgd_gate_acknowledge(gate, 1, 0, NOW) == 0
    assert (gate.good, gate.faults) == (4, 0)


def test_a_rate_is_rounded_up():
    assert figures({"last_ns": NOW - 5_291_005_291})["rate_mhz"] == 190
    assert figures({"last_ns": NOW - 5_263_157_895})["rate_mhz"] == 190
    assert figures({"last_ns": NOW - 5_263_157_894})["rate_mhz"] == 191
    assert figures({"last_ns": NOW - 1})["rate_mhz"] == figures({"last_ns": NOW})["rate_mhz"] == 10**12
    assert figures({}, kind=3, count=2, interval_us=9_009_009)["rate_mhz"] == 112


def test_good_readbacks_are_counted_up_to_what_makes_a_mismatch_old():
    ffi, lib = gate_c.foreign()
    gate = gate_c.new_gate()
    readback = ffi.new("emgd_readback *", {"current_ua": 0, "width_us": 0, "load_ohm": 1_000})
    for good, then in ((0, 1), (3, 4), (4, 4)):
        gate.good, gate.awaited_count = good, 1
        gate.awaited[0].at_ns = NOW
        assert lib.emgd_gate_readback(gate, readback, NOW) == 0
        assert gate.good == then


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
