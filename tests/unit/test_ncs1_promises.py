"""The ncs1 model against an oracle that knows only docs/devices/ncs1.md, section 2: whatever a host says, in any order,
with noise, faults of the host and time between, no pulse breaks a promise.

EMGD_STIMULATOR_STEPS makes the walk longer.
"""

import os
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from stimulator_rig import MS, RawHost, S

from emgd_drivers.ncs1 import protocol
from emgd_drivers.ncs1.protocol import Kind, Limits, Result
from emgd_drivers.sim.stimulator import Ncs1Model

EXAMPLES = int(os.environ.get("EMGD_STIMULATOR_EXAMPLES", "40"))
STEPS = int(os.environ.get("EMGD_STIMULATOR_STEPS", "50"))

AHEAD_NS = 50 * MS
TICK_NS = 100
MEAN_NS = 10 * S

SMALL = st.integers(0, 5)
CURRENTS = st.integers(0, 10).map(lambda steps: 10_000 * steps)
WIDTHS = st.sampled_from([0, 100, 500, 1000])
LIKELY_LIMITS = st.builds(
    Limits,
    st.sampled_from([20_000, 50_000]),
    st.sampled_from([100, 500]),
    st.just(400),
    st.sampled_from([1000, 20_000]),
    st.sampled_from([1, 3, 50]),
)
LIKELY_CURRENTS = st.sampled_from([10_000, 20_000, 20_010, 50_000])
LIKELY_WIDTHS = st.sampled_from([100, 500, 600])


@dataclass
class Oracle:
    """What a pulse needs. `allowed` are pulses that the device said yes to, and until when they may be given."""

    limits: Limits = field(default_factory=Limits)
    armed: bool = False
    fed_until_ns: int = 0
    allowed: dict = field(default_factory=dict)
    given: list = field(default_factory=list)
    broken: list = field(default_factory=list)

    def off(self):
        """Nothing that waits may be given any more."""
        self.armed = False
        self.allowed.clear()

    def gone(self):
        self.off()
        self.fed_until_ns = 0

    def judge(self, pulse):
        """One pulse went through the electrodes."""
        wanted = self.allowed.pop(pulse.seq, None)
        last_ns = self.given[-1].at_ns if self.given else -MEAN_NS
        recent = [one for one in self.given if one.at_ns > pulse.at_ns - MEAN_NS + MS]
        charge = sum(one.current_ua * one.width_us for one in [*recent, pulse])
        promises = {
            "asked for once, and not taken back": wanted is not None,
            "as asked": wanted is not None and (pulse.current_ua, pulse.width_us) == wanted[:2],
            "not later than 50 ms": wanted is not None and pulse.at_ns <= wanted[2] + AHEAD_NS + MS,
            "armed": self.armed,
            "fed": pulse.at_ns <= self.fed_until_ns + TICK_NS,
            "current": 0 < pulse.current_ua <= self.limits.current_ua,
            "width": 0 < pulse.width_us <= self.limits.width_us,
            "interval": pulse.at_ns - last_ns >= self.limits.interval_us * 1000 - TICK_NS,
            "mean": charge <= self.limits.mean_ua * protocol.MEAN_WINDOW_US,
        }
        self.broken += [(promise, pulse) for promise, kept in promises.items() if not kept]
        self.given.append(pulse)


class Host(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        # 1 ohm: what is given is what was asked for, whatever the compliance.
        self.host = RawHost(Ncs1Model(load_ohm=1, now_ns=S))
        self.oracle = Oracle()
        self.host.model.on_pulse = self.oracle.judge
        self.seq = 0
        self.present = True

    def ask(self, kind, payload=b""):
        answer = self.host.ask(kind, payload)
        return answer is not None and answer[0] is Result.OK

    @rule(current_ua=CURRENTS, width_us=WIDTHS, interval_us=st.sampled_from([0, 1000, 20_000]), mean_ua=SMALL)
    def set_limits(self, current_ua, width_us, interval_us, mean_ua):
        limits = Limits(current_ua, width_us, 400, interval_us, mean_ua)
        if self.ask(Kind.SET_LIMITS, limits.pack()):
            assert not self.oracle.armed
            self.oracle.limits = limits

    @rule(timeout_ms=st.sampled_from([0, 1, 20, 100, 2000]))
    def feed(self, timeout_ms):
        if self.ask(Kind.FEED, protocol.FEED_MS.pack(timeout_ms)):
            # The request took a millisecond of the rig's time; the device heard it at its beginning.
            self.oracle.fed_until_ns = self.host.wire.time_ns - MS + timeout_ms * MS

    @rule()
    def arm(self):
        if self.ask(Kind.ARM):
            self.oracle.armed = True

    @rule(current_ua=CURRENTS, width_us=WIDTHS, at_ms=st.integers(-110, 60), bump=st.integers(-1, 3))
    def pulse_by_chance(self, current_ua, width_us, at_ms, bump):
        self.pulse(current_ua, width_us, at_ms, bump)

    @rule(
        limits=LIKELY_LIMITS,
        shots=st.lists(st.tuples(LIKELY_CURRENTS, LIKELY_WIDTHS, st.integers(-3, 52)), min_size=1, max_size=4),
        pause_ms=st.sampled_from([0, 5, 60]),
    )
    def pulses(self, limits, shots, pause_ms):
        """Chance alone would seldom arm it."""
        if not self.oracle.armed:
            self.take_a_good_way(limits)
        for current_ua, width_us, at_ms in shots:
            self.pulse(current_ua, width_us, at_ms, 1)
            self.host.wire.pass_time(pause_ms * MS)

    @rule(limits=LIKELY_LIMITS, at_ms=st.integers(5, 45), then=st.integers(0, 5))
    def pulse_and_think_better_of_it(self, limits, at_ms, then):
        self.take_a_good_way(limits)
        self.pulse(limits.current_ua, limits.width_us, at_ms, 1)
        [self.disarm, self.reset, self.go, self.restart, self.starve, lambda: self.stop(b"", 12)][then]()
        self.host.wire.pass_time(60 * MS)

    def starve(self):
        self.feed(1)

    def pulse(self, current_ua, width_us, at_ms, bump):
        seq = max(0, self.seq + bump)
        now_ns = self.host.wire.time_ns
        tick = max(0, (now_ns - S) // TICK_NS + at_ms * MS // TICK_NS)
        # Expected before it is asked for: it may be given before the answer is read.
        before = dict(self.oracle.allowed)
        self.oracle.allowed.setdefault(seq, (current_ua, width_us, now_ns))
        if self.ask(Kind.PULSE, protocol.Pulse(seq, tick, current_ua, width_us).pack()):
            assert seq > self.seq or self.seq == 0
            assert seq not in before
            self.seq = seq
        elif seq not in before:
            # Refused, so it must never be given; one that waits under this number still may.
            self.oracle.allowed.pop(seq, None)

    def take_a_good_way(self, limits):
        self.come()
        self.reset()
        assert self.ask(Kind.SET_LIMITS, limits.pack())
        self.oracle.limits = limits
        self.feed(2000)
        assert self.ask(Kind.ARM)
        self.oracle.armed = True

    @rule()
    def disarm(self):
        if self.present:
            self.oracle.off()
        self.ask(Kind.DISARM)

    @rule()
    def reset(self):
        if self.present:
            self.oracle.gone()
            self.oracle.limits = Limits()
            self.seq = 0
        self.ask(Kind.RESET)

    @rule(before=st.binary(max_size=30), lost=st.integers(0, 12))
    def stop(self, before, lost):
        self.oracle.gone()
        self.host.say(before)
        self.host.say(protocol.STOP[lost:])

    @rule(noise=st.binary(max_size=100).map(lambda noise: noise.replace(b"\0\0", b"\1")))
    def noise(self, noise):
        # What stands open is ended, so that the next request is heard.
        self.host.say(noise + b"\1\0")

    @rule()
    def go(self):
        self.oracle.gone()
        self.host.model.host(False, self.host.wire.time_ns)
        self.present = False

    @rule()
    def come(self):
        self.host.model.host(True, self.host.wire.time_ns)
        self.present = True

    @rule()
    def restart(self):
        self.oracle = Oracle(given=self.oracle.given, broken=self.oracle.broken)
        self.host.model.on_pulse = self.oracle.judge
        self.oracle.given.clear()  # a restarted device has forgotten what it gave; the host's limits hold over that
        self.seq = 0
        self.host.model.add_fault("restart", self.host.wire.time_ns)
        self.host.wire.pass_time(60 * MS)

    @rule(ns=st.sampled_from([MS, 10 * MS, 60 * MS, 300 * MS, 3 * S]))
    def wait(self, ns):
        self.host.wire.pass_time(ns)

    @invariant()
    def no_promise_was_broken(self):
        assert self.oracle.broken == []


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
