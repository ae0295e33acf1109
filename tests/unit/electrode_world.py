"""A device with electrodes, its stream and the impedance check that looks at both, on virtual time.

After every step it is asked whether a test current flows that should not, and every result is held against the truth.
"""

import numpy as np

from emgd.impedance import FLOWING, SWITCHING_OFF, Hands, ImpedanceCheck, State
from emgd_drivers.api import ALL_CHANNELS, ChannelInfo, DeviceLostError, ImpedanceTest, Mode, Side
from emgd_drivers.sim.electrodes import Electrode, Pair

RATE_HZ = 1000.0
STEP_MS = 20
FIRST = 5000
MOST_SAMPLES = 60_000
LIMIT = 2**23 - 1
UV_PER_COUNT = 0.05
NOISE_UV = 3.0
STIMULUS, IMPEDANCE = 2, 5
RESTING = (State.IDLE, State.DONE, State.ABORTED)
GOOD, DRY = Pair(Electrode(2000), Electrode(4000)), Pair(Electrode(30_000), Electrode(4000))


class World:
    """A device with electrodes, its stream, and the machine that looks at both every STEP_MS."""

    def __init__(self, *pairs, has_marks=True):
        self.pairs = pairs or (GOOD, DRY)
        self.channels = len(self.pairs)
        self.now_ns, self.seq = 10**9, FIRST
        self.sides = [Side.NONE] * self.channels
        self.calls, self.told, self.flags = [], [], []
        self.failures = []  # exceptions for the next requests, in order; None = this one is obeyed
        self.forbidden = None
        self.silent_ms = self.gap_ms = self.twitch = self.muted = 0
        self.lost = self.overwritten = False
        self.has_marks = has_marks
        self.marks = []
        self.begun = [0] * self.channels
        # By sample from FIRST on; sides of -1: the sample is missing.
        self.rows = np.zeros((MOST_SAMPLES, self.channels), np.int32)
        self.carried = np.full((MOST_SAMPLES, self.channels), -1)
        self.rng = np.random.default_rng(1)
        infos = [ChannelInfo(f"EMG {n + 1}", UV_PER_COUNT, 1, Mode.NORMAL, LIMIT) for n in range(self.channels)]
        hands = Hands(self.switch, self.read, self.flag, lambda: self.forbidden, self.publish)
        test = ImpedanceTest(31.25, 24.0, has_marks=has_marks)
        self.check = ImpedanceCheck(test, infos, RATE_HZ, 1e9 / RATE_HZ, hands)

    # --- what the machine may do

    def switch(self, channel, sides):
        self.calls.append((channel, int(sides)))
        if self.lost:
            raise DeviceLostError("gone")
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        for number in range(self.channels) if channel is None else [channel]:
            self.sides[number], self.begun[number] = sides, self.seq
        if self.has_marks:
            if self.muted:
                self.muted -= 1
            else:
                self.marks.append((self.seq, IMPEDANCE, ALL_CHANNELS if channel is None else channel, int(sides)))

    def read(self, seq, count):
        wanted = slice(seq - FIRST, seq - FIRST + count)
        return None if self.overwritten else self.rows[wanted]  # as in a ring, a gap holds something

    def flag(self, channels, on):
        self.flags.append((tuple(channels), on))

    def publish(self, payload, seq, count):
        self.told.append((payload, seq, count))
        if payload["state"] == "done":
            self.hold_results_against_the_truth(payload)

    # --- what happens

    def start(self, channels=None):
        return self.check.start(channels, self.now_ns, self.seq)

    def run(self, ms, until=lambda _: False):
        for _ in range(0, ms, STEP_MS):
            self.tick()
            if until(self):
                return self
        return self

    def until(self, *states, ms=30_000):
        self.run(ms, lambda world: world.check.state in states)
        assert self.check.state in states, self.check.state
        return self

    def tick(self):
        self.now_ns += STEP_MS * 1_000_000
        if self.silent_ms > 0 or self.lost:
            self.silent_ms -= STEP_MS
        elif self.gap_ms > 0:
            self.gap_ms -= STEP_MS
            self.marks = [mark for mark in self.marks if mark[1] != IMPEDANCE]  # they were in the frame that is lost
            self.tell_marks()
            self.seq += STEP_MS
            self.check.gap(self.seq - STEP_MS, STEP_MS, self.now_ns)
        else:
            self.tell_marks()
            self.take_samples()
            self.check.samples(self.seq - STEP_MS, STEP_MS, self.now_ns)
        try:
            self.check.step(self.now_ns, self.seq)
        except DeviceLostError:
            assert self.lost
        self.hold_the_current_against_the_state()

    def tell_marks(self):
        marks, self.marks = self.marks, []
        for mark in marks:
            self.check.mark(*mark, self.now_ns)

    def take_samples(self):
        begin, end = self.seq - FIRST, self.seq - FIRST + STEP_MS
        turns = (np.arange(self.seq, self.seq + STEP_MS)[:, None] - self.begun) * 31.25 / RATE_HZ
        peaks = [pair.transfer_ohm(side, 31.25) * 24e-3 for pair, side in zip(self.pairs, self.sides, strict=True)]
        uv = (peaks * np.exp(2j * np.pi * turns)).imag + self.rng.normal(0, NOISE_UV, turns.shape)
        self.rows[begin:end] = np.clip(np.rint(uv / UV_PER_COUNT), -LIMIT, LIMIT)
        self.rows[begin : begin + self.twitch, 0] = LIMIT
        self.twitch = 0
        self.carried[begin:end] = self.sides
        self.seq += STEP_MS

    # --- what must always hold

    def hold_the_current_against_the_state(self):
        flows = any(self.sides) and not self.lost
        if self.check.state in RESTING:
            assert not flows, f"current in state {self.check.state}"
        if flows:
            # Every step asks; only a device that does not obey lets a current flow on.
            assert self.check.state in FLOWING or (self.check.state in SWITCHING_OFF and self.calls[-1] == (None, 0))

    def hold_results_against_the_truth(self, payload):
        names = {"e1": Side.POSITIVE, "e2": Side.NEGATIVE, "both": Side.BOTH}
        assert [name for name, *_ in payload["windows"]] == list(names)
        for name, begin, count in payload["windows"]:
            assert count == 1600
            in_window = self.carried[begin - FIRST : begin - FIRST + count, payload["channels"]]
            before = self.carried[begin - FIRST - 400 : begin - FIRST, payload["channels"]]
            assert (in_window == names[name]).all(), "no gap, and the current was on"
            assert (before[before >= 0] == names[name]).all(), "it had settled"
        for result in payload["results"]:
            self.hold_result_against_the_truth(result)

    def hold_result_against_the_truth(self, result):
        pair = self.pairs[result["channel"]]
        readings = [(result["e1"]["ohm"], result["e1"]["sigma_ohm"], Side.POSITIVE)]
        readings += [(result["e2"]["ohm"], result["e2"]["sigma_ohm"], Side.NEGATIVE)]
        readings += [(result["between_ohm"], result["between_sigma_ohm"], Side.BOTH)]
        for ohm, sigma, side in readings:
            truth = abs(pair.transfer_ohm(side, 31.25))
            assert ohm is None or abs(ohm - truth) < 6 * sigma + 1e-3 * truth
