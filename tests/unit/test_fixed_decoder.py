"""The decoder of plain byte streams against the plain reference, and through the sample loop: whatever happens to the
bytes, no sample is wrong, and what is missing is said."""

from itertools import pairwise

import numpy as np
import pytest
from fixed_reference import (
    CYTON,
    CYTON_RATE_HZ,
    DUE,
    DUE_RATE_HZ,
    OK,
    cyton_frame,
    due_frame,
    ramp,
    read_cyton,
    read_due,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rig import Rig

from emgd_ext.fixed import Constant, FixedDecoder, Layout, Place

MS = 1_000_000
START_NS = 10**12
PERIOD_NS = 4 * MS
GOOD, CORRUPT = 0, 1
START, OVERFLOW, END = 1, 2, 4


def cyton(numbers, samples=ramp):
    return b"".join(cyton_frame(number, samples(number)) for number in numbers)


def due(numbers, samples=ramp, micros=lambda number: 1000 + number * 62.5):
    return b"".join(due_frame(number, samples(number), micros=int(micros(number))) for number in numbers)


def decoded(data, layout=CYTON, rate_hz=CYTON_RATE_HZ, cuts=()):
    """All frames of a stream that came in pieces cut at `cuts`, then silence, then the end."""
    decoder = FixedDecoder(layout, rate_hz)
    frames = []
    for begin, end in pairwise([0, *sorted(cuts), len(data)]):
        frames += decoder.decode(data[begin:end], START_NS)
    frames += decoder.decode_idle(START_NS + 40 * MS)
    return decoder, frames


def good(frames):
    return [(frame.first, frame.samples.tolist()) for frame in frames if frame.status == GOOD and frame.count]


def damage(frames):
    return sum(frame.status == CORRUPT for frame in frames)


def pieces_of(skipped, length):
    """How many damaged frames a stretch of skipped bytes is reported as."""
    return sum(-(-count // length) for _, count in skipped)


# --- against the reference


STRETCH = st.one_of(
    st.integers(0, 260).map(lambda number: cyton_frame(number, ramp(number))),
    st.integers(0, 260).map(lambda number: cyton_frame(number, ramp(number), end=0xC7)),
    st.integers(0, 255).map(lambda number: cyton(range(number, number + 4))),
    st.integers(0, 255).map(lambda number: cyton(range(number, number + 4))[10:80]),
    st.binary(max_size=40),
    st.just(b"\xa0"),
    st.sampled_from([b"\xa0\xc0", b"\xc0\xa0\x00", bytes(33)]),
)

DUE_STRETCH = st.one_of(
    st.integers(0, 2**32).map(lambda number: due([number, number + 1])),
    st.integers(0, 50).map(lambda number: due(range(number, number + 4))[10:100]),
    st.binary(max_size=40),
    st.just(OK),
    st.integers(1, 39).map(lambda size: OK[:size]),
    st.sampled_from(
        [b"\x82", b"\x82\xa1C\xcc\xc8", b"{", b'{"STATUS_CODE":502,"STATUS_TEXT":"No Active Channels"}\r\n']
    ),
)


@settings(deadline=None, max_examples=500)
@given(st.data())
def test_any_bytes_in_any_pieces_are_read_as_the_reference_reads_them(data):
    stretches, layout, rate_hz, reference, length = data.draw(
        st.sampled_from(
            [(STRETCH, CYTON, CYTON_RATE_HZ, read_cyton, 33), (DUE_STRETCH, DUE, DUE_RATE_HZ, read_due, 44)]
        )
    )
    stream = b"".join(data.draw(st.lists(stretches, max_size=12)))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=60))
    found = reference(stream)
    decoder, frames = decoded(stream, layout, rate_hz, cuts)
    # Frames that were here before are not told apart by the reference: compare the samples alone.
    assert [samples for _, samples in good(frames)] == [samples for _, samples in found.frames]
    # What is skipped at the very end is reported with the next frame, or the end.
    trailing = [found.skipped.pop()] if found.skipped and found.skipped[-1][0] == len(found.frames) else []
    assert damage(frames) == pieces_of(found.skipped, length) + sum(count // length for _, count in trailing)
    assert decoder.answers == found.remarks
    decoder.expect_end(START_NS + 40 * MS)
    *leftover, end = decoder.decode_idle(START_NS + 140 * MS)
    rest = sum(count for _, count in trailing) + found.rest
    assert damage(frames) + len(leftover) == pieces_of([*found.skipped, (0, rest)], length)
    assert (end.flags, end.count, end.first) == (END, 0, decoder.samples)


@pytest.mark.parametrize("size", [1, 2, 7, 33, 34, 4096])
def test_pieces_of_one_size_give_the_same_frames(size):
    stream = cyton(range(300))
    _, frames = decoded(stream, cuts=range(size, len(stream), size))
    assert [frame.first for frame in frames] == list(range(300))
    assert all((frame.samples == ramp(frame.first)).all() for frame in frames)


def test_a_long_stream_in_one_piece_is_read_whole():
    _, frames = decoded(due(range(20_000)), DUE, DUE_RATE_HZ)
    assert [frame.first for frame in frames] == list(range(20_000))
    assert damage(frames) == 0


# --- what is believed


def test_the_newest_frame_waits_for_the_next_or_for_silence():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    run(decoder, range(3))
    assert [first for first, _ in good(decoder.decode(cyton([3]), START_NS + 3 * PERIOD_NS))] == [2]
    assert decoder.decode_idle(START_NS + 3 * PERIOD_NS + 39 * MS) == []
    (last,) = decoder.decode_idle(START_NS + 3 * PERIOD_NS + 40 * MS)
    assert (last.first, last.flags) == (3, 0)


def test_where_frames_begin_takes_three_to_find():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    assert decoder.decode(cyton([0, 1]), START_NS) == []
    assert [frame.first for frame in decoder.decode(cyton([2]), START_NS)] == [0, 1]
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    decoder.decode(cyton([0, 1]), START_NS)
    assert [frame.first for frame in decoder.decode_idle(START_NS + 40 * MS)] == [0, 1]


def test_one_frame_without_another_before_or_behind_it_is_none():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    decoder.decode(cyton([0]), START_NS)
    assert decoder.decode_idle(START_NS + 40 * MS) == []
    decoder.expect_end(START_NS)
    damaged, end = decoder.decode_idle(START_NS + 200 * MS)
    assert (damaged.status, end.first) == (CORRUPT, 1)


def test_a_frame_that_waited_came_when_its_last_byte_came():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    decoder.decode(cyton(range(3)), START_NS)
    decoder.decode(cyton([3])[:20], START_NS + 1)
    decoder.decode(cyton([3])[20:], START_NS + 2)
    decoder.decode(cyton([4])[:1], START_NS + 3)
    (frame,) = decoder.decode(cyton([4])[1:], START_NS + 4)
    assert (frame.first, frame.host_ns) == (3, START_NS + 2)
    assert [frame.host_ns for frame in decoder.decode_idle(START_NS + 50 * MS)] == [START_NS + 4]


def test_many_tiny_deliveries_blur_the_arrival_and_nothing_else():
    decoder = FixedDecoder(DUE, DUE_RATE_HZ)
    stream = due(range(4))
    frames = []
    for at in range(len(stream)):
        frames += decoder.decode(stream[at : at + 1], START_NS + at)
    assert [frame.first for frame in frames] == [0, 1, 2]
    for frame in frames:
        assert 44 * frame.first + 43 <= frame.host_ns - START_NS < 44 * frame.first + 44 + 44


def test_bytes_that_are_lost_in_one_frame_cost_that_frame():
    stream = due(range(5)) + due([5])[:25] + due([5])[26:] + due(range(6, 10))
    _, frames = decoded(stream, DUE, DUE_RATE_HZ)
    assert [first for first, _ in good(frames)] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert damage(frames) == 1


def test_where_a_header_of_one_byte_is_out_of_step_the_first_frame_is_given_up_too():
    stream = cyton(range(5)) + cyton([5])[:12] + cyton([5])[13:] + cyton(range(6, 10))
    _, frames = decoded(stream)
    assert [first for first, _ in good(frames)] == [0, 1, 2, 3, 4, 7, 8, 9]
    assert damage(frames) == 2


def test_a_frames_length_lost_across_two_frames_yields_no_frame_of_two_halves():
    whole = cyton(range(10))
    for at in range(3 * 33 + 2, 4 * 33):
        _, frames = decoded(whole[:at] + whole[at + 33 :])
        assert [first for first, _ in good(frames)] == [0, 1, 2, *range(5, 10)]


def test_halves_that_came_more_than_half_a_turn_apart_are_no_frame():
    """256 frames lost: the number of the next frame fits, the time does not."""
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    frames = decoder.decode(cyton(range(3)) + cyton([3])[:10], START_NS)
    frames += decoder.decode(cyton([259])[10:] + cyton(range(260, 264)), START_NS + 256 * PERIOD_NS)
    assert [samples for _, samples in good(frames)] == [ramp(number).tolist() for number in (0, 1, 2, 260, 261, 262)]


def test_the_frame_before_a_hole_in_the_numbers_is_given_up():
    _, frames = decoded(cyton([0, 1, 2, 5, 6, 7]))
    assert [first for first, _ in good(frames)] == [0, 1, 5, 6, 7]
    assert damage(frames) == 1


def test_a_remark_between_two_frames_costs_nothing():
    decoder, frames = decoded(OK + OK + due([0, 1]) + OK + due([2]) + 3 * OK, DUE, DUE_RATE_HZ)
    assert [first for first, _ in good(frames)] == [0, 1, 2]
    assert (damage(frames), decoder.answers) == (0, 6)


def test_constant_bits_must_be_right():
    frames = [bytearray(due([number])) for number in range(6)]
    frames[3][17] ^= 0x10
    _, found = decoded(b"".join(frames), DUE, DUE_RATE_HZ)
    assert [first for first, _ in good(found)] == [0, 1, 2, 4, 5]


# --- numbers


def test_an_eight_bit_counter_is_unwrapped():
    _, frames = decoded(cyton(range(1000)))
    assert [frame.first for frame in frames] == list(range(1000))
    assert [frame.frame_seq for frame in frames] == list(range(1000))
    assert [frame.tick for frame in frames] == list(range(1000))


def run(decoder, numbers, *, taken_ns=lambda number: number * PERIOD_NS, late_ns=0):
    """Frames delivered one by one, each `late_ns` after its sample was taken."""
    frames = []
    for number in numbers:
        frames += decoder.decode(cyton([number]), START_NS + int(taken_ns(number)) + late_ns)
    return frames


@pytest.mark.parametrize("lost", [1, 100, 200, 254, 255, 256, 257, 511, 512, 513, 2000, 5001])
@pytest.mark.parametrize("late_ms", [0, 30, 300])
def test_a_hole_of_any_length_is_measured_by_time(lost, late_ms):
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    decoder.expect_start(START_NS)
    run(decoder, range(500), late_ns=5 * MS)
    decoder.decode_idle(START_NS + 500 * PERIOD_NS + 50 * MS)
    frames = run(decoder, range(500 + lost, 510 + lost), late_ns=5 * MS + late_ms * MS)
    assert [frame.first for frame in frames if frame.count] == list(range(500 + lost, 509 + lost))


@pytest.mark.parametrize("error", [-0.005, 0.0, 0.005])
def test_an_outage_of_minutes_is_measured_with_the_rate_as_it_was_found(error):
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    period_ns = PERIOD_NS * (1 + error)
    run(decoder, range(5000), taken_ns=lambda number: number * period_ns)
    decoder.decode_idle(START_NS + int(5000 * period_ns) + 50 * MS)
    back = 5000 + 75_123
    frames = run(decoder, range(back, back + 9), taken_ns=lambda number: number * period_ns)
    assert [frame.first for frame in frames if frame.count] == list(range(back, back + 8))


def test_samples_lost_before_the_first_one_that_came_are_known_when_the_start_is():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    decoder.expect_start(START_NS)
    frames = run(decoder, range(300, 304), late_ns=40 * MS)
    assert [(frame.first, frame.flags) for frame in frames] == [(300, 0), (301, 0), (302, 0)]


def test_a_host_that_slept_is_no_hole():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    run(decoder, range(100))
    frames = decoder.decode(cyton(range(100, 1600)), START_NS + 1600 * PERIOD_NS)
    assert [frame.first for frame in frames] == list(range(99, 1599))


def test_a_first_delivery_that_was_late_does_not_turn_what_follows_into_repeats():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    frames = decoder.decode(cyton([0]), START_NS)
    frames += decoder.decode(cyton(range(1, 60)), START_NS + 1 * MS)
    assert [frame.first for frame in frames] == list(range(59))


def test_a_restart_that_was_announced_is_placed_by_time():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    run(decoder, range(700))
    decoder.expect_restart()
    frames = []
    for number in range(20):  # six samples later it counts from 0 again
        frames += decoder.decode(cyton([number]), START_NS + (706 + number) * PERIOD_NS)
    seqs = [frame.first for frame in frames if frame.status == GOOD]
    assert seqs == list(range(706, 725))
    first = next(frame for frame in frames if frame.status == GOOD)
    # 699 stood before a hole, 700 to 705 were never taken
    assert (first.flags, first.frame_seq, decoder.left_out) == (OVERFLOW, 700, 6)


def test_an_announced_restart_that_did_not_come_is_forgotten():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    decoder.expect_restart()
    run(decoder, range(600))
    frames = run(decoder, range(605, 610))
    assert [frame.first for frame in frames if frame.count] == [605, 606, 607, 608]
    assert decoder.left_out == 0


def test_a_device_that_counts_anew_by_itself_is_told_from_bytes_that_came_twice():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    run(decoder, range(150))
    frames = []
    for number in range(140):
        frames += decoder.decode(cyton([number]), START_NS + (150 + number) * PERIOD_NS)
    repeats = [frame for frame in frames if frame.count]
    assert all(frame.first <= 149 for frame in repeats)
    assert [bool(frame.flags & START) for frame in repeats] == [False] * 128 + [True] * (len(repeats) - 128)


# --- ticks


def test_ticks_are_unwrapped_and_start_where_the_device_started():
    first = 2**32 - 100_000
    _, frames = decoded(due(range(4000), micros=lambda n: first + n * 62.5), DUE, DUE_RATE_HZ)
    assert frames[0].tick == int(first + 62.5) - 62, "the first is taken from the second"
    assert [frame.tick for frame in frames[1:]] == [int(first + number * 62.5) for number in range(1, 4000)]
    assert [frame.first for frame in frames] == list(range(4000))
    assert [frame.flags for frame in frames[:2]] == [START, 0]


@pytest.mark.parametrize("rate_hz", [250, 1000, 4000, 16_000])
@pytest.mark.parametrize("error", [-0.02, -0.005, 0, 0.005, 0.02])
def test_conversions_that_the_device_missed_show_in_its_ticks(rate_hz, error):
    """Its counter steps by one whatever it missed; its converter's own clock is off by up to a fiftieth."""
    period = 1e6 / rate_hz * (1 + error)
    rng = np.random.default_rng(1)
    missed, frames, conversion = {}, [], 0
    for number in range(6000):
        if number > 1000 and number % 97 == 0:
            missed[number] = int(rng.integers(1, 12))
            conversion += missed[number]
        micros = int(conversion * period + rng.uniform(0, 0.3) * period)
        frames.append(due_frame(number, ramp(conversion), micros=micros))
        conversion += 1
    decoder = FixedDecoder(DUE, rate_hz)
    found = decoder.decode(b"".join(frames), START_NS) + decoder.decode_idle(START_NS + 40 * MS)
    assert all((frame.samples == ramp(frame.first)).all() for frame in found)
    assert decoder.left_out == sum(missed.values())
    assert [frame.frame_seq for frame in found if frame.flags & OVERFLOW] == list(missed)


def test_frames_lost_on_the_way_are_not_laid_to_the_device():
    decoder, frames = decoded(due([*range(2000), *range(3000, 3100)]), DUE, DUE_RATE_HZ)
    assert [frame.first for frame in frames if frame.count] == [*range(1999), *range(3000, 3100)]
    assert decoder.left_out == 0


# --- the end


def test_end_is_told_after_a_stop_and_silence_and_only_once():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    run(decoder, range(10))
    stopped_ns = START_NS + 10 * PERIOD_NS
    decoder.expect_end(stopped_ns)
    run(decoder, range(10, 15))  # the device is told late
    last_ns = START_NS + 14 * PERIOD_NS
    assert [frame.first for frame in decoder.decode_idle(last_ns + 50 * MS)] == [14]
    (end,) = decoder.decode_idle(last_ns + 100 * MS)
    assert (end.flags, end.first, end.count, end.frame_seq) == (END, 15, 0, 15)
    assert decoder.decode_idle(last_ns + 10_000 * MS) == []


def test_end_of_a_stream_that_never_began():
    decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
    assert decoder.decode_idle(START_NS) == []
    decoder.expect_end(START_NS)
    assert decoder.decode_idle(START_NS + 99 * MS) == []
    (end,) = decoder.decode_idle(START_NS + 100 * MS)
    assert (end.flags, end.first) == (END, 0)


def test_frames_that_were_given_up_at_the_end_are_counted():
    decoder, _ = decoded(cyton(range(11)) + b"\xa0")
    decoder.expect_end(START_NS)
    *damaged, end = decoder.decode_idle(START_NS + 200 * MS)
    assert len(damaged) == 2
    assert end.first == 11


# --- through the sample loop


def published(layout, rate_hz, deliveries, *, samples_per_block=16, end=True):
    """What is in the ring after deliveries of (bytes, host_ns), and the loop's counters."""
    decoder = FixedDecoder(layout, rate_hz)
    rig = Rig(8, samples_per_block, 40_000, decoder=decoder, rate_hz=rate_hz, tick_hz=layout.tick_hz or rate_hz)
    now_ns = START_NS
    for data, host_ns in deliveries:
        now_ns = host_ns
        rig.loop.feed(data, host_ns)
    rig.loop.feed_idle(now_ns + 50 * MS)
    if end:
        decoder.expect_end(now_ns + 50 * MS)
        rig.loop.feed_idle(now_ns + 200 * MS)
        assert rig.loop.has_ended
    return rig.published(), rig.loop.stats()


def on_time(frames, period_ns):
    return [(frame, START_NS + int(number * period_ns)) for number, frame in enumerate(frames)]


def test_a_clean_stream_comes_through_with_its_times():
    deliveries = on_time([cyton([number]) for number in range(1000)], PERIOD_NS)
    found, (wire, samples) = published(CYTON, CYTON_RATE_HZ, deliveries)
    assert found.seqs == list(range(1000))
    assert (samples["gaps"], wire["corrupt"], wire["frames"]) == (0, 0, 1001)
    errors_ns = [block.host_time_ns - (START_NS + block.seq * PERIOD_NS) for block in found.blocks]
    # Not late by the frame's wait for the next one, which is 4 ms.
    assert all(-1 * MS <= error_ns <= 0 for error_ns in errors_ns)


CAUSES = {
    "lost in the air": (lambda frames: frames[:20] + frames[23:], [(19, 4, {"lost", "corrupt"})]),
    "one byte lost": (lambda f: [*f[:20], f[20][:9] + f[20][10:], *f[21:]], [(20, 2, {"corrupt"})]),
    "noise between": (lambda f: [*f[:20], b"some noise", *f[20:]], [(19, 2, {"corrupt"})]),
    "a frame of noise": (lambda f: [*f[:20], bytes(33), *f[20:]], [(19, 1, {"corrupt"})]),
    "frame sent twice": (lambda f: [*f[:20], f[19], *f[20:]], []),
    "four sent twice": (lambda f: [*f[:20], *f[16:20], *f[20:]], []),
}


@pytest.mark.parametrize("case", CAUSES)
def test_what_is_missing_is_said_with_its_cause(case):
    change, gaps = CAUSES[case]
    frames = [cyton([number]) for number in range(60)]
    # Whatever is between the frames came with them; a frame's time is that of its sample.
    deliveries = [(frame, START_NS + frame[1] * PERIOD_NS if len(frame) > 1 else START_NS) for frame in change(frames)]
    deliveries = [(data, max(ns, START_NS)) for data, ns in deliveries]
    newest_ns = START_NS
    ordered = []
    for data, ns in deliveries:
        newest_ns = max(newest_ns, min(ns, START_NS + 60 * PERIOD_NS))
        ordered.append((data, newest_ns))
    found, _ = published(CYTON, CYTON_RATE_HZ, ordered)
    assert found.gaps == [(first, count, frozenset(causes)) for first, count, causes in gaps]
    missing = {seq for first, count, _ in gaps for seq in range(first, first + count)}
    assert found.seqs == [seq for seq in range(60) if seq not in missing]
    assert all((found.raw[seq] == ramp(seq)).all() for seq in found.seqs)


def test_what_the_device_missed_is_an_overflow():
    conversions = [*range(300), *range(307, 400)]
    frames = b"".join(
        due_frame(number, ramp(conversion), micros=int(conversion * 62.5))
        for number, conversion in enumerate(conversions)
    )
    found, _ = published(DUE, DUE_RATE_HZ, [(frames, START_NS)])
    assert found.gaps == [(300, 7, frozenset({"overflow"}))]
    assert found.seqs == conversions
    assert all((found.raw[seq] == ramp(seq)).all() for seq in found.seqs)


def test_a_device_that_counts_anew_by_itself_is_noticed():
    frames = [cyton([number]) for number in [*range(150), *range(140)]]
    _, (wire, _) = published(CYTON, CYTON_RATE_HZ, on_time(frames, PERIOD_NS))
    assert wire["restarts"] > 0


def flat(_number):
    """Samples whose bytes look like the ends and headers of frames: what an electrode that came off could give."""
    return [-0x3F5F40] * 8


def noisy(number):
    return np.random.default_rng(number).integers(-(2**23), 2**23, 8)


FRAMES_LONG = st.sampled_from([33, 44, 66, 88, 330, 440])
# What is put in and what is lost meet in no frame: bytes that are changed where they are cannot be seen by anybody.
APART = 100
EDIT = st.tuples(
    st.integers(0, 1500),
    st.one_of(
        st.tuples(st.just("noise"), st.binary(min_size=1, max_size=120)),
        st.tuples(st.just("lose"), st.integers(1, 200) | FRAMES_LONG),
        st.tuples(st.just("twice"), st.integers(1, 200) | FRAMES_LONG),
    ),
)


def edited(stream, edits):
    """The stream with bytes put in, taken out or repeated; each piece with how far the original had come."""
    octets = list(enumerate(stream))
    places, at = [], 0
    for distance, (kind, what) in edits:
        at += distance
        places.append((min(at, len(octets)), kind, what))
        at += APART + (what if kind == "lose" else 0)
    for place, kind, what in reversed(places):
        if kind == "noise":
            origin = octets[place - 1][0] if place else 0
            octets[place:place] = [(origin, octet) for octet in what]
        elif kind == "lose":
            del octets[place : place + what]
        else:
            octets[place:place] = octets[max(0, place - what) : place]
    return octets


@settings(deadline=None, max_examples=400)
@given(
    device=st.sampled_from(["cyton", "due"]),
    samples=st.sampled_from([ramp, flat, noisy]),
    edits=st.lists(EDIT, min_size=1, max_size=6),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=20),
)
def test_noise_loss_and_repeats_anywhere_yield_no_wrong_sample(device, samples, edits, sizes):
    layout, rate_hz, make, length = {
        "cyton": (CYTON, CYTON_RATE_HZ, cyton, 33),
        "due": (DUE, DUE_RATE_HZ, due, 44),
    }[device]
    total = 140
    stream = make(range(total), samples)
    calm = 10 * length  # the last frames are as they were sent, so that the last one is not a matter of chance
    octets = edited(stream[:-calm], edits) + list(enumerate(stream))[-calm:]
    deliveries, at, newest_ns = [], 0, START_NS
    while at < len(octets):
        size = sizes[len(deliveries) % len(sizes)]
        piece = octets[at : at + size]
        sent_ns = START_NS + int(max(origin for origin, _ in piece) / length / rate_hz * 1e9)
        newest_ns = max(newest_ns, sent_ns)
        deliveries.append((bytes(octet for _, octet in piece), newest_ns))
        at += size
    found, (_, counted) = published(layout, rate_hz, deliveries)
    missing = [seq for first, count, _ in found.gaps for seq in range(first, first + count)]
    assert sorted(found.seqs + missing) == list(range(total)), "every sample is there, or said to be missing, once"
    assert counted["missing"] == len(missing)
    assert all(causes for *_, causes in found.gaps)
    wrong = [seq for seq in found.seqs if (found.raw[seq] != samples(seq)).any()]
    assert wrong == []


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=3000))
def test_noise_alone_is_no_sample(noise):
    assume(b"\xa0" not in noise or not read_cyton(noise).frames)
    _, frames = decoded(noise)
    assert good(frames) == []


# --- layouts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"length": 0}, "a frame has 0 bytes"),
        ({"length": 1000}, "1 to 512 are possible"),
        ({"header": b""}, "a header has 0 bytes"),
        ({"header": bytes(17)}, "a header has 17 bytes"),
        ({"counter": Place(32, 2)}, "1 numbers of 2 bytes at byte 32 do not fit into 33 bytes"),
        ({"counter": Place(1, 5)}, "a number has 5 bytes"),
        ({"samples": Place(10, 3)}, "8 numbers of 3 bytes at byte 10 do not fit"),
        ({"tick": Place(26, 4)}, "tick_hz is 0"),
        ({"tick": Place(30, 4), "tick_hz": 1.0}, "do not fit"),
        ({"constants": [Constant(33, 1, 1)]}, "a constant at byte 33 lies outside"),
        ({"constants": [Constant(3, 1, 1)] * 5}, "there are 5 constants"),
        ({"remark": bytes(65)}, "a remark has 65 bytes"),
        ({"remark": b"\xa0k"}, "begins like a header"),
    ],
)
def test_a_layout_that_cannot_be_is_refused(change, said):
    layout = {"length": 33, "channels": 8, "header": b"\xa0", "counter": Place(1, 1), "samples": Place(2, 3, True)}
    with pytest.raises(ValueError, match=said):
        Layout(**(layout | change))


def test_a_rate_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="rate_hz is 0"):
        FixedDecoder(CYTON, 0.0)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("big_endian", [False, True])
def test_samples_of_any_width_and_order_are_read(size, big_endian):
    order = "big" if big_endian else "little"
    layout = Layout(
        length=3 + 2 * size, channels=2, header=b"\x55\xaa", counter=Place(2, 1), samples=Place(3, size, big_endian)
    )
    lowest = -(2 ** (8 * size - 1))
    rows = [(lowest, -1), (-lowest - 1, 1), (0, -2)]
    stream = b"".join(
        b"\x55\xaa" + bytes([number]) + b"".join(value.to_bytes(size, order, signed=True) for value in row)
        for number, row in enumerate(rows)
    )
    _, frames = decoded(stream, layout)
    assert [tuple(frame.samples) for frame in frames] == rows
