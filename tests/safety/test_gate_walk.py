"""Random walks over the gate, from fixed seeds: many steps in little time, the same ones each time."""

import os
from random import Random

import pytest
from gate_commands import COMMANDS, new_world


def walk(seed, length):
    random = Random(seed)  # noqa: S311 (the same walk each time)
    choose = random.choice
    world = new_world(choose)
    for command in random.choices(list(COMMANDS), list(COMMANDS.values()), k=length):
        command(world, choose)
    return world


@pytest.mark.parametrize("seed", range(int(os.environ.get("EMGD_WALKS", "20"))))
def test_gate_and_oracle_agree_on_a_walk(seed):
    walk(seed, 150)
