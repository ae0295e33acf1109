"""The impedance check on virtual time: what it finds, what disturbs it, and that no test current outlives it."""

from collections import Counter

import numpy as np
import pytest
from electrode_world import DRY, GOOD, IMPEDANCE, LIMIT, RESTING, STEP_MS, STIMULUS, UV_PER_COUNT, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emgd import impedance
from emgd.electrode_states import Contact, Window, describe, read
from emgd.impedance import (
    FLOWING,
    SWITCHING_OFF,
    TRANSITIONS,
    BusyError,
    Event,
    InterlockError,
    Reason,
    State,
)
from emgd.lockin import Tone
from emgd_drivers.api import (
    ALL_CHANNELS,
    ChannelInfo,
    DeviceError,
    DeviceLostError,
    DeviceRefusedError,
    Mode,
    Side,
)
from emgd_drivers.sim.electrodes import OFF, Electrode, Pair
from paths import ROOT


def last(world):
    return world.told[-1][0]


def states(world):
    return [payload["state"] for payload, *_ in world.told]


# --- what it finds


def test_a_check_measures_one_side_after_the_other_and_ends_with_the_current_off():
    world = World().run(100)
    begun_ns = world.now_ns
    assert world.start() == 1
    world.until(State.DONE)
    assert world.calls == [(None, 1), (None, 2), (None, 3), (None, 0)]
    assert states(world) == ["settling", "measuring"] * 3 + ["ending", "done"]
    assert [payload["side"] for payload, *_ in world.told] == ["e1", "e1", "e2", "e2", "both", "both", None, None]
    assert (world.now_ns - begun_ns) / 1e9 == pytest.approx(3 * (0.4 + 1.6), abs=0.3)
    first, second = last(world)["results"]
    assert first["e1"]["ohm"] == pytest.approx(2000, abs=5 * first["e1"]["sigma_ohm"])
    assert first["e1"]["sigma_ohm"] < 20
    assert (first["e1"]["state"], first["e2"]["state"], first["bridge"]) == ("good", "good", False)
    assert (second["e1"]["state"], second["e2"]["state"], second["bridge"]) == ("dry", "good", False)
    assert (second["channel"], second["label"]) == (1, "EMG 2")
    _, seq, count = world.told[-1]
    windows = last(world)["windows"]
    assert (seq, seq + count) == (windows[0][1], windows[-1][1] + windows[-1][2])


def test_states_of_electrodes():
    world = World(Pair(OFF, Electrode(4000)), Pair(Electrode(3000), Electrode(4000), 200.0), Pair(Electrode(900_000)))
    world.start()
    world.until(State.DONE)
    found = [(r["e1"]["state"], r["e2"]["state"], r["bridge"]) for r in last(world)["results"]]
    assert found == [("off", "good", False), ("bridge", "bridge", True), ("dry", "good", False)]
    assert last(world)["results"][0]["e1"] == {"ohm": None, "sigma_ohm": None, "state": "off"}
    assert last(world)["results"][0]["between_ohm"] is None


def test_only_the_channels_that_were_asked_for_carry_current():
    world = World(GOOD, DRY, GOOD)
    world.start([2, 0, 2])
    world.until(State.DONE)
    assert world.calls == [(0, 1), (2, 1), (0, 2), (2, 2), (0, 3), (2, 3), (None, 0)]
    assert [result["channel"] for result in last(world)["results"]] == [0, 2]


def test_a_device_without_marks_is_given_time_and_flagged_by_the_host():
    world = World(has_marks=False)
    world.start()
    head = world.seq
    world.until(State.DONE)
    assert last(world)["windows"][0][1] == head + STEP_MS + 250 + 400
    assert world.flags == [((0, 1), True)] * 3 + [((0, 1), False)]
    assert world.calls == [(None, 1), (None, 2), (None, 3), (None, 0)]


def test_ready_is_told_and_kept():
    world = World().run(40)
    assert world.check.ready_ns(world.now_ns) is None
    world.start()
    promises = []
    while world.check.state is not State.DONE:
        promises.append(world.check.ready_ns(world.now_ns))
        world.tick()
    assert max(abs(promise - world.now_ns) for promise in promises) < 0.25e9


def test_two_checks_one_after_the_other_know_nothing_of_each_other():
    world = World()
    assert world.start([0]) == 1
    world.until(State.DONE)
    assert world.start([1]) == 2
    assert last(world)["results"] == []
    assert last(world)["windows"] == []
    world.until(State.DONE)
    assert [result["channel"] for result in last(world)["results"]] == [1]


BOUNDS = [
    (4_999.0, Contact.GOOD),
    (5_000.0, Contact.DRY),
    (999_999.0, Contact.DRY),
    (1_000_000.0, Contact.OFF),
]


@pytest.mark.parametrize(("ohm", "contact"), BOUNDS)
def test_bounds_between_good_dry_and_off(ohm, contact):
    # 0.05 µV a count at 24 nA: 2083.33 Ohm a count
    tone = Tone(np.array([ohm * 24 / 1000 / UV_PER_COUNT]), np.array([1.0]))
    window = Window(Side.POSITIVE, 0, 100, tone, np.array([0.0]))
    assert read(window, 0, -UV_PER_COUNT, 24.0).contact is contact
    assert read(window, 0, -UV_PER_COUNT, 24.0).ohm == pytest.approx(ohm)


@pytest.mark.parametrize(
    ("share", "contact"), [(0.0, Contact.GOOD), (0.01, Contact.UNKNOWN), (0.05, Contact.UNKNOWN), (0.06, Contact.OFF)]
)
def test_saturation_for_moments_says_nothing_and_for_long_says_off(share, contact):
    window = Window(Side.POSITIVE, 0, 100, Tone(np.array([1.0]), np.array([1.0])), np.array([share]))
    assert read(window, 0, UV_PER_COUNT, 24.0).contact is contact
    assert (read(window, 0, UV_PER_COUNT, 24.0).ohm is None) == (share > 0)


@pytest.mark.parametrize(("between_ohm", "bridge"), [(999.0, True), (1000.0, False)])
def test_bound_of_a_bridge(between_ohm, bridge):
    peak = np.array([between_ohm * 24 / 1000])
    windows = [
        Window(side, 0, 100, Tone(peak, peak), np.zeros(1)) for side in (Side.POSITIVE, Side.NEGATIVE, Side.BOTH)
    ]
    (result,) = describe(windows, [0], [ChannelInfo("A", 1.0, 1, Mode.NORMAL, LIMIT)], 24.0)
    assert result["bridge"] is bridge
    assert result["e1"]["state"] == ("bridge" if bridge else "good")


# --- what forbids it, and what ends it


def test_a_second_check_beside_the_first_is_refused():
    world = World()
    world.start()
    world.run(1000)
    with pytest.raises(BusyError, match="check 1 runs already"):
        world.start([0])
    world.until(State.DONE)


def test_no_current_while_a_stimulator_is_armed_and_none_any_more_once_it_is():
    world = World()
    world.forbidden = "the stimulator is armed"
    with pytest.raises(InterlockError, match="the stimulator is armed"):
        world.start()
    assert world.calls == []
    world.forbidden = None
    world.start()
    world.until(State.MEASURING)
    world.forbidden = "the stimulator is armed"
    world.tick()
    assert not any(world.sides)
    world.until(State.ABORTED)
    assert (last(world)["reason"], last(world)["text"]) == ("stimulus", "the stimulator is armed")


@pytest.mark.parametrize("state", [State.SETTLING, State.MEASURING])
def test_a_stimulus_in_the_stream_switches_the_current_off_in_the_same_step(state):
    world = World()
    world.start()
    world.tick()
    world.until(state)
    world.marks.append((world.seq + 3, STIMULUS, 0, 1))
    at = world.seq + 3
    world.tick()
    assert world.sides == [Side.NONE] * 2
    world.until(State.ABORTED)
    assert (last(world)["reason"], last(world)["text"]) == ("stimulus", f"a stimulus at sample {at}")
    assert last(world)["results"] == []


def test_a_client_may_end_it_and_only_once():
    world = World()
    assert not world.check.stop(Reason.CLIENT, "enough", world.now_ns)
    world.start()
    world.run(900)
    assert world.check.stop(Reason.CLIENT, "enough", world.now_ns)
    assert not world.check.stop(Reason.CLIENT, "enough", world.now_ns)
    world.check.step(world.now_ns, world.seq)
    assert not any(world.sides)
    world.until(State.ABORTED)
    assert (last(world)["reason"], last(world)["text"]) == ("client", "enough")


def test_a_lost_device_ends_it_at_once_and_is_not_asked_again():
    world = World()
    world.start()
    world.run(900)
    calls = list(world.calls)
    world.lost = True
    world.check.lose("unplugged", world.now_ns)
    assert world.check.state is State.ABORTED
    world.run(2000)
    assert (world.calls, last(world)["reason"], last(world)["text"]) == (calls, "device_lost", "unplugged")


def test_a_device_found_lost_when_it_is_asked_is_said_to_be_lost():
    world = World()
    world.start()
    world.lost = True
    with pytest.raises(DeviceLostError):
        world.check.step(world.now_ns, world.seq)
    assert (world.check.state, last(world)["reason"]) == (State.ABORTED, "device_lost")


def test_a_device_lost_after_the_last_window_takes_nothing_from_the_result():
    world = World()
    world.start()
    world.until(State.ENDING)
    world.check.lose("unplugged", world.now_ns)
    assert world.check.state is State.DONE
    assert last(world)["results"]


def test_a_refused_current_ends_it_and_whatever_flows_is_switched_off():
    world = World(GOOD, DRY, GOOD)
    world.failures = [None, DeviceRefusedError("not today")]
    world.start([0, 1])
    world.until(State.ABORTED)
    assert world.calls == [(0, 1), (1, 1), (None, 0)]
    assert (last(world)["reason"], last(world)["text"]) == ("refused", "not today")


def test_no_samples_end_it():
    world = World()
    world.start()
    world.run(900)
    world.silent_ms = 10_000
    world.run(2200)
    assert not any(world.sides)
    world.until(State.ABORTED)
    assert (last(world)["reason"], last(world)["text"]) == ("no_samples", "no samples for 2 s")


def test_a_device_that_changes_its_current_by_itself_ends_it():
    world = World()
    world.start()
    world.until(State.MEASURING)
    world.sides = [Side.NONE] * 2
    world.marks.append((world.seq, IMPEDANCE, ALL_CHANNELS, 0))
    world.until(State.ABORTED)
    assert last(world)["reason"] == "changed"


def test_a_service_that_cannot_keep_up_ends_it():
    world = World()
    world.start()
    world.run(900)
    world.check.lapped(world.now_ns)
    world.until(State.ABORTED)
    assert last(world)["reason"] == "gaps"


# --- what disturbs it


def attempts(world):
    return [payload["attempt"] for payload, *_ in world.told if payload["state"] == "measuring"]


def test_a_gap_in_a_window_has_it_measured_again():
    world = World()
    world.start()
    world.until(State.MEASURING)
    world.run(500)
    world.gap_ms = 40
    world.until(State.DONE)
    assert attempts(world) == [1, 2, 1, 1]
    assert world.calls == [(None, 1), (None, 2), (None, 3), (None, 0)]


def test_three_windows_with_gaps_end_it():
    world = World()
    world.start()
    for _ in range(3):
        world.until(State.MEASURING)
        world.run(500)
        world.gap_ms = 20
        world.run(40)
    world.until(State.ABORTED)
    assert last(world)["reason"] == "gaps"
    assert last(world)["text"].startswith("20 samples are missing from ")
    assert last(world)["text"].endswith("in attempt 3 of 3")
    assert attempts(world) == [1, 2, 3]


def test_a_jump_in_the_numbers_that_nobody_told_of_is_a_gap_too():
    world = World()
    world.start()
    world.until(State.MEASURING)
    world.check.samples(world.seq + 100, 20, world.now_ns)
    assert world.check.state is State.SETTLING
    world.until(State.DONE)
    assert attempts(world) == [1, 2, 1, 1]


def test_samples_that_were_overwritten_before_they_were_read_are_measured_again():
    world = World()
    world.start()
    world.until(State.MEASURING)
    world.overwritten = True
    world.tick()
    world.overwritten = False
    world.until(State.DONE)
    assert attempts(world) == [1, 2, 1, 1]


def test_a_gap_while_it_settles_costs_nothing():
    world = World()
    world.start()
    world.run(100)
    world.gap_ms = 100
    world.until(State.DONE)
    assert attempts(world) == [1, 1, 1]


def test_a_mark_that_was_lost_is_asked_for_again():
    world = World()
    world.muted = 1
    world.start()
    world.until(State.DONE)
    assert world.calls == [(None, 1), (None, 1), (None, 2), (None, 3), (None, 0)]


def test_a_device_that_never_answers_is_given_up_with_the_current_off():
    world = World()
    world.muted = 10
    world.start()
    world.until(State.ABORTED)
    assert world.calls == [(None, 1)] * 3 + [(None, 0)] * 3
    assert (last(world)["reason"], last(world)["text"]) == (
        "not_confirmed",
        "no answer to 3 requests for a test current",
    )


def test_an_answer_that_comes_late_and_twice_has_the_window_measured_again():
    world = World()
    world.start()
    world.until(State.MEASURING)
    world.switch(None, Side.POSITIVE)
    world.until(State.DONE)
    assert attempts(world) == [1, 2, 1, 1]


def test_the_end_that_was_not_marked_is_asked_for_again():
    world = World()
    world.start()
    world.until(State.ENDING)
    assert world.check.busy
    world.marks.clear()
    world.until(State.DONE)
    assert world.calls[-2:] == [(None, 0)] * 2


def test_a_current_that_cannot_be_switched_off_is_tried_until_it_can(caplog):
    world = World()
    world.start()
    world.run(900)
    world.failures = [DeviceError("cable")] * 40
    world.check.stop(Reason.CLIENT, "enough", world.now_ns)
    world.run(600)
    assert world.check.state is State.ABORTING
    with pytest.raises(BusyError):
        world.start()
    world.until(State.ABORTED)
    assert len([call for call in world.calls if call == (None, 0)]) == 41
    assert [record.message for record in caplog.records] == [
        "the test current could not be switched off, trying again: cable"
    ]


def test_a_channel_that_saturates_for_moments_has_the_window_measured_again():
    world = World()
    world.start()
    world.until(State.MEASURING)
    world.twitch = 3
    world.until(State.DONE)
    assert attempts(world) == [1, 2, 1, 1]
    assert last(world)["results"][0]["e1"]["state"] == "good"


def test_a_channel_that_saturates_in_every_window_is_unknown_and_the_others_are_measured():
    world = World()
    world.start()
    for _ in range(3):
        world.until(State.MEASURING)
        world.twitch = 3
        world.run(1620)
    world.until(State.DONE)
    first, second = last(world)["results"]
    assert first["e1"] == {"ohm": None, "sigma_ohm": None, "state": "unknown"}
    assert first["e2"]["state"] == "good"
    assert second["e1"]["state"] == "dry"


# --- anything at any time


def try_to_start(world, channels=None):
    try:
        world.start(channels)
    except (BusyError, InterlockError):
        assert world.check.busy or world.forbidden


def lose(world):
    world.lost = True
    world.check.lose("unplugged", world.now_ns)


def end_by_itself(world):
    if world.has_marks:
        world.sides = [Side.NONE] * world.channels
        world.marks.append((world.seq, IMPEDANCE, ALL_CHANNELS, 0))


def set_to(**values):
    return lambda world: [setattr(world, name, value) for name, value in values.items()]


def plug(world):
    """The device is back: what it sent through electrodes ended with its stream."""
    if world.lost:
        world.lost = False
        world.sides = [Side.NONE] * world.channels
        world.marks.clear()


HAPPENINGS = {
    "start": try_to_start,
    "start one": lambda world: try_to_start(world, [1]),
    "stop": lambda world: world.check.stop(Reason.CLIENT, "enough", world.now_ns),
    "stimulus": lambda world: world.marks.append((world.seq + 1, STIMULUS, 0, 1)),
    "trigger": lambda world: world.marks.append((world.seq + 1, 1, 0, 1)),
    "gap": set_to(gap_ms=20),
    "long gap": set_to(gap_ms=400),
    "lose": lose,
    "plug": plug,
    "refuse": lambda world: world.failures.append(DeviceRefusedError("no")),
    "fail off": lambda world: world.failures.extend([None, *[DeviceError("cable")] * 3]),
    "mute": set_to(muted=1),
    "silence": set_to(silent_ms=2500),
    "arm": set_to(forbidden="armed"),
    "disarm": set_to(forbidden=None),
    "lapped": lambda world: world.check.lapped(world.now_ns),
    "twitch": set_to(twitch=2),
    "by itself": end_by_itself,
}
EVENTS = st.one_of(st.just("start"), st.sampled_from(sorted(HAPPENINGS)))


def test_whatever_happens_no_current_outlives_the_check_and_no_result_is_wrong():
    ends = Counter()

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.booleans(), st.lists(st.tuples(st.integers(0, 2500), EVENTS), min_size=1, max_size=12))
    def live(has_marks, events):
        world = World(has_marks=has_marks)
        world.tick()
        for wait_ms, event in events:
            HAPPENINGS[event](world)
            world.run(wait_ms)
        plug(world)
        world.forbidden, world.failures, world.muted = None, [], 0
        world.run(20_000, lambda w: w.check.state in RESTING)
        assert world.check.state in RESTING, "every check comes to its end"
        assert not any(world.sides)
        for payload, *_ in world.told:
            ends[payload["state"]] += 1
            assert bool(payload["results"]) == (payload["state"] in ("ending", "done"))

    live()
    assert ends["done"] > 10, "or this has shown little"
    assert ends["aborted"] > 10, "or this has shown little"


# --- the table


def test_the_table_leads_from_every_state_to_rest_and_only_there_can_a_check_begin():
    for state in State:
        if state in RESTING:
            assert (state, Event.START) in TRANSITIONS
            assert [event for before, event in TRANSITIONS if before is state] == [Event.START]
        else:
            assert (state, Event.START) not in TRANSITIONS
    assert {after for (before, _), after in TRANSITIONS.items() if before in FLOWING} <= FLOWING | SWITCHING_OFF
    assert {after for (before, _), after in TRANSITIONS.items() if before in SWITCHING_OFF} == set(RESTING[1:])


def test_the_drawing_in_the_document_is_the_table():
    text = (ROOT / "docs/impedance.md").read_text(encoding="utf-8")
    assert impedance.diagram() in text


def test_the_figures_in_the_document_are_those_of_the_code():
    from emgd import electrode_states as states

    text = (ROOT / "docs/impedance.md").read_text(encoding="utf-8")
    assert f"{impedance.SETTLE_S:g} s" in text
    assert f"{impedance.WINDOW_S:g} s" in text
    for ohm, shown in [
        (states.GOOD_BELOW_OHM, "5 kΩ"),
        (states.OFF_FROM_OHM, "1 MΩ"),
        (states.BRIDGE_BELOW_OHM, "1 kΩ"),
    ]:
        assert {"5 kΩ": 5e3, "1 MΩ": 1e6, "1 kΩ": 1e3}[shown] == ohm
        assert shown in text
