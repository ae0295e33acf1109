"""WFDB records: digital values as stored, scale and rate from the header."""

import json
import warnings

import numpy as np
import pytest

from emgd_drivers.replay import RecordingError, open_recording

wfdb = pytest.importorskip("emgd_drivers.replay.wfdb_reader", reason="needs wfdb", exc_type=ImportError).wfdb


def write_with_library(folder, **fields):
    """The record `rec`; the library's writing side, unlike its reading side, uses what pandas 3 warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The inplace keyword in DataFrame", module=r"wfdb\.")
        wfdb.wrsamp("rec", write_dir=str(folder), **fields)
    return folder / "rec"


def write(folder, columns, **changed):
    """A record of equally long columns, in mV unless `changed`."""
    width = len(columns)
    fields = {
        "fs": 4000,
        "units": ["mV"] * width,
        "sig_name": [f"S{number}" for number in range(width)],
        "fmt": ["16"] * width,
        "adc_gain": [10000.0] * width,
        "baseline": [0] * width,
    }
    table = np.array(columns, dtype=np.int64).T
    return write_with_library(folder, d_signal=table, **(fields | changed))


def change_header(folder, old, new):
    header = folder / "rec.hea"
    text = header.read_text()
    assert old in text
    header.write_text(text.replace(old, new))


@pytest.mark.parametrize("suffix", ["", ".hea", ".dat"])
def test_digital_values_are_played_as_stored(tmp_path, suffix):
    columns = [[-32767, -1, 0, 32767], [5, 6, 7, 8]]
    path = write(tmp_path, columns)
    signal = open_recording(f"{path}{suffix}")
    assert signal.read(0, 4).T.tolist() == columns
    assert (signal.rate_hz, signal.labels, signal.uv_per_count) == (4000.0, ("S0", "S1"), (0.1, 0.1))
    assert (signal.saturation_counts, signal.source_unit) == ((32767, 32767), "mV")
    assert (signal.quantised, signal.notes) == (False, ())


@pytest.mark.parametrize(
    ("fmt", "limit"), [("80", 127), ("212", 2047), ("16", 32767), ("24", 2**23 - 1), ("516", 32767)]
)
def test_every_storage_format_keeps_its_range(tmp_path, fmt, limit):
    columns = [[-limit, -1, 0, 1, limit, 0]]
    signal = open_recording(write(tmp_path, columns, fmt=[fmt]))
    assert signal.read(0, 6).T.tolist() == columns
    assert signal.saturation_counts == (limit,)


def test_the_invalid_value_of_wfdb_stays_the_count_that_it_is(tmp_path):
    signal = open_recording(write(tmp_path, [[0, -32768, 1]]))
    assert signal.read(0, 3).T.tolist() == [[0, -32768, 1]]


def test_units_are_read_in_any_case_of_letters(tmp_path):
    path = write(tmp_path, [[1, 2]], units=["mv"])
    assert open_recording(path).uv_per_count == (0.1,)


def test_signals_that_are_no_voltage_are_left_out_and_named(tmp_path):
    path = write(tmp_path, [[1, 2], [3, 4]], units=["mV", "mmHg"])
    signal = open_recording(path)
    assert signal.labels == ("S0",)
    assert signal.notes == ("channel 1 (S1) is left out: its unit 'mmHg' is not a voltage",)


def test_a_record_without_any_voltage_is_refused(tmp_path):
    path = write(tmp_path, [[1, 2]], units=["mmHg"])
    with pytest.raises(RecordingError, match=r"no channel is a voltage: channel 0 \(S0\) in 'mmHg'; say its unit in a"):
        open_recording(path)


def test_a_signal_that_is_no_voltage_is_refused_when_asked_for(tmp_path):
    path = write(tmp_path, [[1, 2], [3, 4]], units=["mV", "mmHg"])
    path.with_suffix(".json").write_text(json.dumps({"columns": ["S1"]}))
    with pytest.raises(RecordingError, match=r"channel 1 \(S1\): 'mmHg' is not a voltage; give uv_per_count or unit"):
        open_recording(path)


def test_a_baseline_is_not_taken_out_but_told(tmp_path):
    signal = open_recording(write(tmp_path, [[1024, 1030]], baseline=[1024]))
    assert signal.read(0, 2).T.tolist() == [[1024, 1030]]
    assert signal.notes == ("channel 0 (S0): 0 V is count 1024 in the file; counts are played as they are",)


def test_the_converters_resolution_sets_saturation(tmp_path):
    path = write(tmp_path, [[0, 2047]], fmt=["16"])
    change_header(tmp_path, "16 10000.0(0)/mV 16 0", "16 10000.0(0)/mV 11 1024")
    assert open_recording(path).saturation_counts == (2047,)


def test_without_a_resolution_the_storage_sets_saturation(tmp_path):
    path = write(tmp_path, [[0, 1]], fmt=["212"])
    change_header(tmp_path, "/mV 12 0", "/mV 0 0")
    assert open_recording(path).saturation_counts == (2047,)


def test_signals_of_several_samples_per_frame_are_not_averaged(tmp_path):
    write_with_library(
        tmp_path,
        fs=1000,
        units=["mV", "mV"],
        sig_name=["fast", "slow"],
        e_d_signal=[np.arange(8), np.arange(4)],
        fmt=["16", "16"],
        adc_gain=[1.0, 1.0],
        baseline=[0, 0],
        samps_per_frame=[2, 1],
    )
    signal = open_recording(tmp_path / "rec")
    assert (signal.rate_hz, signal.labels) == (2000.0, ("fast",))
    assert signal.read(0, 8).T.tolist() == [list(range(8))]
    assert signal.notes == ("channel 1 (slow) is left out: its rate is 1000 Hz, not 2000 Hz",)
    (tmp_path / "rec.json").write_text('{"columns": [1, 0]}')
    with pytest.raises(RecordingError, match=r"differ in rate: channel 1 \(slow\) 1000 Hz, channel 0 \(fast\) 2000 Hz"):
        open_recording(tmp_path / "rec")


def test_a_damaged_signal_file_is_told_by_its_checksum(tmp_path):
    path = write(tmp_path, [[1, 2, 3]])
    (tmp_path / "rec.dat").write_bytes(np.array([1, 2, 4], "<i2").tobytes())
    assert open_recording(path).notes == (
        "channel 0 (S0): its samples do not match the header's checksum; the file was changed or damaged",
    )


def test_skew_is_told_and_not_shifted(tmp_path):
    path = write(tmp_path, [[1, 2, 3]])
    change_header(tmp_path, "rec.dat 16 ", "rec.dat 16:1 ")
    signal = open_recording(path)
    assert signal.read(0, 3).T.tolist() == [[1, 2, 3]]
    assert signal.notes == ("channel 0 (S0): the header calls it 1 samples late; it is not shifted back",)


def test_a_record_of_segments_is_refused(tmp_path):
    write(tmp_path, [[1, 2, 3, 4]])
    (tmp_path / "many.hea").write_text("many/2 1 4000 8\nrec 4\nrec 4\n")
    with pytest.raises(RecordingError, match=r"many\.hea: is a record of 2 segments; play its segments one by one"):
        open_recording(tmp_path / "many")


def test_a_signal_file_without_header_is_refused(tmp_path):
    (tmp_path / "alone.dat").write_bytes(b"\0\0")
    with pytest.raises(RecordingError, match=r"alone\.dat: its header alone\.hea is not beside it; keep the files"):
        open_recording(tmp_path / "alone.dat")


def test_a_header_without_signal_file_is_refused(tmp_path):
    path = write(tmp_path, [[1, 2, 3]])
    (tmp_path / "rec.dat").unlink()
    with pytest.raises(RecordingError, match=r"rec\.hea: cannot be read as WFDB: .*rec\.dat"):
        open_recording(path)


def test_a_signal_file_cut_short_is_refused(tmp_path):
    path = write(tmp_path, [[1, 2, 3]])
    (tmp_path / "rec.dat").write_bytes(b"\1\0\2\0")
    with pytest.raises(RecordingError, match=r"rec\.hea: cannot be read as WFDB: "):
        open_recording(path)
