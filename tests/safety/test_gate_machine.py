"""The gate under random commands, chosen and shrunk by hypothesis; the oracle and the two promises are asked after
each.

The default is short. `make safety-long` (EMGD_HYPOTHESIS=long) makes a million steps and says how many calls that
were.
"""

import pytest
from gate_commands import COMMANDS, new_world
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

LONG = settings.get_current_profile_name() == "long"
# How many rules ran, how many calls to the gate that were, and how many pulses they let through.
DONE = {"steps": 0, "calls": 0, "pulses": 0}
TOLD = 50_000


class GateMachine(RuleBasedStateMachine):
    @initialize(data=st.data())
    def begin(self, data):
        self.rules = 0
        self.world = new_world(self.chooser(data))

    @staticmethod
    def chooser(data):
        return lambda options: data.draw(st.sampled_from(list(options)))

    @invariant()
    def nothing_is_out_unless_it_was_permitted(self):
        if hasattr(self, "world"):
            assert len(self.world.promises.pulses) == self.world.gate.snapshot()["next_seq"]

    def teardown(self):
        if hasattr(self, "world"):
            before = DONE["steps"] // TOLD
            DONE["steps"] += self.rules
            DONE["calls"] += self.world.steps
            DONE["pulses"] += len(self.world.promises.pulses)
            if LONG and DONE["steps"] // TOLD > before:
                tell()


def tell():
    print(
        f"the gate's machine: {DONE['steps']:,} steps, {DONE['calls']:,} calls, {DONE['pulses']:,} pulses", flush=True
    )


def as_rule(command):
    """A rule for a command."""

    def run(self, data):
        self.rules += 1
        command(self.world, self.chooser(data))

    run.__name__ = run.__qualname__ = command.__name__
    return rule(data=st.data())(run)


# Rules are equally likely: a command that comes more often is more than one.
for command, times in COMMANDS.items():
    for number in range(times):
        setattr(GateMachine, f"{command.__name__}_{number}", as_rule(command))

GateMachine.TestCase.settings = settings(
    max_examples=settings().max_examples if LONG else 40,
    stateful_step_count=settings().stateful_step_count if LONG else 30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@pytest.mark.timeout(0 if LONG else 120)
class TestGateMachine(GateMachine.TestCase):
    @classmethod
    def teardown_class(cls):
        tell()
