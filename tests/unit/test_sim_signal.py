"""The made-up EMG: the same each time, believable in size, and honest about gain and mode."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_drivers.api import Mode
from emgd_drivers.emg8.protocol import MarkCode
from emgd_drivers.sim.signal import ChannelSetting, SyntheticEmg

RATE_HZ = 2000
EMG = SyntheticEmg(8, RATE_HZ, seed=4, triggers=True)
LOOP = 4 * RATE_HZ


def uv(signal, count=LOOP):
    return signal.read(0, count) * np.array(signal.uv_per_count)


def power_at(samples_uv, frequency_hz):
    """Power of one frequency in µV² (rms)."""
    turns = np.exp(-2j * np.pi * frequency_hz * np.arange(len(samples_uv)) / RATE_HZ)
    return 2 * abs(np.mean(samples_uv * turns)) ** 2


def test_active_channels_show_potentials_of_hundreds_of_microvolts():
    peaks_uv = abs(uv(EMG)).max(axis=0)
    assert (peaks_uv[:7] > 200).all()
    assert (peaks_uv < 3100).all()  # at worst all three units at once


def test_last_channel_is_at_rest():
    assert uv(EMG)[:, 7].std() == pytest.approx(3.0, rel=0.05)


def test_one_channel_has_mains_hum_and_the_resting_one_has_not():
    assert power_at(uv(EMG)[:, 7], 50) < 1
    with_hum, without = (uv(SyntheticEmg(channels, RATE_HZ, seed=4)) for channels in (3, 2))
    assert power_at(with_hum[:, 1], 50) > 30
    assert without.shape == (LOOP, 2)


def test_units_fire_six_to_fifteen_times_a_second():
    resting_uv = 60  # far above noise and hum, far below the potentials
    loud = abs(uv(SyntheticEmg(1, RATE_HZ, seed=2))[:, 0]) > resting_uv
    bursts_per_s = np.count_nonzero(loud[1:] & ~loud[:-1]) / 4
    assert 3 * 6 <= bursts_per_s <= 3 * 15 * 3  # three units, up to three phases each


def test_same_seed_same_samples_other_seed_others():
    assert np.array_equal(SyntheticEmg(8, RATE_HZ, seed=4).read(0, LOOP), EMG.read(0, LOOP))
    assert not np.array_equal(SyntheticEmg(8, RATE_HZ, seed=5).read(0, LOOP), EMG.read(0, LOOP))


@given(st.integers(0, 2**50), st.integers(0, 100), st.integers(0, 100))
def test_samples_depend_on_their_number_alone(first, left, right):
    whole = EMG.read(first, left + right)
    assert whole.dtype == np.int32
    assert whole.flags.c_contiguous
    assert np.array_equal(whole, np.concatenate([EMG.read(first, left), EMG.read(first + left, right)]))


@given(st.integers(0, 2**50), st.integers(0, 5000))
def test_trigger_marks_every_second_wherever_one_cuts(first, count):
    marks = EMG.marks(first, count)
    assert [mark[0] for mark in marks] == [seq for seq in range(first, first + count) if seq % RATE_HZ == 0]
    assert all(mark[1:] == (MarkCode.TRIGGER, 0, 1) for mark in marks)


def test_no_triggers_unless_wanted():
    assert SyntheticEmg(1, RATE_HZ).marks(0, 10 * RATE_HZ) == []


def test_gain_changes_counts_and_scale_but_not_microvolts():
    loud = EMG.tuned(RATE_HZ, [ChannelSetting(gain=24)] * 8)
    assert loud.uv_per_count == tuple(scale / 24 for scale in EMG.uv_per_count)
    assert abs(uv(loud) - uv(EMG)).max() <= EMG.uv_per_count[0] * (0.5 + 0.5 / 24) * 1.000001


def test_shorted_inputs_show_noise_and_the_test_mode_a_square_wave():
    tuned = EMG.tuned(
        RATE_HZ, [ChannelSetting(mode=Mode.SHORT), ChannelSetting(mode=Mode.TEST)] + [ChannelSetting()] * 6
    )
    assert uv(tuned)[:, 0].std() == pytest.approx(3.0, rel=0.05)
    assert abs(uv(tuned)[:, 1]).mean() == pytest.approx(1000, rel=0.01)
    assert power_at(uv(tuned)[:, 1], 10) == pytest.approx(8 / np.pi**2 * 1000**2, rel=0.01)


def test_very_many_channels_are_made_within_bounds_of_memory():
    assert SyntheticEmg(1024, 48_000).read(10**9, 48).shape == (48, 1024)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"channels": 0}, "0 channels; choose 1 to 1024"),
        ({"channels": 1025}, "1025 channels"),
        ({"rate_hz": 999.0}, "rate of 999 Hz; choose 1000 to 100000 Hz"),
        ({"length": -1}, "length of -1 samples"),
    ],
)
def test_impossible_signal_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        SyntheticEmg(**arguments)
