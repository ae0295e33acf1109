"""What the emulated amplifier measures in these tests: a ramp. Every value tells which sample and channel it is.

The recording repeats after WRAP samples. A lost, repeated, altered or exchanged value breaks the ramp; a client finds
that out from the values alone, whatever their numbers say.
"""

import json

import numpy as np

CHANNELS = 8
RATE_HZ = 48_000
WRAP = 2**17
"""2.7 s of 48 kHz: longer than any gap that a stalled machine makes, and 2^20 values fit the 24 bits of a count."""


def write_recording(path):
    """Write the recording and its sidecar; `path` ends in .npy."""
    np.save(path, np.arange(WRAP * CHANNELS, dtype=np.int32).reshape(WRAP, CHANNELS))
    path.with_suffix(".json").write_text(json.dumps({"rate_hz": RATE_HZ, "uv_per_count": 0.5}))


def sample_number(samples):
    """Number of the first of these samples (from 0 to WRAP - 1); None if they are not one piece of the ramp."""
    first = int(samples[0, 0])
    if first % CHANNELS or not 0 <= first < WRAP * CHANNELS:
        return None
    numbers = (first // CHANNELS + np.arange(len(samples))) % WRAP
    wanted = numbers[:, None] * CHANNELS + np.arange(CHANNELS)
    return first // CHANNELS if np.array_equal(samples, wanted) else None
