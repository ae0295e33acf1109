"""Real bytes of a Cyton: a log of the makers' program, encoded to frames again by the test's own encoder, comes back
exactly, whatever noise stands between the frames.
"""

import csv
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from fixed_reference import cyton_frame
from rig import Rig

from emgd_drivers.cyton import protocol
from emgd_ext.fixed import FixedDecoder

LOG = "openbci/cyton_jaw_clench_last20s.txt"
PERIOD_NS = 4_000_000
START_NS = 10**9
ROUNDING_COUNTS = 0.005 / protocol.uv_per_count(24)
"""The log has two decimals of a µV ..."""

SINGLE_PRECISION = 2**-23
"""... and was worked out in single precision. Both together are less than half a count, so the counts are certain."""


@pytest.fixture
def log(recordings):
    """Sample numbers as sent (samples,) and counts (samples, 8) of the log."""
    with (recordings / LOG).open(encoding="utf-8") as lines:
        rows = list(csv.reader(line for line in lines if not line.startswith("%")))[1:]
    counts = np.array([[float(value) for value in row[1:9]] for row in rows]) / protocol.uv_per_count(24)
    assert (np.abs(counts - counts.round()) <= ROUNDING_COUNTS + np.abs(counts) * SINGLE_PRECISION).all()
    return [int(row[0]) for row in rows], counts.round().astype(np.int32)


def sent_seqs(numbers):
    """The numbers of the samples, unwrapped; the log begins in the middle of a stream."""
    seqs = [numbers[0]]
    for earlier, later in pairwise(numbers):
        seqs.append(seqs[-1] + (later - earlier) % 256)
    return seqs


def played(numbers, counts, noise):
    """The log through decoder and sample loop, a frame at a time at its time; `noise(i)` stands before frame i."""
    decoder = FixedDecoder(protocol.LAYOUT, protocol.RATE_HZ)
    rig = Rig(8, block_samples=25, decoder=decoder, rate_hz=250.0, tick_hz=250.0)
    seqs = sent_seqs(numbers)
    for index, (number, row) in enumerate(zip(numbers, counts, strict=True)):
        at_ns = START_NS + (seqs[index] + 1) * PERIOD_NS
        rig.loop.feed(noise(index) + cyton_frame(number, row), at_ns)
    end_ns = START_NS + (seqs[-1] + 2) * PERIOD_NS
    decoder.expect_end(end_ns)
    rig.loop.feed_idle(end_ns + 1_000_000_000)
    return seqs, rig.published(), rig.loop


def test_the_log_comes_back_exactly(log):
    numbers, counts = log
    seqs, found, loop = played(numbers, counts, lambda _index: b"")
    assert found.seqs == seqs
    assert (np.array([found.raw[seq] for seq in seqs]) == counts).all()
    assert found.gaps == [(0, seqs[0], frozenset({"lost"}))]
    assert loop.has_ended


def test_frames_that_are_taken_out_are_told(log):
    numbers, counts = log
    kept = [index for index in range(len(numbers)) if index % 1000 not in range(500, 507)]
    seqs, found, _ = played([numbers[index] for index in kept], counts[kept], lambda _index: b"")
    wanted = dict(zip(seqs, counts[kept], strict=True))
    assert all((found.raw[seq] == wanted[seq]).all() for seq in found.seqs)
    missing = set(range(seqs[-1] + 1)) - set(found.seqs)
    assert missing >= set(range(seqs[-1] + 1)) - set(seqs)
    assert {seq for first, count, _ in found.gaps for seq in range(first, first + count)} == missing


@pytest.mark.parametrize("seed", range(8))
def test_noise_between_frames_never_makes_a_wrong_sample(log, seed):
    numbers, counts = log
    random = Random(seed)  # noqa: S311 - a test, not cryptography
    noisy = {random.randrange(1, len(numbers)) for _ in range(200)}
    seqs, found, loop = played(
        numbers, counts, lambda index: random.randbytes(random.randrange(1, 80)) if index in noisy else b""
    )
    wanted = dict(zip(seqs, counts, strict=True))
    assert all((found.raw[seq] == wanted[seq]).all() for seq in found.seqs)
    missing = sorted(set(range(seqs[-1] + 1)) - set(found.seqs))
    assert missing, "noise costs the frames that cannot be told from it"
    told = sorted(seq for first, count, _ in found.gaps for seq in range(first, first + count))
    assert told == missing
    assert all("corrupt" in causes or "lost" in causes for _, _, causes in found.gaps)
    assert loop.has_ended
