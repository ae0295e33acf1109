"""What was given: each pulse in a place that is free, each window to the nanosecond."""

import gate_c
import pytest
from gate_rules import BOOKED, S

NOW = 100 * S
OTHER = {"at_ns": NOW, "site": 3, "charge_pc": 7, "squares": 9}


def measured(dose, site=5, at_ns=NOW):
    sums = gate_c.foreign()[1].emgd_dose_measure(dose, site, at_ns)
    return sums.charge_pc, sums.squares, sums.site_pulses, sums.room


def row_of(*doses):
    """Doses side by side in memory: what lies before and behind one must not matter to it, nor be touched by it."""
    ffi, _ = gate_c.foreign()
    return ffi.new("emgd_dose[]", [{"pulse": [pulse] * BOOKED} for pulse in doses])


@pytest.mark.parametrize("free", [0, 1, 100, BOOKED - 2, BOOKED - 1])
@pytest.mark.parametrize("old_ns", [NOW - 60 * S, NOW - 70 * S, -7_200 * S])
def test_a_pulse_takes_the_place_that_is_free(free, old_ns):
    ffi, lib = gate_c.foreign()
    beside = {**OTHER, "at_ns": old_ns}
    row = row_of(beside, OTHER, beside)
    dose = row + 1
    dose.pulse[free].at_ns = old_ns
    assert measured(dose)[3] == 1
    new = {"at_ns": NOW, "site": 5, "charge_pc": 11, "squares": 13}
    lib.emgd_dose_book(dose, ffi.new("emgd_booked *", new))
    found = [{name: getattr(pulse, name) for name in OTHER} for pulse in dose.pulse]
    assert found == [new if place == free else OTHER for place in range(BOOKED)]
    assert measured(dose)[3] == 0
    for place in (0, 2):
        assert {pulse.at_ns for pulse in row[place].pulse} == {old_ns}


@pytest.mark.parametrize(
    ("age_ns", "sums"),
    [
        (-5, (7, 9, 1, BOOKED - 1)),  # a clock that went back hides no pulse
        (0, (7, 9, 1, BOOKED - 1)),
        (10 * S - 1, (7, 9, 1, BOOKED - 1)),
        (10 * S, (0, 0, 1, BOOKED - 1)),
        (60 * S - 1, (0, 0, 1, BOOKED - 1)),
        (60 * S, (0, 0, 0, BOOKED)),
    ],
)
def test_a_window_ends_where_a_pulse_is_exactly_as_old(age_ns, sums):
    ffi, lib = gate_c.foreign()
    row = row_of({**OTHER, "at_ns": NOW}, OTHER, {**OTHER, "at_ns": -S})
    dose = row + 1
    before = bytes(ffi.buffer(row))
    lib.emgd_dose_clear(dose)
    size = ffi.sizeof("emgd_dose")
    after = bytes(ffi.buffer(row))
    assert (before[:size], before[2 * size :]) == (after[:size], after[2 * size :])
    assert measured(dose) == (0, 0, 0, BOOKED)
    dose.pulse[BOOKED - 1] = {**OTHER, "at_ns": NOW - age_ns}
    assert measured(dose, site=3) == sums
    assert measured(dose, site=4) == (*sums[:2], 0, sums[3])


def test_sums_hold_all_pulses():
    dose = row_of(OTHER)
    assert measured(dose, site=3) == (7 * BOOKED, 9 * BOOKED, BOOKED, 0)


def test_sums_do_not_overflow_whatever_the_memory_holds():
    worst = {"at_ns": 2**63 - 1, "site": 2**64 - 1, "charge_pc": 2**32 - 1, "squares": 2**32 - 1}
    dose = row_of(worst)
    assert measured(dose, site=2**64 - 1) == ((2**32 - 1) * BOOKED, (2**32 - 1) * BOOKED, BOOKED, 0)
