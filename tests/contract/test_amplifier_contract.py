"""What every amplifier driver must do, whatever is behind it. A new driver adds a way to open it to WAYS and nothing
else."""

import json
import os
import threading
import time
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from emgd import filters
from emgd_drivers import skeleton
from emgd_drivers.api import ALL_CHANNELS, DeviceLostError, DeviceRefusedError, Mode, RunState, Side
from emgd_drivers.emg8.api import Emg8Amplifier
from emgd_drivers.emg8.driver import KIND
from emgd_drivers.registry import open_amplifier
from emgd_drivers.sim.cable import InProcessTransport
from emgd_drivers.sim.faults import FaultPlan
from emgd_drivers.sim.model import Emg8Model
from emgd_drivers.sim.pty import PtyDevice
from emgd_drivers.sim.signal import SyntheticEmg
from emgd_drivers.usb.finder import find_device
from emgd_drivers.usb.libusb import find_libusb
from emgd_ext import ring as planes
from emgd_ext.clock import ClockModel
from emgd_ext.loop import SampleLoop
from emgd_ext.ring import Ring
from emgd_wire.kinds import Flag

STREAM_S = 0.3


class RealTime:
    """A device that lives by the wall clock: waiting is all there is to do."""

    def __init__(self, amplifier, channels, rate_hz):
        self.amplifier = amplifier
        self.channels = channels
        self.rate_hz = rate_hz

    def pass_time(self, seconds):
        time.sleep(seconds)


class VirtualTime:
    """A model in this process, on a clock that the test moves."""

    channels = 4
    rate_hz = 8000

    def __init__(self):
        self.now_ns = 10**9
        model = Emg8Model(SyntheticEmg(4, 8000.0), FaultPlan(), now_ns=self.now_ns)
        self.transport = InProcessTransport(model, lambda: self.now_ns)
        self.amplifier = Emg8Amplifier(self.transport, simulated=True, clock_ns=lambda: self.now_ns)

    def pass_time(self, seconds):
        end_ns = self.now_ns + int(seconds * 1e9)
        while self.now_ns < end_ns:
            self.now_ns += 1_000_000
            self.transport.pump()
            time.sleep(0)


@contextmanager
def opened(amplifier, channels=4, rate_hz=8000):
    try:
        yield RealTime(amplifier, channels, rate_hz)
    finally:
        amplifier.close()


@contextmanager
def on_a_pty(name, world_hz, **options):
    with PtyDevice(name) as device:
        amplifier = open_amplifier(name, {"port": device.path, "serial": None, "gain": 24, **options})
        with opened(amplifier, channels=8, rate_hz=world_hz) as world:
            yield world


def cyton(_tmp_path):
    return on_a_pty("cyton", 250)


@contextmanager
def skeleton_driver(_tmp_path):
    with PtyDevice("cyton") as device, opened(skeleton.open_amplifier({"port": device.path, "serial": "S"})) as world:
        world.channels, world.rate_hz = 8, 250
        yield world


def hackeeg(_tmp_path):
    return on_a_pty("hackeeg", 8000, rate_hz=8000)


@contextmanager
def in_process(_tmp_path):
    world = VirtualTime()
    yield world
    world.amplifier.close()


def simulated(_tmp_path):
    options = {"channels": 4, "rate_hz": 8000.0, "triggers": True, "serial": "EMG8-TEST", "speed": 1.0, "faults": []}
    return opened(open_amplifier("sim", options))


def replayed(tmp_path):
    path = tmp_path / "recording.npy"
    np.save(path, np.arange(4 * 40_000, dtype=np.int32).reshape(-1, 4) % 1000)
    (tmp_path / "recording.json").write_text(json.dumps({"rate_hz": 8000, "uv_per_count": 0.5}))
    options = {"recording": path, "sidecar": None, "loop": False, "speed": 1.0, "faults": []}
    return opened(open_amplifier("replay", options))


def over_usb(_tmp_path):
    """The emg8 with serial number $EMGD_USB_SERIAL, set back to what it is after power-up."""
    serial = os.environ["EMGD_USB_SERIAL"]
    libusb = find_libusb()
    find_device(KIND, serial, libusb.backend()).handle.reset()
    return opened(open_amplifier("emg8", {"serial": serial, "rate_hz": 8000.0, "gain": 1}))


def hackeeg_over_usb(_tmp_path):
    """The HackEEG with serial number $EMGD_HACKEEG_SERIAL, found by it behind the kernel's cdc-acm."""
    options = {"port": None, "serial": os.environ["EMGD_HACKEEG_SERIAL"], "gain": 24, "rate_hz": 1000}
    return opened(open_amplifier("hackeeg", options), channels=8, rate_hz=1000)


WAYS = {
    "in process": in_process,
    "own process": simulated,
    "recording": replayed,
    "cyton on a pty": cyton,
    "hackeeg on a pty": hackeeg,
    "the skeleton": skeleton_driver,
}
if "EMGD_USB_SERIAL" in os.environ:
    WAYS["usb"] = over_usb
if "EMGD_HACKEEG_SERIAL" in os.environ:
    WAYS["hackeeg over usb"] = hackeeg_over_usb


@pytest.fixture(params=WAYS)
def world(request, tmp_path):
    with WAYS[request.param](tmp_path) as made:
        yield made


@contextmanager
def looping(amplifier):
    """A sample loop that reads the amplifier."""
    info, channels = amplifier.info, amplifier.channels
    designed = [filters.design(filters.PRESETS["off"], info.rate_hz)] * len(channels)
    loop = SampleLoop(
        amplifier.decoder(),
        ClockModel(info.tick_hz),
        Ring(len(channels), 16, 80_000),
        filters.cascade_of(designed, [channel.uv_per_count for channel in channels]),
        np.array([channel.saturation_count for channel in channels], np.int32),
        info.tick_hz / info.rate_hz,
        2 * info.max_frame_bytes,
    )
    thread = threading.Thread(target=loop.run, args=(amplifier.source(),))
    thread.start()
    try:
        yield loop
    finally:
        loop.stop()
        thread.join()


def until(condition, timeout_s=3.0):
    """The loop runs in real time whatever the device does: give it the time it needs."""
    give_up = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.005)


def settle(loop, samples):
    """Wait until the loop has that many samples."""
    until(lambda: loop.next_seq >= samples)


def test_it_says_what_it_is(world):
    info = world.amplifier.info
    assert info.serial
    assert info.serial.isprintable()
    assert info.rate_hz == world.rate_hz
    assert info.tick_hz >= info.rate_hz
    assert info.channel_count == len(world.amplifier.channels) == world.channels
    assert info.max_frame_bytes > 0


def test_its_channels_have_a_name_a_scale_and_an_end_of_range(world):
    for channel in world.amplifier.channels:
        assert channel.label
        assert channel.uv_per_count != 0
        assert channel.saturation_count > 0
        assert channel.mode is Mode.NORMAL


def test_it_is_idle_until_started(world):
    world.pass_time(0.05)
    assert world.amplifier.status().state is RunState.IDLE
    assert world.amplifier.status().samples == 0


def test_it_streams_every_sample_once_and_says_how_many_there_were(world):
    amplifier = world.amplifier
    with looping(amplifier) as loop:
        amplifier.start()
        world.pass_time(STREAM_S)
        assert amplifier.status().state is RunState.STREAMING
        amplifier.stop()
        world.pass_time(0.05)
        settle(loop, amplifier.status().samples)
        until(lambda: loop.has_ended)
        assert loop.has_ended, "the END frame came"
        total = amplifier.status().samples
        assert loop.next_seq == total
        assert total == pytest.approx(STREAM_S * world.rate_hz, rel=0.5)
        _, samples = loop.stats()
        assert (samples["gaps"], samples["missing"]) == (0, 0)
        blocks = [loop.ring.block(index) for index in range(loop.ring.blocks)]
        assert sum(block.count for block in blocks) == total
        assert all(loop.ring.read(planes.RAW, block.seq, block.count) is not None for block in blocks)


def test_its_clock_can_be_probed_and_goes_forward(world):
    if not world.amplifier.info.can_probe:
        with pytest.raises(DeviceRefusedError):
            world.amplifier.probe_clock()
        return
    probes = []
    for _ in range(3):
        probes.append(world.amplifier.probe_clock())
        world.pass_time(0.01)
    for earlier, later in pairwise(probes):
        assert earlier.before_ns <= earlier.after_ns <= later.before_ns
        assert later.tick > earlier.tick
    first, last = probes[0], probes[-1]
    elapsed_ns = (last.tick - first.tick) / world.amplifier.info.tick_hz * 1e9
    # Each latch lies somewhere within its probe, so the ticks between two are bounded; a crystal is off by little.
    assert 0.99 * (last.before_ns - first.after_ns) <= elapsed_ns <= 1.01 * (last.after_ns - first.before_ns)


def test_it_stops_by_itself_when_the_host_falls_silent(world):
    amplifier = world.amplifier
    if not amplifier.info.has_keep_alive:
        with pytest.raises(DeviceRefusedError):
            amplifier.keep_alive(100)
        return
    with looping(amplifier) as loop:
        amplifier.start()
        amplifier.keep_alive(100)
        world.pass_time(0.05)
        amplifier.keep_alive(100)
        world.pass_time(0.4)
        assert amplifier.status().state is not RunState.STREAMING
        settle(loop, amplifier.status().samples)
        assert loop.next_seq == amplifier.status().samples


def test_keep_alive_off_lets_it_stream_on(world):
    if not world.amplifier.info.has_keep_alive:
        return
    world.amplifier.start()
    world.amplifier.keep_alive(500)
    world.amplifier.keep_alive(0)
    world.pass_time(0.8)
    assert world.amplifier.status().state is RunState.STREAMING


def test_a_test_current_costs_no_sample_and_can_be_ended_at_any_time(world):
    amplifier = world.amplifier
    if amplifier.info.impedance is None:
        with pytest.raises(DeviceRefusedError):
            amplifier.set_impedance_test(None, Side.BOTH)
        return
    assert amplifier.info.impedance.frequency_hz > 0
    assert amplifier.info.impedance.current_na > 0
    amplifier.set_impedance_test(None, Side.NONE)
    with looping(amplifier) as loop:
        amplifier.start()
        asked = [(None, 1), (1, 0), (1, 2), (None, 3), (None, 0), (None, 0)]
        for channel, sides in asked:
            world.pass_time(0.05)
            amplifier.set_impedance_test(channel, Side(sides))
        world.pass_time(0.05)
        amplifier.stop()
        world.pass_time(0.05)
        total = amplifier.status().samples
        settle(loop, total)
        assert loop.next_seq == total
        _, samples = loop.stats()
        assert (samples["gaps"], samples["missing"]) == (0, 0)
        if amplifier.info.impedance.has_marks:
            marks = [event for event in loop.ring.events()[1] if event.kind == planes.MARK and event.code == 5]
            told = [(None if mark.channel == ALL_CHANNELS else mark.channel, mark.value) for mark in marks]
            assert told == asked
        newest = loop.ring.block(loop.ring.blocks - 1)
        assert not newest.flags & Flag.IMPEDANCE
    with pytest.raises(DeviceRefusedError):
        amplifier.set_impedance_test(4, Side.BOTH)


def test_closing_twice_does_no_harm(world):
    world.amplifier.close()
    world.amplifier.close()


def test_a_device_that_is_gone_is_lost_and_not_silent(tmp_path):
    with simulated(tmp_path) as world:
        world.amplifier.close()
        with pytest.raises(DeviceLostError):
            world.amplifier.status()
