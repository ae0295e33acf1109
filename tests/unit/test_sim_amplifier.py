"""The emg8 driver over a device model, on virtual time."""

from contextlib import closing

import numpy as np
import pytest

from emgd_drivers.api import (
    ClockProbe,
    DeviceError,
    DeviceLostError,
    DeviceRefusedError,
    ImpedanceTest,
    Mode,
    RunState,
    Side,
)
from emgd_drivers.emg8.api import Emg8Amplifier
from emgd_drivers.emg8.protocol import FrameType, Info, MarkCode, Request, decode_frames
from emgd_drivers.sim.cable import InProcessTransport
from emgd_drivers.sim.faults import FaultPlan
from emgd_drivers.sim.model import Emg8Model
from emgd_drivers.sim.signal import SyntheticEmg

MS = 1_000_000


class Clock:
    """Host time that stands still until it is told to go on."""

    now_ns = 5000 * MS

    def __call__(self):
        return self.now_ns


class Rig:
    """An amplifier, its model's transport and their clock."""

    def __init__(self, *faults, signal=None, speed=1.0, **options):
        self.clock = Clock()
        model = Emg8Model(
            signal or SyntheticEmg(2, 4000), FaultPlan.parse(faults), speed=speed, now_ns=self.clock.now_ns
        )
        self.transport = InProcessTransport(model, self.clock)
        self.transport._bulk.setblocking(False)
        self.amplifier = Emg8Amplifier(self.transport, simulated=True, speed=speed, clock_ns=self.clock, **options)

    def frames_after(self, ms):
        """Frames of the next so many milliseconds."""
        self.clock.now_ns += round(ms * MS)
        self.transport.pump()
        found = []
        while True:
            try:
                transfer = self.transport._bulk.recv(65536)
            except BlockingIOError:
                return found
            if not transfer:
                return found
            found += decode_frames(transfer, 2)


@pytest.fixture
def rig():
    rigs = []

    def make(*faults, **options):
        rigs.append(Rig(*faults, **options))
        return rigs[-1]

    yield make
    for each in rigs:
        each.amplifier.close()


def test_amplifier_says_what_it_is(rig):
    info = rig().amplifier.info
    assert (info.driver, info.serial, info.firmware) == ("emg8", "EMG8-SIM001", "sim-1.0")
    assert (info.channel_count, info.rate_hz, info.tick_hz) == (2, 4000, 48e6)
    assert (info.has_clock, info.simulated, info.speed) == (True, True, 1.0)


def test_played_as_fast_as_possible_it_has_no_clock(rig):
    info = rig(speed=0).amplifier.info
    assert (info.has_clock, info.speed) == (False, 0)


def test_channels_are_told_with_the_saturation_of_a_24_bit_converter(rig):
    channels = rig().amplifier.channels
    assert [(channel.label, channel.gain, channel.mode) for channel in channels] == [("EMG 1", 1, 0), ("EMG 2", 1, 0)]
    assert [channel.saturation_count for channel in channels] == [2**23 - 1] * 2


def test_channels_of_a_narrower_converter_saturate_earlier(rig):
    channels = rig(saturation_counts=[32767, 2047]).amplifier.channels
    assert [channel.saturation_count for channel in channels] == [32767, 2047]


def test_wrong_number_of_saturation_counts_is_refused():
    with (
        closing(InProcessTransport(Emg8Model(SyntheticEmg(2, 1000)), Clock())) as transport,
        pytest.raises(DeviceError, match="1 saturation counts for 2 channels"),
    ):
        Emg8Amplifier(transport, saturation_counts=[32767])


def test_stream_is_started_and_stopped(rig):
    host = rig()
    host.amplifier.start()
    assert [frame.first for frame in host.frames_after(3)] == [0, 4, 8]
    assert host.amplifier.status().state == RunState.STREAMING
    host.amplifier.stop()
    *_, end = host.frames_after(0)
    assert (end.type, end.first) == (FrameType.END, 13)
    status = host.amplifier.status()
    assert (status.state, status.frames, status.samples, status.overflowed_samples) == (RunState.ENDED, 5, 13, 0)


def test_decoder_understands_the_stream(rig):
    host = rig()
    host.amplifier.start()
    host.clock.now_ns += MS
    host.transport.pump()
    (frame,) = host.amplifier.decoder().decode(host.transport._bulk.recv(65536))
    assert (frame.status, frame.first, frame.count) == (0, 0, 4)


def test_rate_and_channels_are_set_and_seen(rig):
    host = rig()
    host.amplifier.set_rate(2000)
    host.amplifier.set_channel(None, 12)
    host.amplifier.set_channel(1, 24, Mode.SHORT)
    assert host.amplifier.info.rate_hz == 2000
    assert [(channel.gain, channel.mode) for channel in host.amplifier.channels] == [(12, 0), (24, 1)]
    assert host.amplifier.channels[0].uv_per_count == 2 * host.amplifier.channels[1].uv_per_count


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda amplifier: amplifier.set_rate(500), "no rate of 500 Hz: .*out of range.*1000 to 100000 Hz"),
        (lambda amplifier: amplifier.set_channel(2, 1), "no channel 2; choose 0 to 1"),
        (lambda amplifier: amplifier.set_channel(0, 3), "no gain of 3; choose one of 1, 2, 4, 6, 8, 12, 24"),
        (
            lambda amplifier: amplifier.set_channel(None, 1, Mode.IMPEDANCE),
            "no gain 1, mode IMPEDANCE for all channels: .*range",
        ),
        (lambda amplifier: amplifier.keep_alive(70_000), "no keep-alive of 70000 ms; choose 0 .off. to 65535 ms"),
    ],
)
def test_refusal_names_device_value_and_remedy(rig, ask, said):
    with pytest.raises(DeviceRefusedError, match="^emg8 EMG8-SIM001: " + said):
        ask(rig().amplifier)


def test_settings_while_streaming_are_refused_with_the_reason(rig):
    amplifier = rig().amplifier
    amplifier.start()
    with pytest.raises(DeviceRefusedError, match="not while it is streaming; stop it first"):
        amplifier.set_rate(2000)
    with pytest.raises(DeviceRefusedError, match="not while it is streaming; stop it first"):
        amplifier.set_channel(0, 2)


def test_probe_brackets_the_device_clock(rig):
    host = rig("drift=100ppm")
    host.clock.now_ns += 1000 * MS
    now_ns = host.clock.now_ns
    tick = int(48_000_000 / (1 + 100e-6))
    assert host.amplifier.probe_clock() == ClockProbe(now_ns, tick, now_ns)


def test_probe_of_a_device_without_clock_is_refused(rig):
    with pytest.raises(DeviceRefusedError, match="refused LATCH_CLOCK: it does not know this request"):
        rig(speed=0).amplifier.probe_clock()


def test_device_stops_when_the_host_falls_silent(rig):
    host = rig()
    host.amplifier.keep_alive(5)
    host.amplifier.start()
    *_, end = host.frames_after(20)
    assert (end.type, end.first) == (FrameType.END, 21)


def test_unplugged_device_is_lost_and_its_bulk_end_closes(rig):
    host = rig("unplug@3")
    host.amplifier.start()
    assert [frame.first for frame in host.frames_after(10)] == [0, 4, 8]
    assert host.transport._bulk.recv(65536) == b""
    with pytest.raises(DeviceLostError, match="unplugged"):
        host.amplifier.status()


def test_host_that_does_not_read_makes_the_device_wait_not_lose(rig):
    host = rig()
    host.amplifier.start()
    found = host.frames_after(3000)  # more than the socket holds
    while more := host.frames_after(0):
        found += more
    assert [frame.first for frame in found] == list(range(0, 12_000, 4))


def test_source_is_handed_over_once(rig):
    amplifier = rig().amplifier
    source = amplifier.source()
    with pytest.raises(DeviceError, match="handed over before"):
        amplifier.source()
    source.close()


def test_test_current_is_told_sent_and_ended(rig):
    host = rig()
    assert host.amplifier.info.impedance == ImpedanceTest(31.25, 24.0, has_marks=True)
    host.amplifier.start()
    host.frames_after(10)
    host.amplifier.set_impedance_test(None, Side.BOTH)
    host.amplifier.set_impedance_test(1, Side.NONE)
    (changed,) = [frame for frame in host.frames_after(5) if frame.marks]
    assert changed.marks == [(41, MarkCode.IMPEDANCE, 0xFFFF, 3), (41, MarkCode.IMPEDANCE, 1, 0)]
    host.amplifier.set_impedance_test(None, Side.NONE)
    assert [frame.marks for frame in host.frames_after(5) if frame.marks] == [[(61, MarkCode.IMPEDANCE, 0xFFFF, 0)]]


def test_test_current_through_a_channel_that_is_not_there_is_refused_in_words(rig):
    with pytest.raises(
        DeviceRefusedError, match=r"no test current through BOTH of channel 2: .* it has no such channel"
    ):
        rig().amplifier.set_impedance_test(2, Side.BOTH)


def test_device_without_impedance_test_says_so(rig):
    amplifier = rig(signal=Fixed()).amplifier
    assert amplifier.info.impedance is None
    with pytest.raises(DeviceRefusedError, match="it does not know this request"):
        amplifier.set_impedance_test(None, Side.BOTH)


class Fixed:
    """A signal of which nothing can be changed, as of a recording."""

    channels, rate_hz, length = 1, 1000.0, None
    uv_per_count, labels, saturation_counts, notes = (1.0,), ("A",), (100,), ()

    def read(self, first, count):
        return np.zeros((count, 1), np.int32)

    def marks(self, first, count):
        return []


NEWER = Info(1, 0, 1.0, 1.0, 1.0, 1.0, 0, "", 0, version=0x0200)


class Stranger(InProcessTransport):
    """A device that answers one request with bytes of its own."""

    request, answer = None, b""

    def control_in(self, request, value, index, length):
        return self.answer if request == self.request else super().control_in(request, value, index, length)


@pytest.fixture
def stranger():
    with closing(Stranger(Emg8Model(SyntheticEmg(1, 1000)), Clock())) as transport:
        yield transport


@pytest.mark.parametrize(
    ("request_number", "answer", "said"),
    [
        (Request.GET_INFO, NEWER.pack(), "version 0x0200, emgd speaks 0x0100"),
        (Request.GET_INFO, b"short", "GET_INFO has 5 bytes, not 64"),
        (Request.GET_CHANNEL, b"", "GET_CHANNEL has 0 bytes, not 32"),
        (Request.GET_IMPEDANCE_TEST, b"", "GET_IMPEDANCE_TEST has 0 bytes, not 16"),
    ],
)
def test_device_that_speaks_otherwise_is_refused_when_opened(stranger, request_number, answer, said):
    stranger.request, stranger.answer = request_number, answer
    with pytest.raises(DeviceError, match=said):
        Emg8Amplifier(stranger)


def test_probe_that_makes_no_sense_is_an_error(stranger):
    amplifier = Emg8Amplifier(stranger)
    stranger.request, stranger.answer = Request.LATCH_CLOCK, bytes(8)
    with pytest.raises(DeviceError, match="LATCH_CLOCK has 8 bytes, not 16"):
        amplifier.probe_clock()
