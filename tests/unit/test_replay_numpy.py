"""NumPy files: the axis of time, integers of every width, archives that describe themselves."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from emgd_drivers.replay import RecordingError, open_recording


def say(folder, **sidecar):
    (folder / "rec.json").write_text(json.dumps(sidecar))


def refusal(path) -> str:
    with pytest.raises(RecordingError) as caught:
        open_recording(path)
    return str(caught.value)


integers = st.sampled_from(["<i1", "<u1", "<i2", ">i2", "<u2"])


@given(npst.arrays(integers, npst.array_shapes(min_dims=1, max_dims=2, max_side=12)), st.sampled_from([None, 0, 1]))
def test_integers_arrive_exactly_whatever_their_shape(tmp_path_factory, table, axis):
    folder = tmp_path_factory.getbasetemp()
    np.save(folder / "rec.npy", table)
    say(folder, rate_hz=1000, uv_per_count=2, **({} if axis is None else {"axis": axis}))
    expected = table.reshape(-1, 1) if table.ndim == 1 else table
    if table.ndim == 2 and (axis == 1 or (axis is None and table.shape[1] > table.shape[0])):
        expected = table.T
    signal = open_recording(folder / "rec.npy")
    assert signal.counts.tolist() == expected.tolist()
    assert signal.counts.flags.c_contiguous
    assert (signal.quantised, signal.uv_per_count[0]) == (False, 2.0)


@pytest.mark.parametrize(
    ("dtype", "limit"),
    [("i1", 127), ("u1", 255), ("<i2", 32767), ("<u2", 65535), ("<i4", 2**23 - 1), ("<i8", 2**23 - 1)],
)
def test_saturation_follows_the_width(tmp_path, dtype, limit):
    np.save(tmp_path / "rec.npy", np.zeros(3, dtype))
    say(tmp_path, rate_hz=10, unit="uV")
    assert open_recording(tmp_path / "rec.npy").saturation_counts == (limit,)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_floats_are_quantised(tmp_path, dtype):
    values = np.array([0.5, -100.25, 3], dtype)
    np.save(tmp_path / "rec.npy", values)
    say(tmp_path, rate_hz=10, unit="uV")
    signal = open_recording(tmp_path / "rec.npy")
    assert signal.quantised
    assert signal.uv_per_count == (2e-5,)
    assert signal.counts[:, 0].tolist() == [25000, -5012500, 150000]


def test_three_dimensions_are_refused(tmp_path):
    np.save(tmp_path / "rec.npy", np.zeros((2, 2, 2)))
    assert refusal(tmp_path / "rec.npy").endswith("rec.npy: the array has 3 dimensions; store samples x channels")


def test_objects_are_refused(tmp_path):
    np.save(tmp_path / "rec.npy", np.array([{}, 1], dtype=object))
    assert "cannot be read as NumPy: " in refusal(tmp_path / "rec.npy")


def test_an_archive_describes_itself(tmp_path):
    table = np.arange(12, dtype=np.int16).reshape(6, 2)
    np.savez(tmp_path / "rec.npz", emg=table, fs_hz=2048, lsb_uV=0.5, labels=np.array(["RF", "BF"]), t0_s=12.0)
    signal = open_recording(tmp_path / "rec.npz")
    assert signal.counts.tolist() == table.tolist()
    assert (signal.rate_hz, signal.labels, signal.uv_per_count) == (2048.0, ("RF", "BF"), (0.5, 0.5))
    assert (signal.source_unit, signal.quantised) == ("uV", False)


def test_scalars_may_be_arrays_of_one(tmp_path):
    np.savez(tmp_path / "rec.npz", emg=np.arange(5, dtype=np.int16), rate_hz=np.array([100.5]), lsb_uV=np.array([2.0]))
    signal = open_recording(tmp_path / "rec.npz")
    assert (signal.rate_hz, signal.uv_per_count) == (100.5, (2.0,))


def test_the_sidecar_wins_over_an_archive(tmp_path):
    np.savez(tmp_path / "rec.npz", emg=np.arange(5, dtype=np.int16), fs_hz=2048, lsb_uV=0.5)
    say(tmp_path, rate_hz=1000, uv_per_count=3, labels=["TA"])
    signal = open_recording(tmp_path / "rec.npz")
    assert (signal.rate_hz, signal.uv_per_count, signal.labels) == (1000.0, (3.0,), ("TA",))


def test_labels_that_do_not_fit_are_not_used(tmp_path):
    np.savez(tmp_path / "rec.npz", emg=np.zeros((5, 2), np.int16), fs_hz=10, lsb_uV=1, labels=np.array(["RF"]))
    assert open_recording(tmp_path / "rec.npz").labels == ("ch0", "ch1")


def test_one_of_several_arrays_must_be_named(tmp_path):
    np.savez(tmp_path / "rec.npz", emg=np.zeros((5, 2), np.int16), force=np.zeros(5), fs_hz=10, lsb_uV=1)
    assert refusal(tmp_path / "rec.npz").endswith(
        "arrays that could be the signal: emg (5, 2), force (5,); name one with key in a sidecar"
    )
    say(tmp_path, key="force")
    assert open_recording(tmp_path / "rec.npz").channels == 1


def test_a_key_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    np.savez(tmp_path / "rec.npz", emg=np.zeros(5), fs_hz=10)
    say(tmp_path, key="EMG")
    assert refusal(tmp_path / "rec.npz").endswith("has no array 'EMG'; key in the sidecar must be one of emg, fs_hz")


def test_an_archive_without_signal_is_refused(tmp_path):
    np.savez(tmp_path / "rec.npz", text=np.array(["a"]), fs_hz=10)
    assert "arrays that could be the signal: none; name one with key" in refusal(tmp_path / "rec.npz")


def test_a_key_means_nothing_for_a_single_array(tmp_path):
    np.save(tmp_path / "rec.npy", np.zeros(5))
    say(tmp_path, key="emg")
    assert "key 'key' means nothing for this format" in refusal(tmp_path / "rec.npy")


def test_a_rate_below_what_a_device_can_say_is_refused(tmp_path):
    np.savez(tmp_path / "rec.npz", emg=np.zeros(5, np.int16), fs_hz=0.5, lsb_uV=1)
    assert refusal(tmp_path / "rec.npz").endswith("the file's rate is 0.5 Hz; give rate_hz of 1 or more in a sidecar")
