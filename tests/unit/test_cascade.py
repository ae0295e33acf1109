"""The filter cascade against scipy.signal.sosfilt, for any split into blocks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgd import filters
from emgd_ext import cascade, reference

RATE_HZ = 48_000.0
LONGEST_BLOCK = 4800


def designs(channels, seed):
    rng = np.random.default_rng(seed)
    names = list(filters.PRESETS)
    specs = [filters.PRESETS[names[rng.integers(len(names))]] for _ in range(channels)]
    return [filters.design(spec, RATE_HZ) for spec in specs]


@settings(deadline=None, max_examples=40)
@given(
    channels=st.integers(1, 11),
    splits=st.lists(st.integers(1, LONGEST_BLOCK), min_size=1, max_size=8),
    seed=st.integers(0, 2**31),
)
def test_equals_scipy_to_1e_9_for_any_split_into_blocks(channels, splits, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(-(2**23), 2**23, (sum(splits), channels)).astype(np.int32)
    scale = rng.uniform(1e-3, 1.0, channels)
    designed = designs(channels, seed)
    running = filters.cascade_of(designed, scale)
    running.prime(counts[0])
    edges = np.cumsum([0, *splits])
    blocks = [running.process(counts[a:b]) for a, b in pairwise(edges)]
    expected = reference.cascade(counts, scale, [d.sections for d in designed])
    worst = np.abs(np.vstack(blocks) - expected).max(axis=0) / np.abs(expected).max(axis=0)
    assert worst.max() < 1e-9


def test_float32_output_is_the_rounded_double():
    rng = np.random.default_rng(1)
    counts = rng.integers(-1000, 1000, (333, 5)).astype(np.int32)
    designed = designs(5, 7)
    double, single = (filters.cascade_of(designed, [0.1] * 5) for _ in range(2))
    assert (single.process(counts, single=True) == double.process(counts).astype(np.float32)).all()


def test_an_offset_does_not_ring_when_primed():
    designed = filters.design(filters.PRESETS["motor"], RATE_HZ)
    running = filters.cascade_of([designed], [1.0])
    counts = np.full((100, 1), 50_000, np.int32)
    running.prime(counts[0])
    assert np.abs(running.process(counts)).max() < 1e-6


def test_no_section_means_the_signal_itself_in_microvolts():
    running = filters.cascade_of([filters.design(filters.PRESETS["off"], RATE_HZ)], [0.5])
    assert running.process(np.array([[3], [-7]], np.int32)).tolist() == [[1.5], [-3.5]]


def test_what_does_not_fit_is_refused():
    long = np.tile([1.0, 0, 0, 1, 0, 0], (cascade.MAX_SECTIONS + 1, 1))
    with pytest.raises(ValueError, match="9 sections is too long"):
        cascade.Cascade([1.0], [long], [np.zeros((len(long), 2))], [0])
    with pytest.raises(ValueError, match="a0 is 2"):
        cascade.Cascade([1.0], [np.array([[1.0, 0, 0, 2, 0, 0]])], [np.zeros((1, 2))], [0])
    running = filters.cascade_of([filters.design(filters.PRESETS["off"], RATE_HZ)], [0.5])
    with pytest.raises(ValueError, match="2 columns for 1 channels"):
        running.process(np.zeros((4, 2), np.int32))
