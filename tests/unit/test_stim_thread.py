"""The stimulus thread as a thread: its doors, its answers, its end. Times are generous; nothing here measures speed."""

import os
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from stim_rig import ME, MS, OTHER, SITE, Rig

from emgd import stim_thread
from emgd.deferred import Replies
from emgd.stim_commands import Arm, Disarm, Fire, Leave, Status, Take
from emgd.stim_thread import StimulusThread
from emgd.stop_door import StopDoor
from emgd_client import NotStoppedError, emergency_stop
from emgd_drivers.api import DeviceLostError
from emgd_drivers.stimulator import StimulatorError, Trouble
from emgd_wire.codec import WireError

PATIENCE_S = 20.0


class RealTime:
    """The rig's clock, as it is."""

    @property
    def ns(self):
        return time.monotonic_ns()

    def __call__(self):
        return time.monotonic_ns()


class Threaded:
    """The rig in real time, with the thread that serves it."""

    def __init__(self, directory):
        self.rig = Rig(clock=RealTime())
        self.directory = directory
        self.replies = Replies()
        self.thread = StimulusThread(self.rig.stimulation, StopDoor(directory))

    def ask(self, command, holder=ME):
        deferred = self.replies.defer("the stimulus thread", time.monotonic_ns())
        self.thread.ask(holder, command, deferred)
        give_up = time.monotonic() + PATIENCE_S
        while deferred.result is None:
            assert time.monotonic() < give_up
            time.sleep(0.001)
        if isinstance(deferred.result, WireError):
            raise deferred.result
        return deferred.result

    def until(self, condition):
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.001)


@pytest.fixture
def threaded(monkeypatch):
    with running(monkeypatch) as made:
        yield made


@contextmanager
def running(monkeypatch):
    # A real-time priority for this thread would be the tests' own.
    monkeypatch.setattr("emgd.stim_thread.ask_for_real_time", lambda: "normal (a test)")
    with tempfile.TemporaryDirectory(prefix="emgd-") as directory:
        made = Threaded(Path(directory))
        made.thread.start()
        try:
            made.until(lambda: made.rig.state == "idle")
            yield made
        finally:
            made.thread.stop()
            made.replies.close()
    assert made.rig.device.names()[-1] == "close"
    assert not made.rig.device.output


def armed(threaded):
    threaded.ask(Take(1))
    threaded.ask(Arm("motor", SITE, "mw"))


def test_commands_are_answered(threaded):
    armed(threaded)
    assert threaded.ask(Status())["scheduling"] == "normal (a test)"
    assert threaded.rig.device.output
    threaded.ask(Disarm())
    assert not threaded.rig.device.output


def test_a_lease_ends_by_itself(threaded):
    armed(threaded)
    threaded.until(lambda: not threaded.rig.device.output)
    assert threaded.rig.reasons & {"lease_ms", "stale", "time"}


def test_a_client_that_leaves_is_disarmed_and_another_is_not(threaded):
    armed(threaded)
    threaded.thread.tell(OTHER, Leave())
    threaded.thread.tell(ME, Leave())
    threaded.until(lambda: not threaded.rig.device.output)
    requests = [fields["holder"] for kind, fields in threaded.rig.log.records if kind == "request"]
    assert OTHER.name not in requests


@pytest.mark.requirement("REQ-050")
def test_the_stop_door_stops_and_says_so(threaded):
    armed(threaded)
    assert emergency_stop(threaded.directory, timeout_s=PATIENCE_S) == "stopped"
    assert "stop" in threaded.rig.device.names()
    assert not threaded.rig.device.output


@pytest.mark.requirement("REQ-050")
@pytest.mark.parametrize("data", [b"", b"x", b"\x00" * 4096])
def test_any_datagram_is_a_stop_and_none_has_to_be_answered(threaded, data):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.sendto(data, str(threaded.directory / "stop.sock"))
    threaded.until(lambda: "stop" in threaded.rig.device.names())


def test_a_flood_of_stops_is_answered_and_keeps_nobody_from_being_served(threaded):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.setblocking(False)
        for _ in range(500):
            try:
                door.sendto(b"", str(threaded.directory / "stop.sock"))
            except BlockingIOError:
                time.sleep(0.001)
        assert threaded.ask(Status())["state"] == "fault"


def test_a_stop_that_the_device_does_not_take_is_said(threaded):
    armed(threaded)
    threaded.rig.device.broken["stop"] = StimulatorError("no")
    with pytest.raises(NotStoppedError, match="pull its cable"):
        emergency_stop(threaded.directory, timeout_s=PATIENCE_S)


def test_a_stop_without_a_service_is_no_stop(tmp_path):
    with pytest.raises(NotStoppedError, match="switch the stimulator off"):
        emergency_stop(tmp_path)


def test_a_door_that_does_not_answer_is_no_stop():
    with tempfile.TemporaryDirectory(prefix="emgd-") as directory:
        door = StopDoor(Path(directory))
        with pytest.raises(NotStoppedError, match="no answer"):
            emergency_stop(directory, timeout_s=0.01)
        stopped, waiting = door.take()
        assert (stopped, len(waiting)) == (True, 1)
        door.tell(waiting, "too late")  # to somebody who is gone: harmless
        door.close()
        assert not (Path(directory) / "stop.sock").exists()


@pytest.mark.requirement("REQ-012")
def test_an_order_whose_time_is_over_is_not_obeyed(threaded):
    armed(threaded)
    deferred = threaded.replies.defer("the stimulus thread", time.monotonic_ns() - 2_000 * MS)
    shot = Fire(SITE.id, "single", 3_000, 200, 1, 0, time.monotonic_ns(), 0)
    threaded.thread.ask(ME, shot, deferred)
    threaded.ask(Status())
    assert deferred.result is None
    assert threaded.rig.device.given == []


def test_a_flood_of_commands_does_not_keep_the_lease_from_ending(threaded):
    armed(threaded)
    ended = threading.Event()

    def flood():
        while not ended.is_set():
            if len(threaded.thread._commands) < 1_000:
                threaded.thread.tell(OTHER, Status())

    flooder = threading.Thread(target=flood)
    flooder.start()
    try:
        threaded.until(lambda: not threaded.rig.device.output)
    finally:
        ended.set()
        flooder.join()


@pytest.mark.requirement("REQ-047")
def test_an_end_disarms(monkeypatch):
    with running(monkeypatch) as threaded:
        armed(threaded)
        assert threaded.thread.running
    assert {"disarm", "close"} <= set(threaded.rig.device.names())
    assert not threaded.thread.running


def test_a_mistake_of_ours_stops_and_is_latched_and_the_thread_goes_on(threaded, monkeypatch):
    armed(threaded)
    broken = threading.Event()

    def breaks():
        if not broken.is_set():
            broken.set()
            raise ZeroDivisionError
        return 10 * MS

    monkeypatch.setattr(threaded.rig.stimulation, "wait_ns", breaks)
    threaded.until(broken.is_set)
    threaded.until(lambda: "stop" in threaded.rig.device.names())
    assert threaded.ask(Status())["state"] == "fault"
    assert not threaded.rig.device.output


def test_a_device_that_comes_anew_is_listened_to(threaded):
    first = threaded.rig.device
    first.broken["poll"] = DeviceLostError("gone")
    threaded.until(lambda: len(threaded.rig.devices) == 2 and threaded.rig.state == "idle")
    armed(threaded)
    threaded.rig.device.news.append(Trouble("output", "smoke"))
    os.eventfd_write(threaded.rig.device.descriptor, 1)
    threaded.until(lambda: threaded.rig.state == "fault")
    assert first.descriptor == -1  # closed


def test_without_the_right_to_real_time_it_runs_and_says_so(monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    assert stim_thread.ask_for_real_time() == "normal (operation not permitted)"
    asked = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *args: asked.append(args))
    assert stim_thread.ask_for_real_time() == "fifo 20"
    # What it starts, such as a simulated stimulator, does not inherit it.
    assert asked[0][1] == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
