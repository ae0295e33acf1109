"""Stimulation through the real service: a client, the stimulus thread, the bytes of a simulated stimulator, its trigger
line, and the mark in the amplifier's stream.

The machine may stall for longer than the gate allows: what that disarms is armed again, and asserted is only what has
to hold however slow everything is.
"""

import json
import signal
import subprocess
import sys
import time

import pytest
from service import RefusedError as PlainRefusedError
from service import service
from stimulating import LEASE_S, PATIENCE_S, SITE, Stimulating, pulses_in

from emgd_client import NotStoppedError, RefusedError, Shot, connect, emergency_stop
from emgd_client.emgctl import main as emgctl
from emgd_client.messages import Mark
from emgd_wire.audit import verify
from emgd_wire.kinds import ErrorCode


@pytest.fixture(scope="module")
def cart(tmp_path_factory):
    """A service with a simulated stimulator whose trigger line goes to the simulated amplifier."""
    folder = tmp_path_factory.mktemp("cart")
    path = folder / "emgd.toml"
    path.write_text(
        f"""[device]
channels = 2
rate_hz = 4000.0
triggers = false
trigger = "{folder}/trigger"
trigger_hold_ms = 20

[stimulator]
driver = "sim-ncs1"
audit_file = "{folder}/audit.jsonl"
pulse_log = "{folder}/pulses.jsonl"
trigger = "{folder}/trigger"
answer_ms = 2000
"""
    )
    with service("run", "--config", path) as running:
        running.folder = folder
        yield running
    assert verify(folder / "audit.jsonl").damage is None


@pytest.fixture
def stimulating(cart):
    """An idle stimulator, whatever was before."""
    with Stimulating(cart) as made:
        made.until(lambda: made.stimulator.status()["there"], "the stimulator is there")
        made.stimulator.acknowledge("mw")
        yield made
        made.stimulator.disarm()


def pulse_log(cart):
    return pulses_in(cart.folder / "pulses.jsonl")


@pytest.mark.requirement("REQ-060", "REQ-061", "REQ-070")
def test_a_pulse_comes_back_as_a_mark_in_the_samples(cart, stimulating):
    before = len(pulse_log(cart))
    (pulse,) = stimulating.given()
    assert (pulse.delivered.current_ua, pulse.delivered.width_us, pulse.reasons) == (3_000, 200, ())
    assert pulse.site.nerve == "median"
    stimulating.until(
        lambda: any(
            isinstance(one, Mark) and one.code == "stimulus" and one.value == pulse.pulse for one in stimulating.heard
        ),
        "the amplifier's own mark",
    )
    (mark,) = [one for one in stimulating.heard if isinstance(one, Mark) and one.value == pulse.pulse]
    assert pulse.mark_seq == mark.seq
    given = pulse_log(cart)[before:]
    assert [(one["current_ua"], one["width_us"]) for one in given] == [(3_000, 200)]
    kinds = [json.loads(line)["kind"] for line in (cart.folder / "audit.jsonl").read_text().splitlines()]
    assert {"request", "limits", "fire", "pulse", "state"} <= set(kinds)


@pytest.mark.requirement("REQ-050", "REQ-022")
def test_a_stop_needs_no_client_and_lasts_until_it_is_acknowledged(cart, stimulating):
    stimulating.armed()
    before = len(pulse_log(cart))
    assert emergency_stop(cart.directory) == "stopped"
    with pytest.raises(RefusedError) as refused:
        stimulating.stimulator.fire(Shot(3_000, 200))
    assert {"fault", "stopped"} <= {refusal["name"] for refusal in refused.value.refusals}
    with pytest.raises(RefusedError):
        stimulating.stimulator.arm(profile="motor", operator="mw", **SITE)
    assert len(pulse_log(cart)) == before
    assert stimulating.stimulator.acknowledge("mw")["state"] == "idle"
    assert len(stimulating.given()) == 1


@pytest.mark.requirement("REQ-043")
def test_nothing_is_given_after_a_client_was_killed_and_its_lease_is_over(cart, stimulating):
    command = [sys.executable, "-m", "emgd_client.emgctl", "stim", "train", "--site", "right,median,wrist"]
    command += ["--operator", "mw", "--profile", "rns", "--current-ma", "3", "--count", "10", "--rate-hz", "3"]
    give_up = time.monotonic() + PATIENCE_S
    while True:
        before = len(pulse_log(cart))
        with subprocess.Popen(
            [*command, "--runtime-dir", str(cart.directory)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as client:
            while len(pulse_log(cart)) < before + 2 and client.poll() is None:
                time.sleep(0.02)
            started = client.poll() is None
            client.send_signal(signal.SIGKILL)
            killed_ns = time.monotonic_ns()
            said = client.stderr.read()
        if started:
            break
        stimulating.recover()
        assert time.monotonic() < give_up, f"no train began: {said}"
    stimulating.until(lambda: stimulating.stimulator.status()["holder"] is None, "the lease is over")
    count = len(pulse_log(cart))
    assert count < before + 10
    assert stimulating.stimulator.status()["state"] in ("idle", "fault")
    time.sleep(0.7)  # two more pulses of that train
    late = [one for one in pulse_log(cart) if one["at_ns"] > killed_ns + LEASE_S * 1e9]
    assert (len(pulse_log(cart)), late) == (count, [])


def test_a_test_current_and_a_stimulus_exclude_each_other(cart, stimulating):
    stimulating.armed()
    with pytest.raises(RefusedError) as refused:
        stimulating.client.start_impedance()
    assert refused.value.code is ErrorCode.INTERLOCK
    stimulating.stimulator.disarm()
    stimulating.client.start_impedance()
    try:
        with pytest.raises(RefusedError) as refused:
            stimulating.retry("the lease", stimulating.take, stimulating.arm)
        assert refused.value.code is ErrorCode.INTERLOCK
    finally:
        stimulating.client.stop_impedance()


def test_a_client_that_leaves_takes_its_lease_along(cart, stimulating):
    with connect("leaver", cart.directory) as leaver:
        leaver.stimulator.take()
        with pytest.raises(RefusedError):
            stimulating.stimulator.take()
    stimulating.retry("the lease is free", stimulating.stimulator.take)


@pytest.mark.requirement("REQ-052")
def test_emgctl_names_limit_layer_asked_and_allowed(cart, stimulating, capsys):
    command = [
        "stim",
        "pulse",
        "--site",
        "right,median,wrist",
        "--operator",
        "mw",
        "--runtime-dir",
        str(cart.directory),
    ]
    give_up = time.monotonic() + PATIENCE_S
    printed = ""
    while "first_shot_ua" not in printed:
        assert time.monotonic() < give_up, printed
        stimulating.recover()
        assert emgctl([*command, "--current-ma", "90"]) == 1
        printed = capsys.readouterr().err
    assert "current_ua (profile): asked 90000 µA, allowed 80000 µA" in printed
    assert "first_shot_ua (profile): asked 90000 µA, allowed 5000 µA" in printed
    assert "begin lower" in printed


def test_emgctl_status_limits_stop_and_acknowledge(cart, stimulating, capsys):
    where = ["--runtime-dir", str(cart.directory)]
    assert emgctl(["stim", "status", *where]) == 0
    assert "sim-ncs1 NCS1-SIM001" in capsys.readouterr().out
    assert emgctl(["stim", "limits", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["values"]["current_ua"] == 80_000
    assert emgctl(["stim", "stop", *where]) == 0
    assert capsys.readouterr().out == "stopped\n"
    assert stimulating.stimulator.status()["reasons"] == ["stopped"]
    assert emgctl(["stim", "ack", "--operator", "mw", *where]) == 0
    assert emgctl(["stim", "disarm", *where]) == 0
    assert capsys.readouterr().out.endswith("disarmed; the stimulator is idle\n")


def test_ctrl_c_in_emgctl_is_an_emergency_stop(cart, stimulating):
    command = [sys.executable, "-m", "emgd_client.emgctl", "stim", "arm", "--site", "right,median,wrist"]
    give_up = time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < give_up, "nothing was armed"
        stimulating.recover()
        with subprocess.Popen(
            [*command, "--operator", "mw", "--runtime-dir", str(cart.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as client:
            if client.stdout.readline().startswith("armed"):
                client.send_signal(signal.SIGINT)
                _, said = client.communicate(timeout=PATIENCE_S)
                break
    assert client.returncode == 130, said
    assert "stopped" in said
    assert stimulating.stimulator.status()["reasons"] == ["stopped"]


@pytest.mark.requirement("REQ-053")
def test_the_stop_door_is_for_whoever_may_use_the_service(cart):
    assert (cart.directory / "stop.sock").stat().st_mode & 0o777 == 0o660


def test_a_service_without_a_stimulator_says_so():
    with service("run") as running:
        with pytest.raises(PlainRefusedError) as refused:
            running.ask("stim_status")
        assert refused.value.error["code"] == "no_stimulator"
        assert running.ask("status")["stimulator"] is None
        assert not (running.directory / "stop.sock").exists()
        with pytest.raises(NotStoppedError, match="switch the stimulator off"):
            emergency_stop(running.directory)
