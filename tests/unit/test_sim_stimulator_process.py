"""A stimulator behind a pty, in a process: through the ordinary driver, with its pulse log, its control and its end.

Nothing here depends on the machine's speed: answers are waited for as long as need be, and what is counted is what the
pulse log says.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emgd_drivers.api import DeviceError, DeviceLostError, DeviceNotFoundError
from emgd_drivers.emg8.protocol import MarkCode, decode_frames
from emgd_drivers.fields import FieldError, check_fields
from emgd_drivers.registry import open_amplifier, open_stimulator, stimulator_fields, stimulator_names
from emgd_drivers.sim.stimulator_process import StimulatorProcess
from emgd_drivers.stimulator import DeviceLimits

TIMEOUT_S = 30.0
LIMITS = DeviceLimits(50_000, 500, 400)


def opened(**options):
    return open_stimulator("sim-ncs1", check_fields(stimulator_fields("sim-ncs1"), {"answer_ms": 5000} | options))


def ready(driver, timeout_ms=2000):
    driver.reset()
    driver.set_limits(LIMITS)
    driver.feed(timeout_ms)
    driver.arm()
    return driver


def news(driver, count=1):
    """So many news, however long they take."""
    found = []
    end_s = time.monotonic() + TIMEOUT_S
    while len(found) < count and time.monotonic() < end_s:
        found += driver.poll()
        time.sleep(0.001)
    return found


def given(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def until(condition):
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def test_the_driver_starts_a_process_of_its_own_and_ends_it(tmp_path):
    log = tmp_path / "pulses"
    driver = ready(opened(pulse_log=str(log), serial="NCS1-7"))
    try:
        assert driver.info.simulated
        assert driver.info.serial == "NCS1-7"
        asked_ns = time.monotonic_ns()
        driver.pulse(5, asked_ns, 7000, 300)
        (told,) = news(driver)
    finally:
        driver.close()
    (line,) = given(log)
    assert {name: line[name] for name in ("seq", "current_ua", "width_us", "load_ohm")} == {
        "seq": 5,
        "current_ua": 7000,
        "width_us": 300,
        "load_ohm": 2000,
    }
    assert asked_ns - 10**6 < line["at_ns"] < time.monotonic_ns()
    assert abs(told.at_ns - line["at_ns"]) < 5 * told.sigma_ns


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_host_that_is_killed_or_stopped_leaves_no_pulse_behind(tmp_path, number):
    log = tmp_path / "pulses"
    with StimulatorProcess(pulse_log=log) as device:
        with subprocess.Popen([sys.executable, "-c", HOST, device.path], stdout=subprocess.PIPE) as host:
            until(lambda: log.exists() and len(given(log)) >= 3)
            host.send_signal(number)
            until(lambda: device.state()["state"] == "latched")
            after = len(given(log))
            cause = device.state()["cause"]
            host.kill()
            host.wait()
        time.sleep(0.3)
        assert len(given(log)) == after
    assert cause == ("host_gone" if number == signal.SIGKILL else "watchdog")


HOST = """
import sys, time
from emgd_drivers.ncs1.driver import Ncs1Stimulator
from emgd_drivers.prompt_port import PromptPort
from emgd_drivers.stimulator import DeviceLimits
driver = Ncs1Stimulator(PromptPort(sys.argv[1], 115200, "host"), answer_s=20)
driver.reset()
driver.set_limits(DeviceLimits(50_000, 500, 400))
driver.feed(1000)
driver.arm()
seq = 0
while True:
    seq += 1
    driver.feed(300)
    try:
        driver.pulse(seq, time.monotonic_ns() + 10_000_000, 5000, 200)
    except Exception:
        pass  # late, on a machine that stalls
    time.sleep(0.02)
"""


def test_stop_ends_it_at_once_and_closing_too(tmp_path):
    log = tmp_path / "pulses"
    with StimulatorProcess(pulse_log=log) as device:
        driver = ready(opened(port=device.path))
        driver.stop()
        until(lambda: device.state()["state"] == "latched")
        assert device.state()["cause"] == "stop"
        ready(driver)
        driver.close()
        until(lambda: not device.state()["host"])
        assert device.state()["state"] == "latched"
        assert given(log) == []


def test_faults_are_switched_at_run_time(tmp_path):
    control = tmp_path / "control"
    with StimulatorProcess(control=control) as device:
        driver = ready(opened(port=device.path))
        device.tell("fault open")
        assert driver.measure_load() == 0
        device.tell("clear")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.bind(str(tmp_path / "me"))
            line.settimeout(TIMEOUT_S)
            for said, answered in ((b"fault load=777", b"ok\n"), (b"fault tea", b"error fault 'tea'")):
                line.sendto(said, str(control))
                assert line.recv(4096).startswith(answered)
        assert driver.measure_load() == 777
        with pytest.raises(RuntimeError, match="not understood"):
            device.tell("sing")
        driver.close()
    assert not control.exists()


def test_unplug_and_plug(tmp_path):
    with StimulatorProcess() as device:
        driver = ready(opened(port=device.path))
        device.tell("unplug")
        with pytest.raises(DeviceLostError):
            driver.poll()
        driver.stop()
        driver.close()
        with pytest.raises(DeviceNotFoundError):
            opened(port=device.path)
        device.tell("plug")
        assert device.state()["boot"] == 2
        ready(opened(port=device.path)).close()


def test_a_fault_pulls_the_plug():
    with StimulatorProcess(faults=["unplug@1"]) as device:
        driver = ready(opened(port=device.path))
        driver.pulse(1, time.monotonic_ns() + 20_000_000, 5000, 200)
        device.await_unplugged()
        driver.close()


def test_the_process_ends_with_whoever_started_it(tmp_path):
    log = tmp_path / "pulses"
    script = (
        "import sys, time\n"
        "from emgd_drivers.sim.stimulator_process import StimulatorProcess\n"
        "device = StimulatorProcess()\n"
        "print(device.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    until(lambda: not alive(pid))
    assert not log.exists()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--fault", "tea"), "not understood"),
        (("--options", '{"load_ohm": 0}'), "load_ohm"),
        (("--options", "{}", "--device", "kettle"), "invalid choice"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments, words):
    process = subprocess.run(
        [sys.executable, "-m", "emgd_drivers.sim.stimulator_port", *arguments], capture_output=True, check=False
    )
    assert process.returncode == 2
    assert words in process.stderr.decode()


def test_options_that_cannot_be_are_refused():
    assert stimulator_names()[:2] == ("ncs1", "sim-ncs1")
    with pytest.raises(FieldError, match="fault 'tea'"):
        opened(faults=["tea"])
    with pytest.raises(DeviceError, match="no ncs1"):
        open_stimulator("ncs1", {"port": None, "serial": "NCS1-NOWHERE"})
    with pytest.raises(DeviceNotFoundError, match="there is no port"):
        open_stimulator("ncs1", {"port": "/dev/emgd-nowhere", "serial": None})


def test_pulses_become_marks_of_a_simulated_amplifier(tmp_path):
    line = tmp_path / "trigger"
    log = tmp_path / "pulses"
    options = {"channels": 2, "rate_hz": 48_000.0, "triggers": False, "serial": "EMG8-T", "faults": [], "speed": 1.0}
    amplifier = open_amplifier("sim", options | {"trigger": line})
    driver = ready(opened(trigger=str(line), pulse_log=str(log)))
    marks = {}
    ticks = {}
    try:
        bulk = amplifier._transport._bulk
        bulk.settimeout(TIMEOUT_S)
        amplifier.start()
        for seq in range(1, 6):
            driver.feed(2000)
            driver.pulse(seq, time.monotonic_ns() + 15_000_000, 5000, 200)
            while seq not in marks:
                for frame in decode_frames(bulk.recv(65536), 2):
                    for number, code, _, value in frame.marks:
                        if code == MarkCode.STIMULUS:
                            marks[value] = number
                            ticks[value] = frame.tick + (number - frame.first) * 1000
        probe = min((amplifier.probe_clock() for _ in range(20)), key=lambda one: one.after_ns - one.before_ns)
    finally:
        driver.close()
        amplifier.close()
    assert sorted(marks) == [1, 2, 3, 4, 5]
    half_ns = (probe.after_ns - probe.before_ns) / 2
    for line in given(log):
        at_ns = probe.before_ns + half_ns + (ticks[line["seq"]] - probe.tick) / 48e6 * 1e9
        # Never before its pulse; late by a sample, or by as much as the machine held up the news of it.
        assert at_ns - line["at_ns"] > -half_ns - 1000
