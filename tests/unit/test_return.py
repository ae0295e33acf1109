"""A device that was lost and is back: numbers run on, and what was missed is a gap whose range follows from time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import RATE_HZ, TICKS_PER_SAMPLE, Rig, ramp

from emgd_drivers.emg8 import protocol
from emgd_ext.clock import ClockModel
from emgd_ext.emg8 import Emg8Decoder

N = 48
FRAME_NS = 1_000_000
START = protocol.FrameFlag.START


class World:
    """A device that is plugged in, streams, and is unplugged, on host time that the test moves."""

    def __init__(self, rig):
        self.rig = rig
        self.now_ns = 10**9
        self.clock = rig.loop.clock

    def power_up(self, tick):
        self.first_tick = tick
        self.powered_ns = self.now_ns

    def tick_at(self, host_ns):
        return self.first_tick + int((host_ns - self.powered_ns) * protocol.TICK_HZ // 10**9)

    def stream(self, frames, *, lost=()):
        """So many frames from START on; those in `lost` never arrive."""
        start_tick = self.tick_at(self.now_ns)
        for number in range(frames):
            self.now_ns += FRAME_NS
            if number not in lost:
                data = protocol.encode_frame(
                    ramp(number * N, N, self.rig.channels),
                    frame_seq=number,
                    first=number * N,
                    tick=start_tick + int(number * N * TICKS_PER_SAMPLE),
                    flags=START if number == 0 else 0,
                    frame_type=protocol.FrameType.DATA,
                    marks=[],
                )
                self.rig.loop.feed(data, self.now_ns)

    def published(self):
        self.rig.loop.finish(self.rig.loop.next_seq)  # or the last block stays open
        return self.rig.published()

    def come_back(self, *, tick, slept_ns=0):
        self.clock = ClockModel(protocol.TICK_HZ)
        self.rig.loop.resume(Emg8Decoder(self.rig.channels), self.clock, slept_ns)
        self.power_up(tick)


def plugged(tick=10**6):
    world = World(Rig(capacity=480_000))
    world.power_up(tick)
    return world


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(1, 60),
    away_ms=st.integers(1, 5000),
    tick=st.integers(0, 2**62),
    more=st.integers(1, 60),
)
def test_what_was_missed_is_one_gap_as_long_as_it_took(frames, away_ms, tick, more):
    world = plugged()
    world.stream(frames)
    world.now_ns += away_ms * 1_000_000
    world.come_back(tick=tick)
    world.stream(more)
    found = world.published()
    missed = found.gaps[0][1]
    assert found.gaps == [(frames * N, missed, frozenset({"device_lost"}))]
    # Unprobed clocks of a device that delivers at once are right within half of what USB may take (1 ms), twice.
    assert missed == pytest.approx(away_ms * 1e-3 * RATE_HZ, abs=1.5e-3 * RATE_HZ)
    begin = frames * N + missed
    assert found.seqs == [*range(frames * N), *range(begin, begin + more * N)]
    assert (np.array([found.raw[begin + i] for i in range(more * N)]) == ramp(0, more * N, 3)).all()


def test_the_first_block_after_it_says_how_much_is_missing_and_stamps_go_on():
    world = plugged()
    world.stream(50)
    world.now_ns += 10**9
    world.come_back(tick=0)
    world.stream(50)
    found = world.published()
    after = next(block for block in found.blocks if block.gap_before)
    assert after.gap_before == found.gaps[0][1]
    stamps = [block.host_time_ns for block in found.blocks]
    assert stamps == sorted(set(stamps))
    expected = stamps[0] + (after.seq - found.blocks[0].seq) / RATE_HZ * 1e9
    assert after.host_time_ns == pytest.approx(expected, abs=1.5e6)


def test_frames_lost_at_the_start_of_the_new_stream_are_told_as_lost():
    world = plugged()
    world.stream(10)
    world.now_ns += 50_000_000
    world.come_back(tick=7)
    world.stream(10, lost={0, 1})
    first, second = world.published().gaps
    assert first[2] == {"device_lost"}
    assert second == (first[0] + first[1], 2 * N, frozenset({"lost"}))


def test_the_time_that_the_machine_slept_counts():
    world = plugged()
    world.stream(10)
    world.now_ns += 10_000_000
    world.come_back(tick=7, slept_ns=3_000_000_000)
    world.stream(10)
    assert world.published().gaps[0][1] == pytest.approx(3.01 * RATE_HZ, abs=1.5e-3 * RATE_HZ)


def test_gone_again_before_the_first_frame_is_one_absence():
    world = plugged()
    world.stream(10)
    world.now_ns += 100_000_000
    world.come_back(tick=7, slept_ns=1_000_000_000)
    world.now_ns += 100_000_000
    world.come_back(tick=9)
    world.stream(10)
    gaps = world.published().gaps
    assert len(gaps) == 1
    assert gaps[0][1] == pytest.approx(1.2 * RATE_HZ, abs=1.5e-3 * RATE_HZ)
    assert world.rig.loop.stats()[0]["returns"] == 2


def test_a_device_that_never_sent_anything_leaves_no_gap():
    world = plugged()
    world.now_ns += 10**9
    world.come_back(tick=5)
    world.stream(5)
    found = world.published()
    assert found.gaps == []
    assert found.seqs == list(range(5 * N))


def test_marks_of_the_new_stream_carry_our_numbers():
    world = plugged()
    world.stream(10)
    world.now_ns += 10_000_000
    world.come_back(tick=5)
    data = protocol.encode_frame(
        ramp(0, N, 3), frame_seq=0, first=0, tick=5, flags=START, frame_type=protocol.FrameType.DATA,
        marks=[(3, protocol.MarkCode.TRIGGER, 0, 1)],
    )  # fmt: skip
    world.rig.loop.feed(data, world.now_ns + FRAME_NS)
    found = world.published()
    assert found.marks[0][0] == found.gaps[0][0] + found.gaps[0][1] + 3


def test_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="device of 4 channels"):
        plugged().rig.loop.resume(Emg8Decoder(4), ClockModel(protocol.TICK_HZ))
