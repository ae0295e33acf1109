"""Electrodes as circuits, against values worked out by hand, and the test current that the device model sends through
them."""

import struct
from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgd_drivers.api import Mode, Side
from emgd_drivers.emg8.protocol import (
    ALL_CHANNELS,
    UV_PER_COUNT,
    Capability,
    Channel,
    Direction,
    Info,
    LastError,
    Request,
    Setup,
    Status,
    decode_frames,
    frame_bytes,
)
from emgd_drivers.sim.electrodes import BRIDGE_OHM, DRY, GOOD, MAX_OFF, OFF, TEST, Electrode, Pair, parse_electrodes
from emgd_drivers.sim.faults import FaultPlan
from emgd_drivers.sim.model import Emg8Model, Stall
from emgd_drivers.sim.signal import SyntheticEmg

MS = 1_000_000
CHANNELS, RATE_HZ, N = 4, 4000, 4
MAX_COUNT = 2**23 - 1
EMG = SyntheticEmg(CHANNELS, RATE_HZ, rate_bounds_hz=(RATE_HZ, RATE_HZ))
IMPEDANCE, ELECTRODE = 5, 4
P, NEG, BOTH, NONE = Side.POSITIVE, Side.NEGATIVE, Side.BOTH, Side.NONE

# --- the circuit


def test_electrodes_have_the_impedance_that_was_worked_out_by_hand():
    # GOOD: 2 pi 31.25 Hz 3 kOhm 47 nF = 0.027685, so 400 + 3000 (1 - j 0.027685) / 1.00076646
    assert GOOD.impedance(31.25) == pytest.approx(3397.70 - 82.99j, abs=0.01)
    # DRY: 2 pi 31.25 Hz 40 kOhm 20 nF = 0.157080, so 600 + 40000 (1 - j 0.157080) / 1.0246740
    assert DRY.impedance(31.25) == pytest.approx(39636.8 - 6131.9j, abs=0.1)
    assert abs(OFF.impedance(31.25)) >= 1e6


@pytest.mark.parametrize(
    ("bridge_ohm", "positive", "negative", "both"),
    [
        (inf, 3000, -5000, 8000),
        # 3k beside 2k + 5k is 2100, of which 2/7 stand over the bridge; 5k beside 2k + 3k is 2500, of which 2/5;
        # 2k beside 3k + 5k is 1600.
        (2000, 600, -1000, 1600),
        (1e-3, 0.000375, -0.000625, 0.001),
    ],
)
def test_the_channel_sees_what_was_worked_out_by_hand(bridge_ohm, positive, negative, both):
    pair = Pair(Electrode(3000), Electrode(5000), bridge_ohm)
    seen = [pair.transfer_ohm(sides, 31.25) for sides in (NONE, P, NEG, BOTH)]
    assert seen == pytest.approx([0, positive, negative, both], rel=1e-6)


def test_one_megohm_stays_in_range_at_every_gain_up_to_twelve():
    microvolts = TEST.current_na * 1e-9 * 1e6 * 1e6
    assert microvolts + 5000 < 400_000 / 12
    assert TEST.frequency_hz * 1_536_000 == 48e6


@pytest.mark.parametrize(
    ("texts", "pairs"),
    [
        ([], {}),
        (["0:E1=dry"], {0: Pair(DRY, GOOD)}),
        (["3=bridge"], {3: Pair(bridge_ohm=BRIDGE_OHM)}),
        ([" 5:E2=off "], {5: Pair(GOOD, OFF)}),
        (["1=off"], {1: Pair(OFF, OFF)}),
        (["2=dry", "2:E1=good", "2=bridge"], {2: Pair(GOOD, DRY, BRIDGE_OHM)}),
    ],
)
def test_electrodes_are_understood_as_people_type_them(texts, pairs):
    assert parse_electrodes(texts, 8) == pairs


@pytest.mark.parametrize(
    "text",
    ["", "dry", "0", "0=", "0:E3=dry", "0:e1=dry", "0:E1=bridge", "-1=dry", "0=wet", "0:E1:E2=off", "0=dry,1=off"],
)
def test_an_electrode_that_cannot_be_read_is_refused_with_the_forms_there_are(text):
    with pytest.raises(ValueError, match="is not understood; write one of CHANNEL:E1=STATE") as refusal:
        parse_electrodes(["1=dry", text], 8)
    assert repr(text) in str(refusal.value)


def test_electrodes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"electrode '8=dry' names channel 8; choose 0 to 7"):
        parse_electrodes(["8=dry"], 8)
    everywhere = [f"{channel}=off" for channel in range(MAX_OFF + 1)]
    assert len(parse_electrodes(everywhere[1:], 128)) == MAX_OFF
    with pytest.raises(ValueError, match="more than 64 channels are off"):
        parse_electrodes(everywhere, 128)


# --- the test current in the model


class Device:
    """A model that streams from 0 ns on, and the requests of its host."""

    def __init__(self, *faults, signal=EMG, start=True, **options):
        self.model = Emg8Model(signal, FaultPlan.parse(faults), **options)
        self.channels = signal.channels
        if start:
            self.out(Request.START, 0)

    def out(self, request, at_ns, value=0, index=0, data=b""):
        self.model.control(Setup(Direction.OUT, request, value, index, len(data)).pack(), data, at_ns)

    def test(self, at_ns, sides, channel=ALL_CHANNELS):
        self.out(Request.IMPEDANCE_TEST, at_ns, int(sides), channel)

    def refusal(self, at_ns, sides, channel=ALL_CHANNELS):
        with pytest.raises(Stall):
            self.test(at_ns, sides, channel)
        return Status.unpack(self.ask(Request.GET_STATUS, at_ns, 32)).last_error

    def ask(self, request, at_ns, length, index=0):
        return self.model.control(Setup(Direction.IN, request, 0, index, length).pack(), b"", at_ns)

    def sides(self, at_ns):
        answers = (self.ask(Request.GET_CHANNEL, at_ns, 32, index) for index in range(self.channels))
        return [Channel.unpack(answer).test_current for answer in answers]

    def stream(self, until_ns):
        return [f for transfer in self.model.poll(until_ns) for f in decode_frames(transfer, self.channels)]


def samples_of(frames):
    return np.concatenate([frame.samples for frame in frames])


def marks_of(frames, code=IMPEDANCE):
    return [mark for frame in frames for mark in frame.marks if mark[1] == code]


def sine(count, peak_ohm):
    """Counts of the test current over a resistance, from its first sample on."""
    turns = np.arange(count) * 31.25 / RATE_HZ
    return np.rint((peak_ohm * 24e-3 / UV_PER_COUNT * np.exp(2j * np.pi * turns)).imag).astype(np.int32)


def test_the_device_says_what_it_sends():
    device = Device()
    assert Capability.IMPEDANCE in Info.unpack(device.ask(Request.GET_INFO, 0, 64)).capabilities
    assert device.ask(Request.GET_IMPEDANCE_TEST, 0, 16) == struct.pack("<dd", 31.25, 24.0)


def test_the_current_flows_from_its_mark_to_the_mark_of_its_end_and_alters_nothing_else():
    device = Device(electrodes=["2:E1=dry"])
    # 10.6 ms: samples 0 to 42 were taken, 43 is the first with the current; 20 ms: 80 is the last with it.
    device.test(int(10.6 * MS), P)
    device.test(20 * MS, NONE)
    frames = device.stream(30 * MS)
    assert marks_of(frames) == [(43, IMPEDANCE, ALL_CHANNELS, 1), (81, IMPEDANCE, ALL_CHANNELS, 0)]
    added = samples_of(frames) - EMG.read(0, 120)
    assert not added[:43].any()
    assert not added[81:].any()
    assert (added[43:81, 2] == sine(38, DRY.impedance(31.25))).all()
    assert (added[43:81, 0] == sine(38, GOOD.impedance(31.25))).all()
    assert abs(sine(38, GOOD.impedance(31.25))).max() > 1000, "or this shows nothing"


def test_one_channel_is_tested_alone_and_each_side_has_its_sign():
    device = Device()
    device.test(10 * MS, NEG, 1)
    device.test(20 * MS, BOTH, 1)
    frames = device.stream(30 * MS)
    assert marks_of(frames) == [(41, IMPEDANCE, 1, 2), (81, IMPEDANCE, 1, 3)]
    added = samples_of(frames) - EMG.read(0, 120)
    assert not added[:, [0, 2, 3]].any()
    assert (added[41:81, 1] == sine(40, -GOOD.impedance(31.25))).all()
    assert (added[81:, 1] == sine(39, 2 * GOOD.impedance(31.25))).all()


def test_an_open_electrode_goes_to_the_rail_and_a_bridge_hides_what_lies_behind_it():
    device = Device(electrodes=["0:E1=off", "1=bridge", "3:E2=off"])
    device.test(0, P)
    samples = samples_of(device.stream(32 * MS))
    assert (abs(samples[:, 0]) == MAX_COUNT).mean() > 0.95
    assert set(np.sign(samples[(abs(samples[:, 0]) == MAX_COUNT), 0])) == {-1, 1}
    added = samples - EMG.read(0, 128)
    z = GOOD.impedance(31.25)
    assert (added[1:, 1] == sine(128, z * BRIDGE_OHM / (2 * z + BRIDGE_OHM))[:127]).all()
    assert (added[1:, 3] == sine(128, z)[:127]).all(), "E2 carries no current"


def test_electrodes_that_are_off_are_marked_with_the_first_sample_and_told():
    device = Device(electrodes=["0:E1=off", "3:E2=off"])
    assert marks_of(device.stream(10 * MS), ELECTRODE) == [(0, ELECTRODE, 0, 1), (0, ELECTRODE, 3, 1)]
    told = [Channel.unpack(device.ask(Request.GET_CHANNEL, 10 * MS, 32, index)).electrode_off for index in range(4)]
    assert told == [True, False, False, True]


def test_an_electrode_that_falls_off_and_is_put_back_is_felt_by_the_current():
    device = Device("electrode@10:2", "electrode@20:2=on", electrodes=["2:E2=dry"])
    device.test(0, P)
    added = samples_of(device.stream(30 * MS)) - EMG.read(0, 120)
    wanted = sine(120, GOOD.impedance(31.25))[:119]
    assert (added[1:40, 2] == wanted[:39]).all()
    assert abs(added[42:60, 2]).min() > 7_000_000
    assert (added[80:, 2] == wanted[79:]).all(), "the phase goes on as if nothing had been"


def test_a_channel_that_measures_no_electrodes_sees_no_current():
    device = Device(start=False)
    device.out(Request.SET_CHANNEL, 0, index=1, data=struct.pack("<BBH", 1, Mode.SHORT, 0))
    device.out(Request.START, 0)
    device.test(0, P)
    samples = samples_of(device.stream(20 * MS))
    assert abs(samples[:, 1] * UV_PER_COUNT).max() < 20, "noise alone"
    assert abs(samples[:, 0] - EMG.read(0, 80)[:, 0]).max() > 1000


def test_what_changes_nothing_is_marked_too():
    device = Device()
    for at_ms, sides in [(10, NONE), (20, P), (30, P)]:
        device.test(at_ms * MS, sides)
    assert marks_of(device.stream(40 * MS)) == [(41, 5, 0xFFFF, 0), (81, 5, 0xFFFF, 1), (121, 5, 0xFFFF, 1)]


def test_of_requests_before_one_sample_the_last_counts():
    device = Device()
    device.test(10 * MS, P, 0)
    device.test(10 * MS, BOTH)
    device.test(10 * MS, NEG, 3)
    device.test(10 * MS, P, 3)
    frames = device.stream(20 * MS)
    assert marks_of(frames) == [(41, 5, 0xFFFF, 3), (41, 5, 3, 1)]
    assert device.sides(20 * MS) == [BOTH, BOTH, BOTH, P]


@pytest.mark.parametrize(
    "end", [lambda d: d.out(Request.START, 20 * MS), lambda d: d.out(Request.STOP, 20 * MS)], ids=["start", "stop"]
)
def test_the_test_ends_with_the_stream(end):
    device = Device()
    device.test(10 * MS, P)
    assert device.sides(11 * MS) == [P] * 4
    end(device)
    assert device.sides(20 * MS) == [NONE] * 4
    device.stream(20 * MS)
    device.out(Request.START, 30 * MS)
    frames = device.stream(40 * MS)
    assert marks_of(frames) == []
    assert (samples_of(frames[1:])[:36] == EMG.read(frames[1].first, 36)).all()


def test_a_host_that_falls_silent_ends_the_test():
    device = Device()
    device.out(Request.KEEP_ALIVE, 0, value=100)
    device.test(10 * MS, BOTH)
    assert device.sides(99 * MS) == [BOTH] * 4
    assert device.sides(101 * MS) == [NONE] * 4


def test_an_idle_device_can_be_told_and_forgets_with_start():
    device = Device(start=False)
    for _ in range(200):
        device.test(0, P, 2)
    assert device.sides(0) == [NONE, NONE, P, NONE]
    device.out(Request.START, 0)
    assert device.sides(0) == [NONE] * 4
    assert marks_of(device.stream(10 * MS)) == []


def test_the_mark_of_a_sample_that_was_thrown_away_comes_with_the_next_that_is_kept():
    frame = frame_bytes(N, CHANNELS, 0)
    device = Device("stall@10:20ms", fifo_bytes=5 * frame)
    device.test(20 * MS, P)  # frames from 15 to 29 are thrown away
    frames = device.stream(40 * MS)
    jump = next(found for found in frames if found.first > 60)
    assert jump.first == 120
    assert marks_of(frames) == [(120, IMPEDANCE, ALL_CHANNELS, 1)]
    added = jump.samples - EMG.read(120, N)
    assert (added[:, 0] == sine(100, GOOD.impedance(31.25))[120 - 81 :][:N]).all(), "it has flowed since sample 81"


def test_too_many_changes_at_once_are_refused_but_never_the_end_of_all():
    signal = SyntheticEmg(300, RATE_HZ)
    device = Device(signal=signal)
    for channel in range(64):
        device.test(10 * MS, P, channel)
    assert device.refusal(10 * MS, P, 64) == LastError.NOT_NOW
    assert device.refusal(10 * MS + 300_000, P) == LastError.NOT_NOW
    for at_ns in range(10 * MS + 300_000, 10 * MS + 750_000, 1000):  # until sample 43 completes the frame
        device.test(at_ns, NONE)
    marks = marks_of(device.stream(12 * MS))
    assert len(marks) == 65
    assert marks[-1] == (42, IMPEDANCE, ALL_CHANNELS, 0)
    device.test(12 * MS, P, 64)


def test_a_recording_has_no_electrodes_to_test():
    from test_sim_model import Recorded

    device = Device(signal=Recorded())
    assert Capability.IMPEDANCE not in Info.unpack(device.ask(Request.GET_INFO, 0, 64)).capabilities
    assert device.refusal(0, P) == LastError.UNKNOWN_REQUEST
    with pytest.raises(Stall):
        device.ask(Request.GET_IMPEDANCE_TEST, 0, 16)


requests = st.lists(
    st.tuples(st.integers(0, 5 * MS), st.sampled_from(Side), st.sampled_from([0, 3, ALL_CHANNELS])), max_size=12
)


@settings(deadline=None)
@given(requests, st.lists(st.integers(0, 5 * MS), max_size=12))
def test_bytes_do_not_depend_on_when_one_looks(asked, looks):
    def run(times):
        device, now_ns, transfers = Device(electrodes=["0:E1=off", "3=bridge"]), 0, []
        due = {}
        for wait_ns, sides, channel in asked:
            now_ns += wait_ns
            due.setdefault(now_ns, []).append((sides, channel))
        for at_ns in sorted({*times, *due, 80 * MS}):
            transfers += device.model.poll(at_ns)
            for sides, channel in due.get(at_ns, []):
                device.test(at_ns, sides, channel)
        return transfers

    assert run([sum(looks[:n]) for n in range(len(looks))]) == run([])


@settings(deadline=None)
@given(requests)
def test_the_current_flows_exactly_where_the_marks_say(asked):
    device, now_ns = Device(), 0
    for wait_ns, sides, channel in asked:
        now_ns += wait_ns
        device.test(now_ns, sides, channel)
    frames = device.stream(80 * MS)
    flowing = np.zeros((320, CHANNELS), bool)
    for seq, _, channel, value in marks_of(frames):
        flowing[seq:, slice(None) if channel == ALL_CHANNELS else channel] = value != 0
    added = samples_of(frames) - EMG.read(0, 320)
    assert not added[~flowing].any()
    # The sine passes through 0 now and then, never for three samples.
    for channel in range(CHANNELS):
        still = (added[:, channel] == 0) & flowing[:, channel]
        assert not (still[2:] & still[1:-1] & still[:-2]).any() or _restarts(frames, channel)


def _restarts(frames, channel):
    """Requests in quick succession begin the sine anew, at 0, sample after sample."""
    seqs = [seq for seq, _, which, _ in marks_of(frames) if which in (channel, ALL_CHANNELS)]
    return any(later - earlier <= 2 for earlier, later in pairwise(seqs))
