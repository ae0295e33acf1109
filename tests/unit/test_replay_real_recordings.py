"""Real recordings of every kind that the project has: playable, and equal to what the files hold."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from emgd_drivers.replay import open_recording

FOLDER = Path(os.environ.get("EMGD_RECORDINGS") or Path(__file__).parents[2].parent / "shared" / "recordings")

pytestmark = [
    pytest.mark.recordings,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings in {FOLDER} (set EMGD_RECORDINGS)"),
]


def play(tmp_path, name, **said):
    sidecar = tmp_path / "sidecar.json"
    sidecar.write_text(json.dumps(said))
    return open_recording(FOLDER / name, sidecar=sidecar)


def assert_close_uv(signal, values_uv):
    """Every sample within half a step of what the file says, and the step finer than any amplifier's noise."""
    lsb_uv = np.array(signal.uv_per_count)
    assert (np.abs(signal.counts * lsb_uv - values_uv) <= lsb_uv * 0.5000001).all()
    assert lsb_uv.max() <= 0.01


@pytest.mark.parametrize("name", ["emg_healthy", "emg_myopathy"])
def test_wfdb_counts_are_the_files(name):
    pytest.importorskip("emgd_drivers.replay.wfdb_reader", reason="needs wfdb", exc_type=ImportError)
    signal = open_recording(FOLDER / "emgdb" / name)
    stored = np.fromfile(FOLDER / "emgdb" / f"{name}.dat", "<i2")
    assert np.array_equal(signal.read(0, signal.length), stored[:, np.newaxis])
    assert (signal.rate_hz, signal.uv_per_count, signal.saturation_counts) == (4000.0, (0.1,), (32767,))
    assert (signal.labels, signal.quantised, signal.notes) == (("EMG",), False, ())


def test_high_density_counts_are_the_files(tmp_path):
    name = "hdsemg/otb_vastus_lateralis_12s_24s.npz"
    signal = play(tmp_path, name, key="emg_counts")
    with np.load(FOLDER / name) as archive:
        assert np.array_equal(signal.counts, archive["emg_counts"])
        assert signal.uv_per_count == (float(archive["lsb_uV"]),) * 64
    assert (signal.rate_hz, signal.length, signal.quantised) == (2048.0, 24576, False)


@pytest.mark.parametrize("name", ["stim_off", "stim_on_000s_060s"])
def test_a_float_recording_with_offset(tmp_path, name):
    signal = play(tmp_path, f"tscs/{name}.npy", rate_hz=4000, unit="uV")
    assert signal.quantised
    assert_close_uv(signal, np.load(FOLDER / "tscs" / f"{name}.npy").astype(float)[:, np.newaxis])


def test_a_text_of_converter_counts(tmp_path):
    signal = play(tmp_path, "biosppy/emg_1.txt", rate_hz=1000, uv_per_count=0.5)
    assert np.array_equal(signal.counts[:, 0], np.loadtxt(FOLDER / "biosppy/emg_1.txt"))
    assert not signal.quantised


@pytest.mark.parametrize(("name", "rows"), [("5Nmar", 6563), ("3Apie", 22124)])
def test_a_text_with_header_lines_and_an_angle(tmp_path, name, rows):
    path = FOLDER / f"uci_lower_limb/{name}.txt"
    signal = play(tmp_path, path, rate_hz=1000, unit="mV", columns=[0, 1, 2, 3], skip_rows=7, rows=rows)
    assert signal.length == rows
    assert_close_uv(signal, np.loadtxt(path, skiprows=7, max_rows=rows, usecols=range(4)) * 1000)


def test_an_archive_in_volts_with_labels(tmp_path):
    name = "shoulder/pyomeca_shoulder_emg.npz"
    signal = play(tmp_path, name, unit="V")
    assert (signal.rate_hz, signal.channels, signal.labels[5]) == (2000.0, 13, "Biceps")
    with np.load(FOLDER / name) as archive:
        assert_close_uv(signal, archive["emg_V"].astype(float) * 1e6)


def test_a_table_with_channels_in_rows(tmp_path):
    name = "sep/eeg_256_channels_sep_data.csv"
    signal = play(tmp_path, name, rate_hz=2048, unit="uV", axis=1)
    assert (signal.channels, signal.length) == (256, 369)
    assert_close_uv(signal, np.loadtxt(FOLDER / name, delimiter=",").T)


def test_an_openbci_log(tmp_path):
    name = "openbci/cyton_jaw_clench_last20s.txt"
    signal = play(tmp_path, name, rate_hz=250, unit="uV", columns=list(range(1, 9)))
    assert (signal.length, signal.labels[0]) == (5000, "EXG Channel 0")
    assert_close_uv(signal, np.genfromtxt(FOLDER / name, delimiter=",", skip_header=5, usecols=range(1, 9)))
