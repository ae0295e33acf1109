"""Every call in every state: what is answered and what the state is then. The table is docs/safety's state diagram in
full.
"""

import pytest
from gate_rules import MS, S
from gate_world import WIDE, World, armed_world

from emgd_ext.gate import names_in

STATES = ("off", "idle", "armed", "firing", "cooldown", "fault")
SHOT = {"holder": 7, "site": 5, "kind": 1, "current_ua": 5_000, "width_us": 100}


def world_in(state):
    """The lease is held and the stream fresh in each of them."""
    world = armed_world()
    world.now_ns = 3 * MS
    world.keep()
    if state == "off":
        world.disconnect()
    elif state == "idle":
        world.disarm()
    elif state == "firing":
        world.request(**SHOT)
    elif state == "cooldown":
        world.request(**SHOT)
        world.fire()
    elif state == "fault":
        world.stop()
    assert world.gate.state == state
    return world


FAULT = "fault stopped"
# Call -> for each of STATES: what is answered, and the state afterwards.
TABLE = {
    "set_limits": [": off", ": idle", "busy: armed", "busy: firing", "busy: cooldown", f"{FAULT}: fault"],
    "connect": [": idle", ": idle", ": idle", ": idle", ": idle", f"{FAULT}: fault"],
    "disconnect": [": off", ": off", ": off", ": off", ": off", ": fault"],
    "take": ["holder: off", "holder: idle", "holder: armed", "holder: firing", "holder: cooldown", "holder: fault"],
    "renew": [": off", ": idle", ": armed", ": firing", ": cooldown", ": fault"],
    "release": [": off", ": idle", ": idle", ": idle", ": idle", ": fault"],
    "stream": [": off", ": idle", ": armed", ": firing", ": cooldown", ": fault"],
    "load": [": off", ": idle", ": armed", ": firing", ": cooldown", ": fault"],
    "arm": ["off: off", ": armed", "busy: armed", "busy: firing", "busy readback_due: cooldown", f"{FAULT}: fault"],
    "confirm": ["off: off", "disarmed: idle", ": armed", "busy: firing", ": cooldown", f"{FAULT}: fault"],
    "disarm": [": off", ": idle", ": idle", ": idle", ": idle", ": fault"],
    "request": [
        "off load: off",
        "disarmed: idle",
        ": firing",
        "busy: firing",
        "cooldown interval_us rate_mhz too_soon: cooldown",
        f"{FAULT}: fault",
    ],
    "cancel": [": off", ": idle", ": armed", ": cooldown", ": cooldown", ": fault"],
    "fire": [
        "no_shot off: off",
        "disarmed no_shot: idle",
        "no_shot: armed",
        ": cooldown",
        "no_shot: cooldown",
        f"no_shot {FAULT}: fault",
    ],
    "readback": [
        "off: off",
        "readback_unexpected: fault",
        "readback_unexpected: fault",
        "readback_unexpected: fault",
        ": cooldown",
        f"{FAULT}: fault",
    ],
    "tick": [": off", ": idle", ": armed", ": firing", ": cooldown", ": fault"],
    "stop": [": fault", ": fault", ": fault", ": fault", ": fault", ": fault"],
    "fault": [": fault", ": fault", ": fault", ": fault", ": fault", ": fault"],
    "acknowledge": [": off", ": idle", ": armed", ": firing", ": cooldown", ": off"],
}
ARGUMENTS = {
    "set_limits": lambda world: world.set_limits(WIDE),
    "take": lambda world: world.take(7, 9),
    "renew": lambda world: world.renew(7, 9),
    "release": lambda world: world.release(7),
    "stream": lambda world: world.stream(world.now_ns),
    "load": lambda world: world.load(1_000),
    "arm": lambda world: world.arm_well(),
    "confirm": lambda world: world.confirm(7, 9_000),
    "request": lambda world: world.request(**SHOT),
    "fire": lambda world: world.fire()[0],
    "readback": lambda world: world.readback(seq=0, current_ua=5_000, width_us=100, load_ohm=1_000),
    "acknowledge": lambda world: world.acknowledge(operator_id=1),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("call", TABLE)
def test_a_call_in_a_state(call, state):
    world = world_in(state)
    answer = ARGUMENTS.get(call, lambda world: getattr(world, call)())(world)
    expected, then = TABLE[call][STATES.index(state)].split(":")
    assert (answer, world.gate.state) == (set(expected.split()), then.strip())


@pytest.mark.parametrize("state", STATES)
def test_time_that_ends_things(state):
    """A clock that goes back, a jump, a lease that ends, samples that stop: from each state."""
    is_armed = state in {"armed", "firing", "cooldown"}
    after = "idle" if is_armed else state
    for change_ns, ended in (
        (-1, {"time"}),
        (100 * MS, set()),
        (100 * MS + 1, {"stale"} if is_armed else set()),
        (500 * MS, {"stale"} if is_armed else set()),
        (500 * MS + 1, {"stale", "time"} if is_armed else set()),
        (1_500 * MS - 1, {"stale", "time"} if is_armed else set()),
        (1_500 * MS, {"stale", "time", "lease_ms"} if is_armed else {"lease_ms"}),
    ):
        world = world_in(state)
        world.now_ns += change_ns
        said = world.tick()
        assert said - {"readback_missing"} == ended
        assert ("readback_missing" in said) == (state == "cooldown" and change_ns > 200 * MS)
        if "readback_missing" not in said:
            assert world.gate.state == ("fault" if change_ns < 0 else after if ended else state)


@pytest.mark.parametrize("now_ns", [-1, -(2**63), 4 * 10**18 + 1, 2**63 - 1])
def test_a_time_that_makes_no_sense(now_ns):
    world = World(now_ns)
    assert world.gate.state == "fault"
    world = armed_world()
    world.now_ns = now_ns
    assert world.tick() == {"time"}
    assert world.gate.snapshot()["holder"] == 0
    world.now_ns = 2 * MS
    assert world.tick() == set()


def test_a_clock_that_goes_back_is_taken_as_it_is():
    world = World(5)
    for now_ns in (4, 0):
        world.now_ns = now_ns
        assert world.tick() == {"time"}
    world.now_ns = 1
    assert world.tick() == set()


def test_the_last_time_that_makes_sense():
    world = World(4 * 10**18)
    assert world.gate.state == "off"
    world.now_ns -= 1
    assert world.tick() == {"time"}
    # It goes on from what the clock says now.
    assert world.acknowledge(operator_id=1) == set()


@pytest.mark.parametrize("name", ["confirm", "request", "fire"])
def test_what_the_holder_does_counts_as_activity(name):
    world = armed_world()
    world.live(19 * S)
    if name == "confirm":
        world.confirm(7, 1_000)
    else:
        world.request(**SHOT)
    active_ns = world.now_ns
    if name == "fire":
        world.live(20 * MS)
        active_ns = world.now_ns
        world.fire()
        world.read_back()
    if name == "request":
        world.cancel()
    world.live_until(active_ns + 20 * S - 1)
    assert world.gate.state == "armed"
    world.now_ns += 1
    assert world.tick() == {"idle_reset_ms"}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, set()),
        ({"holder": 8}, {"holder"}),
        ({"holder": 0}, {"holder"}),
        ({"operator_id": 0}, {"operator"}),
        ({"site": 0}, {"site"}),
        ({"isolated": False}, {"not_isolated"}),
        ({"load_ohm": 1}, set()),
        ({"load_ohm": 0}, {"load"}),
        ({"load_ohm": -1}, {"load"}),
        ({"load_ohm": 12_000}, set()),
        ({"load_ohm": 12_001}, {"impedance_ohm"}),
        ({"compliance_v": 1}, set()),
        ({"compliance_v": 0}, {"compliance_v", "device_limits"}),
        ({"compliance_v": 390}, set()),
        ({"compliance_v": 391}, {"compliance_v", "device_limits"}),
        ({"device_current_ua": 1}, set()),
        ({"device_current_ua": 0}, {"current_ua", "device_limits"}),
        ({"device_current_ua": 80_001}, {"current_ua", "device_limits"}),
        ({"device_width_us": 1}, set()),
        ({"device_width_us": 0}, {"width_us", "device_limits"}),
        ({"device_width_us": 501}, {"width_us", "device_limits"}),
        ({"device_width_us": -1, "site": 0, "load_ohm": 0}, {"width_us", "device_limits", "site", "load"}),
    ],
)
def test_what_may_be_armed(changes, names):
    world = world_in("idle")
    assert world.arm_well(**changes) == names
    assert world.gate.state == ("idle" if names else "armed")


@pytest.mark.parametrize(
    ("holder", "ceiling_ua", "names"),
    [
        (7, 1, set()),
        (7, 0, {"shape"}),
        (7, -(2**63), {"shape"}),
        (7, 70_000, set()),
        (7, 70_001, {"device_limits"}),
        (7, 80_001, {"device_limits", "current_ua"}),
        (7, 2**63 - 1, {"device_limits", "current_ua"}),
        (8, 1, {"holder"}),
        (0, 1, {"holder"}),
    ],
)
def test_what_may_be_confirmed(holder, ceiling_ua, names):
    world = armed_world(device_current_ua=70_000)
    assert world.confirm(holder, ceiling_ua) == names


def test_a_confirmed_current_lifts_the_step_and_is_forgotten_when_disarmed():
    world = armed_world()
    world.shoot()
    world.confirm(7, 30_000)
    assert world.request(**{**SHOT, "current_ua": 30_001, "width_us": 50}) == {"step_ua"}
    world.shoot(current_ua=30_000, width_us=50)
    world.disarm()
    world.arm_well()
    assert world.gate.snapshot()["confirmed_ua"] == world.gate.snapshot()["last_ua"] == 0
    assert world.request(**{**SHOT, "current_ua": 9_001}) == {"first_shot_ua"}


def test_the_lease():
    world = World()
    assert world.renew(7, 1) == {"lease_ms"}
    assert world.take(0, 1) == {"holder"}
    assert world.take(7, 5) == set()
    assert world.take(8, 9) == {"holder"}
    assert world.renew(8, 9) == {"holder"}
    assert world.renew(7, 5) == {"nonce"}
    assert world.renew(7, 4) == {"nonce"}
    assert world.renew(7, 6) == set()
    assert world.release(8) == {"holder"}
    assert world.release(0) == {"holder"}
    assert world.release(7) == set()
    assert world.release(0) == {"holder"}
    assert world.take(8, 1) == set()
    world.now_ns += 100 * MS  # the tightest lease
    assert world.take(7, 1) == set()


def test_a_lease_that_ends_or_goes_takes_the_arming_with_it():
    world = armed_world()
    world.stream(world.now_ns)
    assert world.renew(7, 2) == set()
    world.live_until(world.now_ns + S)
    assert world.release(7) == set()
    assert world.gate.state == "idle"


def test_a_fault_needs_an_operator_and_an_end():
    world = armed_world()
    world.fault(("mark",))
    world.fault(("time",))  # not for others to say
    assert set(names_in(world.gate.snapshot()["faults"])) == {"mark", "device"}
    assert world.acknowledge(operator_id=0) == {"fault", "device", "mark", "operator"}
    assert world.acknowledge(operator_id=1, present=("mark",)) == {"fault", "device", "mark", "present"}
    assert world.acknowledge(operator_id=0, present=("device", "time")) == {
        "fault",
        "device",
        "mark",
        "present",
        "operator",
    }
    assert world.acknowledge(operator_id=1, present=("time",)) == set()
    assert world.gate.state == "off"


@pytest.mark.parametrize(
    ("saturated_for_ns", "refused"),
    [(1_000 * MS, False), (1_000 * MS + 1, True)],
)
def test_saturated_for_long_and_never_in_pieces(saturated_for_ns, refused):
    world = armed_world()
    saturate(world, saturated_for_ns)
    assert ("saturated" in world.request(**SHOT)) == refused
    world.cancel()
    world.stream(world.now_ns)
    world.stream(world.now_ns, saturated=True)
    world.live(S // 10)
    assert world.request(**SHOT) == set()


def test_samples_do_not_get_older_nor_come_from_the_future():
    world = armed_world()
    world.now_ns = 50 * MS
    world.stream(40 * MS)
    world.stream(20 * MS)  # late: the newest counts
    world.stream(50 * MS + 100 * MS + 1)
    world.now_ns = 140 * MS
    assert world.tick() == set()
    world.stream(240 * MS)
    world.now_ns = 340 * MS
    assert world.tick() == set()
    world.now_ns += 1
    assert world.tick() == {"stale"}


def test_a_recorder_that_cannot_time_a_pulse():
    world = armed_world()
    world.stream(world.now_ns, stamped=False)
    assert world.request(**SHOT) == {"unstamped"}
    world.disarm()
    assert world.arm_well() == {"unstamped"}
    world.stream(world.now_ns)
    assert world.arm_well() == set()


@pytest.mark.parametrize(("ohm", "warned"), [(5_000, set()), (5_001, {"impedance"})])
def test_a_high_impedance_is_warned_of(ohm, warned):
    world = armed_world()
    world.load(ohm)
    assert set(world.gate.warnings()) == warned == world.oracle.warnings()


def test_arming_again_soon_has_to_wait_as_if_it_had_not_been():
    world = armed_world()
    world.request(**SHOT)
    world.fire()
    world.read_back()
    world.disarm()
    world.arm_well()
    assert world.gate.state == "cooldown"
    world.live(200 * MS - 1)
    assert world.gate.state == "cooldown"
    world.now_ns += 1
    world.tick()
    assert world.gate.state == "armed"


def test_saturated_channels_are_still_seen_after_the_clock_went_back():
    world = World(100 * S)
    world.set_limits(WIDE)
    world.stream(100 * S, saturated=True)
    world.now_ns = S
    assert world.tick() == {"time"}
    assert world.acknowledge(operator_id=1) == set()
    world.connect()
    world.take(7, 1)
    saturate(world, 2 * S)
    assert world.arm_well() == {"saturated"}


def saturate(world, duration_ns):
    """All channels are, from now on."""
    end_ns = world.now_ns + duration_ns
    world.stream(world.now_ns, saturated=True)
    while world.now_ns < end_ns:
        world.now_ns = min(world.now_ns + 90 * MS, end_ns)
        world.stream(world.now_ns, saturated=True)
        world.renew(7, world.next_nonce())
