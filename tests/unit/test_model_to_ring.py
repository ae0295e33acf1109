"""Device model and sample loop together on virtual time: each fault at the device gives its gap, and stamps are true
to the model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import Rig

from emgd_drivers.emg8 import protocol
from emgd_drivers.emg8.protocol import Direction, Request, Setup
from emgd_drivers.sim.faults import FaultPlan
from emgd_drivers.sim.model import Emg8Model
from emgd_drivers.sim.signal import SyntheticEmg

CHANNELS = 2
RATE_HZ = 48_000.0
N = 48
START_NS = 10**9
PROBE_NS = 250_000_000


class Bench:
    """A model whose transfers go to a loop at the very instant at which they are delivered."""

    def __init__(self, *faults, length=None, fifo_bytes=None, seed=1, probes=False):
        # A fixed rate keeps the device's smallest FIFO small.
        self.signal = SyntheticEmg(CHANNELS, RATE_HZ, length=length, rate_bounds_hz=(RATE_HZ, RATE_HZ))
        plan = FaultPlan.parse([*faults, f"seed={seed}"])
        self.model = Emg8Model(self.signal, plan, now_ns=START_NS, fifo_bytes=fifo_bytes)
        self.rig = Rig(CHANNELS, 96, 400_000)
        self.rng = np.random.default_rng(seed)
        self.now_ns = START_NS
        self.next_probe_ns = START_NS if probes else None
        self.request(Direction.OUT, Request.START, 0)

    def request(self, direction, request, length):
        return self.model.control(Setup(direction, request, 0, 0, length).pack(), b"", self.now_ns)

    def probe(self):
        """Latch the clock; the request takes up to 0.25 ms, the answer is as late as any delivery."""
        before_ns = self.now_ns - int(self.rng.uniform(0, 250e3))
        tick, _ = protocol.LATCH.unpack(self.request(Direction.IN, Request.LATCH_CLOCK, protocol.LATCH.size))
        self.rig.loop.probe(before_ns, tick, self.now_ns + int(self.rng.uniform(0, 2e6)))

    def run(self, until_ns):
        while (due_ns := self.model.next_event_ns()) is not None and due_ns <= until_ns:
            self.now_ns = max(self.now_ns, due_ns)
            for transfer in self.model.poll(self.now_ns):
                self.rig.loop.feed(transfer, self.now_ns)
            if self.next_probe_ns is not None and self.now_ns >= self.next_probe_ns:
                self.next_probe_ns += PROBE_NS
                self.probe()
        return self

    def play(self):
        """To the end of a finite signal, and what the ring then holds."""
        self.run(START_NS + 3600 * 10**9)
        status = protocol.Status.unpack(self.request(Direction.IN, Request.GET_STATUS, protocol.STATUS.size))
        if not self.rig.loop.has_ended:
            self.rig.loop.finish(status.samples)
        found = self.rig.published()
        source = self.signal.read(0, status.samples)
        return found, source, status


CASES = {
    "nothing": ([], []),
    "drop@5": (["drop@5"], [(240, 48, {"lost"})]),
    "drop the end": (["drop@99+2"], [(4752, 48, {"lost"})]),
    "repeat@5": (["repeat@5+3"], []),
    "truncate@5:30": (["truncate@5:30"], [(240, 48, {"truncated"})]),
    "truncate@5:90": (["truncate@5:90"], [(240, 48, {"truncated"})]),
    "corrupt@5:7": (["corrupt@5:7"], [(240, 48, {"corrupt"})]),
    "corrupt@5:77": (["corrupt@5:77"], [(240, 48, {"corrupt"})]),
    "stall, all late": (["stall@5:20ms"], []),
    "wrap": (["wrap", "drop@9"], [(432, 48, {"lost"})]),
    "jitter": (["jitter=0..2ms"], []),
    "two at once": (["drop@5", "corrupt@6:77"], [(240, 48, {"lost"}), (288, 48, {"corrupt"})]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_at_the_device_gives_exactly_its_gap(case):
    faults, gaps = CASES[case]
    found, source, _ = Bench(*faults, length=100 * N).play()
    assert found.gaps == [(first, count, frozenset(causes)) for first, count, causes in gaps]
    missing = {seq for first, count, _ in gaps for seq in range(first, first + count)}
    assert found.seqs == [seq for seq in range(len(source)) if seq not in missing]
    assert all((found.raw[seq] == source[seq]).all() for seq in found.seqs)


def test_a_stall_beyond_the_devices_memory_is_an_overflow_of_exactly_what_it_threw_away():
    found, source, status = Bench("stall@5:200ms", length=400 * N, fifo_bytes=30_000).play()
    assert status.overflowed_samples > 0
    assert {causes for *_, causes in found.gaps} == {frozenset({"overflow"})}
    assert sum(count for _, count, _ in found.gaps) == status.overflowed_samples
    assert all((found.raw[seq] == source[seq]).all() for seq in found.seqs)
    assert len(found.seqs) + status.overflowed_samples == len(source)


def test_saturation_and_electrodes_are_flagged_where_they_were():
    found, _, _ = Bench("saturate@10:1", "electrode@20:0", "electrode@30:0=on", length=60 * N).play()
    flags = {block.seq // N: block.channel_flags for block in found.blocks}
    assert [frame for frame, (_, second) in flags.items() if second & 1] == [10]
    assert [frame for frame, (first, _) in flags.items() if first & 2] == list(range(20, 31, 2))
    assert [mark for mark in found.marks if mark[1] == protocol.MarkCode.ELECTRODE] == [
        (20 * N, 4, 0, 1),
        (30 * N, 4, 0, 0),
    ]


FAULT = st.one_of(
    st.builds("drop@{}+{}".format, st.integers(0, 60), st.integers(1, 4)),
    st.builds("repeat@{}+{}".format, st.integers(0, 60), st.integers(1, 4)),
    st.builds("truncate@{}:{}".format, st.integers(0, 60), st.integers(1, 400)),
    st.builds("corrupt@{}:{}".format, st.integers(0, 60), st.integers(0, 400)),
    st.builds("stall@{}:{}ms".format, st.integers(0, 60), st.integers(1, 150)),
    st.just("wrap"),
    st.just("jitter=0..2ms"),
)


@pytest.mark.requirement("REQ-090", "REQ-091", "REQ-094")
@settings(deadline=None, max_examples=100)
@given(faults=st.lists(FAULT, max_size=8), fifo_bytes=st.sampled_from([None, 30_000]))
def test_no_mix_of_faults_loses_alters_or_doubles_a_sample_in_silence(faults, fifo_bytes):
    found, source, _ = Bench(*faults, length=60 * N, fifo_bytes=fifo_bytes).play()
    missing = [seq for first, count, _ in found.gaps for seq in range(first, first + count)]
    assert len(missing) == len(set(missing)), "no sample is missing twice"
    assert sorted(found.seqs + missing) == list(range(len(source)))
    assert all((found.raw[seq] == source[seq]).all() for seq in found.seqs)
    assert all(causes for *_, causes in found.gaps)


@pytest.mark.parametrize("drift", ["50ppm", "-50ppm"])
def test_stamps_are_true_to_the_devices_own_crystal(drift):
    """±50 ppm, 1 ppm/min walk, 0-2 ms jitter, 20 ms stalls: after 30 s < 20 µs rms and < 100 µs at worst, within
    sigma."""
    stalls = [f"stall@{frame}:20ms" for frame in range(500, 60_000, 2711)]
    bench = Bench(f"drift={drift}", "walk=1ppm/min", "jitter=0..2ms", *stalls, seed=7, probes=True)
    errors_ns, sigmas_ns, last_ns, index = [], [], 0, 0
    for second in range(1, 61):
        bench.run(START_NS + second * 10**9)
        sigma_ns = bench.rig.loop.clock.snapshot(bench.now_ns)["sigma_ns"]
        for number in range(index, bench.rig.ring.blocks):
            block = bench.rig.ring.block(number)
            assert block.host_time_ns > last_ns, "stamps never go back"
            last_ns = max(last_ns, block.host_time_ns)
            if second > 30:
                errors_ns.append(block.host_time_ns - bench.model.true_host_ns(block.seq))
                sigmas_ns.append(sigma_ns)
        index = bench.rig.ring.blocks
    errors_ns, sigmas_ns = np.array(errors_ns), np.array(sigmas_ns)
    assert len(errors_ns) > 14_000
    assert np.sqrt(np.mean(errors_ns**2)) < 20e3
    assert np.abs(errors_ns).max() < 100e3
    assert (np.abs(errors_ns) <= 3 * sigmas_ns).all()
