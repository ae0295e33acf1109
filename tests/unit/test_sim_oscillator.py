"""The simulated crystal: exact, monotonic, and off by just as much as asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_drivers.sim.oscillator import Oscillator

SECOND_NS = 1_000_000_000
oscillators = st.builds(
    Oscillator,
    st.sampled_from([48_000_000, 480_000_000, 5_000_000_000, 1000]),
    origin_ns=st.integers(0, 2**62),
    drift_ppm=st.floats(-500, 500),
    walk_ppm_per_min=st.sampled_from([0.0, 1.0, 100.0]),
    seed=st.integers(0, 100),
)


def test_perfect_crystal_shows_the_nominal_tick():
    clock = Oscillator(48_000_000, origin_ns=5)
    assert clock.tick(5) == 0
    assert clock.tick(5 + 3600 * SECOND_NS) == 3600 * 48_000_000
    assert clock.host_ns(48_000_000) == 5 + SECOND_NS


def test_positive_drift_means_longer_ticks():
    clock = Oscillator(48_000_000, drift_ppm=50)
    assert clock.host_ns(48_000_000 * 1000) == 1000 * (SECOND_NS + 50_000)
    assert clock.tick(1000 * SECOND_NS) == pytest.approx(1000 * 48_000_000 * (1 - 50e-6), abs=200)


@given(oscillators, st.integers(0, 2**40))
def test_host_time_of_a_tick_is_the_first_at_which_the_clock_shows_it(clock, ticks):
    tick = ticks % (clock.tick_hz * 300)
    host_ns = clock.host_ns(tick)
    assert clock.tick(host_ns) >= tick
    assert clock.tick(host_ns - 1) < tick


@given(oscillators, st.lists(st.integers(0, 300 * SECOND_NS), min_size=2, max_size=20))
def test_clock_never_runs_back_in_whatever_order_it_is_asked(clock, times):
    origin_ns = clock.host_ns(0)
    shown = {at: clock.tick(origin_ns + at) for at in times}
    ordered = [shown[at] for at in sorted(shown)]
    assert ordered == sorted(ordered)


def test_steps_of_any_size_give_the_same_clock():
    stepwise, at_once = (Oscillator(48_000_000, drift_ppm=20, walk_ppm_per_min=5, seed=3) for _ in range(2))
    for second in range(600):
        stepwise.tick(second * SECOND_NS)
    assert stepwise.host_ns(600 * 48_000_000) == at_once.host_ns(600 * 48_000_000)


def test_walk_wanders_as_far_in_a_minute_as_asked():
    wandered_ppm = []
    for seed in range(200):
        clock = Oscillator(48_000_000, walk_ppm_per_min=2, seed=seed)
        last_second_ns = clock.host_ns(61 * 48_000_000) - clock.host_ns(60 * 48_000_000)
        wandered_ppm.append((last_second_ns - SECOND_NS) / 1000)
    spread = (sum(ppm**2 for ppm in wandered_ppm) / len(wandered_ppm)) ** 0.5
    assert spread == pytest.approx(2, rel=0.2)  # four standard errors of 200 draws


def test_seed_decides_the_walk():
    first, same, other = (Oscillator(48_000_000, walk_ppm_per_min=2, seed=seed) for seed in (1, 1, 2))
    tick = 90 * 48_000_000
    assert first.host_ns(tick) == same.host_ns(tick) != other.host_ns(tick)
