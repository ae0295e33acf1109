"""History and the ring under it: any range of samples that are still there comes back bit-exact, and the rest is
told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import RATE_HZ, Rig, end_frame, frame, ramp

from emgd import history
from emgd_drivers.emg8 import protocol
from emgd_ext import ring as planes
from emgd_ext.ring import Ring
from emgd_wire.kinds import MAX_HISTORY_BYTES, Flag

N = 48
CHANNELS = 2
SAMPLE_NS = 1e9 / RATE_HZ
ALL_FLAGS = 0xFF


def recorded(lost=(), frames=20, capacity=48_000, block_samples=96):
    """A rig with a stream of which some frames were lost."""
    rig = Rig(CHANNELS, block_samples, capacity)
    for i in range(frames):
        if i not in lost:
            rig.feed(frame(i, i * N, N, CHANNELS, flags=protocol.FrameFlag.START if i == 0 else 0))
    return rig.feed(end_frame(frames, frames * N, CHANNELS))


def fetch(rig, seq, count, plane=planes.RAW):
    return history.fetch(rig.ring, plane, seq, count, SAMPLE_NS, ALL_FLAGS)


def samples_of(found, dtype="<i4"):
    """{seq: row} of a slice."""
    rows = np.frombuffer(found.payload, dtype).reshape(-1, CHANNELS)
    numbers = [begin + i for begin, count, *_ in found.blocks for i in range(count)]
    assert len(numbers) == len(rows)
    return dict(zip(numbers, rows, strict=True))


@settings(deadline=None, max_examples=150)
@given(
    lost=st.sets(st.integers(0, 19), max_size=10),
    seq=st.integers(0, 1000),
    count=st.integers(1, 1000),
    block_samples=st.sampled_from([7, 48, 96, 100]),
)
def test_any_range_is_returned_exactly_with_its_gaps(lost, seq, count, block_samples):
    rig = recorded(lost, block_samples=block_samples)
    total = 20 * N
    exist = {s for s in range(total) if s // N not in lost}
    if seq >= total or not exist:
        if seq >= total:
            with pytest.raises(history.NotInHistoryError):
                fetch(rig, seq, count)
        return
    found = fetch(rig, seq, count)
    wanted = range(seq, min(seq + count, total))
    assert (found.seq, found.seq + found.count, found.expired) == (seq, wanted.stop, 0)
    rows = samples_of(found)
    assert set(rows) == exist.intersection(wanted)
    assert all((row == ramp(s, 1, CHANNELS)[0]).all() for s, row in rows.items())
    told = {s for begin, size, causes in found.gaps for s in range(begin, begin + size) if causes == ["lost"]}
    assert told == set(wanted) - exist
    trailing = sum(1 for s in wanted if s > max(rows, default=-1))
    assert sum(block[2] for block in found.blocks) == len(told) - (trailing if rows else len(told))


def test_blocks_are_those_that_were_published_flags_and_stamps_too():
    rig = recorded({3})
    published = rig.published().blocks
    found = fetch(rig, 0, 20 * N)
    assert [tuple(block) for block in found.blocks] == [
        (b.seq, b.count, b.gap_before, b.host_time_ns, b.flags, b.channel_flags) for b in published
    ]


def test_a_cut_block_has_its_own_time_and_no_gap_before_it():
    rig = recorded({1})
    whole = fetch(rig, 0, 20 * N).blocks[1]
    assert (whole[0], whole[2]) == (96, N)
    cut = fetch(rig, 100, 10).blocks[0]
    assert (cut[0], cut[1], cut[2]) == (100, 10, 0)
    assert not cut[4] & Flag.GAP_BEFORE
    assert cut[3] == whole[3] + round(4 * SAMPLE_NS)


def test_a_range_that_begins_inside_a_gap_tells_the_rest_of_the_gap():
    found = fetch(recorded({1, 2}), 60, 100)
    assert found.gaps == [[60, 84, ["lost"]]]
    assert (found.blocks[0][0], found.blocks[0][2]) == (144, 84)


def test_a_long_range_comes_in_parts_that_fit_together():
    channels, total = 64, 40_000
    ring = Rig(channels, 96, total + 96)
    for i in range(total // 200):
        ring.feed(frame(i, i * 200, 200, channels, flags=protocol.FrameFlag.START if i == 0 else 0))
    parts, seq = [], 0
    while seq < total - total % 96:
        part = history.fetch(ring.ring, planes.RAW, seq, total, SAMPLE_NS, ALL_FLAGS)
        assert len(part.payload) <= MAX_HISTORY_BYTES
        parts.append(np.frombuffer(part.payload, "<i4").reshape(-1, channels))
        seq = part.seq + part.count
    assert len(parts) > 2
    assert (np.vstack(parts) == ramp(0, total - total % 96, channels)).all()


def test_what_was_overwritten_is_said_to_be_expired():
    rig = recorded(frames=100, capacity=1000)
    oldest = history.bounds(rig.ring)[0]
    assert 0 < oldest <= 100 * N - 1000 + 96
    found = fetch(rig, 0, 100 * N)
    assert (found.expired, found.blocks[0][0]) == (oldest, oldest)
    assert sorted(samples_of(found)) == list(range(oldest, 100 * N))
    with pytest.raises(history.NotInHistoryError) as gone:
        fetch(rig, 0, oldest)
    assert (gone.value.oldest, gone.value.newest) == (oldest, 100 * N)


def test_before_the_first_block_there_is_no_history():
    with pytest.raises(history.NotInHistoryError) as nothing:
        fetch(Rig(CHANNELS), 0, 10)
    assert (nothing.value.oldest, nothing.value.newest) == (0, 0)


def test_filtered_samples_are_there_too():
    rig = recorded()
    rows = samples_of(fetch(rig, 10, 50, planes.FILTERED), "<f4")
    assert all((row == ramp(s, 1, CHANNELS)[0]).all() for s, row in rows.items())


class TestRing:
    def test_a_ring_of_nothing_is_refused(self):
        with pytest.raises(ValueError, match="0 channels"):
            Ring(0, 96, 1000)

    def test_capacity_is_rounded_up_to_whole_blocks(self):
        assert Ring(1, 96, 1000).capacity == 1056

    def test_samples_that_have_not_come_are_none(self):
        rig = recorded()
        assert rig.ring.read(planes.RAW, 20 * N - 10, 11) is None
        assert rig.ring.block(rig.ring.blocks) is None

    def test_samples_that_were_overwritten_are_none(self):
        rig = recorded(frames=100, capacity=960, block_samples=96)
        assert rig.ring.read(planes.RAW, 100 * N - 961, 10) is None
        assert rig.ring.read(planes.RAW, 100 * N - 960, 10) is not None
        assert rig.ring.block(0) is None

    def test_forgotten_events_are_not_returned(self):
        rig = Rig(1, 48, 4800)
        marks = [(7, protocol.MarkCode.TRIGGER, 0, 1)] * 1000
        for i in range(6):
            shifted = [(i * N + seq, code, channel, value) for seq, code, channel, value in marks]
            rig.feed(frame(i, i * N, N, 1, flags=protocol.FrameFlag.START if i == 0 else 0, marks=shifted))
        first, events = rig.ring.events()
        assert first + len(events) == 6000
        assert len(events) == planes.EVENT_SLOTS - 1
