"""The test's hand on the emulated bus, and a sample loop on what is plugged into it."""

import json
import os
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from emgd import filters
from emgd.templates import causes_in
from emgd_drivers.emg8.driver import KIND
from emgd_drivers.registry import open_amplifier
from emgd_drivers.sim.faults import FaultPlan
from emgd_drivers.sim.signal import SyntheticEmg
from emgd_drivers.usb.finder import find_devices
from emgd_drivers.usb.libusb import find_libusb
from emgd_ext import ring as planes
from emgd_ext.clock import ClockModel
from emgd_ext.loop import SampleLoop
from emgd_ext.ring import Ring

REFERENCE, SMALL = "EMG8-000001", "EMG8-000002"
CHANNELS, RATE_HZ = 8, 48_000.0
PATIENCE_S = 20


def until(wanted, what):
    """Wait until something is so; the machine may be busy."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := wanted()):
        assert time.monotonic() < deadline_s, f"not so after {PATIENCE_S} s: {what}"
        time.sleep(0.01)
    return found


class Device:
    """One device of the bus, by the words of its control socket (docs/emulation.md)."""

    def __init__(self, serial):
        self.serial = serial

    def say(self, word, *arguments):
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(os.environ["EMGD_BUS_CONTROL"])
            control.sendall(" ".join([word, self.serial, *map(str, arguments)]).encode() + b"\n")
            answer = control.makefile().readline().strip()
        assert answer.startswith("ok"), answer
        return answer.removeprefix("ok").strip()

    def status(self):
        return json.loads(self.say("status"))

    def present(self):
        return any(found.serial == self.serial for found in find_devices(KIND, find_libusb().backend()))

    def power_cycle(self):
        """As new: state idle, nothing planned."""
        if self.status()["connected"]:
            self.say("unplug")
        until(lambda: not self.present(), "it has left the bus")
        self.say("plug")
        until(self.present, "it is back on the bus")

    def open(self, rate_hz=RATE_HZ, gain=1):
        return open_amplifier("emg8", {"serial": self.serial, "rate_hz": rate_hz, "gain": gain})


class Stream:
    """A sample loop that reads an amplifier."""

    def __init__(self, amplifier, seconds):
        self.amplifier = amplifier
        self.info = info = amplifier.info
        designed = [filters.design(filters.PRESETS["off"], info.rate_hz)] * info.channel_count
        self.source = amplifier.source()
        self.loop = SampleLoop(
            amplifier.decoder(),
            ClockModel(info.tick_hz),
            Ring(info.channel_count, 96, int(seconds * info.rate_hz) // 96 * 96),
            filters.cascade_of(designed, [channel.uv_per_count for channel in amplifier.channels]),
            np.array([channel.saturation_count for channel in amplifier.channels], np.int32),
            info.tick_hz / info.rate_hz,
            2 * info.max_frame_bytes,
        )
        self.thread = threading.Thread(target=self.loop.run, args=(self.source,))

    def until_samples(self, count):
        """Wait for so many more."""
        wanted = self.loop.next_seq + count
        until(lambda: self.loop.next_seq >= wanted or not self.thread.is_alive(), f"sample {wanted}")

    @property
    def missing(self):
        return self.loop.stats()[1]["missing"]

    @property
    def wire(self):
        return self.loop.stats()[0]

    @property
    def gaps(self):
        """(first sample, how many, why) of each gap."""
        _, events = self.loop.ring.events()
        return [(event.seq, event.count, tuple(causes_in(event.code))) for event in events if event.kind == planes.GAP]

    def check_samples(self):
        """Every sample that is there is the one that the device measured. Returns how many were compared."""
        ring, signal = self.loop.ring, SyntheticEmg(self.info.channel_count, self.info.rate_hz, seed=FaultPlan().seed)
        compared = 0
        for index in range(ring.blocks):
            block = ring.block(index)
            samples = ring.read(planes.RAW, block.seq, block.count)
            assert samples is not None, f"block {index} is not in the ring"
            assert np.array_equal(samples, signal.read(block.seq, block.count)), f"samples from {block.seq} on"
            compared += block.count
        return compared

    def stop(self):
        """Let the device end its stream."""
        self.amplifier.stop()
        until(lambda: not self.thread.is_alive(), "the END frame ended the loop")


@contextmanager
def streaming(amplifier, seconds=20):
    """The amplifier, started, with a loop that reads it."""
    stream = Stream(amplifier, seconds)
    stream.thread.start()
    try:
        amplifier.start()
        yield stream
    finally:
        stream.loop.stop()
        stream.thread.join()
        amplifier.close()


def bridge_notes():
    """What the bridge has noted: one line for each open, close, claim, reset, ..."""
    return Path(os.environ["EMGD_USB_LOG"]).read_text().splitlines()
