"""What goes wrong on a cart, done to it: clients, service, machine, stimulator, amplifier and cable fail while armed or
in the middle of a train. Judged by the pulse log that the device's own model writes. docs/safety/failures.md has the
table.

`make test` runs the cases that each stand for a way to end a stimulus, `make test-hazards` all of them.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hazard_cart import (
    CONTINUE,
    CURRENT_UA,
    KILL,
    LATE_NS,
    PERIOD_S,
    STALE_NS,
    STOP,
    TRAIN,
    WATCHDOG_NS,
    Cart,
    Hand,
    arming_program,
    lease_end_ns,
    train_program,
    utc_texts,
)
from stimulating import FAULTS, PATIENCE_S, STALLS

from emgd_client import RefusedError, Shot, emergency_stop
from emgd_client.emgctl import main as emgctl
from emgd_wire.audit import verify

ALL = bool(os.environ.get("EMGD_HAZARDS"))
STRONGER = 5
"""Times the first current: there 20 % are more than what devices resolve."""

long = pytest.mark.skipif(not ALL, reason="make test-hazards runs it")


@pytest.fixture(scope="module")
def cart(tmp_path_factory):
    made = Cart(tmp_path_factory.mktemp("cart"))
    try:
        yield made
        made.end()
        assert verify(made.audit).damage is None
        assert not any(one["current_ua"] > CURRENT_UA * STRONGER * 12 // 10 for one in made.pulses())
    finally:
        made.close()


@pytest.fixture
def hand(cart):
    """A client, and an idle stimulator whatever was before."""
    cart.mend()
    with Hand(cart) as made:
        service = cart.running
        yield made
        cart.mend()
        if cart.running is service:
            made.stimulator.disarm()


# --- the client fails


@long
@pytest.mark.requirement("REQ-043")
@pytest.mark.requirement("REQ-015")
def test_client_killed_while_armed(cart, hand):
    with arming_program(cart, hand) as program:
        count = len(cart.pulses())
        failed_ns = program.signal(KILL)
        lease_end_ns(hand, failed_ns)
    cart.await_device(lambda output: output["state"] == "off", "the output is off")
    assert len(cart.pulses()) == count
    hand.until(lambda: hand.state() == "idle", "idle")
    hand.finds_nothing_restored()


@pytest.mark.requirement("REQ-043")
def test_client_killed_during_a_train(cart, hand):
    with train_program(cart, hand) as program:
        failed_ns = program.signal(KILL)
        bound_ns = lease_end_ns(hand, failed_ns) + LATE_NS
    cart.is_silent(bound_ns)
    hand.until(lambda: hand.state() == "idle", "idle")
    assert not cart.output()["relay"]


@long
@pytest.mark.requirement("REQ-043")
@pytest.mark.requirement("REQ-042")
def test_client_stopped_during_a_train_and_going_on_later(cart, hand):
    with train_program(cart, hand) as program:
        failed_ns = program.signal(STOP)
        bound_ns = lease_end_ns(hand, failed_ns) + LATE_NS
        cart.is_silent(bound_ns)
        program.signal(CONTINUE)
        _, said = program.process.communicate(timeout=PATIENCE_S)
    assert program.process.returncode == 1, said
    cart.is_silent(bound_ns)
    hand.finds_nothing_restored()


# --- the service fails


def begin_anew(cart):
    """A new service finds nothing restored, and gives nothing by itself."""
    count = len(cart.pulses())
    with Hand(cart) as hand:
        hand.finds_nothing_restored()
        assert hand.status()["holder"] is None
        hand.training()
        assert len(cart.pulses()) > count
        hand.stimulator.disarm()


@pytest.mark.requirement("REQ-044")
@pytest.mark.requirement("REQ-047")
def test_service_killed_during_a_train(cart, hand):
    hand.training()
    failed_ns = time.monotonic_ns()
    cart.running.kill()
    cart.await_device(lambda output: output["state"] == "latched", "the device latches")
    assert cart.output()["cause"] == "host_gone"
    cart.is_silent(failed_ns + WATCHDOG_NS)
    cart.end()
    begin_anew(cart)


@pytest.mark.requirement("REQ-044")
@pytest.mark.requirement("REQ-080")
@pytest.mark.requirement("REQ-023")
def test_service_stopped_during_a_train_and_going_on_later(cart, hand):
    hand.training()
    failed_ns = time.monotonic_ns()
    cart.signal(STOP)
    try:
        cart.await_device(lambda output: output["state"] == "latched", "the device latches")
        assert cart.output()["cause"] == "watchdog"
        cart.is_silent(failed_ns + WATCHDOG_NS)
    finally:
        cart.signal(CONTINUE)
    cart.is_silent(failed_ns + WATCHDOG_NS)
    assert hand.state() == "fault"
    hand.mend()
    hand.finds_nothing_restored()


@pytest.mark.requirement("REQ-044")
@pytest.mark.requirement("REQ-080")
def test_interpreter_held_in_one_call_of_c_during_a_train(cart, hand):
    hand.training()
    failed_ns = time.monotonic_ns()
    cart.trouble("hold 2")
    cart.await_device(lambda output: output["state"] == "latched", "the device latches")
    assert cart.output()["cause"] == "watchdog"
    cart.is_silent(failed_ns + LATE_NS + WATCHDOG_NS)
    assert hand.state() == "fault"
    hand.mend()
    hand.finds_nothing_restored()


def whole_train(hand, make):
    """The pulses of a short train during which something happens that must not matter; once more when the machine
    stood still.
    """
    give_up = time.monotonic() + PATIENCE_S
    shot = replace(TRAIN, count=6)
    while True:
        accepted = hand.retry("a train", hand.take, hand.arm, lambda: hand.fire(shot))
        make()
        hand.until(lambda: hand.state() not in ("firing", "cooldown"), "the end of the train")
        status = hand.status()
        if status["state"] == "armed":
            hand.until(lambda: len(hand.told(accepted)) == shot.count, "all pulses are told")  # noqa: B023 - used at once
            return hand.told(accepted)
        assert set(status["reasons"]) <= STALLS | FAULTS, status["text"]
        assert time.monotonic() < give_up, status["text"]
        hand.recover()


def is_undisturbed(cart, pulses):
    """All are given, in order, none sooner after another than asked, none later than a machine that stalls makes it."""
    asked_ns = TRAIN.interval_us * 1000
    assert [one.number for one in pulses] == list(range(1, pulses[0].of + 1))
    assert all(one.reasons == () and one.delivered.current_ua == CURRENT_UA for one in pulses)
    assert all(asked_ns <= after.at_ns - one.at_ns < asked_ns + LATE_NS for one, after in pairwise(pulses))
    given = cart.pulses()[-len(pulses) :]
    assert all(-LATE_NS < one["at_ns"] - want.at_ns < LATE_NS for one, want in zip(given, pulses, strict=True))


@long
@pytest.mark.requirement("REQ-051")
def test_python_spinning_in_the_service_changes_nothing(cart, hand):
    def spin():
        end = time.monotonic() + 0.7
        cart.trouble("spin 0.7")
        hand.until(lambda: time.monotonic() > end, "the end of it")

    is_undisturbed(cart, whole_train(hand, spin))


@pytest.mark.requirement("REQ-046")
def test_a_step_of_the_wall_clock_changes_nothing(cart, hand):
    def step():
        cart.trouble("step 3600")
        time.sleep(PERIOD_S * 2)
        cart.trouble("step -7200")

    before = len(utc_texts(cart.audit))
    is_undisturbed(cart, whole_train(hand, step))
    times = [datetime.fromisoformat(text) for text in utc_texts(cart.audit)[before:]]
    assert max(times) - min(times) > timedelta(hours=1.5), "the clock did step"
    cart.trouble("step 3600")


# --- the stimulator fails


@pytest.mark.requirement("REQ-045")
@pytest.mark.requirement("REQ-017")
def test_stimulator_unplugged_while_armed_and_plugged_in_again(cart, hand):
    hand.armed()
    count = len(cart.pulses())
    cart.device.tell("unplug")
    hand.until(lambda: hand.state() == "off", "the gate is off")
    cart.device.tell("plug")
    hand.until(lambda: hand.state() == "idle", "it is back")
    hand.finds_nothing_restored()
    cart.is_silent(0 if count == 0 else cart.pulses()[-1]["at_ns"])
    assert len(cart.pulses()) == count


@long
@pytest.mark.requirement("REQ-045")
def test_stimulator_unplugged_during_a_train(cart, hand):
    hand.training()
    failed_ns = time.monotonic_ns()
    cart.device.tell("unplug")
    hand.until(lambda: hand.state() == "off", "the gate is off")
    cart.device.tell("plug")
    hand.until(lambda: hand.state() == "idle", "it is back")
    hand.finds_nothing_restored()
    cart.is_silent(failed_ns + LATE_NS)


FAULTY = [
    # fault, what it has to be called, pulses from then on at most: what is out already, and what shows it
    pytest.param(
        "current=120", {"readback_often", "readback_far"}, 3, marks=pytest.mark.requirement("REQ-020"), id="120 %"
    ),
    pytest.param(
        "open", {"readback_far"}, 2, marks=[long, pytest.mark.requirement("REQ-020", "REQ-007")], id="open electrode"
    ),
    pytest.param("dc=60", {"dc_ua"}, 2, marks=[long, pytest.mark.requirement("REQ-021")], id="direct current"),
    pytest.param(
        "no-readback", {"readback_missing"}, 2, marks=[long, pytest.mark.requirement("REQ-019")], id="no readback"
    ),
    pytest.param("brown-out", {"device"}, 1, marks=[long, pytest.mark.requirement("REQ-022")], id="brown-out"),
    pytest.param("restart", {"device"}, 0, marks=[long, pytest.mark.requirement("REQ-022")], id="restart"),
    pytest.param("echo=120", {"device"}, 1, marks=[long, pytest.mark.requirement("REQ-049")], id="wrong echo"),
    pytest.param("no-trigger", {"mark"}, 4, marks=pytest.mark.requirement("REQ-060"), id="missing mark"),
    pytest.param("trigger=5000", {"mark"}, 2, marks=[long, pytest.mark.requirement("REQ-060")], id="displaced mark"),
    pytest.param("extra-trigger", {"mark"}, 2, marks=[long, pytest.mark.requirement("REQ-060")], id="extra mark"),
]


@pytest.mark.parametrize(("fault", "reasons", "most"), FAULTY)
def test_a_fault_of_the_stimulator_ends_a_train_and_latches(cart, hand, fault, reasons, most):
    given = hand.provoke(lambda: cart.device.tell(f"fault {fault}"), reasons, STRONGER * CURRENT_UA)
    assert given <= most
    assert hand.state() == "fault"
    output = cart.output()
    assert (output["state"] != "armed", output["relay"]) == (True, False)
    cart.is_silent(cart.pulses()[-1]["at_ns"])
    with pytest.raises(RefusedError) as refused:
        hand.arm()
    assert "fault" in {one["name"] for one in refused.value.refusals}
    hand.mend()
    hand.finds_nothing_restored()


@long
@pytest.mark.requirement("REQ-007")
def test_electrode_that_is_open_is_not_armed(cart, hand):
    cart.device.tell("fault open")
    names = {"load"}

    def refused_names():
        try:
            hand.take()
            hand.arm()
        except RefusedError as error:
            return {one["name"] for one in error.refusals}
        raise AssertionError("it was armed")

    hand.until(lambda: names <= refused_names(), "a refusal for the load")
    assert hand.state() == "idle"


@pytest.mark.requirement("REQ-020")
def test_readback_that_is_stuck_is_a_fault_at_the_next_other_current(cart, hand):
    def single(current_ua):
        hand.retry("a pulse", hand.take, hand.arm, lambda: hand.fire(Shot(current_ua, 100)))

    give_up = time.monotonic() + PATIENCE_S
    while True:
        single(STRONGER * CURRENT_UA)
        cart.device.tell("fault stuck-readback")
        hand.until(lambda: hand.state() != "cooldown", "the end of the pulse")
        count = len(cart.pulses())
        single(CURRENT_UA)
        hand.until(lambda: hand.state() not in ("firing", "cooldown"), "the end of the pulse")
        status = hand.status()
        if "readback_far" in status["reasons"]:
            break
        assert status["state"] != "armed", "a stuck readback was believed"
        assert time.monotonic() < give_up, status["text"]
        hand.mend()
    assert len(cart.pulses()) <= count + 1
    assert hand.state() == "fault"
    hand.mend()
    hand.finds_nothing_restored()


@long
@pytest.mark.requirement("REQ-022")
def test_relay_that_is_stuck_is_a_fault_that_cannot_be_acknowledged_away(cart, hand):
    hand.armed()
    cart.device.tell("fault stuck-relay")
    hand.stimulator.disarm()
    hand.until(lambda: hand.state() == "fault", "a fault")
    assert "device" in hand.status()["reasons"]
    assert cart.output()["state"] != "armed"
    with pytest.raises(RefusedError, match="is not off"):
        hand.stimulator.acknowledge("mw")
    assert hand.state() == "fault"
    hand.mend()
    hand.finds_nothing_restored()


# --- the amplifier fails


def seen_as_stale(cart):
    """During a train the amplifier falls silent, and goes on once the output is off: the instant of it."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        with Hand(cart) as hand:
            hand.training()
            pid = cart.amplifier_pid()
            failed_ns = time.monotonic_ns()
            os.kill(pid, STOP)
            # Not asked of the service: its control thread waits for the amplifier, now and then.
            cart.await_device(lambda output: output["state"] != "armed", "disarmed")
            os.kill(pid, CONTINUE)
            status = hand.status()
            if "stale" in status["reasons"]:
                return failed_ns
            assert set(status["reasons"]) <= STALLS | FAULTS, status["text"]
            assert time.monotonic() < give_up, status["text"]


@pytest.mark.requirement("REQ-018")
@pytest.mark.requirement("REQ-045")
def test_amplifier_that_is_silent_disarms_and_coming_back_restores_nothing(cart):
    failed_ns = seen_as_stale(cart)
    cart.is_silent(failed_ns + STALE_NS + LATE_NS)
    with Hand(cart) as hand:
        hand.finds_nothing_restored()


@long
@pytest.mark.requirement("REQ-045")
def test_amplifier_that_dies_ends_a_train(cart, hand):
    hand.training()
    failed_ns = time.monotonic_ns()
    os.kill(cart.amplifier_pid(), KILL)
    hand.until(lambda: hand.state() not in ("firing", "cooldown", "armed"), "disarmed")
    cart.is_silent(failed_ns + STALE_NS + LATE_NS)
    cart.end()
    begin_anew(cart)


# --- somebody stops it


def stopped_for_good(cart, hand, answered_ns):
    cart.is_silent(answered_ns)
    status = hand.status()
    assert (status["state"], "stopped" in status["reasons"]) == ("fault", True)
    assert not cart.output()["relay"]
    with pytest.raises(RefusedError):
        hand.arm()
    hand.stimulator.acknowledge("mw")
    hand.finds_nothing_restored()


@pytest.mark.requirement("REQ-050")
@pytest.mark.requirement("REQ-024")
def test_stop_by_somebody_who_holds_nothing(cart, hand):
    hand.training()
    assert emergency_stop(cart.running.directory, timeout_s=PATIENCE_S) == "stopped"
    stopped_for_good(cart, hand, time.monotonic_ns())


@long
@pytest.mark.requirement("REQ-050")
def test_stop_by_emgctl(cart, hand, capsys):
    hand.training()
    assert emgctl(["stim", "stop", "--runtime-dir", str(cart.running.directory)]) == 0
    answered_ns = time.monotonic_ns()
    assert capsys.readouterr().out == "stopped\n"
    stopped_for_good(cart, hand, answered_ns)


# --- somebody mistakes the unit


@pytest.mark.parametrize(
    ("section", "line"),
    [("[limits]\n", "current_ua = 80"), ("[limits.motor]\nwidth_us = 200\n", "current_ua = 60  # mA")],
)
@pytest.mark.requirement("REQ-032")
def test_milliamperes_in_a_configuration_keep_the_service_from_starting(tmp_path, section, line):
    path = tmp_path / "emgd.toml"
    path.write_text(f'[stimulator]\ndriver = "sim-ncs1"\n\n{section}{line}\n')
    number = path.read_text().splitlines().index(line) + 1
    command = [sys.executable, "-m", "emgd.main", "run", "--config", str(path), "--runtime-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert f"{path}:{number}" in done.stderr
    assert "current_ua" in done.stderr
    assert "Traceback" not in done.stderr
