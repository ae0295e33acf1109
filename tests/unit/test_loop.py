"""The sample loop: every kind of fault gives exactly the right gap, and no sample is altered, lost or doubled in
silence."""

import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rig import RATE_HZ, Rig, end_frame, frame, ramp

from emgd import filters
from emgd_drivers.emg8 import protocol
from emgd_ext import reference
from emgd_ext import ring as planes
from emgd_ext.reference import Seen
from emgd_wire.kinds import Flag

N = 48
START = protocol.FrameFlag.START
OVERFLOW = protocol.FrameFlag.OVERFLOW


def stream(frames, channels=3, first_number=0):
    """Sound frames 0 … frames-1 of N samples and an END frame."""
    made = [frame(first_number + i, i * N, N, channels, flags=START if i == 0 else 0) for i in range(frames)]
    return [*made, end_frame(first_number + frames, frames * N, channels)]


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


class TestSoundStream:
    def test_every_sample_arrives_unaltered_with_its_number(self):
        rig = Rig().feed(*stream(20))
        found = rig.published()
        assert found.seqs == list(range(20 * N))
        assert (np.array([found.raw[seq] for seq in found.seqs]) == ramp(0, 20 * N, 3)).all()
        assert found.gaps == []
        assert rig.loop.has_ended

    def test_blocks_are_cut_at_multiples_whatever_the_frames(self):
        rig = Rig(block_samples=100).feed(*stream(20))
        assert [(b.seq, b.count) for b in rig.published().blocks] == [
            (at, min(100, 960 - at)) for at in range(0, 960, 100)
        ]

    def test_several_frames_in_one_transfer_are_as_good_as_one_each(self):
        whole = b"".join(stream(12))
        assert Rig().feed(whole).published().seqs == list(range(12 * N))

    def test_a_frame_sequence_that_wraps_is_no_gap(self):
        found = Rig().feed(*stream(10, first_number=2**32 - 5)).published()
        assert found.seqs == list(range(10 * N))
        assert found.gaps == []

    def test_stamps_rise_and_follow_the_nominal_rate(self):
        blocks = Rig().feed(*stream(100)).published().blocks
        steps = np.diff([b.host_time_ns for b in blocks])
        assert (steps > 0).all()
        assert np.abs(steps - 96 / RATE_HZ * 1e9).max() < 0.01 * 96 / RATE_HZ * 1e9


GAP_CASES = {
    # name: (what happens to the transfers of 10 frames, gaps, samples that are there)
    "one frame dropped": (lambda f: f[:4] + f[5:], [(192, 48, {"lost"})]),
    "three frames dropped": (lambda f: f[:4] + f[7:], [(192, 144, {"lost"})]),
    "the first frame dropped": (lambda f: f[1:], [(0, 48, {"lost"})]),
    "the last frame dropped": (lambda f: f[:9] + f[10:], [(432, 48, {"lost"})]),
    "body damaged": (lambda f: [*f[:4], flip(f[4], 60), *f[5:]], [(192, 48, {"corrupt"})]),
    "check value damaged": (lambda f: [*f[:4], flip(f[4], -1 % len(f[4])), *f[5:]], [(192, 48, {"corrupt"})]),
    "header damaged": (lambda f: [*f[:4], flip(f[4], 13), *f[5:]], [(192, 48, {"corrupt"})]),
    "first header damaged": (lambda f: [flip(f[0], 13), *f[1:]], [(0, 48, {"corrupt"})]),
    "last header damaged": (lambda f: [*f[:9], flip(f[9], 13), *f[10:]], [(432, 48, {"corrupt"})]),
    "magic damaged": (lambda f: [*f[:4], flip(f[4], 0), *f[5:]], [(192, 48, {"corrupt"})]),
    "cut in the body": (lambda f: [*f[:4], f[4][:100], *f[5:]], [(192, 48, {"truncated"})]),
    "cut in the header": (lambda f: [*f[:4], f[4][:20], *f[5:]], [(192, 48, {"truncated"})]),
    "two bodies damaged": (
        lambda f: [*f[:4], flip(f[4], 60), flip(f[5], 60), *f[6:]],
        [(192, 48, {"corrupt"}), (240, 48, {"corrupt"})],
    ),
    "dropped, then body damaged": (
        lambda f: [*f[:4], flip(f[5], 60), *f[6:]],
        [(192, 48, {"lost"}), (240, 48, {"corrupt"})],
    ),
    "dropped, then header damaged": (lambda f: [*f[:4], flip(f[5], 13), *f[6:]], [(192, 96, {"lost", "corrupt"})]),
    "header damaged, then cut in the header": (
        lambda f: [*f[:4], flip(f[4], 13), f[5][:20], *f[6:]],
        [(192, 96, {"truncated", "corrupt"})],
    ),
    "one frame twice": (lambda f: f[:5] + f[4:], []),
    "all frames twice": (lambda f: [g for g in f for _ in range(2)], []),
    "a damaged copy of what was there": (lambda f: [*f[:5], flip(f[4], 60), *f[5:]], []),
    "a copy with a damaged header": (lambda f: [*f[:5], flip(f[4], 13), *f[5:]], []),
    "an old frame late": (lambda f: [*f[:7], f[2], *f[7:]], []),
    "rubbish between frames": (lambda f: [*f[:5], b"EMG8" * 40, bytes(700), *f[5:]], []),
    "rubbish before a frame in its transfer": (lambda f: [*f[:5], b"EMG8rubbish" + f[5], *f[6:]], []),
}


@pytest.mark.parametrize("case", GAP_CASES)
def test_a_fault_gives_exactly_the_right_gap(case):
    spoil, gaps = GAP_CASES[case]
    rig = Rig().feed(*spoil(stream(10)))
    found = rig.published()
    missing = {seq for first, count, _ in gaps for seq in range(first, first + count)}
    assert found.gaps == [(first, count, frozenset(causes)) for first, count, causes in gaps]
    assert found.seqs == [seq for seq in range(10 * N) if seq not in missing]
    assert all((found.raw[seq] == ramp(seq, 1, 3)[0]).all() for seq in found.seqs)
    assert rig.loop.has_ended


def test_what_the_device_threw_away_itself_is_overflow():
    frames = [frame(0, 0, N, 3, flags=START), frame(1, 500, N, 3, flags=OVERFLOW), frame(2, 548, N, 3)]
    assert Rig().feed(*frames).published().gaps == [(48, 452, frozenset({"overflow"}))]


def test_a_jump_in_numbers_without_a_missing_frame_is_overflow_even_when_not_flagged():
    frames = [frame(0, 0, N, 3, flags=START), frame(1, 500, N, 3)]
    assert Rig().feed(*frames).published().gaps == [(48, 452, frozenset({"overflow"}))]


def test_a_lost_end_frame_is_made_up_for_by_the_devices_own_count():
    rig = Rig().feed(*stream(10)[:8])
    assert not rig.loop.has_ended
    rig.loop.finish(10 * N)
    assert rig.published().gaps == [(8 * N, 2 * N, frozenset({"lost"}))]
    assert rig.loop.has_ended


def test_finishing_where_nothing_is_missing_says_nothing():
    rig = Rig().feed(*stream(10))
    rig.loop.finish(10 * N)
    assert rig.published().gaps == []


def test_gap_before_of_a_block_is_the_sum_of_the_gaps_before_it():
    made = stream(10)
    rig = Rig().feed(*made[:4], flip(made[5], 60), *made[7:])  # 4 dropped, 5 damaged, 6 dropped
    blocks = rig.published().blocks
    after = next(b for b in blocks if b.seq == 7 * N)
    assert (after.gap_before, bool(after.flags & Flag.GAP_BEFORE)) == (3 * N, True)
    assert sum(b.gap_before for b in blocks) == 3 * N


def test_a_number_beyond_reason_is_damage_and_not_a_gap_of_years():
    mad = frame(1, 2**50, N, 3)
    found = Rig().feed(*stream(3)[:1], mad, *stream(3)[1:]).published()
    assert found.gaps == []
    assert found.seqs == list(range(3 * N))


def test_a_device_that_begins_anew_by_itself_is_noticed():
    anew = protocol.encode_frame(ramp(0, N, 3), frame_seq=0, first=0, tick=999_999, flags=START)
    rig = Rig().feed(*stream(5)[:5], anew)
    assert rig.loop.stats()[0]["restarts"] == 1


@pytest.mark.requirement("REQ-094")
def test_a_frame_that_overlaps_brings_only_what_is_new():
    marks = [(30, protocol.MarkCode.TRIGGER, 0, 1), (50, protocol.MarkCode.TRIGGER, 0, 1)]
    found = Rig().feed(frame(0, 0, N, 3, flags=START), frame(1, 24, N, 3, marks=marks), end_frame(2, 72, 3)).published()
    assert found.seqs == list(range(72))
    assert (np.array([found.raw[seq] for seq in found.seqs]) == ramp(0, 72, 3)).all()
    assert found.marks == [(50, 1, 0, 1)]


def test_a_frame_of_another_number_of_channels_is_not_believed():
    rig = Rig(channels=3).feed(frame(0, 0, N, 3, flags=START), frame(1, N, N, 4), frame(2, 2 * N, N, 3))
    assert rig.published().gaps == [(N, N, frozenset({"corrupt"}))]


def test_a_first_frame_that_comes_twice_is_no_new_beginning():
    made = stream(5)
    wire, _ = Rig().feed(made[0], *made).loop.stats()
    assert (wire["repeated"], wire["restarts"]) == (1, 0)


def test_counters_tell_what_came():
    made = stream(10)
    rig = Rig().feed(*made[:3], flip(made[3], 60), made[4][:100], made[5], made[5], *made[6:])
    wire, samples = rig.loop.stats()
    assert (wire["corrupt"], wire["truncated"], wire["repeated"]) == (1, 1, 1)
    assert (samples["gaps"], samples["missing"]) == (2, 2 * N)
    assert dict(zip(("lost", "corrupt", "truncated"), samples["causes"], strict=False)) == {
        "lost": 0,
        "corrupt": N,
        "truncated": N,
    }


# --- mixes of faults, against the rules in plain Python


@st.composite
def plans(draw):
    """What happens to each of a few dozen frames: ok, drop, repeat, corrupt at, truncate to, overflow before."""
    fates = st.one_of(
        st.just(("ok", 0)),
        st.just(("ok", 0)),
        st.just(("drop", 0)),
        st.just(("repeat", 0)),
        st.tuples(st.just("corrupt"), st.integers(0, 10**6)),
        st.tuples(st.just("truncate"), st.integers(1, 10**6)),
        st.tuples(st.just("overflow"), st.integers(1, 500)),
    )
    return draw(st.lists(fates, min_size=1, max_size=40)), draw(st.sampled_from([0, 2**32 - 3])), draw(st.booleans())


def spoiled(fates, number, channels):
    """Transfers of a stream that meets these fates; what an observer with perfect eyes sees; how many samples there
    were."""
    transfers, seen, first = [], [], 0
    for index, (fate, value) in enumerate(fates):
        flags = (START if index == 0 else 0) | (OVERFLOW if fate == "overflow" else 0)
        first += value if fate == "overflow" else 0
        data = frame(number, first, N, channels, flags=flags)
        sight = Seen(
            known=True, frame_seq=number % 2**32, first=first, count=N, start=index == 0, overflow=fate == "overflow"
        )
        if fate == "corrupt":
            at = value % len(data)
            data = flip(data, at)
            sight = Seen(known=False) if at < 48 else seen_damaged(sight, "corrupt")
        elif fate == "truncate":
            keep = 1 + value % (len(data) - 1)
            data = data[:keep]
            sight = Seen(known=False, cause="truncated") if keep < 48 else seen_damaged(sight, "truncated")
        if fate != "drop":
            copies = 2 if fate == "repeat" else 1
            transfers += [data] * copies
            seen += [sight] * copies
        first += N
        number += 1
    return transfers, seen, first, number


def seen_damaged(sight, cause):
    return Seen(True, False, cause, sight.frame_seq, sight.first, sight.count, sight.start, sight.overflow)


@pytest.mark.requirement("REQ-090", "REQ-091")
@settings(deadline=None, max_examples=300)
@given(plan=plans(), channels=st.integers(1, 5), block_samples=st.sampled_from([1, 48, 96, 100]))
@example(
    plan=([("corrupt", 3), ("drop", 0), ("truncate", 9), ("overflow", 5), ("repeat", 0)], 2**32 - 3, True),
    channels=2,
    block_samples=96,
)
def test_any_mix_of_faults_gives_the_gaps_that_the_rules_say(plan, channels, block_samples):
    fates, number, end_arrives = plan
    transfers, seen, total, number = spoiled(fates, number, channels)
    rules = reference.SequenceRules()
    rules.accept(seen)
    rig = Rig(channels, block_samples).feed(*transfers)
    if end_arrives:
        rig.feed(end_frame(number, total, channels))
        rules.accept([Seen(known=True, frame_seq=number % 2**32, first=total)])
    else:
        rig.loop.finish(total)
        rules.finish(total)
    found = rig.published()
    assert found.gaps == rules.gaps
    delivered = [seq for first, count in rules.delivered for seq in range(first, first + count)]
    assert found.seqs == delivered
    assert all((found.raw[seq] == ramp(seq, 1, channels)[0]).all() for seq in found.seqs)
    assert len(delivered) + sum(count for _, count, _ in found.gaps) == total, (
        "every sample is delivered or said to be missing"
    )
    assert sum(b.gap_before for b in found.blocks) <= sum(count for _, count, _ in found.gaps)


@pytest.mark.requirement("REQ-094")
@settings(deadline=None)
@given(noise=st.lists(st.binary(max_size=300), max_size=20), at=st.integers(0, 10))
def test_no_bytes_whatever_make_a_wrong_sample(noise, at):
    made = stream(10)
    found = Rig().feed(*made[:at], *[n for n in noise if n], *made[at:]).published()
    assert found.seqs == list(range(10 * N))
    assert all((found.raw[seq] == ramp(seq, 1, 3)[0]).all() for seq in found.seqs)


# --- flags, marks, filters


@pytest.mark.requirement("REQ-095")
def test_saturation_is_flagged_in_its_channel_and_block_only():
    samples = ramp(48, N, 3)
    samples[7, 1] = -(2**23)
    frames = [
        frame(0, 0, N, 3, flags=START),
        frame(1, 48, N, 3, samples=samples),
        frame(2, 96, N, 3),
        end_frame(3, 144, 3),
    ]
    blocks = Rig(block_samples=48).feed(*frames).published().blocks
    assert [b.channel_flags for b in blocks] == [bytes(3), bytes([0, Flag.SATURATED, 0]), bytes(3)]
    assert [b.flags for b in blocks] == [0, Flag.SATURATED, 0]


def test_an_electrode_is_flagged_from_off_to_on():
    off, on = protocol.MarkCode.ELECTRODE, protocol.MarkCode.ELECTRODE
    frames = [
        frame(0, 0, N, 3, flags=START),
        frame(1, 48, N, 3, marks=[(60, off, 2, 1)]),
        frame(2, 96, N, 3),
        frame(3, 144, N, 3, marks=[(150, on, 2, 0)]),
        frame(4, 192, N, 3),
        end_frame(5, 240, 3),
    ]
    blocks = Rig(block_samples=48).feed(*frames).published().blocks
    assert [b.channel_flags[2] for b in blocks] == [0, 2, 2, 2, 0]


def impedance(seq, sides, channel=2):
    return (seq, protocol.MarkCode.IMPEDANCE, channel, int(sides))


@pytest.mark.parametrize(
    ("begin", "end", "flagged"),
    [
        (60, 150, [0, 16, 16, 16, 0]),
        (48, 144, [0, 16, 16, 0, 0]),
        (95, 145, [0, 16, 16, 16, 0]),
        (96, 143, [0, 0, 16, 0, 0]),
    ],
)
def test_a_test_current_is_flagged_in_exactly_the_blocks_that_hold_it(begin, end, flagged):
    marks = {begin // N: [impedance(begin, 1)], end // N: [impedance(end, 0)]}
    if begin // N == end // N:
        marks = {begin // N: [impedance(begin, 1), impedance(end, 0)]}
    frames = [frame(i, i * N, N, 3, flags=START if i == 0 else 0, marks=marks.get(i, ())) for i in range(5)]
    found = Rig(block_samples=48).feed(*frames, end_frame(5, 240, 3)).published()
    assert [b.channel_flags[2] for b in found.blocks] == flagged
    assert [b.flags for b in found.blocks] == flagged
    assert not any(b.channel_flags[0] | b.channel_flags[1] for b in found.blocks)
    assert found.marks == [impedance(begin, 1), impedance(end, 0)]


def test_one_mark_may_speak_of_all_channels_and_later_ones_of_some():
    marks = [[impedance(0, 3, 0xFFFF)], [impedance(48, 0, 1)], [impedance(96, 0, 0xFFFF), impedance(96, 2, 0)]]
    frames = [frame(i, i * N, N, 3, flags=START if i == 0 else 0, marks=marks[i]) for i in range(3)]
    blocks = Rig(block_samples=48).feed(*frames, end_frame(3, 144, 3)).published().blocks
    assert [b.channel_flags for b in blocks] == [bytes([16, 16, 16]), bytes([16, 0, 16]), bytes([16, 0, 0])]


def test_a_change_of_the_test_current_lets_the_filters_settle_anew():
    made = stream(60)
    made[30] = frame(30, 30 * N, N, 3, marks=[impedance(30 * N + 5, 1)])
    rig = Rig(spec="sfemg").feed(*made)
    settle = filters.design(filters.PRESETS["sfemg"], RATE_HZ).settle_samples
    assert 0 < settle < 20 * N
    for block in rig.published().blocks:
        changed = block.seq >= 30 * N
        assert bool(block.channel_flags[2] & Flag.SETTLING) == (block.seq < changed * (30 * N + 5) + settle), block
        assert bool(block.channel_flags[0] & Flag.SETTLING) == (block.seq < settle), block


def test_the_host_flags_the_test_of_a_device_that_does_not_mark_it():
    made = stream(6)
    rig = Rig(block_samples=48).feed(*made[:1])
    rig.loop.flag_impedance([0, 2], True)
    rig.feed(*made[1:3])
    rig.loop.flag_impedance([0, 2], False)
    rig.feed(*made[3:])
    flagged = [b.channel_flags for b in rig.published().blocks]
    assert flagged == [bytes(3), *[bytes([16, 0, 16])] * 2, *[bytes(3)] * 3]
    with pytest.raises(ValueError, match="there is no channel 3; the loop has 0 to 2"):
        rig.loop.flag_impedance([3], True)


def test_marks_keep_their_sample_and_come_once():
    marks = [(50, protocol.MarkCode.TRIGGER, 0, 1), (95, 77, 0, -5)]
    spoilt = frame(1, 48, N, 3, marks=marks)
    found = Rig().feed(frame(0, 0, N, 3, flags=START), spoilt, spoilt, end_frame(2, 96, 3)).published()
    assert found.marks == [(50, 1, 0, 1), (95, 0, 0, -5)]


def test_a_mark_outside_its_frame_is_counted_and_not_published():
    rig = Rig().feed(frame(0, 0, N, 3, flags=START, marks=[(48, 1, 0, 1)]), end_frame(1, 48, 3))
    assert rig.published().marks == []
    assert rig.loop.stats()[0]["stray_marks"] == 1


def filtered(rig, block):
    return rig.ring.read(planes.FILTERED, block.seq, block.count)


def test_filtered_samples_are_the_reference_filter_primed_anew_after_a_gap():
    made = stream(30)
    rig = Rig(spec="needle_rest").feed(*made[:10], *made[12:])
    design = filters.design(filters.PRESETS["needle_rest"], RATE_HZ)
    parts = [(0, 10 * N), (12 * N, 30 * N)]
    expected = {}
    for begin, end in parts:
        out = reference.cascade(ramp(begin, end - begin, 3), [1.0] * 3, [design.sections] * 3)
        expected |= {begin + i: row.astype(np.float32) for i, row in enumerate(out)}
    for block in rig.published().blocks:
        rows = filtered(rig, block)
        assert all((rows[i] == expected[block.seq + i]).all() for i in range(block.count))


@pytest.mark.requirement("REQ-095")
def test_settling_is_flagged_after_the_start_and_after_a_gap():
    made = stream(200)
    rig = Rig(spec="sfemg").feed(*made[:100], *made[101:])
    settle = filters.design(filters.PRESETS["sfemg"], RATE_HZ).settle_samples
    assert 0 < settle < 20 * N
    for block in rig.published().blocks:
        since = block.seq - (101 * N if block.seq >= 101 * N else 0)
        assert bool(block.flags & Flag.SETTLING) == (since < settle), block


def test_a_new_filter_begins_at_a_block_and_says_where():
    made = stream(40)
    rig = Rig().feed(*made[:10])
    design = filters.design(filters.PRESETS["sfemg"], RATE_HZ)
    rig.loop.set_filter(filters.cascade_of([design] * 3, [2.0] * 3))
    assert rig.loop.filter_pending
    rig.feed(*made[10:])
    at = rig.loop.filter_from_seq
    assert at == 10 * N
    expected = reference.cascade(ramp(at, 30 * N, 3), [2.0] * 3, [design.sections] * 3)
    for block in rig.published().blocks:
        rows = filtered(rig, block)
        wanted = (
            ramp(block.seq, block.count, 3)
            if block.seq < at
            else expected[block.seq - at : block.seq - at + block.count]
        )
        assert (rows == wanted.astype(np.float32)).all()


def test_parts_that_do_not_match_are_refused():
    rig = Rig()
    with pytest.raises(ValueError, match="a filter of 2 channels"):
        rig.loop.set_filter(filters.cascade_of([filters.design(filters.PRESETS["off"], RATE_HZ)] * 2, [1.0] * 2))


def test_the_worked_example_of_the_device_document_is_what_the_loop_takes():
    example_frame = bytes.fromhex(
        "454d4738 0101 0100 00000000 0200 0100 0000000000000000 e803000000000000"
        "0000 0000 06000000 00000000 16aea3b3 010000 feffff 76553736".replace(" ", "")
    )
    assert struct.unpack_from("<I", example_frame, 44)[0] == 0xB3A3AE16
    assert [row[0] for row in Rig(channels=1, block_samples=2).feed(example_frame).published().raw.values()] == [1, -2]
