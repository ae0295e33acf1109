"""The small parts around the stimulus thread: verbs to commands, what is seen of the amplifier, who may begin first."""

from types import SimpleNamespace

import pytest

from emgd import stim_commands as commands
from emgd.deferred import Replies
from emgd.interlock import Interlock
from emgd.pulses import Pulses
from emgd.ring_tap import Mark
from emgd.stim_verbs import StimVerbs
from emgd.stimulus import BrokenLog, holder_of
from emgd.stream_watch import STIMULUS, StreamWatch
from emgd.verb import Caller
from emgd_drivers.fields import FieldError, check_fields
from emgd_ext.gate import Pulse
from emgd_ext.ring import MARK, Ring


class Service:
    def ask_stimulus(self, caller, command):
        return caller, command


ME = Caller(b"me", 5)
ARM = {"profile": "motor", "side": "left", "nerve": "ulnar", "electrodes": "elbow", "operator": "mw"}
FIRE = {"site": "00ff", "current_ua": 3_000, "width_us": 200, "asked_ns": 7}


@pytest.mark.parametrize(
    ("verb", "args", "command"),
    [
        ("stim_status", {}, commands.Status()),
        ("stim_limits", {}, commands.Table()),
        ("stim_lease", {"action": "take", "nonce": 3}, commands.Take(3)),
        ("stim_lease", {"action": "renew", "nonce": 4}, commands.Renew(4)),
        ("stim_lease", {"action": "release"}, commands.Release()),
        ("stim_arm", ARM, commands.Arm("motor", commands.Site("left", "", "ulnar", "elbow"), "mw")),
        (
            "stim_arm",
            {**ARM, "limb": "arm", "limits": {"current_ua": 9_000}, "area_mm2": 5, "load_ohm": 7, "acknowledged": True},
            commands.Arm(
                "motor",
                commands.Site("left", "arm", "ulnar", "elbow"),
                "mw",
                {"current_ua": 9_000},
                5,
                7,
                acknowledged=True,
            ),
        ),
        ("stim_confirm", {"current_ua": 9_000}, commands.Confirm(9_000)),
        ("stim_fire", FIRE, commands.Fire("00ff", "single", 3_000, 200, 1, 0, 7, 0)),
        ("stim_disarm", {}, commands.Disarm()),
        ("stim_acknowledge", {"operator": "mw"}, commands.Acknowledge("mw")),
    ],
)
def test_a_verb_becomes_a_command(verb, args, command):
    row = StimVerbs(Service()).table[verb]
    assert row.call(ME, check_fields(row.fields, args)) == (ME, command)


@pytest.mark.parametrize(
    ("verb", "args", "field"),
    [
        ("stim_lease", {}, "action"),
        ("stim_lease", {"action": "keep"}, "action"),
        ("stim_lease", {"action": "take", "nonce": -1}, "nonce"),
        ("stim_arm", {**ARM, "side": "both"}, "side"),
        ("stim_arm", {**ARM, "limits": {"current_ua": 1.5}}, "limits"),
        ("stim_arm", {**ARM, "limits": {"current_ua": True}}, "limits"),
        ("stim_arm", {**ARM, "limits": [1]}, "limits"),
        ("stim_arm", {**ARM, "operator": ""}, "operator"),
        ("stim_fire", {**FIRE, "kind": "burst"}, "kind"),
        ("stim_fire", {**FIRE, "site": "wrist"}, "site"),
        ("stim_fire", {**FIRE, "current_ua": 3.0}, "current_ua"),
        ("stim_fire", {**FIRE, "current_ua": 2**63}, "current_ua"),
        ("stim_fire", {name: FIRE[name] for name in FIRE if name != "asked_ns"}, "asked_ns"),
    ],
)
def test_what_makes_no_sense_does_not_reach_the_thread(verb, args, field):
    row = StimVerbs(Service()).table[verb]
    with pytest.raises(FieldError) as refused:
        row.call(ME, check_fields(row.fields, args))
    assert refused.value.field == field


def test_a_client_is_known_by_its_connection_and_not_by_its_name():
    one, other = holder_of(Caller(b"\x00abcd", 0), "scope"), holder_of(Caller(b"\x00abce", 0), "scope")
    assert one.number != other.number
    assert one == holder_of(Caller(b"\x00abcd", 99), "scope")
    assert 0 < one.number < 2**64


def test_a_log_that_could_not_be_opened_takes_nothing():
    from emgd.audit import AuditError

    log = BrokenLog("the disk is gone")
    for call in (lambda: log.record("state", a=1), log.check, log.sync):
        with pytest.raises(AuditError, match="the disk is gone"):
            call()


# --- what is seen of the amplifier


class FakeRing:
    def __init__(self):
        self.list = []
        self.told = []
        self.head = 0

    @property
    def blocks(self):
        return len(self.list)

    def block(self, number):
        return self.list[number]

    def events(self, since=0):
        return since, self.told[since:]


def seen(flags=b"\x00\x00", state="locked"):
    ring = FakeRing()
    amplifier = SimpleNamespace(ring=ring, info=SimpleNamespace(isolated=True), sample_ns=1000.0, clock_state=state)
    watch = StreamWatch()
    watch.adopt(amplifier)
    ring.list.append(SimpleNamespace(seq=90, count=10, host_time_ns=5_000, channel_flags=flags))
    ring.head = 100
    return watch, ring


def test_before_there_is_an_amplifier_there_is_nothing_to_see():
    watch = StreamWatch()
    assert (watch.look(), watch.marks(), watch.isolated, watch.next_seq) == (None, [], False, 0)
    watch.adopt(SimpleNamespace(ring=Ring(2, 4, 8), info=SimpleNamespace(isolated=False), sample_ns=1.0))
    assert (watch.look(), watch.marks(), watch.isolated, watch.next_seq) == (None, [], False, 0)


def test_the_newest_sample_is_the_last_of_the_last_block():
    watch, ring = seen()
    assert watch.look().sample_ns == 5_000 + 9 * 1_000
    assert (watch.isolated, watch.next_seq) == (True, 100)
    ring.list[-1] = None  # overwritten while one looked
    assert watch.look() is None


@pytest.mark.parametrize(("flags", "saturated"), [(b"\x01\x01", True), (b"\x01\x00", False), (b"\x02\x02", False)])
def test_saturated_is_when_every_channel_is(flags, saturated):
    assert seen(flags)[0].look().saturated is saturated


@pytest.mark.parametrize(
    ("state", "stamped"), [("locked", True), ("holdover", True), ("unlocked", False), ("virtual", False)]
)
def test_a_pulse_can_be_timed_when_the_clock_is_known(state, stamped):
    assert seen(state=state)[0].look().stamped is stamped


def test_marks_of_pulses_are_seen_once_and_no_others():
    watch, ring = seen()
    for code in (1, STIMULUS, 5):
        ring.told.append(
            SimpleNamespace(kind=MARK, code=code, seq=95, channel=0, value=7, before_block=0, host_time_ns=9)
        )
    (mark,) = watch.marks()
    assert (mark, mark.host_time_ns) == (Mark(95, STIMULUS, 0, 7), 9)
    assert watch.marks() == []


# --- who may begin first


def test_the_first_to_ask_keeps_the_other_out():
    interlock = Interlock()
    assert interlock.arm()
    assert interlock.forbids_test() == "the stimulator is armed"
    interlock.disarmed()
    interlock.test_runs = lambda: True
    assert not interlock.arm()
    assert interlock.forbids_test() is None


def test_nothing_is_armed_while_a_test_current_is_begun():
    import threading

    interlock, armed = Interlock(), []
    with interlock.begin_test():
        thread = threading.Thread(target=lambda: armed.append(interlock.arm()))
        thread.start()
        interlock.test_runs = lambda: True  # begun, while the other waits
    thread.join()
    assert armed == [False]


# --- pulses and replies


def test_numbers_of_marks_wrap_where_32_bits_end():
    pulses = Pulses()
    pulses.has_marks = True
    pulses.sent(Pulse(2**31 + 5, 100, 3_000, 200, 0, 1), {})
    assert pulses.marked(Mark(1, STIMULUS, 0, 5, 100)) is None
    assert "nobody asked for" in pulses.marked(Mark(2, STIMULUS, 0, 6, 100))


def test_what_is_dropped_is_what_lies_ahead():
    pulses = Pulses()
    pulses.sent(Pulse(0, 10_000_000, 3_000, 200, 0, 2), {})
    pulses.sent(Pulse(1, 20_000_000, 3_000, 200, 1, 2), {})
    pulses.dropped(9_000_000)
    assert [payload["pulse"] for payload in pulses.finished()] == [1]
    assert pulses.unreported == 1


def test_replies_are_taken_once():
    replies = Replies()
    assert replies.take() == []
    deferred = replies.defer("somebody", 0)
    deferred.answer({"a": 1})
    assert replies.take() == [deferred]
    assert replies.take() == []
    replies.close()
