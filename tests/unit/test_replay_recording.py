"""A recording as a signal: reading, looping, trigger marks, choice of channels, and how opening fails."""

import json
import logging
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_drivers.api import DeviceNotFoundError
from emgd_drivers.replay import Recording, RecordingError, open_recording


def make(counts, *, loop=False, edges=()):
    table = np.array(counts, dtype=np.int32).reshape(len(counts), -1)
    width = table.shape[1]
    return Recording(
        counts=table,
        rate_hz=1000.0,
        uv_per_count=(0.5,) * width,
        labels=tuple("abcdefgh"[:width]),
        saturation_counts=(32767,) * width,
        source_unit="uV",
        loop=loop,
        edges=tuple(edges),
    )


def write_npy(folder: Path, table, **sidecar) -> Path:
    path = folder / "rec.npy"
    np.save(path, np.asarray(table))
    (folder / "rec.json").write_text(json.dumps({"rate_hz": 1000, "unit": "uV"} | sidecar))
    return path


def refusal(path, **options) -> str:
    with pytest.raises(RecordingError) as caught:
        open_recording(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_signal_has_all_that_a_device_model_asks_for(tmp_path):
    table = np.arange(12, dtype=np.int16).reshape(6, 2)
    signal = open_recording(write_npy(tmp_path, table, labels=["RF", "BF"]))
    assert (signal.channels, signal.rate_hz, signal.length) == (2, 1000.0, 6)
    assert (signal.uv_per_count, signal.labels, signal.saturation_counts) == ((1.0, 1.0), ("RF", "BF"), (32767, 32767))
    assert (signal.quantised, signal.source_unit, signal.notes, signal.marks(0, 6)) == (False, "uV", (), [])


def test_a_read_is_a_fresh_contiguous_int32_array():
    signal = make([[1, 2], [3, 4], [5, 6]])
    block = signal.read(1, 2)
    assert block.dtype == np.int32
    assert block.flags.c_contiguous
    assert block.flags.writeable
    block[:] = 0
    assert signal.read(1, 2).tolist() == [[3, 4], [5, 6]]


def test_a_read_of_nothing_has_no_rows():
    assert make([[1, 2]]).read(1, 0).shape == (0, 2)


@pytest.mark.parametrize("reach", ["read", "marks"])
@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, 4), (4, 0), (0, -1), (2, 2)])
def test_what_lies_outside_a_recording_is_refused(reach, first, count):
    with pytest.raises(ValueError, match="outside a recording that is 3 samples long"):
        getattr(make([1, 2, 3]), reach)(first, count)


def test_a_looped_recording_refuses_only_negative_numbers():
    with pytest.raises(ValueError, match="without end"):
        make([1, 2, 3], loop=True).read(-1, 1)


@given(st.integers(1, 9), st.integers(0, 10**12), st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_a_looped_recording_runs_on_across_its_end(length, first, counts):
    signal = make(np.arange(length * 2).reshape(length, 2), loop=True)
    assert signal.length is None
    blocks = []
    at = first
    for count in counts:
        blocks.append(signal.read(at, count))
        assert blocks[-1].shape == (count, 2)
        assert blocks[-1].flags.c_contiguous
        at += count
    expected = [[2 * (seq % length), 2 * (seq % length) + 1] for seq in range(first, at)]
    assert np.concatenate(blocks).tolist() == expected


@given(
    st.lists(st.booleans(), min_size=1, max_size=12),
    st.integers(0, 50),
    st.lists(st.integers(0, 30), min_size=1, max_size=4),
)
def test_marks_of_consecutive_reads_are_each_edge_once(levels, first, counts):
    edges = [(seq, int(now)) for seq, (before, now) in enumerate(pairwise(levels), start=1) if before != now]
    signal = make([0] * len(levels), loop=True, edges=edges)
    found, at = [], first
    for count in counts:
        found += signal.marks(at, count)
        at += count
    by_place = dict(edges)
    length = len(levels)
    expected = [(seq, 1, 0, by_place[seq % length]) for seq in range(first, at) if seq % length in by_place]
    assert found == expected


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_trigger_channel_becomes_marks_and_is_not_played(tmp_path, dtype):
    table = np.array([[1, 5], [2, 5], [3, 9], [4, 9], [5, 5]], dtype=dtype)
    signal = open_recording(write_npy(tmp_path, table, trigger=1))
    assert signal.channels == 1
    assert signal.marks(0, 5) == [(2, 1, 0, 1), (4, 1, 0, 0)]
    assert signal.marks(3, 1) == []


def test_a_trigger_of_wide_integers_is_not_misled_by_overflow(tmp_path):
    table = np.array([[0, 30000], [0, 32000], [0, 30000]], dtype=np.int16)
    assert open_recording(write_npy(tmp_path, table, trigger=1)).edges == ((1, 1), (2, 0))


def test_a_constant_trigger_gives_no_marks(tmp_path):
    assert open_recording(write_npy(tmp_path, [[1, 7], [2, 7], [3, 7]], trigger=1)).edges == ()


def test_a_trigger_that_is_no_number_is_refused(tmp_path):
    text = refusal(write_npy(tmp_path, [[1.0, 0.0], [1.0, np.nan], [1.0, 0.0]], trigger=1))
    assert "the trigger, channel 1, has values that are no numbers; choose another trigger" in text


def test_columns_are_played_in_the_order_named(tmp_path):
    signal = open_recording(write_npy(tmp_path, [[1, 2, 3]] * 4, columns=[2, 0], labels=["c", "a"]))
    assert signal.read(0, 1).tolist() == [[3, 1]]
    assert signal.labels == ("c", "a")


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    text = refusal(write_npy(tmp_path, [[1, 2, 3]] * 4, columns=[3]))
    assert text.endswith("rec.npy: has no column 3; columns in the sidecar must be among 0, 1, 2")


def test_many_columns_are_listed_in_part(tmp_path):
    text = refusal(write_npy(tmp_path, np.zeros((100, 50)), columns=["EMG"]))
    assert text.endswith(
        "has no column 'EMG'; columns in the sidecar must be among " + ", ".join(map(str, range(12))) + ", ..."
    )


def test_a_recording_of_nothing_but_its_trigger_is_refused(tmp_path):
    text = refusal(write_npy(tmp_path, [1, 2, 3], trigger=0))
    assert "holds no channel to play; look at columns and trigger" in text


@pytest.mark.parametrize(("channels", "good"), [(1024, True), (1025, False)])
def test_1024_channels_are_the_most(tmp_path, channels, good):
    path = write_npy(tmp_path, np.zeros((1, channels), np.int16), axis=0)
    if good:
        assert open_recording(path).channels == 1024
    else:
        assert "has 1025 channels, the most are 1024; choose columns in a sidecar" in refusal(path)


def test_a_recording_without_samples_is_refused(tmp_path):
    assert "holds no samples; record something first" in refusal(write_npy(tmp_path, np.zeros(0, np.int16)))


@pytest.mark.parametrize(
    ("sidecar", "text"),
    [
        ({"labels": ["a"]}, "the sidecar has 1 labels for 2 channels; give one for each channel played"),
        (
            {"uv_per_count": [1, 2, 3]},
            "the sidecar has 3 uv_per_count for 2 channels; give one for each channel played",
        ),
    ],
)
def test_a_list_in_the_sidecar_must_fit_the_channels(tmp_path, sidecar, text):
    path = tmp_path / "rec.npy"
    np.save(path, np.zeros((4, 2), np.int16))
    (tmp_path / "rec.json").write_text(json.dumps({"rate_hz": 1000} | sidecar))
    assert text in refusal(path)


def test_without_a_rate_the_remedy_is_the_sidecar(tmp_path):
    np.save(tmp_path / "rec.npy", np.zeros(4, np.int16))
    assert refusal(tmp_path / "rec.npy").endswith(
        "rec.npy: the file does not say its sample rate; give rate_hz in a sidecar"
    )


def test_a_missing_file_is_a_device_not_found(tmp_path):
    with pytest.raises(DeviceNotFoundError, match=r"nothing\.edf: there is no such file; name one recording"):
        open_recording(tmp_path / "nothing.edf")


def test_a_folder_is_not_a_recording(tmp_path):
    assert "is not a file; name one recording" in refusal(tmp_path)
    assert "is not a file; name one recording" in refusal("/")


def test_an_unknown_suffix_is_answered_with_the_known(tmp_path):
    (tmp_path / "rec.mat").write_bytes(b"")
    assert "unknown suffix '.mat'; known are .hea, .dat, .edf, .bdf, .wav, .csv," in refusal(tmp_path / "rec.mat")


def test_suffixes_are_known_in_capitals_too(tmp_path):
    (tmp_path / "REC.CSV").write_text("1\n2\n")
    (tmp_path / "REC.json").write_text('{"rate_hz": 10, "unit": "uV"}')
    assert open_recording(str(tmp_path / "REC.CSV")).length == 2


@pytest.mark.parametrize("suffix", [".hea", ".edf", ".bdf", ".wav", ".csv", ".npy", ".npz"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff garbage \n" * 40])
def test_garbage_in_any_format_is_one_clear_line(tmp_path, suffix, content):
    if suffix == ".hea":
        pytest.importorskip("emgd_drivers.replay.wfdb_reader", reason="needs wfdb", exc_type=ImportError)
    if suffix in {".edf", ".bdf"}:
        pytest.importorskip("edfio", reason="needs edfio")
    path = tmp_path / f"rec{suffix}"
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path}: ")


def test_notes_are_logged(tmp_path, caplog):
    path = tmp_path / "rec.wav"
    header = (
        b"RIFF\x64\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\xe8\x03\x00\x00\xd0\x07\x00\x00\x02\x00\x10\x00"
    )
    path.write_bytes(header + b"data\x40\x00\x00\x00" + b"\x01\x00" * 4)
    (tmp_path / "rec.json").write_text('{"unit": "V"}')
    with caplog.at_level(logging.WARNING):
        signal = open_recording(path)
    assert len(signal.notes) == 1
    assert caplog.messages == [f"{path}: {signal.notes[0]}"]
