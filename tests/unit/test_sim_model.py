"""The device model on virtual time: control requests, the stream, its end, and every fault of a plan."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_drivers.api import DeviceLostError, Mode, RunState
from emgd_drivers.emg8.exchange import Stall
from emgd_drivers.emg8.protocol import (
    Channel,
    Direction,
    FrameFlag,
    FrameStatus,
    FrameType,
    Info,
    LastError,
    Request,
    Setup,
    Status,
    decode_frames,
    frame_bytes,
)
from emgd_drivers.sim.faults import FaultPlan
from emgd_drivers.sim.model import Emg8Model
from emgd_drivers.sim.signal import SyntheticEmg

MS = 1_000_000
SECOND_NS = 1000 * MS
CHANNELS, RATE_HZ = 4, 4000
N = 4
"""Samples in a frame at 4 kHz."""

FRAME_BYTES = frame_bytes(N, CHANNELS, 0)
EMG = SyntheticEmg(CHANNELS, RATE_HZ)
FIXED = SyntheticEmg(CHANNELS, RATE_HZ, rate_bounds_hz=(RATE_HZ, RATE_HZ))
"""The same at this rate only, so that a FIFO may be as small as a few of its frames."""


class Recorded:
    """A signal that can only be what it is: sample k of channel c is 10 k + c."""

    channels = 2
    rate_hz = 250.0
    uv_per_count = (0.5, 0.25)
    labels = ("APB", "ADM")
    saturation_counts = (32767, 2047)
    notes = ("made for a test",)

    def __init__(self, length=None, marks=()):
        self.length = length
        self._marks = list(marks)

    def read(self, first, count):
        assert self.length is None or first + count <= self.length
        return (10 * np.arange(first, first + count)[:, np.newaxis] + np.arange(2)).astype(np.int32)

    def marks(self, first, count):
        return [mark for mark in self._marks if first <= mark[0] < first + count]


def out(model, request, now_ns=0, *, value=0, index=0, data=b""):
    model.control(Setup(Direction.OUT, request, value, index, len(data)).pack(), data, now_ns)


def ask(model, request, now_ns=0, *, value=0, index=0, length=64):
    return model.control(Setup(Direction.IN, request, value, index, length).pack(), b"", now_ns)


def status(model, now_ns=0):
    return Status.unpack(ask(model, Request.GET_STATUS, now_ns))


def device(*faults, signal=EMG, **options):
    return Emg8Model(signal, FaultPlan.parse(faults), **options)


def started(*faults, signal=EMG, **options):
    model = device(*faults, signal=signal, **options)
    out(model, Request.START)
    return model


def frames(transfers, channels=CHANNELS):
    return [frame for transfer in transfers for frame in decode_frames(transfer, channels)]


def stream(model, until_ns, channels=CHANNELS):
    """All frames up to a time, as of a host that always listens."""
    return frames(model.poll(until_ns), channels)


# Control requests.


def test_device_says_what_it_is():
    info = Info.unpack(ask(device(), Request.GET_INFO))
    assert (info.version, info.channels, info.rate_hz, info.tick_hz) == (0x0100, CHANNELS, RATE_HZ, 48e6)
    assert (info.lowest_rate_hz, info.highest_rate_hz) == (1000, 100_000)
    assert info.max_frame_bytes == frame_bytes(100, CHANNELS, info.max_marks)
    assert ask(device(serial="EMG8-42"), Request.GET_SERIAL, length=32) == b"EMG8-42"


def test_answer_is_cut_to_the_length_that_was_asked_for():
    assert ask(device(), Request.GET_INFO, length=2) == b"\x00\x01"


def test_rate_is_set_and_told():
    model = device()
    out(model, Request.SET_RATE, data=struct.pack("<d", 10_000.0))
    assert ask(model, Request.GET_RATE) == struct.pack("<d", 10_000.0)
    out(model, Request.START)
    assert len(stream(model, SECOND_NS)[0].samples) == 10


def test_one_channel_or_all_are_set_and_told():
    model = device()
    out(model, Request.SET_CHANNEL, index=0xFFFF, data=struct.pack("<BBH", 2, Mode.NORMAL, 0))
    out(model, Request.SET_CHANNEL, index=1, data=struct.pack("<BBH", 24, Mode.TEST, 0))
    told = [Channel.unpack(ask(model, Request.GET_CHANNEL, index=index)) for index in range(CHANNELS)]
    assert [(channel.gain, channel.mode) for channel in told] == [(2, 0), (24, 2), (2, 0), (2, 0)]
    assert told[1].uv_per_count == pytest.approx(400_000 / 2**23 / 24)
    assert [channel.label for channel in told] == ["EMG 1", "EMG 2", "EMG 3", "EMG 4"]


def test_recording_has_its_own_rate_scale_and_labels_and_no_other():
    model = device(signal=Recorded())
    info = Info.unpack(ask(model, Request.GET_INFO))
    assert (info.lowest_rate_hz, info.highest_rate_hz, info.rate_hz) == (250, 250, 250)
    channel = Channel.unpack(ask(model, Request.GET_CHANNEL, index=1))
    assert (channel.label, channel.uv_per_count, channel.gain) == ("ADM", 0.25, 1)
    out(model, Request.SET_RATE, data=struct.pack("<d", 250.0))
    out(model, Request.SET_CHANNEL, index=0, data=struct.pack("<BBH", 1, 0, 0))
    for request, data in [(Request.SET_RATE, struct.pack("<d", 251.0)), (Request.SET_CHANNEL, b"\x02\x00\x00\x00")]:
        with pytest.raises(Stall):
            out(model, request, data=data)


SETTING = struct.pack("<BBH", 2, 0, 0)


@pytest.mark.parametrize(
    ("setup", "data", "error"),
    [
        (Setup(Direction.IN, 0x0E, 0, 0, 64), b"", LastError.UNKNOWN_REQUEST),
        (Setup(Direction.IN, Request.IMPEDANCE_TEST, 1, 0, 64), b"", LastError.UNKNOWN_REQUEST),
        (Setup(Direction.OUT, Request.IMPEDANCE_TEST, 4, 0, 0), b"", LastError.BAD_VALUE),
        (Setup(Direction.OUT, Request.IMPEDANCE_TEST, 1, 4, 0), b"", LastError.BAD_CHANNEL),
        (Setup(Direction.OUT, Request.IMPEDANCE_TEST, 1, 0xFFFE, 0), b"", LastError.BAD_CHANNEL),
        (Setup(Direction.OUT, Request.IMPEDANCE_TEST, 1, 0, 1), b"x", LastError.BAD_LENGTH),
        (Setup(Direction.IN, Request.GET_IMPEDANCE_TEST, 1, 0, 16), b"", LastError.BAD_VALUE),
        (Setup(Direction.IN, Request.START, 0, 0, 0), b"", LastError.UNKNOWN_REQUEST),
        (Setup(Direction.OUT, Request.GET_INFO, 0, 0, 0), b"", LastError.UNKNOWN_REQUEST),
        (Setup(0x80, Request.GET_INFO, 0, 0, 64), b"", LastError.UNKNOWN_REQUEST),
        (Setup(Direction.IN, Request.GET_INFO, 1, 0, 64), b"", LastError.BAD_VALUE),
        (Setup(Direction.IN, Request.GET_INFO, 0, 1, 64), b"", LastError.BAD_VALUE),
        (Setup(Direction.OUT, Request.START, 0, 0, 1), b"x", LastError.BAD_LENGTH),
        (Setup(Direction.OUT, Request.SET_RATE, 0, 0, 4), bytes(4), LastError.BAD_LENGTH),
        (Setup(Direction.OUT, Request.SET_RATE, 0, 0, 8), bytes(4), LastError.BAD_LENGTH),
        (Setup(Direction.OUT, Request.SET_RATE, 0, 0, 8), struct.pack("<d", 999.9), LastError.BAD_VALUE),
        (Setup(Direction.OUT, Request.SET_RATE, 0, 0, 8), struct.pack("<d", float("nan")), LastError.BAD_VALUE),
        (Setup(Direction.OUT, Request.SET_RATE, 0, 0, 8), struct.pack("<d", float("inf")), LastError.BAD_VALUE),
        (Setup(Direction.OUT, Request.SET_CHANNEL, 0, 4, 4), SETTING, LastError.BAD_CHANNEL),
        (Setup(Direction.OUT, Request.SET_CHANNEL, 0, 0, 4), b"\x03\x00\x00\x00", LastError.BAD_VALUE),
        (Setup(Direction.OUT, Request.SET_CHANNEL, 0, 0, 4), b"\x02\x03\x00\x00", LastError.BAD_VALUE),
        (Setup(Direction.OUT, Request.SET_CHANNEL, 0, 0, 4), b"\x02\x00\x01\x00", LastError.BAD_VALUE),
        (Setup(Direction.IN, Request.GET_CHANNEL, 0, 4, 32), b"", LastError.BAD_CHANNEL),
        (Setup(Direction.IN, Request.GET_CHANNEL, 0, 0xFFFF, 32), b"", LastError.BAD_CHANNEL),
    ],
)
def test_bad_request_stalls_and_the_status_tells_why(setup, data, error):
    model = device()
    assert status(model).last_error == LastError.NONE
    with pytest.raises(Stall):
        model.control(setup.pack(), data, 0)
    assert status(model).last_error == error


@pytest.mark.parametrize(
    ("request_number", "index", "data"),
    [(Request.SET_RATE, 0, struct.pack("<d", 10_000.0)), (Request.SET_CHANNEL, 1, SETTING)],
)
def test_settings_are_refused_while_streaming_and_taken_again_afterwards(request_number, index, data):
    model = started()
    with pytest.raises(Stall):
        out(model, request_number, index=index, data=data)
    assert status(model).last_error == LastError.NOT_NOW
    out(model, Request.STOP)
    out(model, request_number, index=index, data=data)


# The stream.


def test_stream_is_the_signal_in_order_with_number_and_tick():
    found = stream(started(), SECOND_NS)
    assert found[0].flags == FrameFlag.START
    assert {frame.flags for frame in found[1:]} == {0}
    assert [frame.frame_seq for frame in found] == list(range(1000))
    assert [frame.first for frame in found] == list(range(0, 4000, N))
    assert [frame.tick for frame in found] == [first * 12_000 for first in range(0, 4000, N)]
    assert np.array_equal(np.concatenate([frame.samples for frame in found]), EMG.read(0, 4000))


def test_odd_rate_gives_exact_ticks_for_ever():
    model = started(signal=SyntheticEmg(1, 44_100.0))
    found = stream(model, SECOND_NS, 1)
    assert [frame.tick for frame in found] == [frame.first * 48_000_000 // 44_100 for frame in found]


def test_frame_is_there_as_soon_as_its_last_sample_is_taken():
    model = started()
    for first in range(0, 40, N):
        taken_ns = model.true_host_ns(first + N - 1)
        assert model.next_event_ns() == taken_ns
        assert model.poll(taken_ns - 1) == []
        assert [frame.first for frame in stream(model, taken_ns)] == [first]


@given(st.lists(st.integers(0, 40 * MS), max_size=20), st.integers(0, 3))
def test_bytes_do_not_depend_on_when_one_looks(steps, plan):
    faults = [[], ["jitter=0..5ms"], ["stall@3:30ms", "repeat@9"], ["drift=500ppm", "walk=100ppm/min"]][plan]
    model, at_once = (started(*faults, fifo_bytes=10 * 400) for _ in range(2))
    now_ns, found = 0, []
    for step in steps:
        now_ns += step
        found += model.poll(now_ns)
    assert found == at_once.poll(now_ns)


def test_same_seed_gives_the_same_bytes_at_the_same_times_and_another_seed_others():
    faults = ["jitter=0..2ms", "walk=5ppm/min", "drift=20ppm", "drop@3", "corrupt@5:60"]
    runs = []
    for seed in (1, 1, 2):
        model = started(*faults, f"seed={seed}")
        runs.append([model.poll(now_us * 1000) for now_us in range(0, 100_000, 100)])
    assert runs[0] == runs[1] != runs[2]


def test_ticks_and_latched_clock_and_truth_agree_under_drift():
    model = started("drift=300ppm", "walk=20ppm/min", now_ns=0)
    for now_ns in range(7 * MS + 13, 60 * SECOND_NS, 1777 * MS):
        tick, next_sample = struct.unpack("<QQ", ask(model, Request.LATCH_CLOCK, now_ns))
        assert model.true_host_ns(next_sample - 1) <= now_ns < model.true_host_ns(next_sample)
        assert tick == pytest.approx(now_ns * 0.048 * (1 - 300e-6), rel=100e-6)
    last = stream(model, now_ns)[-1]
    assert model.true_host_ns(last.first) == pytest.approx(last.first * 250_000 * (1 + 300e-6), rel=100e-6)


def test_marks_of_the_signal_travel_in_the_frame_of_their_sample():
    model = started(signal=Recorded(marks=[(3, 1, 0, 1), (5, 3, 0, 2)]))
    found = stream(model, 40 * MS, 2)
    assert {frame.first: frame.marks for frame in found if frame.marks} == {3: [(3, 1, 0, 1)], 5: [(5, 3, 0, 2)]}


def test_recording_slower_than_a_frame_a_millisecond_sends_each_sample_alone():
    found = stream(started(signal=Recorded()), 20 * MS, 2)
    assert [(frame.first, frame.samples.tolist()) for frame in found] == [(k, [[10 * k, 10 * k + 1]]) for k in range(6)]


def test_status_counts_frames_and_samples():
    model = started()
    model.poll(10 * MS)
    now = status(model, 10 * MS)
    assert (now.state, now.frames, now.samples, now.tick) == (RunState.STREAMING, 10, 41, 480_000)


def test_start_while_streaming_begins_anew():
    model = started()
    model.poll(10 * MS)
    out(model, Request.START, 20 * MS)
    found = stream(model, 30 * MS)[10:]  # frames of the first stream until 20 ms came before
    assert (found[0].first, found[0].frame_seq, found[0].flags, found[0].tick) == (0, 0, FrameFlag.START, 960_000)


def test_start_anew_forgets_what_the_host_had_not_taken():
    model = started()
    model.connect(lambda _: False)
    model.run(10 * MS)
    out(model, Request.START, 10 * MS)
    taken = []
    model.connect(lambda transfer: taken.append(transfer) is None)
    model.run(13 * MS)
    assert [(frame.first, frame.flags) for frame in frames(taken)] == [(0, FrameFlag.START), (4, 0), (8, 0)]
    assert status(model, 13 * MS).frames == 3


# Its end.


def test_stop_sends_what_was_taken_and_then_end():
    model = started()
    out(model, Request.STOP, int(10.6 * MS))
    *data, last, end = stream(model, int(10.6 * MS))
    assert len(data) == 10
    assert (last.first, last.count) == (40, 3)
    assert (end.type, end.flags, end.first, end.count, end.frame_seq) == (FrameType.END, FrameFlag.END, 43, 0, 11)
    assert (status(model).state, status(model).samples) == (RunState.ENDED, 43)
    assert model.poll(SECOND_NS) == []
    assert model.next_event_ns() is None


def test_stop_of_an_idle_device_does_nothing():
    model = device()
    out(model, Request.STOP)
    assert model.poll(SECOND_NS) == []
    assert status(model).state == RunState.IDLE


@pytest.mark.parametrize(("length", "data_frames", "last_count"), [(40, 10, 4), (41, 11, 1), (3, 1, 3)])
def test_finite_signal_ends_with_its_last_sample(length, data_frames, last_count):
    model = started(signal=SyntheticEmg(CHANNELS, RATE_HZ, length=length))
    *data, end = stream(model, SECOND_NS)
    assert (len(data), data[-1].count) == (data_frames, last_count)
    assert (end.type, end.first, end.tick) == (FrameType.END, length, length * 12_000)
    assert status(model).state == RunState.ENDED


def test_empty_signal_is_over_at_once():
    (end,) = stream(started(signal=Recorded(length=0)), 0, 2)
    assert (end.type, end.first, end.flags) == (FrameType.END, 0, FrameFlag.START | FrameFlag.END)


def test_silent_host_stops_the_stream_at_the_instant_that_was_set():
    model = device()
    out(model, Request.KEEP_ALIVE, value=100)
    out(model, Request.START)
    out(model, Request.KEEP_ALIVE, 50 * MS, value=100)
    *data, end = stream(model, SECOND_NS)
    assert [frame.count for frame in data] == [N] * 150 + [1]
    assert (end.type, end.first) == (FrameType.END, 601)  # samples 0 to 600 are taken by 150 ms
    assert status(model, SECOND_NS).last_error == LastError.KEEP_ALIVE_EXPIRED
    assert status(model, SECOND_NS).state == RunState.ENDED


def test_start_counts_as_a_sign_of_life():
    model = device()
    out(model, Request.KEEP_ALIVE, value=100)
    out(model, Request.START, SECOND_NS)
    model.run(SECOND_NS + 99 * MS)
    assert status(model, SECOND_NS + 99 * MS).state == RunState.STREAMING


def test_device_that_cannot_send_still_wakes_for_its_keep_alive():
    model = started(signal=SyntheticEmg(CHANNELS, RATE_HZ, length=1000), speed=0)
    model.connect(lambda _: False)
    out(model, Request.KEEP_ALIVE, value=100)
    model.run(0)
    assert model.next_event_ns() == 100 * MS
    model.run(100 * MS)
    assert status(model, 100 * MS).last_error == LastError.KEEP_ALIVE_EXPIRED


def test_keep_alive_of_zero_asks_for_none():
    model = device()
    out(model, Request.KEEP_ALIVE, value=100)
    out(model, Request.START)
    out(model, Request.KEEP_ALIVE, 50 * MS, value=0)
    assert len(stream(model, 10 * SECOND_NS)) == 10_000


# A host that does not take what comes.


def test_full_fifo_throws_samples_away_and_says_so():
    model = started(signal=FIXED, fifo_bytes=10 * FRAME_BYTES)
    taken, listening = [], False

    def send(transfer):
        if listening:
            taken.append(transfer)
        return listening

    model.connect(send)
    for now_ms in range(31):
        model.run(now_ms * MS)
    assert model.blocked
    assert status(model, 30 * MS).overflowed_samples == 20 * N
    listening = True
    model.run(int(31.5 * MS))
    *waited, after = frames(taken)
    assert [frame.first for frame in waited] == list(range(0, 40, N))
    assert (after.first, after.frame_seq, after.flags) == (30 * N, 10, FrameFlag.OVERFLOW)
    assert np.array_equal(after.samples, EMG.read(30 * N, N))
    model.run(33 * MS)
    assert frames(taken)[-1].flags == 0
    assert not model.blocked


def test_end_is_sent_even_when_the_fifo_is_full():
    model = started(signal=FIXED, fifo_bytes=2 * FRAME_BYTES)
    model.connect(lambda _: False)
    out(model, Request.STOP, 10 * MS)
    taken = []
    model.connect(lambda transfer: taken.append(transfer) is None)
    model.run(10 * MS)
    assert [(frame.type, frame.first) for frame in frames(taken)] == [(1, 0), (1, 4), (2, 41)]
    assert frames(taken)[-1].flags == FrameFlag.END | FrameFlag.OVERFLOW
    assert status(model).overflowed_samples == 33


def test_blocked_device_waits_for_the_host_and_for_its_next_frame():
    model = started()
    model.connect(lambda _: False)
    model.run(1 * MS)
    assert model.next_event_ns() == model.true_host_ns(2 * N - 1)


# Speed.


def test_speed_ten_runs_the_device_clock_ten_times_as_fast():
    model = started(speed=10)
    assert Info.unpack(ask(model, Request.GET_INFO)).tick_hz == 480e6
    assert Info.unpack(ask(model, Request.GET_INFO)).rate_hz == RATE_HZ
    fast, usual = stream(model, 100 * MS), stream(started(), 1000 * MS)
    assert [(frame.first, frame.tick) for frame in fast] == [(frame.first, frame.tick) for frame in usual]
    assert model.true_host_ns(4000) == 100 * MS


def run_dry(model):
    """Poll a free-running device, in no time at all, until it has nothing more."""
    transfers = []
    while more := model.poll(0):
        transfers += more
    return transfers


def test_speed_zero_is_as_fast_as_the_host_takes_it_and_has_no_clock():
    model = started(signal=SyntheticEmg(CHANNELS, RATE_HZ, length=400_000), speed=0)
    assert "CLOCK_LATCH" not in Info.unpack(ask(model, Request.GET_INFO)).capabilities.name
    *data, end = frames(run_dry(model))
    assert len(data) == 100_000
    assert (end.first, end.tick) == (400_000, 400_000 * 12_000)
    with pytest.raises(Stall):
        ask(model, Request.LATCH_CLOCK)
    assert status(model).last_error == LastError.UNKNOWN_REQUEST


def test_speed_zero_gives_the_same_bytes_whenever_it_is_started():
    early, late = (device(signal=Recorded(length=100), speed=0, now_ns=power_ns) for power_ns in (0, 10**18))
    out(early, Request.START, 0)
    out(late, Request.START, 10**18 + 12345)
    late_transfers = []
    while more := late.poll(10**18 + 12345):
        late_transfers += more
    assert run_dry(early) == late_transfers


def test_speed_zero_never_overflows():
    model = started(signal=Recorded(length=1000), speed=0, fifo_bytes=200)
    taken = []

    def send_every_third_time(transfer):
        send_every_third_time.calls += 1
        if send_every_third_time.calls % 3 == 0:
            taken.append(transfer)
        return send_every_third_time.calls % 3 == 0

    send_every_third_time.calls = 0
    model.connect(send_every_third_time)
    while model.next_event_ns() is not None or model.blocked:
        model.run(0)
    assert [frame.first for frame in frames(taken, 2)] == list(range(1001))


# Faults.


def faulty(*faults, until_ms=40, **options):
    return stream(started(*faults, **options), until_ms * MS)


def test_dropped_frames_never_come():
    assert [frame.frame_seq for frame in faulty("drop@10+3", until_ms=20)] == [*range(10), *range(13, 20)]


def test_repeated_frame_comes_twice_and_counts_once():
    model = started("repeat@5+2")
    found = stream(model, 10 * MS)
    assert [frame.frame_seq for frame in found] == [0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 8, 9]
    assert status(model, 10 * MS).frames == 10


def test_truncated_frame_keeps_so_many_bytes():
    model = started("truncate@3:30", "truncate@4:60", "truncate@5:99999")
    transfers = model.poll(10 * MS)
    assert [len(transfer) for transfer in transfers[2:7]] == [FRAME_BYTES, 30, 60, FRAME_BYTES - 1, FRAME_BYTES]
    statuses = [(frame.status, frame.known) for frame in frames(transfers)[2:7]]
    assert statuses == [(0, True), (2, False), (2, True), (2, True), (0, True)]


def test_corrupt_frame_has_one_byte_flipped():
    sound, damaged = started().poll(10 * MS), started("corrupt@3:5", "corrupt@4:60").poll(10 * MS)
    differing = [
        (number, at, octet ^ other)
        for number, (left, right) in enumerate(zip(sound, damaged, strict=True))
        for at, (octet, other) in enumerate(zip(left, right, strict=True))
        if octet != other
    ]
    assert differing == [(3, 5, 0xFF), (4, 60, 0xFF)]
    assert [(frame.status, frame.known) for frame in frames(damaged)[3:5]] == [(1, False), (1, True)]


def test_stall_holds_a_frame_and_all_behind_it():
    model = started("stall@10:20ms")
    held_ns = model.true_host_ns(11 * N - 1) + 20 * MS
    assert [frame.frame_seq for frame in stream(model, held_ns - 1)] == list(range(10))
    assert [frame.frame_seq for frame in stream(model, held_ns)] == list(range(10, 31))


def test_stall_longer_than_the_fifo_overflows():
    found = faulty("stall@10:20ms", until_ms=40, signal=FIXED, fifo_bytes=5 * FRAME_BYTES)
    (jump,) = [frame for frame in found if frame.flags & FrameFlag.OVERFLOW]
    assert [frame.frame_seq for frame in found] == list(range(len(found)))
    assert jump.frame_seq == 15
    assert jump.first == (10 + 20) * N


def test_saturated_channel_stands_at_its_limit_and_says_so():
    model = started("saturate@3+2:1", signal=Recorded())
    found = stream(model, 17 * MS, 2)
    assert [frame.samples[0].tolist() for frame in found] == [[0, 1], [10, 11], [20, 21], [30, 2047], [40, 2047]]
    told = [Channel.unpack(ask(model, Request.GET_CHANNEL, 17 * MS, index=index)).saturated for index in range(2)]
    assert told == [False, True]
    assert not Channel.unpack(ask(model, Request.GET_CHANNEL, 21 * MS, index=1)).saturated


def test_saturation_on_the_wire_leaves_the_signal_as_it_was():
    found = faulty("saturate@3:1", until_ms=10)
    assert (found[3].samples[:, 1] == 2**23 - 1).all()
    assert np.array_equal(found[3].samples[:, 0], EMG.read(3 * N, N)[:, 0])
    assert np.array_equal(EMG.read(0, 40), SyntheticEmg(CHANNELS, RATE_HZ).read(0, 40))


def test_electrode_comes_off_and_back_on_with_marks():
    model = started("electrode@4:3", "electrode@8:3=on", signal=EMG)
    off = {frame.frame_seq: frame.marks for frame in stream(model, 6 * MS) if frame.marks}
    assert off == {4: [(16, 4, 3, 1)]}
    assert Channel.unpack(ask(model, Request.GET_CHANNEL, 6 * MS, index=3)).electrode_off
    back = {frame.frame_seq: frame.marks for frame in stream(model, 10 * MS) if frame.marks}
    assert back == {8: [(32, 4, 3, 0)]}
    assert not Channel.unpack(ask(model, Request.GET_CHANNEL, 10 * MS, index=3)).electrode_off


def test_stimuli_are_marked_and_numbered():
    found = stream(started("stimulus@4", "stimulus@8+2"), 12 * MS)
    assert [mark for frame in found for mark in frame.marks] == [(16, 2, 0, 1), (32, 2, 0, 2), (36, 2, 0, 3)]


def test_unplugged_device_is_gone_for_good():
    model = started("unplug@10")
    assert [frame.frame_seq for frame in stream(model, SECOND_NS)] == list(range(10))
    assert model.unplugged
    assert model.next_event_ns() is None
    with pytest.raises(DeviceLostError, match="unplugged"):
        ask(model, Request.GET_STATUS, SECOND_NS)


def test_frame_sequence_wraps_when_asked():
    found = faulty("wrap", until_ms=12)
    assert [frame.frame_seq for frame in found] == [*range(2**32 - 8, 2**32), 0, 1, 2, 3]
    assert {frame.status for frame in found} == {FrameStatus.GOOD}


def test_jitter_delays_within_its_bounds_and_keeps_the_order():
    model = started("jitter=1..3ms")
    late_ns, seqs = [], []
    for now_us in range(0, 500_000, 50):
        for frame in stream(model, now_us * 1000):
            seqs.append(frame.frame_seq)
            late_ns.append(now_us * 1000 - model.true_host_ns(frame.first + N - 1))
    assert seqs == list(range(len(seqs)))
    assert min(late_ns) >= 1 * MS
    assert max(late_ns) < 3 * MS + 50_000
    assert max(late_ns) - min(late_ns) > 1 * MS


def test_overflow_does_not_move_the_frames_that_faults_are_meant_for():
    found = faulty("stall@10:20ms", "drop@16", until_ms=40, signal=FIXED, fifo_bytes=5 * FRAME_BYTES)
    assert 16 not in [frame.frame_seq for frame in found]


@pytest.mark.parametrize(
    ("faults", "options", "said"),
    [
        (["saturate@1:4"], {}, "saturate@1 names channel 4; choose 0 to 3"),
        (["electrode@1:9"], {}, "electrode@1 names channel 9"),
        ([], {"speed": -1}, "speed is -1"),
        ([], {"speed": float("nan")}, "speed is nan"),
        ([], {"fifo_bytes": 1000}, "fifo_bytes is 1000; one frame has 1252 bytes"),
        ([], {"serial": ""}, "serial is ''; choose 1 to 32"),
        ([], {"serial": "x" * 33}, "choose 1 to 32 printable ASCII characters"),
        ([], {"serial": "Größe 8"}, "choose 1 to 32 printable ASCII characters"),
    ],
)
def test_impossible_device_is_refused(faults, options, said):
    with pytest.raises(ValueError, match=said):
        device(*faults, **options)


def test_more_marks_than_a_frame_holds_are_an_error_not_a_loss():
    model = started(signal=Recorded(marks=[(0, 1, 0, 1)] * 257))
    with pytest.raises(ValueError, match="257 marks in the 1 samples from 0 on; a frame holds 256"):
        model.poll(10 * MS)
