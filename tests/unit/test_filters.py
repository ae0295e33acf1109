"""Filter design: presets and numbers do what they say at the rates there are."""

import numpy as np
import pytest
from scipy import signal

from emgd import filters
from emgd.filters import FilterSpec
from emgd_drivers.fields import FieldError

RATE_HZ = 48_000.0


def gain_db(designed, frequency_hz, rate_hz=RATE_HZ):
    _, response = signal.freqz_sos(designed.sections, worN=[frequency_hz], fs=rate_hz)
    return 20 * np.log10(np.abs(response[0]))


@pytest.mark.parametrize("name", [name for name in filters.PRESETS if name != "off"])
def test_a_preset_is_3_db_down_at_its_edges_and_flat_between(name):
    spec = filters.PRESETS[name]
    designed = filters.design(spec, RATE_HZ)
    middle_hz = np.sqrt(spec.high_pass_hz * spec.low_pass_hz)
    assert gain_db(designed, spec.high_pass_hz) == pytest.approx(-3.01, abs=0.3)
    assert gain_db(designed, spec.low_pass_hz) == pytest.approx(-3.01, abs=0.3)
    assert gain_db(designed, middle_hz) == pytest.approx(0, abs=0.7)
    assert spec.notch_hz is None, "no preset has a notch: it rings after a stimulus"


def test_the_notch_takes_out_the_mains_and_little_else():
    designed = filters.design(FilterSpec(notch_hz=50.0), RATE_HZ)
    assert gain_db(designed, 50.0) < -60
    assert gain_db(designed, 45.0) > -1
    assert gain_db(designed, 55.0) > -1


def test_a_presets_low_pass_is_left_out_where_the_rate_has_done_that_already():
    designed = filters.design(filters.PRESETS["needle_rest"], 4000.0)
    assert designed.spec.low_pass_hz is None
    assert designed.note == "low-pass at 10000 Hz left out: above 0.45 of the rate 4000 Hz"
    assert designed.as_map()["low_pass_order"] is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (FilterSpec(low_pass_hz=2000.0), "low_pass_hz cannot be 2000 at 4000 Hz .*0.02 to 1800"),
        (FilterSpec(high_pass_hz=1900.0), "high_pass_hz cannot be 1900"),
        (FilterSpec(notch_hz=1850.0), "notch_hz cannot be 1850"),
        (FilterSpec(high_pass_hz=500.0, low_pass_hz=300.0), "leaves nothing below low_pass_hz 300"),
        (FilterSpec(high_pass_hz=0.001), "high_pass_hz cannot be 0.001"),
    ],
)
def test_numbers_that_the_rate_does_not_allow_are_refused(spec, message):
    with pytest.raises(FieldError, match=message):
        filters.design(spec, 4000.0)


def test_numbers_beside_a_preset_replace_the_presets():
    spec = filters.spec_from({"preset": "motor", "notch_hz": 60.0, "low_pass_hz": 0.0})
    assert (spec.preset, spec.high_pass_hz, spec.low_pass_hz, spec.notch_hz) == ("motor", 2, None, 60.0)


def test_settle_samples_is_when_the_step_response_has_settled():
    designed = filters.design(filters.PRESETS["needle_muap"], RATE_HZ)
    step = signal.sosfilt(designed.sections, np.ones(3 * designed.settle_samples))
    assert np.abs(step[designed.settle_samples :]).max() < 2e-3
    assert np.abs(step[: designed.settle_samples // 3]).max() > 2e-3


def test_group_delay_is_the_sum_of_what_scipy_says_of_each_section():
    designed = filters.design(filters.PRESETS["sfemg"], RATE_HZ)
    for frequency, delay_us in designed.group_delay_us.items():
        parts = [signal.group_delay((s[:3], s[3:]), w=[float(frequency)], fs=RATE_HZ)[1][0] for s in designed.sections]
        assert delay_us == pytest.approx(sum(parts) / RATE_HZ * 1e6, rel=1e-3)


def test_a_wide_band_at_two_hertz_keeps_its_digits():
    """At 2 Hz and above the design is true to 0.05 LSB of 24 bits against extended precision."""
    designed = filters.design(filters.PRESETS["motor"], RATE_HZ)
    counts = np.random.default_rng(0).integers(-(2**23), 2**23, (48_000, 1)).astype(np.int32)
    running = filters.cascade_of([designed], [1.0])
    got = running.process(counts)[:, 0]
    wanted = counts[:, 0].astype(np.longdouble)
    for b0, b1, b2, _, a1, a2 in designed.sections.astype(np.longdouble):
        out = np.empty_like(wanted)
        s1 = s2 = np.longdouble(0)
        for i, x in enumerate(wanted):
            y = b0 * x + s1
            s1, s2 = b1 * x - a1 * y + s2, b2 * x - a2 * y
            out[i] = y
        wanted = out
    assert float(np.abs(got - wanted).max()) < 0.05


def test_another_process_designs_the_very_same_numbers():
    designer = filters.Designer(RATE_HZ)
    specs = [filters.PRESETS["motor"], FilterSpec(high_pass_hz=33.3, notch_hz=50.0), filters.PRESETS["off"]]
    for spec, elsewhere in zip(specs, designer.design(specs), strict=True):
        here = filters.design(spec, RATE_HZ)
        assert (here.sections == elsewhere.sections).all()
        assert (here.zi == elsewhere.zi).all()
        assert here.as_map() == elsewhere.as_map()


def test_a_rate_too_low_for_some_presets_still_has_the_others():
    designer = filters.Designer(250.0)
    (surface,) = designer.design([filters.PRESETS["surface"]])
    assert surface.spec.low_pass_hz is None
    with pytest.raises(FieldError, match="high_pass_hz cannot be 1000 at 250 Hz"):
        designer.design([filters.PRESETS["jitter_concentric"]])
