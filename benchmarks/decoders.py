"""How fast are the decoders? What devices send within 20 s goes through the sample loop as fast as it can.

    python benchmarks/decoders.py [--seconds 20] [--repeats 5] [--json]

`hackeeg` is FixedDecoder with a frame a sample, 8 channels at 16 kHz; `cyton` the same with 8 at 250 Hz; `emg8` is
Emg8Decoder with a frame a millisecond, 8 channels at 48 kHz. The bytes come in pieces of a millisecond (cyton: four),
as the sample loop gets them, and go all the way into the ring, with the filter off. Time is CPU time of this thread,
the best of all repeats, so other work on the machine hardly matters.

"x real time" is what counts: at 100 the device takes a percent of a core. Exit status 1 when a sample is missing.

On a virtual machine of 2 cores, busy with other work (CPython 3.11, gcc -O3):

    hackeeg     354 x real time,  249.2 MB/s,    177 ns a frame
    cyton      5294 x real time,   43.7 MB/s,    756 ns a frame
    emg8        854 x real time, 1028.2 MB/s,   1171 ns a frame

A Cyton's frame costs more than a HackEEG's since each comes alone: most of it is the call.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emgd_drivers.cyton import protocol as cyton
from emgd_drivers.emg8.protocol import encode_frame
from emgd_drivers.hackeeg import protocol as hackeeg
from emgd_ext.cascade import Cascade
from emgd_ext.clock import ClockModel
from emgd_ext.decoder import Decoder
from emgd_ext.emg8 import Emg8Decoder
from emgd_ext.fixed import FixedDecoder
from emgd_ext.loop import SampleLoop
from emgd_ext.ring import Ring

CHANNELS = 8
NS_PER_S = 1_000_000_000
EMG8_FRAME = 48
"""Samples of a millisecond."""

HACKEEG_HEAD = bytes.fromhex("82 a1 43 cc c8 a1 44 c4 23")
"""MessagePack of {"C": 200, "D": 35 bytes}, as far as those."""

BUFFER_BYTES = 1 << 16
LIMIT = 2**23 - 1


def counts(at: int, samples: int) -> npt.NDArray[np.int32]:
    """Samples that tell which they are, over most of 24 bits."""
    rows = np.arange(at, at + samples)[:, None] * 7919 + np.arange(CHANNELS) * 104_729
    return (rows % (2 * LIMIT - 1) - LIMIT + 1).astype(np.int32)


def three_bytes(at: int) -> bytes:
    """One sample of all channels, most significant byte first."""
    return counts(at, 1).astype(">i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()


def hackeeg_frame(at: int) -> bytes:
    """MessagePack of one sample: time in µs, number, status of the chip, channels."""
    micros = at * 125 // 2
    return HACKEEG_HEAD + micros.to_bytes(4, "little") + at.to_bytes(4, "little") + b"\xc0\0\0" + three_bytes(at)


def cyton_frame(at: int) -> bytes:
    """Header, number, channels, acceleration, end."""
    return b"\xa0" + bytes([at % 256]) + three_bytes(at) + bytes(6) + b"\xc0"


def emg8_frame(at: int) -> bytes:
    """A millisecond."""
    return encode_frame(counts(at, EMG8_FRAME), frame_seq=at // EMG8_FRAME, first=at, tick=at)


class Stream(NamedTuple):
    """`frame(at)` is the bytes of the frame whose first sample is number `at`; `frames` of them arrive together."""

    rate_hz: int
    tick_hz: float
    decoder: Callable[[], Decoder]
    frame: Callable[[int], bytes]
    frame_samples: int = 1
    frames: int = 1

    def pieces(self, seconds: float) -> list[bytes]:
        """All bytes, as they arrive."""
        step = self.frame_samples * self.frames
        return [
            b"".join(self.frame(at + k * self.frame_samples) for k in range(self.frames))
            for at in range(0, round(seconds * self.rate_hz) // step * step, step)
        ]


STREAMS = {
    "hackeeg": Stream(
        16_000, hackeeg.TICK_HZ, lambda: FixedDecoder(hackeeg.LAYOUT, 16_000.0), hackeeg_frame, frames=16
    ),
    "cyton": Stream(250, cyton.RATE_HZ, lambda: FixedDecoder(cyton.LAYOUT, cyton.RATE_HZ), cyton_frame),
    "emg8": Stream(48_000, 48_000.0, lambda: Emg8Decoder(CHANNELS), emg8_frame, frame_samples=EMG8_FRAME),
}


def cpu_s(stream: Stream, pieces: list[bytes]) -> float:
    """How long they take on their way into a ring. AssertionError when a sample does not arrive."""
    ring = Ring(CHANNELS, stream.rate_hz // 250, stream.rate_hz)
    off = [np.empty((0, 6))] * CHANNELS
    cascade = Cascade([1.0] * CHANNELS, off, [np.empty((0, 2))] * CHANNELS, [0] * CHANNELS)
    limits = np.full(CHANNELS, LIMIT, np.int32)
    decoder = stream.decoder()
    loop = SampleLoop(
        decoder, ClockModel(stream.tick_hz), ring, cascade, limits, stream.tick_hz / stream.rate_hz, BUFFER_BYTES
    )
    step_ns = NS_PER_S * stream.frame_samples * stream.frames // stream.rate_hz
    now_ns = time.monotonic_ns()
    if isinstance(decoder, FixedDecoder):
        decoder.expect_start(now_ns)
    begun_s = time.thread_time()
    for piece in pieces:
        now_ns += step_ns
        loop.feed(piece, now_ns)
    took_s = time.thread_time() - begun_s
    if isinstance(decoder, FixedDecoder):
        decoder.expect_end(now_ns)  # it holds the last frame back until it knows that none follows
    loop.feed_idle(now_ns + NS_PER_S)
    loop.feed_idle(now_ns + 2 * NS_PER_S)
    assert loop.next_seq == len(pieces) * stream.frame_samples * stream.frames, loop.next_seq
    assert loop.stats()[1]["missing"] == 0
    return took_s


def measure(name: str, seconds: float, repeats: int) -> dict[str, Any]:
    """All figures of one stream."""
    stream = STREAMS[name]
    pieces = stream.pieces(seconds)
    took_s = min(cpu_s(stream, pieces) for _ in range(repeats))
    samples = len(pieces) * stream.frame_samples * stream.frames
    return {
        "stream": name,
        "megabytes_per_s": round(sum(map(len, pieces)) / took_s / 1e6, 1),
        "samples_per_s": round(samples / took_s),
        "ns_per_frame": round(1e9 * took_s * stream.frame_samples / samples),
        "times_real_time": round(samples / stream.rate_hz / took_s),
    }


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="How fast are the decoders?")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="all figures as JSON")
    options = parser.parse_args()
    try:
        found = [measure(name, options.seconds, options.repeats) for name in STREAMS]
    except AssertionError as error:
        print(f"decoders: a sample is missing: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    for figures in found:
        print(
            f"{figures['stream']:8} {figures['times_real_time']:6} x real time, {figures['megabytes_per_s']:6} MB/s, "
            f"{figures['ns_per_frame']:6} ns a frame"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
