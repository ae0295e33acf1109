"""The lock-in: what it finds of a tone, what it ignores, and whether its uncertainty is true."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgd.lockin import LockIn
from emgd_drivers.api import Side
from emgd_drivers.emg8.protocol import ALL_CHANNELS, MAX_COUNT, UV_PER_COUNT
from emgd_drivers.sim.electrodes import TEST, CurrentSource, Electrode, Pair
from emgd_drivers.sim.signal import SyntheticEmg

HZ, RATE_HZ, WINDOW_S = 31.25, 4000.0, 1.6
OHM_PER_COUNT = UV_PER_COUNT / TEST.current_na * 1e3
REST = 7
"""Channel of the synthetic signal at rest in 3 µV of noise; the others are muscle, the one before it with hum."""


def tone_of(samples, frequency_hz=HZ, rate_hz=RATE_HZ, window_s=WINDOW_S):
    samples = np.asarray(samples)
    lockin = LockIn(frequency_hz, rate_hz, samples.shape[1], window_s)
    lockin.add(samples[: lockin.samples])
    assert lockin.missing == 0
    return lockin.tone()


def seconds(count=10_000, rate_hz=RATE_HZ):
    return np.arange(count)[:, None] / rate_hz


@pytest.mark.parametrize(
    ("frequency_hz", "rate_hz"),
    [(31.25, 48_000.0), (31.25, 44_100.0), (31.25, 250.0), (7.8, 1000.0), (1000.0, 16_000.0), (27.3, 997.0)],
)
def test_a_pure_tone_is_found_whole_whatever_its_phase_and_with_no_doubt(frequency_hz, rate_hz):
    phases = np.arange(8) * 0.8
    wave = 1e6 * np.sin(2 * np.pi * frequency_hz * seconds(int(8 * rate_hz), rate_hz) + phases)
    found = tone_of(np.rint(wave).astype(np.int32), frequency_hz, rate_hz)
    assert found.peak == pytest.approx(1e6, rel=2e-5)
    assert (found.sigma < 20).all()


def test_the_window_is_of_whole_cycles_and_holds_whole_cycles_of_mains():
    assert LockIn(31.25, 48_000.0, 1, 1.6).samples == 76_800
    assert all((1.6 * hz) % 1 == 0 for hz in (31.25, 50, 60))


@pytest.mark.parametrize("mains_hz", [50, 60, 100, 150, 180, 250])
def test_mains_and_a_large_constant_fall_out(mains_hz):
    t = seconds()
    quiet = 1000 * np.sin(2 * np.pi * HZ * t)
    loud = quiet + 100_000 * np.sin(2 * np.pi * mains_hz * t + 1) + 6_000_000
    assert tone_of(loud).peak == pytest.approx(tone_of(quiet).peak, abs=1e-3)
    assert tone_of(loud).sigma == pytest.approx(tone_of(quiet).sigma, abs=1e-3)


def test_mains_that_is_a_little_off_and_electrodes_that_wander_leave_next_to_nothing():
    t = seconds()
    found = tone_of(1000 * np.sin(2 * np.pi * 50.1 * t + 0.3) + 2000 * t + 5000 * np.sin(2 * np.pi * 0.2 * t))
    assert found.peak[0] < 0.5


def test_samples_may_come_in_pieces():
    samples = np.random.default_rng(1).integers(-1000, 1000, (LockIn(HZ, RATE_HZ, 3, WINDOW_S).samples, 3))
    pieces, whole = (LockIn(HZ, RATE_HZ, 3, WINDOW_S) for _ in range(2))
    whole.add(samples)
    for begin, end in [(0, 1), (1, 1), (1, 777), (777, len(samples))]:
        pieces.add(samples[begin:end])
    assert pieces.tone().peak == pytest.approx(whole.tone().peak, rel=1e-9)


def test_more_samples_than_a_window_holds_are_a_mistake():
    lockin = LockIn(HZ, RATE_HZ, 1, WINDOW_S)
    with pytest.raises(ValueError, match="6401 samples for a window that lacks 6400"):
        lockin.add(np.zeros((6401, 1), np.int32))


def test_the_uncertainty_is_true_and_the_mean_of_many_windows_is_not_moved_by_noise():
    rng = np.random.default_rng(2)
    wave = 100 * np.sin(2 * np.pi * HZ * seconds())
    found = [tone_of(wave + rng.normal(0, 1000, (10_000, 40))) for _ in range(10)]
    peaks, sigmas = (np.concatenate([getattr(one, name) for one in found]) for name in ("peak", "sigma"))
    # By theory: noise of 1000 in 6400 samples, sqrt(2 / 6400) for each phase, sqrt(1.5) for the Hann window.
    assert np.sqrt((sigmas**2).mean()) == pytest.approx(1000 * np.sqrt(2 / 6400 * 1.5), rel=0.05)
    assert peaks.std() == pytest.approx(sigmas.mean(), rel=0.15)
    assert peaks.mean() == pytest.approx(100, abs=4 * peaks.std() / 20)
    noise_alone = tone_of(rng.normal(0, 1000, (10_000, 400)))
    assert np.sqrt((noise_alone.peak**2).mean()) < 30, "without the correction it were 31 more than nothing"


# --- ohms, in muscle, hum and noise

OHMS = (100.0, 330.0, 1_000.0, 3_300.0, 5_000.0, 33_000.0, 200_000.0, 1_000_000.0, 2_000_000.0)
MUSCLE_OHM = 700.0
"""Bound of the standard uncertainty in working muscle: each unit's potential leaves up to 1.6 µVs at 31 Hz (1 mV, its
bell 2 ms wide), 30 of them a second in phases of chance give 2 x 1.6 sqrt(30 x 1.5 / 1.6 / 2) = 12 µV, over 24 nA 500
Ohm; some fire in step for a while."""

REST_OHM = 5.0
"""The same in 3 µV of noise at 4 kHz: 3 sqrt(2 x 1.5 / 6400) = 0.065 µV, over 24 nA 2.7 Ohm; read to a fifth."""


def measured(ohm, seed, rate_hz=RATE_HZ):
    """Ohm and uncertainty of eight channels whose E1 has so many ohms, somewhere in the signal."""
    signal = SyntheticEmg(8, rate_hz, seed=seed)
    current = CurrentSource(signal, {channel: Pair(Electrode(ohm)) for channel in range(8)}, [True] * 8)
    first = 1234 * seed + 17
    current.switch(first, ALL_CHANNELS, Side.POSITIVE, streaming=True)
    begin = first + round(0.4 * rate_hz)
    count = LockIn(TEST.frequency_hz, rate_hz, 8, WINDOW_S).samples
    current.apply(signal.read(first, begin - first), first)
    samples, _ = current.apply(signal.read(begin, count), begin)
    assert (abs(samples) < MAX_COUNT).all(), "in range"
    found = tone_of(samples, rate_hz=rate_hz)
    return found.peak * OHM_PER_COUNT, found.sigma * OHM_PER_COUNT


@pytest.mark.parametrize("ohm", OHMS)
def test_an_impedance_is_right_within_its_uncertainty_in_muscle_hum_and_noise(ohm):
    errors = []
    for seed in range(6):
        value, sigma = measured(ohm, seed)
        # Five standard deviations, of an estimate that itself is sure to a fifth; a tenth of a per mill of arithmetic.
        assert (abs(value - ohm) < 5 * sigma + 1e-4 * ohm).all(), (seed, value, sigma)
        assert (sigma[:REST] < MUSCLE_OHM).all()
        assert sigma[REST] < REST_OHM
        errors.append(value - ohm)
    assert np.sqrt(np.mean(np.square(errors)[:, REST])) < REST_OHM + 1e-4 * ohm
    assert np.sqrt(np.mean(np.square(errors)[:, :REST])) < MUSCLE_OHM


@settings(max_examples=30, deadline=None)
@given(st.floats(100, 2e6), st.integers(0, 50))
def test_any_impedance_is_right_within_its_uncertainty(ohm, seed):
    value, sigma = measured(ohm, seed, rate_hz=2000.0)
    assert (abs(value - ohm) < 6 * sigma + 1e-4 * ohm).all()
