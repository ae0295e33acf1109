"""A sample loop on a table: frames in by hand, blocks and events out, time as the test says."""

from dataclasses import dataclass

import numpy as np

from emgd import filters
from emgd.templates import causes_in
from emgd_drivers.emg8 import protocol
from emgd_ext import ring as planes
from emgd_ext.clock import ClockModel
from emgd_ext.emg8 import Emg8Decoder
from emgd_ext.loop import SampleLoop
from emgd_ext.ring import Ring

RATE_HZ = 48_000.0
TICKS_PER_SAMPLE = protocol.TICK_HZ / RATE_HZ
FIRST_TICK = 1000


def ramp(first, count, channels):
    """Samples whose value tells which sample and channel they are."""
    seq = np.arange(first, first + count)[:, None]
    return ((seq * 31 + np.arange(channels) * 7) % 2**22).astype(np.int32)


def frame(number, first, count, channels, *, flags=0, marks=(), frame_type=protocol.FrameType.DATA, samples=None):
    """An emg8 frame of the ramp."""
    return protocol.encode_frame(
        ramp(first, count, channels) if samples is None else samples,
        frame_seq=number % 2**32,
        first=first,
        tick=FIRST_TICK + int(first * TICKS_PER_SAMPLE),
        flags=flags,
        frame_type=frame_type,
        marks=marks,
    )


def end_frame(number, total, channels):
    return frame(number, total, 0, channels, flags=protocol.FrameFlag.END, frame_type=protocol.FrameType.END)


@dataclass
class Published:
    """What a reader of the ring finds."""

    blocks: list
    raw: dict
    gaps: list
    marks: list

    @property
    def seqs(self):
        return sorted(self.raw)


class Rig:
    def __init__(
        self,
        channels=3,
        block_samples=96,
        capacity=48_000,
        spec="off",
        limit=protocol.MAX_COUNT,
        *,
        decoder=None,
        rate_hz=RATE_HZ,
        tick_hz=protocol.TICK_HZ,
    ):
        self.channels = channels
        designed = [filters.design(filters.PRESETS[spec], rate_hz)] * channels
        self.ring = Ring(channels, block_samples, capacity)
        self.loop = SampleLoop(
            decoder or Emg8Decoder(channels),
            ClockModel(tick_hz),
            self.ring,
            filters.cascade_of(designed, [1.0] * channels),
            np.full(channels, limit, np.int32),
            tick_hz / rate_hz,
            1 << 16,
        )
        self.now_ns = 10**9

    def feed(self, *transfers):
        for transfer in transfers:
            self.now_ns += 1_000_000
            self.loop.feed(transfer, self.now_ns)
        return self

    def published(self):
        blocks, raw = [], {}
        for index in range(self.ring.blocks):
            block = self.ring.block(index)
            blocks.append(block)
            samples = self.ring.read(planes.RAW, block.seq, block.count)
            for offset, row in enumerate(samples):
                assert block.seq + offset not in raw, "a sample was published twice"
                raw[block.seq + offset] = row
        _, events = self.ring.events()
        gaps = [(e.seq, e.count, frozenset(causes_in(e.code))) for e in events if e.kind == planes.GAP]
        marks = [(e.seq, e.code, e.channel, e.value) for e in events if e.kind == planes.MARK]
        return Published(blocks, raw, gaps, marks)
