"""WAV files: counts as the converter gave them in every width."""

import json
import struct
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from emgd_drivers.replay import RecordingError, open_recording


def write(folder, table, **sidecar):
    path = folder / "rec.wav"
    wavfile.write(path, 4000, table)
    (folder / "rec.json").write_text(json.dumps(sidecar or {"unit": "V"}))
    return path


def write_24_bit(folder, values, **sidecar):
    path = folder / "rec.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(4000)
        file.writeframes(b"".join(value.to_bytes(3, "little", signed=True) for value in values))
    (folder / "rec.json").write_text(json.dumps(sidecar or {"unit": "V"}))
    return path


def test_16_bit_values_are_counts(tmp_path):
    table = np.array([[-32768, 1], [32767, -2]], np.int16)
    signal = open_recording(write(tmp_path, table))
    assert signal.read(0, 2).tolist() == table.tolist()
    assert (signal.rate_hz, signal.labels, signal.saturation_counts) == (4000.0, ("ch0", "ch1"), (32767, 32767))
    assert signal.uv_per_count == (1e6 / 32768, 1e6 / 32768)
    assert not signal.quantised


def test_8_bit_values_lose_their_offset(tmp_path):
    signal = open_recording(write(tmp_path, np.array([0, 127, 128, 255], np.uint8)))
    assert signal.read(0, 4).T.tolist() == [[-128, -1, 0, 127]]
    assert (signal.saturation_counts, signal.uv_per_count, signal.quantised) == ((127,), (1e6 / 128,), False)


def test_24_bit_values_are_counts(tmp_path):
    values = [-(2**23), -1, 0, 1, 2**23 - 1]
    signal = open_recording(write_24_bit(tmp_path, values))
    assert signal.read(0, 5).T.tolist() == [values]
    assert (signal.saturation_counts, signal.uv_per_count, signal.quantised) == ((2**23 - 1,), (1e6 / 2**23,), False)


def test_24_bit_values_in_32_bit_words_are_counts(tmp_path):
    values = np.array([-(2**23), -1, 2**23 - 1], np.int32)
    signal = open_recording(write(tmp_path, values << 8))
    assert signal.read(0, 3).T.tolist() == [values.tolist()]
    assert not signal.quantised


def test_true_32_bit_values_are_quantised(tmp_path):
    values = np.array([-(2**31), -1, 2**31 - 1], np.int32)
    signal = open_recording(write(tmp_path, values))
    assert signal.quantised
    error_uv = signal.read(0, 3)[:, 0] * signal.uv_per_count[0] - values * (1e6 / 2**31)
    assert np.abs(error_uv).max() <= signal.uv_per_count[0] / 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_are_fractions_of_full_scale(tmp_path, dtype):
    signal = open_recording(write(tmp_path, np.array([1.0, -0.5, 0.25], dtype), unit="mV"))
    assert signal.quantised
    assert (signal.read(0, 3)[:, 0] * signal.uv_per_count[0]).tolist() == pytest.approx([1000, -500, 250])


def test_bare_counts_may_be_asked_for(tmp_path):
    signal = open_recording(write(tmp_path, np.array([1, 2], np.int16), unit="count"))
    assert (signal.uv_per_count, signal.source_unit) == ((1.0,), "count")


def test_a_wav_does_not_say_its_scale(tmp_path):
    path = tmp_path / "rec.wav"
    wavfile.write(path, 4000, np.array([1, 2], np.int16))
    with pytest.raises(
        RecordingError, match="channel 0: the file does not say what a value is in µV; give uv_per_count"
    ):
        open_recording(path)


def test_chunks_of_other_kinds_are_skipped_without_a_word(tmp_path):
    path = write(tmp_path, np.array([1, 2], np.int16))
    data = path.read_bytes() + b"note\x04\x00\x00\x00abcd"
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    assert open_recording(path).notes == ()


def test_a_file_cut_short_is_played_as_far_as_it_goes_and_told(tmp_path):
    path = write(tmp_path, np.arange(10, dtype=np.int16))
    path.write_bytes(path.read_bytes()[:-6])
    signal = open_recording(path)
    assert signal.read(0, signal.length).T.tolist() == [list(range(7))]
    assert len(signal.notes) == 1
    assert "Reached EOF prematurely" in signal.notes[0]
