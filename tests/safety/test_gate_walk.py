"""Random walks over the gate, from fixed seeds: many steps in little time, the same ones each time."""

import os
from random import Random

import pytest
from gate_commands import COMMANDS, OFTEN, new_world

WEIGHTS = [OFTEN.get(command.__name__, 1) for command in COMMANDS]


def walk(seed, length):
    choose = Random(seed).choice
    world = new_world(choose)
    for command in Random(seed).choices(COMMANDS, WEIGHTS, k=length):
        command(world, choose)
    return world


@pytest.mark.parametrize("seed", range(int(os.environ.get("EMGD_WALKS", "20"))))
def test_gate_and_oracle_agree_on_a_walk(seed):
    walk(seed, 150)
