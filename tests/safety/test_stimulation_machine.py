"""Gate, stimulus thread's work, driver and device model together under random commands, times and faults; an oracle
judges each pulse that goes through the electrodes, and what is told of it.

The default is short. `make stimulation-long` (EMGD_HYPOTHESIS=long) makes a hundred thousand steps.
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from stim_rig import ME, OTHER
from stimulation_oracle import MS
from stimulation_world import World

from emgd.stim_commands import Acknowledge, Disarm, Leave, Release, Renew, Status, Take

LONG = os.environ.get("EMGD_HYPOTHESIS") == "long"
DONE = {"examples": 0, "pulses": 0, "shots": 0, "armings": 0, "faults": 0}
# With fewer pulses than this in a whole run the machine tries too little.
LEAST_PULSES = 40

FAULTS = (
    *("mute", "deaf", "slow=10", "slow=50", "echo=120", "current=120", "current=90", "current=300", "width=120"),
    *("stuck-relay", "open", "load=20000", "dc=60", "brown-out", "restart", "unplug"),
    *("no-trigger", "trigger=5000", "trigger=-3000", "extra-trigger", "stuck-readback", "no-readback"),
)
WHO = st.sampled_from([ME, ME, ME, OTHER])
# Mostly it is who holds the lease that asks.
STRANGER = st.sampled_from([False, False, False, False, False, True])
CURRENTS = st.sampled_from([500, 1_000, 1_000, 2_000, 5_000, 5_010, 20_000, 50_000, 50_010])
WIDTHS = st.sampled_from([100, 200, 200, 201])
SESSIONS = st.sampled_from([{}, {}, {}, {"current_ua": 2_000}, {"train_pulses": 3}, {"mean_current_ua": 5}])


class StimulationMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.world = World()
        self.take_and_arm(ME, {})

    def who(self, stranger):
        holder = OTHER if self.world.oracle.holder == OTHER.number else ME
        return {ME: OTHER, OTHER: ME}[holder] if stranger else holder

    # --- what leads to pulses

    @rule(who=WHO, session=SESSIONS)
    def take_and_arm(self, who, session):
        self.world.ask(who, Take(next(self.world.nonces)))
        self.world.arm(who, session)

    @rule(who=WHO)
    def mend_and_arm(self, who):
        world = self.world
        if world.model.unplugged:
            world.plug()
        world.clear()
        world.watch.silent(False)
        world.run(700)
        world.ask(who, Acknowledge("mw"))
        world.run(200)
        self.take_and_arm(who, {})

    @rule(stranger=STRANGER, current_ua=CURRENTS, width_us=WIDTHS, late_ms=st.sampled_from([0, 0, 0, 50, 150]))
    def single(self, stranger, current_ua, width_us, late_ms):
        self.world.fire(
            self.who(stranger), current_ua=current_ua, width_us=width_us, asked_ns=self.world.ns - late_ms * MS
        )

    @rule(
        stranger=STRANGER,
        interval_us=st.sampled_from([4_999, 5_000, 20_000]),
        ahead_ms=st.sampled_from([0, 0, 300, 2_000]),
    )
    def pair(self, stranger, interval_us, ahead_ms):
        begin_ns = self.world.ns + ahead_ms * MS if ahead_ms else 0
        self.world.fire(self.who(stranger), kind="pair", count=2, interval_us=interval_us, begin_ns=begin_ns)

    @rule(
        stranger=STRANGER,
        current_ua=CURRENTS,
        count=st.sampled_from([2, 10, 10, 50, 51]),
        interval_us=st.sampled_from([99_999, 100_000, 200_000]),
    )
    def train(self, stranger, current_ua, count, interval_us):
        self.world.fire(self.who(stranger), kind="train", current_ua=current_ua, count=count, interval_us=interval_us)

    @rule(
        count=st.sampled_from([10, 20, 50]),
        interval_us=st.sampled_from([100_000, 200_000, 200_000]),
        ms=st.sampled_from([300, 900, 2_500]),
    )
    def train_that_goes_on(self, count, interval_us, ms):
        self.train(False, 1_000, count, interval_us)
        self.run_while_the_program_lives(ms)

    @rule(stranger=STRANGER, current_ua=CURRENTS)
    def confirm(self, stranger, current_ua):
        self.world.confirm(self.who(stranger), current_ua)

    # --- time

    @rule(ms=st.sampled_from([1, 10, 250, 250, 600]))
    def run_while_the_program_lives(self, ms):
        holder = self.world.oracle.holder
        self.world.run(ms, renewing={ME.number: ME, OTHER.number: OTHER}.get(holder))

    @rule(ms=st.sampled_from([1, 8, 40, 250, 1_200]))
    def run_while_the_program_hangs(self, ms):
        self.world.run(ms)

    @rule(ms=st.sampled_from([5, 40, 90, 150, 600, 3_000]))
    def stand_still(self, ms):
        self.world.stand_still(ms * MS)

    @rule()
    def rest_and_arm_again(self):
        """As long as a fast train asks for."""
        self.world.ask(ME, Disarm())
        self.world.run(10_500)
        self.mend_and_arm(ME)

    # --- what ends it

    @rule(who=WHO, what=st.sampled_from([Release(), Leave(), Disarm(), Status(), Acknowledge("mw")]))
    def say(self, who, what):
        self.world.ask(who, what)

    @rule(stranger=STRANGER, old=st.booleans())
    def renew(self, stranger, old):
        self.world.ask(self.who(stranger), Renew(1 if old else next(self.world.nonces)))

    @rule()
    def stop(self):
        self.world.stop()

    # --- what fails

    @rule(fault=st.sampled_from(FAULTS))
    def break_the_stimulator(self, fault):
        if not self.world.model.unplugged:
            DONE["faults"] += 1
            self.world.fault(fault)

    @rule()
    def plug(self):
        if self.world.model.unplugged:
            self.world.plug()

    @rule(silent=st.booleans())
    def amplifier(self, silent):
        self.world.watch.silent(silent)

    @rule(ms=st.sampled_from([20, 300]))
    def audit_log_fails_for_a_while(self, ms):
        self.world.log.broken = True
        self.run_while_the_program_lives(ms)
        self.world.log.broken = False

    # --- what always holds; the oracle asserts the rest at each pulse

    @invariant()
    def nothing_is_wrong(self):
        if hasattr(self, "world"):
            self.world.look()

    def teardown(self):
        if hasattr(self, "world"):
            self.world.close()
            oracle = self.world.oracle
            DONE["examples"] += 1
            DONE["pulses"] += len(oracle.given)
            DONE["shots"] += len(oracle.shots)
            DONE["armings"] += oracle.armings


StimulationMachine.TestCase.settings = settings(
    max_examples=2_000 if LONG else 100,
    stateful_step_count=50 if LONG else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@pytest.mark.requirement("REQ-055")
@pytest.mark.timeout(0 if LONG else 120)
class TestStimulationMachine(StimulationMachine.TestCase):
    @classmethod
    def teardown_class(cls):
        print("the stimulation's machine:", ", ".join(f"{number} {name}" for name, number in DONE.items()), flush=True)
        assert DONE["pulses"] >= LEAST_PULSES
