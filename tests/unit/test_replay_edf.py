"""EDF and BDF files: digital values as stored, annotations and slow signals left out, gaps refused."""

import json

import numpy as np
import pytest

from emgd_drivers.replay import RecordingError, open_recording

edfio = pytest.importorskip("edfio", reason="needs edfio")

KINDS = {
    ".edf": (edfio.Edf, edfio.EdfSignal, np.int16, 2**15),
    ".bdf": (edfio.Bdf, edfio.BdfSignal, np.int32, 2**23),
}


def signal_of(suffix, digital, rate_hz=4, label="RF", unit="uV", physical=None, span=None):
    """A signal whose digital range is `span`, by default all that the format has, at 0.5 units a count."""
    _, kind, dtype, full = KINDS[suffix]
    low, high = span or (-full, full - 1)
    return kind.from_digital(
        np.array(digital, dtype=dtype),
        rate_hz,
        label=label,
        physical_dimension=unit,
        physical_range=physical or (low / 2, high / 2),
        digital_range=(low, high),
    )


def write(folder, suffix, *signals, **options):
    path = folder / f"rec{suffix}"
    KINDS[suffix][0](signals, **options).write(path)
    return path


@pytest.mark.parametrize("suffix", KINDS)
def test_digital_values_are_played_as_stored(tmp_path, suffix):
    full = KINDS[suffix][3]
    columns = [[-full, -1, 0, full - 1], [1, 2, 3, 4]]
    path = write(tmp_path, suffix, signal_of(suffix, columns[0]), signal_of(suffix, columns[1], label="BF", unit="mV"))
    signal = open_recording(path)
    assert signal.read(0, 4).T.tolist() == columns
    assert (signal.rate_hz, signal.labels) == (4.0, ("RF", "BF"))
    assert signal.uv_per_count == pytest.approx((0.5, 500.0), rel=1e-6)
    assert signal.saturation_counts == (full - 1, full - 1)
    assert (signal.source_unit, signal.quantised, signal.notes) == ("uV, mV", False, ())


def test_saturation_is_the_end_of_the_digital_range(tmp_path):
    path = write(tmp_path, ".edf", signal_of(".edf", [0, 1, 2, 3], span=(-2048, 2047)))
    assert open_recording(path).saturation_counts == (2047,)


def test_the_micro_sign_in_a_header_is_understood(tmp_path):
    path = write(tmp_path, ".edf", signal_of(".edf", [0, 1, 2, 3], unit="uV"))
    data = path.read_bytes()
    assert data.count(b"uV ") == 1
    path.write_bytes(data.replace(b"uV ", b"\xb5V "))
    assert open_recording(path).source_unit == "uV"


def test_signals_of_lower_rate_or_other_unit_are_left_out_and_named(tmp_path):
    path = write(
        tmp_path,
        ".edf",
        signal_of(".edf", [1, 2], rate_hz=2, label="slow"),
        signal_of(".edf", [1, 2, 3, 4], label="RF"),
        signal_of(".edf", [1, 2, 3, 4], label="temp", unit="degC"),
        signal_of(".edf", range(8), rate_hz=8, label="sound", unit="Pa"),
    )
    signal = open_recording(path)
    assert (signal.labels, signal.rate_hz) == (("RF",), 4.0)
    assert signal.notes == (
        "channel 0 (slow) is left out: its rate is 2 Hz, not 4 Hz",
        "channel 2 (temp) is left out: its unit 'degC' is not a voltage",
        "channel 3 (sound) is left out: its unit 'Pa' is not a voltage",
    )


def test_a_slow_signal_is_played_when_asked_for(tmp_path):
    path = write(
        tmp_path,
        ".edf",
        signal_of(".edf", [1, 2], rate_hz=2, label="slow"),
        signal_of(".edf", [1, 2, 3, 4], label="RF"),
    )
    path.with_suffix(".json").write_text(json.dumps({"columns": ["slow"]}))
    assert open_recording(path).rate_hz == 2.0


def test_a_label_that_stands_twice_is_refused(tmp_path):
    path = write(tmp_path, ".edf", signal_of(".edf", [1, 2, 3, 4]), signal_of(".edf", [1, 2, 3, 4]))
    path.with_suffix(".json").write_text(json.dumps({"columns": ["RF"]}))
    with pytest.raises(RecordingError, match="the label 'RF' stands on columns 0 and 1; name the column by its number"):
        open_recording(path)


def test_a_signal_without_unit_needs_a_sidecar(tmp_path):
    path = write(tmp_path, ".edf", signal_of(".edf", [1, 2, 3, 4], unit=""))
    with pytest.raises(RecordingError, match=r"channel 0 \(RF\): the file does not say what a value is in µV"):
        open_recording(path)
    path.with_suffix(".json").write_text('{"unit": "mV"}')
    assert open_recording(path).uv_per_count == pytest.approx((500.0,))


def test_an_offset_is_not_taken_out_but_told(tmp_path):
    path = write(tmp_path, ".edf", signal_of(".edf", [0, 1, 2, 4095], span=(0, 4095), physical=(-2048, 2047)))
    signal = open_recording(path)
    assert signal.read(0, 4).T.tolist() == [[0, 1, 2, 4095]]
    assert signal.notes == ("channel 0 (RF): 0 V is count 2048 in the file; counts are played as they are",)


@pytest.mark.parametrize("field", ["digital", "physical"])
def test_a_range_without_width_is_refused(tmp_path, field):
    path = write(tmp_path, ".edf", signal_of(".edf", [0, 1, 2, 3], span=(-1024, 1023), physical=(-512, 511)))
    data = path.read_bytes()
    old, new = {"digital": (b"-1024   ", b"1023    "), "physical": (b"-512    ", b"511     ")}[field]
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(RecordingError, match=r"channel 0 \(RF\) has no usable scale in the file; give uv_per_count"):
        open_recording(path)
    path.with_suffix(".json").write_text('{"uv_per_count": 0.25}')
    assert open_recording(path).uv_per_count == (0.25,)


@pytest.mark.parametrize("suffix", KINDS)
def test_annotations_are_not_channels(tmp_path, suffix):
    path = write(tmp_path, suffix, signal_of(suffix, range(8)), annotations=[edfio.EdfAnnotation(0.5, None, "stim")])
    signal = open_recording(path)
    assert (signal.labels, signal.length) == (("RF",), 8)


@pytest.mark.parametrize("suffix", KINDS)
def test_gaps_in_time_are_refused(tmp_path, suffix):
    path = write(
        tmp_path,
        suffix,
        signal_of(suffix, range(8)),
        data_record_duration=1,
        annotations=[edfio.EdfAnnotation(0, None, "a")],
    )
    data = path.read_bytes()
    assert data.count(b"+1\x14\x14") == 1
    path.write_bytes(data.replace(b"+1\x14\x14", b"+5\x14\x14"))
    with pytest.raises(RecordingError, match=r"has gaps in time \(EDF\+D\); cut it into continuous files"):
        open_recording(path)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_cut_short_is_played_as_far_as_it_goes_and_told(tmp_path, suffix):
    path = write(tmp_path, suffix, signal_of(suffix, range(12)), data_record_duration=1)
    path.write_bytes(path.read_bytes()[:-3])
    signal = open_recording(path)
    assert signal.read(0, signal.length).T.tolist() == [list(range(8))]
    assert any("Data was truncated" in note for note in signal.notes)


def test_a_trigger_signal_need_not_be_a_voltage(tmp_path):
    path = write(
        tmp_path, ".edf", signal_of(".edf", [1, 2, 3, 4]), signal_of(".edf", [0, 1, 1, 0], label="TRIG", unit="Boolean")
    )
    path.with_suffix(".json").write_text('{"trigger": "TRIG"}')
    signal = open_recording(path)
    assert (signal.labels, signal.notes) == (("RF",), ())
    assert signal.marks(0, 4) == [(1, 1, 0, 1), (3, 1, 0, 0)]


def test_a_trigger_of_another_rate_is_refused(tmp_path):
    path = write(tmp_path, ".edf", signal_of(".edf", [1, 2, 3, 4]), signal_of(".edf", [0, 1], rate_hz=2, label="TRIG"))
    path.with_suffix(".json").write_text('{"trigger": "TRIG"}')
    with pytest.raises(RecordingError, match="the chosen channels differ in rate"):
        open_recording(path)
