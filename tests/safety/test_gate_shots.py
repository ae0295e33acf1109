"""What a shot may be, when it may be asked for, and what a readback may say: at the edge, with the oracle beside."""

import pytest
from gate_rules import MS, US, S
from gate_world import WIDE, World, armed_world

from emgd_ext.gate import names_in

SHOT = {"holder": 7, "site": 5, "kind": 1, "current_ua": 5_000, "width_us": 100}
TRAIN = {**SHOT, "kind": 3, "count": 3, "interval_us": 400_450}
PAIR = {**SHOT, "kind": 2, "count": 2, "interval_us": 1_500}
ASKED = 3 * MS


@pytest.mark.parametrize(
    ("table", "allowed", "beyond", "names"),
    [
        ({}, TRAIN, {"interval_us": 199_999}, {"rate_mhz"}),
        ({}, {**TRAIN, "interval_us": 200_000}, {"interval_us": 1_999}, {"rate_mhz", "interval_us"}),
        ({"rate_mhz": 3_000}, {**TRAIN, "interval_us": 333_334}, {"interval_us": 333_333}, {"rate_mhz"}),
        (
            {"rate_mhz": 111, "train_duration_ms": 10_000},
            {**TRAIN, "count": 2, "interval_us": 9_009_010},
            {"interval_us": 9_009_009},
            {"rate_mhz"},
        ),
        ({"interval_us": 400_450}, TRAIN, {"interval_us": 400_449}, {"interval_us"}),
        ({}, PAIR, {"interval_us": 1_499}, {"pair_interval_us"}),
        ({"train_pulses": 3}, TRAIN, {"count": 4}, {"train_pulses"}),
        ({"train_pulses": 2}, PAIR, {}, set()),
        # 2 x 400 450 us and the pulse itself are 801 ms.
        ({"train_duration_ms": 801}, TRAIN, {"width_us": 101}, {"train_duration_ms"}),
        ({"train_duration_ms": 801}, TRAIN, {"interval_us": 400_451}, {"train_duration_ms"}),
        ({"train_duration_ms": 801}, TRAIN, {"count": 4}, {"train_duration_ms"}),
        ({"train_duration_ms": 2}, {**PAIR, "interval_us": 1_900}, {"interval_us": 1_901}, {"train_duration_ms"}),
        # 60 trains of 7.5 mA x 400 us make 18 uA.
        (
            {"mean_current_ua": 3},
            {**TRAIN, "current_ua": 7_500, "width_us": 400, "count": 10},
            {"count": 11},
            {"mean_current_ua"},
        ),
        ({"site_pulses": 10}, {**TRAIN, "count": 10}, {"count": 11}, {"site_pulses"}),
        # Shape: what is no shot at all, and what nothing is computed with.
        ({}, {**SHOT, "current_ua": 1}, {"current_ua": 0}, {"shape"}),
        ({}, {**SHOT, "width_us": 1}, {"width_us": 0}, {"shape"}),
        ({}, SHOT, {"width_us": -(2**63)}, {"shape"}),
        ({}, SHOT, {"count": 2}, {"shape"}),
        ({}, SHOT, {"count": 0}, {"shape"}),
        ({}, SHOT, {"interval_us": 1}, {"shape"}),
        ({}, SHOT, {"interval_us": -1}, {"shape"}),
        ({}, SHOT, {"kind": 0}, {"shape"}),
        ({}, SHOT, {"kind": 4}, {"shape"}),
        ({}, PAIR, {"count": 1}, {"shape"}),
        ({}, PAIR, {"count": 3}, {"shape"}),
        ({}, PAIR, {"interval_us": 0}, {"shape"}),
        ({}, PAIR, {"interval_us": 1}, {"pair_interval_us"}),
        ({}, TRAIN, {"count": 1}, {"shape"}),
        ({}, TRAIN, {"count": -5}, {"shape"}),
        ({}, TRAIN, {"interval_us": 0}, {"shape"}),
        ({}, TRAIN, {"interval_us": 1}, {"rate_mhz", "interval_us"}),
        ({}, {**TRAIN, "count": 2}, {"current_ua": 100_001}, {"current_ua"}),
        ({}, SHOT, {"current_ua": 2**62, "width_us": 2**62}, {"current_ua", "width_us"}),
        ({}, SHOT, {"width_us": 1_001}, {"width_us"}),
        ({}, TRAIN, {"count": 501, "interval_us": 10_000_001}, {"train_pulses", "train_duration_ms"}),
        ({}, TRAIN, {"count": 2**62, "interval_us": 2**62}, {"train_pulses", "train_duration_ms"}),
        # When.
        ({}, {**SHOT, "asked_ns": ASKED}, {"asked_ns": ASKED + 1}, {"early"}),
        ({}, {**SHOT, "asked_ns": ASKED - 100 * MS}, {"asked_ns": ASKED - 100 * MS - 1}, {"old"}),
        ({}, {**SHOT, "begin_ns": ASKED + S}, {"begin_ns": ASKED + S + 1}, {"early"}),
        ({}, {**SHOT, "begin_ns": ASKED - 100 * MS}, {"begin_ns": ASKED - 100 * MS - 1}, {"old"}),
        ({}, {**SHOT, "begin_ns": 0}, {"begin_ns": 2**63 - 1}, {"early"}),
        # Who and where.
        ({}, SHOT, {"holder": 8}, {"holder"}),
        ({}, SHOT, {"holder": 0}, {"holder"}),
        ({}, SHOT, {"holder": 8, "site": 6}, {"holder"}),
        ({}, SHOT, {"site": 6}, {"site"}),
    ],
)
def test_a_shot_is_judged_as_a_whole(table, allowed, beyond, names):
    for changes, expected in ((allowed, set()), ({**allowed, **beyond}, names)):
        world = armed_world(table)
        world.now_ns = ASKED
        figures = {key: value for key, value in changes.items() if key not in {"holder", "site", "asked_ns"}}
        world.explain(figures)
        assert world.request(**changes) == expected


@pytest.mark.parametrize("late_ns", [0, 100 * MS])
def test_a_late_shot_begins_now(late_ns):
    world = armed_world()
    world.now_ns = ASKED
    assert world.request(**SHOT, begin_ns=ASKED - late_ns) == set()
    assert world.gate.snapshot()["due_ns"] == ASKED


def test_a_wrong_site_disarms():
    world = armed_world()
    world.request(**{**SHOT, "site": 6})
    assert world.gate.state == "idle"
    assert names_in(world.gate.snapshot()["dropped"]) == ("site",)


def delivered(table=None, **arming):
    """A world whose only pulse, 5 mA x 200 us, is out and not read back."""
    world = armed_world(table, **arming)
    assert world.request(**{**SHOT, "width_us": 200}) == set()
    names, _ = world.fire()
    assert names == set()
    return world


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("table", "reading", "asked", "off", "mark"),
    [
        (
            {"readback_current_percent": 10, "readback_current_ua": 1},
            "current_ua",
            5_000,
            500,
            "readback_current_percent",
        ),
        (
            {"readback_current_percent": 1, "readback_current_ua": 400},
            "current_ua",
            5_000,
            400,
            "readback_current_percent",
        ),
        ({"readback_width_percent": 5, "readback_width_us": 1}, "width_us", 200, 10, "readback_width_percent"),
        ({"readback_width_percent": 1, "readback_width_us": 8}, "width_us", 200, 8, "readback_width_percent"),
    ],
)
def test_a_reading_agrees_up_to_its_tolerance(table, reading, asked, off, mark, sign):
    assert delivered(table).read_back(**{reading: asked + sign * off}) == set()
    world = delivered(table)
    assert world.read_back(**{reading: asked + sign * (off + 1)}) == {mark}
    assert world.gate.state == "cooldown"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("reading", "asked"), [("current_ua", 5_000), ("width_us", 200)])
def test_a_reading_a_fifth_off_is_a_fault_beyond_it(reading, asked, sign):
    mark = reading.replace("_ua", "_percent").replace("_us", "_percent")
    world = delivered()
    assert world.read_back(**{reading: asked + sign * asked // 5}) == {f"readback_{mark}"}
    world = delivered()
    assert world.read_back(**{reading: asked + sign * (asked // 5 + 1)}) == {f"readback_{mark}", "readback_far"}
    assert world.gate.state == "fault"


@pytest.mark.parametrize("reading", ["current_ua", "width_us"])
@pytest.mark.parametrize("garbage", [-1, -5_000, 10**9, 10**9 + 1, 2**63 - 1, -(2**63)])
def test_a_reading_that_no_instrument_gives_is_a_fault(reading, garbage):
    world = delivered({"readback_current_ua": 500})
    assert "readback_far" in world.read_back(**{reading: garbage})


def test_small_pulses_read_as_nothing_or_less():
    """Inside the tolerance nothing is fine, less than nothing never is."""
    for reading, agrees in ((0, True), (-1, False), (-50, False)):
        world = armed_world()
        world.request(**{**SHOT, "current_ua": 300})
        world.fire()
        assert (world.read_back(current_ua=reading) == set()) == agrees


@pytest.mark.parametrize("sign", [1, -1])
def test_current_between_pulses(sign):
    assert delivered().read_back(dc_ua=sign * 20) == set()
    world = delivered()
    assert world.read_back(dc_ua=sign * 21) == {"dc_ua"}
    assert world.gate.state == "fault"


def test_a_device_at_its_voltage_limit_is_a_mark():
    world = delivered()
    assert world.read_back(limited=True, current_ua=4_900) == {"headroom"}
    snapshot = world.gate.snapshot()
    assert (snapshot["state"], snapshot["last_ua"], snapshot["retry_ua"]) == ("cooldown", 4_900, 4_900)


def test_after_a_mismatch_no_higher_until_one_agrees():
    world = delivered()
    world.confirm(7, 9_000)
    assert world.read_back(current_ua=4_400) == {"readback_current_percent"}
    assert world.gate.snapshot()["confirmed_ua"] == 0
    world.live(S)
    assert world.request(**{**SHOT, "current_ua": 4_401}) == {"retry"}
    world.shoot(current_ua=4_400)
    assert world.gate.snapshot()["retry_ua"] == 100_000
    world.shoot(current_ua=5_500)


@pytest.mark.parametrize(("between", "state"), [(3, "fault"), (4, "cooldown")])
def test_two_mismatches_among_five_are_a_fault(between, state):
    world = delivered()
    world.read_back(current_ua=4_400)
    world.live(S)
    for _ in range(between):
        world.shoot(current_ua=4_000)
    world.request(**{**SHOT, "current_ua": 4_000})
    world.fire()
    assert ("readback_often" in world.read_back(current_ua=4_401)) == (state == "fault")
    assert world.gate.state == state
    if state == "fault":  # acknowledged is forgotten
        assert world.acknowledge(operator_id=1) == set()
        world.connect()
        world.arm_well()
        world.live(S)
        world.request(**{**SHOT, "current_ua": 4_000})
        world.fire()
        assert world.read_back(current_ua=4_401) == {"readback_current_percent"}


def test_a_readback_that_was_not_expected_is_a_fault():
    for seq in (1, 2**64 - 1):
        world = delivered()
        assert world.read_back(seq=seq) == {"readback_unexpected"}
    world = armed_world()
    assert world.readback(seq=0, current_ua=0, width_us=0, load_ohm=0) == {"readback_unexpected"}


def test_a_readback_is_waited_for_200_ms():
    world = delivered()
    sent_ns = world.now_ns
    world.live_until(sent_ns + 200 * MS)
    assert world.tick() == set()
    world.now_ns += 1
    assert world.tick() == {"readback_missing"}


def test_a_pulse_is_still_read_back_when_disarmed():
    world = delivered()
    world.disarm()
    assert world.arm_well() == {"readback_due"}
    assert world.read_back(load_ohm=1_234) == set()
    assert world.gate.snapshot()["load_ohm"] == 1_234
    assert world.arm_well() == set()


def test_two_pulses_may_be_out_and_come_back_in_order():
    world = armed_world()
    world.request(**{**PAIR, "interval_us": 5_000})
    assert world.fire()[0] == set()
    world.now_ns += 5_000 * US
    assert world.fire()[0] == set()
    assert world.gate.snapshot()["awaited"] == 2
    assert world.read_back(current_ua=5_100) == set()
    assert world.read_back(seq=1) == set()


def test_a_third_pulse_waits_until_one_is_read_back():
    world = armed_world({"rate_mhz": 50_000})
    world.request(**{**TRAIN, "interval_us": 20_000})
    for _ in range(2):
        assert world.fire()[0] == set()
        world.live(20 * MS)
    assert world.fire()[0] == {"readback_due"}
    assert world.gate.state == "firing"
    world.read_back()
    assert world.fire()[0] == set()


def test_the_places_of_pulses_run_out_and_come_free():
    """Three sites, 256 pulses in a minute; the 257th has to wait until the first is a minute old."""
    world = armed_world({"rate_mhz": 50_000, "train_pulses": 100, "idle_reset_ms": 60_000})
    begin_ns = world.now_ns
    for site, count in ((5, 100), (6, 100), (8, 56)):
        world.disarm()
        world.arm_well(site=site)
        assert (
            world.request(**{**TRAIN, "site": site, "current_ua": 100, "count": count, "interval_us": 20_000}) == set()
        )
        world.finish()
    assert len(world.oracle.sent) == 256
    assert world.now_ns - begin_ns < 60 * S
    first_ns = world.oracle.sent[0].at_ns
    world.live_until(first_ns + 60 * S - 1)
    shot = {**SHOT, "site": 8, "current_ua": 100}
    assert world.request(**shot) == {"history"}
    world.now_ns += 1
    assert world.request(**shot) == set()
    world.finish()
    # Its place was that of the first, and of no other.
    assert world.explain({"kind": 1, "current_ua": 100, "width_us": 100})["site_pulses"] == 58


def test_no_shot_while_nothing_is_armed():
    world = World()
    assert world.fire()[0] == {"no_shot", "off"}
    world.set_limits(WIDE)
    world.connect()
    assert world.fire()[0] == {"no_shot", "disarmed"}
    world.stop()
    assert world.fire()[0] == {"no_shot", "fault", "stopped"}
    assert armed_world().fire()[0] == {"no_shot"}


def test_all_faults_of_a_readback_are_named():
    world = delivered()
    world.read_back(current_ua=4_400)
    world.live(S)
    world.request(**{**SHOT, "current_ua": 4_000})
    world.fire()
    assert world.read_back(current_ua=1_000, width_us=90, limited=True, dc_ua=21) == {
        "readback_current_percent",
        "readback_width_percent",
        "headroom",
        "readback_far",
        "readback_often",
        "dc_ua",
    }
