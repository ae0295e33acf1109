"""What the gate tells about a pulse: the figures that a refusal is explained with, the warnings, what is booked."""

import gate_c
import pytest
from gate_c import NOW, bent
from gate_rules import S

from emgd_ext.gate import LIMIT_NAMES, bit


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
