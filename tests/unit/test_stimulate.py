"""The stimulus in virtual time: what leads to a pulse, and that every failure ends in a disabled output."""

from contextlib import suppress
from dataclasses import replace
from itertools import pairwise

import pytest
from stim_rig import INFO, ME, MS, OTHER, SITE, Rig

from emgd import limits
from emgd.limits import PROFILES
from emgd.stim_commands import Acknowledge, Arm, Confirm, Disarm, Leave, Release, Renew, Site, Status, Table, Take
from emgd.stim_desk import device_map
from emgd_drivers.api import DeviceLostError, DeviceRefusedError
from emgd_drivers.stimulator import Delivered, DeviceLimits, StimulatorError, Trouble
from emgd_ext.gate import bit
from emgd_wire.codec import WireError
from emgd_wire.kinds import ErrorCode, Kind


def refused_names(error):
    return {refusal["name"] for refusal in error.refusals}


def train(rig, count=10, interval_us=200_000, **changes):
    return rig.shot(kind="train", count=count, interval_us=interval_us, **changes)


def keep(rig, ms, nonce=100, every=300):
    """Time passes while the holder renews its lease, as it should."""
    for number in range(-(-ms // every)):
        rig.run(min(every, ms - number * every))
        rig.ask(Renew(nonce + number))


# --- the good way


@pytest.mark.requirement("REQ-061")
def test_a_pulse_is_asked_for_given_read_back_and_told():
    rig = Rig().armed()
    assert rig.state == "armed"
    assert rig.device.output
    assert rig.ask(rig.shot())["first_pulse"] == 0
    rig.run(20)
    assert [given[0] for given in rig.device.given] == [0]
    ((payload, _),) = rig.pulses()
    assert (payload["current_ua"], payload["delivered"]["current_ua"], payload["reasons"]) == (5_000, 5_000, [])
    assert (payload["site"]["nerve"], payload["number"], payload["of"]) == ("median", 1, 1)
    assert [kind for kind, _ in rig.log.records].count("pulse") == 1


@pytest.mark.requirement("REQ-047", "REQ-048")
def test_the_device_is_set_up_in_order_and_only_then_enabled():
    rig = Rig().armed()
    assert rig.device.names() == ["reset", "reset", "set_limits", "measure_load", "feed", "arm"]
    assert rig.device.limits == DeviceLimits(50_000, 200, 300, interval_us=5_000, mean_ua=100)


@pytest.mark.requirement("REQ-048")
def test_a_session_can_tighten_and_the_device_is_told():
    rig = Rig().armed(limits={"current_ua": 2_000})
    assert rig.device.limits.current_ua == 2_000
    with pytest.raises(WireError) as refused:
        rig.ask(rig.shot())
    assert "current_ua" in refused_names(refused.value)
    assert rig.ask(Table())["limits"]["layers"]["current_ua"] == "session"


@pytest.mark.requirement("REQ-011", "REQ-040")
def test_the_gate_is_asked_before_each_pulse_and_the_device_afterwards(monkeypatch):
    rig = Rig().armed()
    asked = []
    gate = rig.stimulation.gate

    class Witness:
        def __getattr__(self, name):
            if name == "fire":
                asked.append(("fire", len(rig.device.given)))
            return getattr(gate, name)

    rig.stimulation.gate = Witness()
    rig.ask(train(rig, count=3))
    keep(rig, 1_000)
    assert len(rig.device.given) == 3
    # Before each pulse the device had given one less than the gate was asked for.
    assert [given for _, given in asked][:3] == [0, 1, 2]


@pytest.mark.requirement("REQ-051")
def test_a_train_keeps_its_rhythm():
    rig = Rig().armed()
    begin = rig.clock.ns
    rig.ask(train(rig, count=5, interval_us=200_000))
    keep(rig, 1_200)
    times = [given[1] - begin for given in rig.device.given]
    assert times == [number * 200 * MS for number in range(5)]
    sent = [at - begin for at, name, *_ in rig.calls if name == "pulse"]
    assert all(0 <= given - handed <= 8 * MS for given, handed in zip(times, sent, strict=True))


@pytest.mark.requirement("REQ-051")
def test_both_pulses_of_a_pair_are_handed_over_in_time():
    rig = Rig().armed()
    rig.ask(rig.shot(kind="pair", count=2, interval_us=5_000))
    rig.run(20)
    (_, first, *_), (_, second, *_) = rig.device.given
    assert second - first == 5 * MS
    assert [call[0] <= call[3] for call in rig.calls if call[1] == "pulse"] == [True, True]


@pytest.mark.requirement("REQ-051")
def test_a_shot_for_later_goes_out_then():
    rig = Rig().armed()
    begin = rig.clock.ns + 500 * MS
    rig.ask(rig.shot(begin_ns=begin))
    rig.run(480)
    assert rig.device.given == []
    rig.run(30)
    assert [given[1] for given in rig.device.given] == [begin]


def test_a_step_up_needs_the_operators_word():
    rig = Rig().armed()
    rig.ask(rig.shot(current_ua=5_000))
    keep(rig, 300)
    with pytest.raises(WireError) as refused:
        rig.ask(rig.shot(current_ua=20_000))
    assert refused_names(refused.value) == {"step_ua"}
    rig.ask(Confirm(20_000))
    rig.ask(rig.shot(current_ua=20_000))
    rig.run(20)
    assert [given[2] for given in rig.device.given] == [5_000, 20_000]


# --- no


def test_a_refusal_says_why_and_nothing_goes_out():
    rig = Rig().armed()
    with pytest.raises(WireError) as refused:
        rig.ask(rig.shot(current_ua=60_000))
    assert refused.value.code is ErrorCode.REFUSED
    assert {"current_ua", "first_shot_ua"} <= refused_names(refused.value)
    rig.run(50)
    assert rig.device.given == []
    assert any("current_ua" in fields.get("verdict", ()) for kind, fields in rig.log.records if kind == "request")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"current_ua": 50_010}, "current_ua"),
        ({"width_us": 201}, "width_us"),
        ({"kind": "train", "count": 51, "interval_us": 200_000}, "train_pulses"),
        ({"kind": "train", "count": 2, "interval_us": 99_999}, "interval_us"),
        ({"kind": "pair", "count": 2, "interval_us": 4_999}, "pair_interval_us"),
        ({"kind": "single", "count": 2}, "shape"),
        ({"site": Site("left", "arm", "median", "wrist").id}, "site"),
        ({"site": "0"}, "site"),
    ],
)
def test_what_is_beyond_a_limit_is_named(change, name):
    rig = Rig().armed()
    with pytest.raises(WireError) as refused:
        rig.ask(rig.shot(**change))
    assert name in refused_names(refused.value)
    rig.run(50)
    assert rig.device.given == []


def test_an_order_that_was_asked_for_long_ago_is_refused():
    rig = Rig().armed()
    with pytest.raises(WireError) as refused:
        rig.ask(rig.shot(asked_ns=rig.clock.ns - 101 * MS))
    assert refused_names(refused.value) == {"old"}


def test_nobody_but_the_holder_fires_confirms_renews_or_releases():
    rig = Rig().armed()
    for command in (rig.shot(), Confirm(20_000), Renew(5), Release(), Take(9)):
        with pytest.raises(WireError) as refused:
            rig.ask(command, OTHER)
        assert "holder" in refused_names(refused.value)
    assert rig.state == "armed"


@pytest.mark.requirement("REQ-017")
def test_anybody_may_disarm():
    rig = Rig().armed()
    rig.ask(Disarm(), OTHER)
    assert rig.device.names()[-2:] == ["disarm", "reset"]
    assert rig.state == "idle"


def test_arming_needs_the_lease_an_isolated_amplifier_and_a_contact():
    rig = Rig()
    rig.stimulation.step()
    arm = Arm("motor", SITE, "mw")
    with pytest.raises(WireError) as refused:
        rig.ask(arm)
    assert refused_names(refused.value) == {"holder"}
    assert "set_limits" not in rig.device.names()
    rig.ask(Take(1))
    rig.watch.isolated = False
    with pytest.raises(WireError) as refused:
        rig.ask(arm)
    assert refused_names(refused.value) == {"not_isolated"}
    rig.watch.isolated = True
    for load_ohm, name in ((0, "load"), (10_001, "impedance_ohm")):
        rig.device.load_ohm = load_ohm
        with pytest.raises(WireError) as refused:
            rig.ask(arm)
        assert name in refused_names(refused.value)
    rig.device.load_ohm = 1_000
    rig.watch.running = False
    rig.run(150)
    with pytest.raises(WireError) as refused:
        rig.ask(arm)
    assert "stale" in refused_names(refused.value)
    assert not rig.device.output
    assert "arm" not in rig.device.names()


@pytest.mark.requirement("REQ-025")
def test_a_stimulator_that_is_not_isolated_is_not_armed():
    rig = Rig(info=replace(INFO, isolated=False))
    rig.stimulation.step()
    rig.ask(Take(1))
    with pytest.raises(WireError) as refused:
        rig.ask(Arm("motor", SITE, "mw"))
    assert "not_isolated" in refused_names(refused.value)


@pytest.mark.requirement("REQ-081")
def test_one_that_does_not_say_what_it_delivers_is_not_armed():
    rig = Rig(info=replace(INFO, reads_back=False))
    rig.stimulation.step()
    rig.ask(Take(1))
    with pytest.raises(WireError) as refused:
        rig.ask(Arm("motor", SITE, "mw"))
    assert refused.value.code is ErrorCode.NOT_OFFERED


def test_a_load_is_given_where_the_device_cannot_measure_it_and_only_there():
    rig = Rig(info=replace(INFO, measures_load=False))
    rig.stimulation.step()
    rig.ask(Take(1))
    with pytest.raises(WireError) as refused:
        rig.ask(Arm("motor", SITE, "mw"))
    assert refused.value.field == "args.load_ohm"
    assert rig.ask(Arm("motor", SITE, "mw", load_ohm=2_000))["load_ohm"] == 2_000
    with pytest.raises(WireError):
        Rig().armed(load_ohm=2_000)


@pytest.mark.requirement("REQ-038")
def test_some_profiles_need_the_operators_word():
    rig = Rig()
    with pytest.raises(WireError) as refused:
        rig.armed(profile="cardiac")
    assert PROFILES["cardiac"].acknowledge in refused.value.text
    assert refused.value.field == "args.acknowledged"
    rig.ask(Arm("cardiac", SITE, "mw", acknowledged=True))
    assert rig.state == "armed"


def test_there_is_no_stimulus_beside_a_test_current():
    rig = Rig()
    rig.interlock.test_runs = lambda: True
    with pytest.raises(WireError) as refused:
        rig.armed()
    assert refused.value.code is ErrorCode.INTERLOCK
    assert "set_limits" not in rig.device.names()
    rig.interlock.test_runs = lambda: False
    assert rig.interlock.forbids_test() is None
    rig.ask(Arm("motor", SITE, "mw"))
    assert rig.interlock.forbids_test() == "the stimulator is armed"
    rig.ask(Disarm())
    assert rig.interlock.forbids_test() is None


def test_no_test_current_is_begun_while_the_device_is_being_set_up(monkeypatch):
    rig = Rig()
    rig.stimulation.step()
    rig.ask(Take(1))
    seen = []
    monkeypatch.setattr(rig.device, "measure_load", lambda: seen.append(rig.interlock.forbids_test()) or 1_000)
    rig.ask(Arm("motor", SITE, "mw"))
    assert seen == ["the stimulator is armed"]


# --- the lease


@pytest.mark.requirement("REQ-041")
def test_a_lease_that_is_lost_disables_the_output_within_50_ms():
    rig = Rig().armed()
    ends = rig.ask(Renew(2))["lease_until_ns"]
    rig.run(2_000, until=lambda: not rig.device.output)
    assert 0 <= rig.clock.ns - ends <= 50 * MS
    assert rig.reasons == {"lease_ms"}
    (when,) = [at for at, name, *_ in rig.calls if name == "disarm"]
    assert when == rig.clock.ns


def test_turns_are_close_enough_to_see_a_lease_end():
    rig = Rig().armed()
    assert rig.stimulation.wait_ns() <= 10 * MS
    rig.ask(train(rig))
    assert rig.stimulation.wait_ns() <= 10 * MS


@pytest.mark.requirement("REQ-041")
def test_a_train_goes_on_only_while_the_lease_lives():
    rig = Rig().armed()
    rig.ask(train(rig, count=20))
    keep(rig, 1_500)
    given, last = len(rig.device.given), rig.clock.ns
    assert given == 8
    rig.run(4_000, turn_ms=5)  # the client is dead
    late = [given for given in rig.device.given if given[1] > last + 1_000 * MS]
    assert late == []
    assert not rig.device.output
    assert len(rig.device.given) < 20


@pytest.mark.requirement("REQ-080")
def test_the_watchdog_is_fed_only_while_armed():
    rig = Rig().armed()
    keep(rig, 900)
    fed = [at for at, name, *_ in rig.calls if name == "feed"]
    assert max(later - sooner for sooner, later in pairwise(fed)) <= 110 * MS
    rig.run(1_100)
    ended = rig.clock.ns
    rig.run(2_000, turn_ms=10)
    assert [at for at, name, *_ in rig.calls if name == "feed" and at > ended] == []


def test_a_lease_is_renewed_with_rising_numbers_only():
    rig = Rig().armed()
    rig.ask(Renew(5))
    for nonce in (5, 4):
        with pytest.raises(WireError) as refused:
            rig.ask(Renew(nonce))
        assert refused_names(refused.value) == {"nonce"}


def test_a_lease_that_ended_cannot_be_renewed_but_taken():
    rig = Rig().armed()
    rig.run(1_100)
    with pytest.raises(WireError) as refused:
        rig.ask(Renew(99))
    assert refused_names(refused.value) == {"lease_ms"}
    rig.ask(Take(1), OTHER)
    assert rig.state == "idle"


def test_giving_the_lease_back_disarms():
    rig = Rig().armed()
    rig.ask(Release())
    assert not rig.device.output
    rig.ask(Take(1), OTHER)


def test_nothing_done_for_a_minute_disarms():
    rig = Rig().armed(limits={"idle_reset_ms": 1_000})
    keep(rig, 1_100)
    assert not rig.device.output
    assert rig.reasons == {"idle_reset_ms"}


@pytest.mark.requirement("REQ-018", "REQ-045")
def test_a_stream_that_stands_still_disarms():
    rig = Rig().armed()
    rig.watch.running = False
    assert rig.run(120, until=lambda: not rig.device.output)
    assert rig.reasons == {"stale"}


def test_a_turn_that_comes_half_a_second_late_disarms_and_gives_nothing():
    rig = Rig().armed()
    rig.ask(train(rig, begin_ns=rig.clock.ns + 450 * MS))
    rig.clock.ns += 501 * MS
    rig.stimulation.step()
    assert rig.device.given == []
    assert not rig.device.output
    assert "time" in rig.reasons


def test_a_clock_that_goes_back_is_a_fault():
    rig = Rig().armed()
    rig.clock.ns -= MS
    rig.stimulation.step()
    assert rig.state == "fault"
    assert rig.device.names()[-1] == "stop"


# --- the stop


def firing(rig):
    rig.ask(rig.shot(begin_ns=rig.clock.ns + 500 * MS))


def cooling(rig):
    rig.ask(rig.shot())
    rig.run(5)


def failing(rig):
    rig.device.news.append(Trouble("output", "the output stage gives something else"))
    rig.run(1)


def absent(rig):
    rig.device.broken["poll"] = DeviceLostError("FAKE-1 was unplugged")
    rig.there = False
    rig.run(1)


WAYS = {
    "armed": lambda rig: None,
    "firing": firing,
    "cooldown": cooling,
    "idle": lambda rig: rig.ask(Disarm()),
    "fault": failing,
    "off": absent,
}


@pytest.mark.requirement("REQ-024", "REQ-050")
@pytest.mark.parametrize("state", WAYS)
def test_the_stop_is_taken_in_every_state_and_the_device_hears_it_first(state):
    rig = Rig().armed()
    WAYS[state](rig)
    assert rig.state == state
    given, before = len(rig.device.given), len(rig.calls)
    said = rig.stimulation.stop("a test")
    assert rig.state == "fault"
    assert "stopped" in rig.reasons
    if state == "off":
        assert "no stimulator" in said
    else:
        assert rig.calls[before][1] == "stop"
        assert said == "stopped"
    keepers = rig.device
    rig.run(1_000, turn_ms=10)
    assert len(keepers.given) == given
    assert not keepers.output
    assert "arm" not in [call[1] for call in rig.calls[before:]]


@pytest.mark.requirement("REQ-050")
def test_the_device_is_stopped_before_anything_is_noted(monkeypatch):
    rig = Rig().armed()
    known, told, stop = len(rig.log.records), len(rig.told), rig.device.stop
    seen = []
    monkeypatch.setattr(
        rig.device, "stop", lambda: seen.append((rig.state, len(rig.log.records), len(rig.told))) or stop()
    )
    rig.stimulation.stop("a test")
    assert seen == [("armed", known, told)]


def test_a_stop_that_the_device_does_not_take_closes_its_port():
    rig = Rig().armed()
    device = rig.device
    device.broken["stop"] = StimulatorError("FAKE-1 does not take it")
    said = rig.stimulation.stop("a test")
    assert "pull its cable" in said
    assert device.names()[-2:] == ["stop", "close"]
    assert rig.state == "fault"


def test_after_a_stop_nothing_goes_before_it_is_acknowledged():
    rig = Rig().armed()
    rig.stimulation.stop("a test")
    rig.run(50)
    with pytest.raises(WireError) as refused:
        rig.ask(Arm("motor", SITE, "mw"))
    assert {"fault", "stopped"} <= refused_names(refused.value)
    assert rig.ask(Acknowledge("mw"))["state"] == "idle"
    assert rig.device.names()[-1] == "reset"
    rig.ask(Renew(50))
    rig.ask(Arm("motor", SITE, "mw"))
    assert rig.device.output


def test_a_fault_whose_cause_is_still_there_cannot_be_acknowledged():
    rig = Rig().armed()
    rig.device.news.append(Trouble("supply", "brown-out"))
    rig.run(1)
    rig.device.broken["reset"] = StimulatorError("FAKE-1 is still latched")
    with pytest.raises(WireError) as refused:
        rig.ask(Acknowledge("mw"))
    assert refused.value.code is ErrorCode.DEVICE_FAILED
    assert rig.state == "fault"
    rig.device.broken.clear()
    assert rig.ask(Acknowledge("mw"))["state"] == "idle"


# --- failures of the device


CALLS = ("poll", "feed", "pulse", "arm", "set_limits", "measure_load")
ERRORS = (
    StimulatorError("wrong echo"),
    DeviceRefusedError("no"),
    OSError("input/output error"),
    ZeroDivisionError("x"),
)


def provoke(rig, call):
    """A client that arms and fires, whatever comes back."""
    for command in (Take(1), Arm("motor", SITE, "mw"), None):
        with suppress(WireError):
            rig.ask(rig.shot() if command is None else command)
    rig.run(200)


@pytest.mark.requirement("REQ-022", "REQ-049")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", CALLS)
def test_whatever_goes_wrong_with_the_device_stops_it_and_is_latched(call, error):
    rig = Rig()
    rig.stimulation.step()
    device = rig.device
    device.broken[call] = error
    provoke(rig, call)
    assert rig.state == "fault"
    assert "device" in rig.reasons
    assert not device.output
    names = device.names()
    assert "stop" in names
    assert len(device.given) == (1 if call == "feed" else 0) or call == "feed"
    after = names.index("stop")
    assert not {"pulse", "arm", "feed"} & set(names[after:])


@pytest.mark.requirement("REQ-045", "REQ-047")
@pytest.mark.parametrize("call", CALLS)
def test_a_device_that_is_gone_is_let_go_and_is_idle_when_it_is_back(call):
    rig = Rig()
    rig.stimulation.step()
    device = rig.device
    device.broken[call] = DeviceLostError("FAKE-1 was unplugged")
    rig.there = False
    provoke(rig, call)
    assert rig.state == "off"
    assert device.names()[-1] == "close"
    assert not device.output
    with pytest.raises(WireError) as refused:
        rig.ask(Arm("motor", SITE, "mw"))
    assert refused.value.code is ErrorCode.NO_STIMULATOR
    rig.there = True
    rig.run(6_000, turn_ms=10, until=lambda: rig.state != "off")
    assert rig.state == "idle"
    assert rig.device is not device
    assert set(rig.device.names()[-1:]) == {"reset"}
    rig.run(2_000, turn_ms=10)
    assert not rig.device.output


def test_an_unplugged_device_is_looked_for_less_and_less_often():
    rig = Rig(there=False)
    tried = []
    opener = rig._open

    def counted():
        tried.append(rig.clock.ns)
        return opener()

    object.__setattr__(rig.stimulation.hands, "open", counted)
    rig.run(20_000, turn_ms=10)
    pauses = [(later - sooner) // MS for sooner, later in pairwise(tried)]
    assert pauses == [500, 1_000, 2_000, 4_000, 5_000, 5_000]


def test_an_output_that_cannot_be_disabled_in_good_order_is_stopped():
    rig = Rig().armed()
    rig.device.broken["disarm"] = StimulatorError("no answer")
    rig.ask(Disarm())
    assert rig.device.names()[-2:] == ["disarm", "stop"]
    assert rig.state == "fault"


def test_a_report_that_does_not_come_is_a_fault():
    rig = Rig().armed()
    rig.device.reports = False
    rig.ask(rig.shot())
    rig.run(260)
    assert rig.reasons == {"readback_missing"}
    assert "stop" in rig.device.names()
    ((payload, _),) = rig.pulses()
    assert payload["delivered"] is None


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ({"current_ua": 6_001}, "readback_far"),
        ({"width_us": 260}, "readback_far"),
        ({"dc_ua": 11}, "dc_ua"),
        ({"seq": 5}, "readback_unexpected"),
    ],
)
def test_a_report_of_something_else_is_a_fault(report, reason):
    rig = Rig().armed()
    rig.device.reports = False
    rig.ask(rig.shot())
    rig.run(1)
    values = {"seq": 0, "at_ns": rig.clock.ns, "sigma_ns": 1, "current_ua": 5_000, "width_us": 200, "load_ohm": 1_000}
    rig.device.news.append(Delivered(**{**values, "dc_ua": 0, "limited": False, **report}))
    rig.run(1)
    assert reason in rig.reasons
    assert not rig.device.output
    assert rig.state == "fault"


def test_a_pulse_that_was_dropped_by_disarming_is_no_fault():
    rig = Rig().armed()
    rig.ask(rig.shot(begin_ns=rig.clock.ns + 20 * MS))
    rig.run(13)
    assert len(rig.device.given) == 1  # handed over, and not yet due
    rig.device.news.clear()
    rig.ask(Disarm())
    rig.run(500)
    assert rig.state == "idle"
    ((payload, _),) = rig.pulses()
    assert (payload["delivered"], payload["reasons"]) == (None, ["dropped"])


def test_a_device_that_tells_of_its_own_trouble_is_stopped():
    rig = Rig().armed()
    rig.device.news.append(Trouble("watchdog", "nobody fed it"))
    rig.run(1)
    assert rig.reasons == {"device"}
    assert rig.device.names()[-1] == "stop"
    assert "nobody fed it" in rig.told[-1][1]["text"]


def test_a_fault_is_said_once_and_not_every_turn():
    rig = Rig().armed()
    rig.device.broken["poll"] = StimulatorError("garbage")
    rig.run(500)
    assert rig.device.names().count("stop") == 1
    assert rig.states().count("fault") == 1


# --- the audit log


@pytest.mark.requirement("REQ-071")
def test_without_a_log_nothing_is_armed():
    rig = Rig()
    rig.stimulation.step()
    rig.ask(Take(1))
    rig.log.broken = True
    with pytest.raises(WireError) as refused:
        rig.ask(Arm("motor", SITE, "mw"))
    assert refused.value.code is ErrorCode.AUDIT
    assert not rig.device.output
    assert "arm" not in rig.device.names()


def test_before_arming_the_log_is_asked_and_on_the_disk():
    rig = Rig()
    rig.log.full = True
    with pytest.raises(WireError) as refused:
        rig.armed()
    assert refused.value.code is ErrorCode.AUDIT
    assert rig.device.names() == ["reset"]
    rig.log.full = False
    rig.ask(Arm("motor", SITE, "mw"))
    assert rig.log.records[rig.log.synced - 1][0] == "limits"
    rig.ask(Disarm())
    assert rig.log.records[rig.log.synced - 1][0] == "state"
    assert rig.log.synced == len(rig.log.records)


@pytest.mark.requirement("REQ-071")
def test_a_pulse_that_cannot_be_logged_is_not_given():
    rig = Rig().armed()
    rig.ask(train(rig))
    rig.run(100)
    rig.log.broken = True
    rig.run(300)
    assert len(rig.device.given) == 1
    assert (rig.device.output, rig.state) == (False, "idle")


def test_a_current_between_the_steps_of_the_device_is_refused_before_it_gets_there():
    rig = Rig().armed(limits={"current_ua": 4_995})
    assert rig.device.limits.current_ua == 4_990
    with pytest.raises(WireError) as refused:
        rig.ask(rig.shot(current_ua=1_005))
    assert (refused.value.code, refused.value.allowed) == (ErrorCode.BAD_VALUE, "a multiple of 10")


def test_a_log_that_breaks_disarms():
    rig = Rig().armed()
    rig.log.broken = True
    with pytest.raises(WireError) as refused:
        rig.ask(rig.shot())
    assert refused.value.code is ErrorCode.AUDIT
    assert not rig.device.output
    rig.run(50)
    assert rig.device.given == []


def test_a_stop_needs_no_log():
    rig = Rig().armed()
    rig.log.broken = True
    assert rig.stimulation.stop("a test") == "stopped"
    assert not rig.device.output


@pytest.mark.requirement("REQ-070")
def test_every_request_table_state_and_pulse_is_logged():
    rig = Rig().armed()
    rig.ask(rig.shot())
    rig.run(300)
    rig.ask(Disarm())
    kinds = [kind for kind, _ in rig.log.records]
    assert {"request", "limits", "state", "fire", "pulse"} == set(kinds)
    assert kinds.index("fire") < kinds.index("pulse")
    asked = [fields["command"] for kind, fields in rig.log.records if kind == "request"]
    assert asked == ["take", "arm", "fire", "disarm"]
    assert [fields["state"] for kind, fields in rig.log.records if kind == "state"] == rig.states()


# --- marks


MARKING = replace(INFO, has_trigger=True)


def marked(off_ms=0, **changes):
    """A rig with a trigger cable that has given a pulse and seen its mark."""
    rig = Rig(info=MARKING).armed()
    rig.ask(rig.shot())
    rig.run(2)
    at_ns = rig.device.given[0][1]
    rig.watch.mark(**{"value": 0, "at_ns": at_ns + off_ms * MS, **changes})
    rig.run(2)
    return rig


@pytest.mark.requirement("REQ-060", "REQ-061")
def test_a_mark_in_its_place_is_told_with_the_pulse():
    rig = marked(off_ms=2)
    ((payload, seq),) = rig.pulses()
    assert (payload["mark_seq"], seq) == (4711, 4711)
    keep(rig, 600)
    assert rig.state == "armed"


@pytest.mark.requirement("REQ-060")
@pytest.mark.parametrize("off_ms", [2.1, -2.1, 50])
def test_a_displaced_mark_is_a_fault(off_ms):
    rig = marked(off_ms=off_ms)
    assert rig.reasons == {"mark"}
    assert "stop" in rig.device.names()
    assert not rig.device.output


@pytest.mark.requirement("REQ-060")
def test_a_missing_mark_is_a_fault_after_200_ms():
    rig = Rig(info=MARKING).armed()
    rig.ask(rig.shot())
    rig.run(195)
    assert rig.state != "fault"
    rig.run(10)
    assert rig.reasons == {"mark"}
    assert rig.pulses()[0][0]["mark_seq"] is None


@pytest.mark.requirement("REQ-060")
@pytest.mark.parametrize("value", [0, 1, 17])
def test_a_mark_without_a_pulse_is_a_fault_also_when_nothing_is_armed(value):
    rig = Rig(info=MARKING)
    rig.stimulation.step()
    rig.watch.mark(value, rig.clock.ns)
    rig.run(1)
    assert rig.reasons == {"mark"}
    assert rig.device.names()[-1] == "stop"


def test_a_second_mark_of_one_pulse_is_a_fault():
    rig = marked()
    rig.watch.mark(0, rig.clock.ns)
    rig.run(1)
    assert rig.reasons == {"mark"}


def test_a_mark_may_come_before_its_report():
    rig = Rig(info=MARKING).armed()
    rig.device.reports = False
    rig.ask(rig.shot())
    at_ns = rig.device.given[0][1]
    rig.watch.mark(0, at_ns)
    rig.run(3)
    rig.device.news.append(Delivered(0, at_ns, 1000, 5_000, 200, 1_000, 0, limited=False))
    rig.run(3)
    assert rig.pulses()[0][0]["mark_seq"] == 4711
    assert rig.state == "cooldown"


def test_two_marks_before_the_report_are_one_too_many():
    rig = Rig(info=MARKING).armed()
    rig.device.reports = False
    rig.ask(rig.shot())
    for _ in range(2):
        rig.watch.mark(0, rig.device.given[0][1])
    rig.run(1)
    assert rig.reasons == {"mark"}


def test_without_a_trigger_cable_marks_mean_nothing():
    rig = Rig().armed()
    rig.watch.mark(3, rig.clock.ns)
    rig.run(5)
    assert rig.state == "armed"


# --- what is told


def test_a_state_is_published_when_it_changes_with_reasons():
    rig = Rig().armed()
    rig.ask(Renew(2))
    rig.run(1_200)
    states = [payload for kind, payload, _ in rig.told if kind is Kind.STATE]
    assert [one["state"] for one in states][:3] == ["idle", "idle", "armed"]
    assert states[-1]["state"] == "idle"
    assert states[-1]["reasons"] == ["lease_ms"]
    assert states[-1]["holder"] is None
    assert "the lease" in states[-1]["text"]


def test_the_status_says_whose_lease_it_is():
    rig = Rig().armed()
    assert rig.ask(Status())["yours"]
    assert not rig.ask(Status(), OTHER)["yours"]
    assert rig.ask(Status())["holder"] == ME.name


def test_a_shot_that_is_given_up_is_told():
    rig = Rig().armed()
    rig.ask(train(rig))
    rig.run(150)
    rig.stimulation.gate.load(0, rig.clock.ns)  # an electrode came off
    rig.run(100)
    assert rig.state in {"armed", "cooldown"}
    told = [payload["reasons"] for kind, payload, _ in rig.told if kind is Kind.STATE]
    assert ["load"] in told
    assert len(rig.device.given) == 1


@pytest.mark.requirement("REQ-047")
def test_closing_disables_and_closes():
    rig = Rig().armed()
    rig.stimulation.close()
    assert rig.device.names()[-2:] == ["disarm", "close"]


def test_a_site_is_the_same_whatever_the_case_and_another_for_every_word():
    assert Site("right", "arm", " Median", "WRIST ").number == SITE.number
    words = {"side": "left", "limb": "leg", "nerve": "ulnar", "electrodes": "elbow"}
    assert len({SITE.number, *(replace(SITE, **{key: word}).number for key, word in words.items())}) == 5


def test_the_bits_of_faults_that_others_may_report():
    assert bit("device") != bit("mark")


# --- corners


def test_a_table_that_cannot_be_built_is_a_refusal_with_reasons():
    rig = Rig()
    rig.stimulation.step()
    rig.ask(Take(1))

    def build(profile, _device, _session):
        return limits.build(profile, limits.site_limits({}), device_map(INFO), {"current_ua": 90_000})

    object.__setattr__(rig.stimulation.hands, "build", build)
    with pytest.raises(WireError) as refused:
        rig.ask(Arm("motor", SITE, "mw"))
    assert refused.value.code is ErrorCode.REFUSED
    assert (refused.value.refusals[0]["name"], refused.value.refusals[0]["layer"]) == ("current_ua", "profile")
    assert "set_limits" not in rig.device.names()


def test_a_device_that_fails_after_its_stop_is_none_the_worse_for_it():
    rig = Rig().armed()
    rig.ask(rig.shot())
    rig.device.broken["poll"] = StimulatorError("it is off")
    assert rig.stimulation.stop("a test") == "stopped"
    assert rig.reasons == {"stopped"}


def test_what_was_given_before_a_stop_is_told():
    rig = Rig().armed()
    rig.ask(rig.shot())
    rig.stimulation.stop("a test")
    rig.run(2)
    ((payload, _),) = rig.pulses()
    assert payload["delivered"]["current_ua"] == 5_000


def test_a_port_that_does_not_close_is_forgotten_all_the_same():
    rig = Rig().armed()
    device = rig.device
    device.broken["close"] = OSError("no")
    device.broken["poll"] = DeviceLostError("gone")
    rig.run(1)
    assert rig.state == "off"
    rig.run(1_000, turn_ms=10)
    assert rig.device is not device
    assert rig.state == "idle"


def test_a_descriptor_that_cannot_be_had_is_none(monkeypatch):
    rig = Rig()
    assert rig.stimulation.descriptor is None
    rig.stimulation.step()
    assert rig.stimulation.descriptor == rig.device.descriptor

    def closed():
        raise OSError("closed")

    monkeypatch.setattr(rig.device, "fileno", closed)
    assert rig.stimulation.descriptor is None
    rig.stimulation.stop("a test")
    assert rig.stimulation.descriptor is None


def test_a_device_that_comes_back_into_a_fault_leaves_it_latched():
    rig = Rig().armed()
    rig.device.broken["stop"] = StimulatorError("no")
    rig.stimulation.stop("a test")
    assert not rig.stimulation.is_there
    rig.run(1_000, turn_ms=10)
    assert rig.stimulation.is_there
    assert rig.state == "fault"
    assert rig.ask(Acknowledge("mw"))["state"] == "idle"


def test_an_error_of_a_device_that_is_not_there_cannot_be_acknowledged_but_a_stop_can():
    rig = Rig().armed()
    rig.there = False
    rig.device.broken["stop"] = StimulatorError("no")
    rig.device.broken["poll"] = StimulatorError("no")
    rig.run(1)
    with pytest.raises(WireError) as refused:
        rig.ask(Acknowledge("mw"))
    assert {"present", "device"} <= refused_names(refused.value)
    assert rig.state == "fault"
    other = Rig(there=False)
    other.stimulation.step()
    other.stimulation.stop("a test")
    assert other.ask(Acknowledge("mw"))["state"] == "off"
    assert other.ask(Acknowledge("mw"))["state"] == "off"


def test_the_output_cannot_be_enabled_while_the_gate_is_not_armed():
    rig = Rig()
    rig.stimulation.step()
    with pytest.raises(ValueError, match="not armed"):
        rig.stimulation.enable()
    assert "arm" not in rig.device.names()


def test_nothing_is_armed_while_armed_or_without_a_device():
    rig = Rig().armed()
    with pytest.raises(WireError) as refused:
        rig.ask(Arm("motor", SITE, "mw"))
    assert refused_names(refused.value) == {"busy"}
    assert rig.device.output
    nowhere = Rig(there=False)
    nowhere.stimulation.step()
    with pytest.raises(WireError) as refused:
        nowhere.ask(Arm("motor", SITE, "mw"))
    assert refused.value.code is ErrorCode.NO_STIMULATOR
    assert nowhere.ask(Table()) == {"limits": None}
    assert nowhere.ask(Status())["serial"] is None


def test_the_status_tells_what_is_confirmed_and_what_was_given():
    rig = Rig().armed()
    rig.ask(Confirm(20_000))
    rig.ask(train(rig))
    rig.run(100)
    status = rig.ask(Status())
    assert (status["confirmed_ua"], status["last_ua"], status["pulses_left"]) == (20_000, 5_000, 9)
    assert (status["state"], status["counts"], status["load_ohm"]) == ("firing", {"pulses": 1}, 1_000)


def test_a_leaver_without_the_lease_leaves_it_to_its_holder():
    rig = Rig().armed()
    rig.ask(Leave(), OTHER)
    assert rig.device.output
    rig.ask(Leave())
    assert not rig.device.output


def test_a_report_of_a_pulse_that_was_given_up_tells_nothing():
    rig = Rig().armed()
    rig.device.reports = False
    rig.ask(rig.shot())
    rig.run(300)
    assert rig.state == "fault"
    rig.ask(Acknowledge("mw"))
    rig.device.news.append(Delivered(0, rig.clock.ns, 1, 5_000, 200, 1_000, 0, limited=False))
    rig.run(2)
    assert rig.reasons == {"readback_unexpected"}
    assert len(rig.pulses()) == 1


def test_an_overload_of_the_amplifier_keeps_pulses_back():
    rig = Rig().armed()
    rig.watch.saturated = True
    keep(rig, 900)
    rig.run(200)
    with pytest.raises(WireError) as refused:
        rig.ask(rig.shot())
    assert "saturated" in refused_names(refused.value)
    rig.watch.saturated, rig.watch.stamped = False, False
    rig.run(1)
    with pytest.raises(WireError) as refused:
        rig.ask(rig.shot())
    assert "unstamped" in refused_names(refused.value)


def test_there_is_nothing_to_acknowledge_while_all_is_well_and_the_device_is_left_alone():
    rig = Rig().armed()
    before = len(rig.calls)
    assert rig.ask(Acknowledge("mw"))["state"] == "armed"
    assert rig.calls[before:] == []
    assert rig.device.output


@pytest.mark.requirement("REQ-047")
def test_a_device_that_cannot_be_reset_is_stopped_let_go_and_tried_again():
    rig = Rig()
    first = []
    opener = rig._open

    def broken_at_first():
        device = opener()
        if not first:
            first.append(device)
            device.broken["reset"] = StimulatorError("FAKE-1 is not off after a reset")
        return device

    object.__setattr__(rig.stimulation.hands, "open", broken_at_first)
    rig.stimulation.step()
    assert rig.device.names() == ["reset", "stop", "close"]
    assert rig.state == "off"
    assert "not off after a reset" in rig.told[-1][1]["text"]
    rig.run(600, turn_ms=10)
    assert rig.device is not first[0]
    assert rig.state == "idle"
