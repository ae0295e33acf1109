"""Counts: exact where a file holds counts, quantised within half a step where it does not."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_drivers.replay import RecordingError
from emgd_drivers.replay.contents import FileChannel, saturation_count
from emgd_drivers.replay.counts import QUANTISED_LIMIT, SMALLEST_LSB_UV, finest_lsb_uv, write_counts
from emgd_drivers.replay.units import UV_PER_UNIT, volt_unit

ROUNDING = Fraction(1, 2**28)
"""In counts: dividing by the step in double precision errs by 2^-53 of at most 2^23 counts, twice."""


def convert(values, *, unit=None, uv_per_count=None, **fields):
    samples = np.asarray(values)
    out = np.full(samples.shape, -1, dtype=np.int32)
    channel = FileChannel(3, "RF", samples, **fields)
    return out, write_counts(out, Path("rec.x"), channel, unit, uv_per_count)


def refusal(values, **options) -> str:
    with pytest.raises(RecordingError) as caught:
        convert(values, **options)
    return str(caught.value)


@given(st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1), st.sampled_from([np.int32, np.int64]))
def test_integers_of_24_bits_stay_as_they_are(values, dtype):
    counts, scale = convert(np.array(values, dtype), unit="uV")
    assert counts.tolist() == values
    assert scale == (1.0, 2**23 - 1, False, "uV")


@pytest.mark.parametrize("value", [2**23, -(2**23) - 1, 2**62])
def test_integers_beyond_24_bits_are_quantised(value):
    counts, scale = convert(np.array([value, 0]), unit="uV")
    assert scale.quantised
    assert abs(counts[0]) <= QUANTISED_LIMIT
    assert abs(Fraction(int(counts[0])) * Fraction(scale.uv_per_count) - value) <= Fraction(scale.uv_per_count) / 2


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, max_value=1e300, min_value=-1e300), min_size=1))
def test_floats_are_within_half_a_step(values):
    counts, scale = convert(np.array(values), unit="uV")
    lsb_uv = Fraction(scale.uv_per_count)
    assert scale.quantised
    assert np.abs(counts).max() <= QUANTISED_LIMIT < scale.saturation_count
    for count, value in zip(counts.tolist(), values, strict=True):
        assert abs(count - Fraction(value) / lsb_uv) <= Fraction(1, 2) + ROUNDING


@given(st.floats(min_value=0, max_value=1e300))
def test_the_step_is_the_finest_of_its_series(peak_uv):
    lsb_uv = finest_lsb_uv(peak_uv)
    digits, exponent = f"{lsb_uv:e}".split("e")
    assert float(digits) in (1, 2, 5)
    assert lsb_uv == float(f"{float(digits):.0f}e{exponent}")
    assert peak_uv / lsb_uv <= QUANTISED_LIMIT
    finer = {1.0: 0.5, 2.0: 0.5, 5.0: 0.4}[float(digits)] * lsb_uv
    assert lsb_uv == SMALLEST_LSB_UV or peak_uv > finer * QUANTISED_LIMIT


@pytest.mark.parametrize(
    ("peak_uv", "lsb_uv"), [(0.0, 1e-9), (5e-324, 1e-9), (79556.72, 0.01), (83886.06, 0.01), (83886.07, 0.02)]
)
def test_steps_of_known_peaks(peak_uv, lsb_uv):
    assert finest_lsb_uv(peak_uv) == lsb_uv


@pytest.mark.parametrize(("unit", "uv"), UV_PER_UNIT.items())
def test_a_unit_says_what_a_value_is(unit, uv):
    assert convert(np.array([1, 2], np.int16), unit=unit)[1].uv_per_count == uv
    counts, scale = convert(np.array([0.25, -1.0]), unit=unit)
    assert (counts * scale.uv_per_count).tolist() == pytest.approx([0.25 * uv, -uv], rel=1e-6)


def test_the_files_scale_and_unit_count_where_the_sidecar_is_silent():
    channel = FileChannel(0, "", np.array([7], np.int16), unit="mV", scale=1e-4, saturation_count=32767)
    out = np.empty(1, np.int32)
    assert write_counts(out, Path("rec.x"), channel, None, None) == (0.1, 32767, False, "mV")
    assert write_counts(out, Path("rec.x"), channel, "uV", None).uv_per_count == 1e-4
    assert write_counts(out, Path("rec.x"), channel, "count", None) == (1.0, 32767, False, "count")
    assert write_counts(out, Path("rec.x"), channel, None, 2.5) == (2.5, 32767, False, "count")


def test_a_scale_may_turn_the_signal_over():
    counts, scale = convert(np.array([5, -6], np.int16), uv_per_count=-0.5)
    assert (counts.tolist(), scale.uv_per_count) == ([5, -6], -0.5)


def test_floats_that_are_counts_stay_as_they_are():
    counts, scale = convert(np.array([2034.0, -7.0]), uv_per_count=0.5)
    assert (counts.tolist(), scale.uv_per_count, scale.quantised) == ([2034, -7], 0.5, False)


def test_a_broken_count_is_refused():
    text = refusal(np.array([1.0, 2.5]), uv_per_count=0.5)
    assert text == "rec.x: channel 3 (RF), sample 1 is 2.5, not a whole count; give unit instead of uv_per_count"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_named_by_channel_and_sample(value):
    text = refusal(np.array([0.0, 1.0, value, value]), unit="uV")
    assert text == f"rec.x: channel 3 (RF), sample 2 is {value}, no number of µV; cut or mend the recording there"


def test_a_value_too_large_for_microvolts_is_refused():
    assert "sample 0 is 1e+305, no number of µV" in refusal(np.array([1e305]), unit="V")


def test_without_a_unit_the_remedy_is_the_sidecar():
    text = refusal(np.array([1, 2], np.int16))
    assert text.startswith(
        "rec.x: channel 3 (RF): the file does not say what a value is in µV; give uv_per_count or unit"
    )


def test_a_scale_of_no_use_is_refused():
    for scale in (0.0, np.nan, np.inf):
        assert "has no usable scale in the file; give uv_per_count" in refusal(np.array([1]), unit="uV", scale=scale)


@pytest.mark.parametrize("values", [np.array([True, False]), np.array([1j]), np.array(["a"])])
def test_what_is_neither_integer_nor_float_is_refused(values):
    assert f"channel 3 (RF) holds {values.dtype}; store integers or floats" in refusal(values, unit="uV")


@pytest.mark.parametrize(
    ("lowest", "highest", "limit"),
    [
        (-32768, 32767, 32767),
        (-2048, 2047, 2047),
        (0, 4095, 4095),
        (-100, 30000, 30000),
        (-30000, 100, 29999),
        (0, 0, 1),
    ],
)
def test_saturation_is_the_far_end_of_the_range(lowest, highest, limit):
    assert saturation_count(lowest, highest) == limit


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        ("uV", "uV"),
        ("\N{MICRO SIGN}V", "uV"),
        ("\N{GREEK SMALL LETTER MU}V", "uV"),
        (" mv ", "mV"),
        ("Volts", "V"),
        ("nV", "nV"),
        ("mmHg", None),
        ("", None),
    ],
)
def test_units_are_known_as_files_spell_them(spelling, unit):
    assert volt_unit(spelling) == unit
