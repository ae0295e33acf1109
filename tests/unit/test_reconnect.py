"""The service around a device that comes and goes: what it says, and what becomes of the numbers."""

import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import msgpack
import plug_driver
import pytest
import zmq

from emgd import config, filter_design, supervisor
from emgd.service import Service
from emgd_drivers import registry
from remembered_designs import new_folder, remembering

PATIENCE_S = 20.0
DESIGNS = new_folder()


class Served:
    """A service in this process, and a subscriber of everything that it says."""

    def __init__(self, service, plug, socket):
        self.service = service
        self.plug = plug
        self.states = []
        self.gaps = []
        self._socket = socket

    def until(self, condition, what):
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, f"{what} did not happen; states: {self.states}"
            if self._socket.poll(10):
                topic, _, payload = self._socket.recv_multipart()
                if topic == b"amp0/state":
                    self.states.append(msgpack.unpackb(payload))
                elif topic == b"amp0/gap":
                    self.gaps.append(msgpack.unpackb(payload))

    def until_state(self, state):
        self.until(lambda: self.states and self.states[-1]["state"] == state, state)

    def until_samples(self, more):
        aim = self.service.acquisition.ring.head + more
        self.until(lambda: self.service.acquisition.ring.head >= aim, f"{more} samples")


@contextmanager
def serving(monkeypatch, tmp_path, **stream):
    monkeypatch.setattr(filter_design, "design_elsewhere", remembering(DESIGNS))
    monkeypatch.setitem(registry.DRIVERS, "plug", "plug_driver")
    plug = plug_driver.Plug(tmp_path / "socket")
    with tempfile.TemporaryDirectory(prefix="emgd-") as directory, zmq.Context() as context:
        device = {"driver": "plug", "socket": str(plug.socket)}
        loaded = config.load(None, {"service": {"runtime_dir": directory}, "device": device, "stream": stream})
        service = Service(loaded)
        with context.socket(zmq.SUB) as socket:
            socket.linger = 0
            socket.subscribe(b"amp0/state")
            socket.subscribe(b"amp0/gap")
            socket.connect(f"ipc://{directory}/stream.sock")
            yield service, plug, Served(service, plug, socket), Path(directory)


@contextmanager
def running(service):
    service.start()
    thread = threading.Thread(target=service.supervisor.run)
    thread.start()
    try:
        yield
    finally:
        service.supervisor.request_stop()
        thread.join()
        service.close()


def test_it_starts_without_the_device_and_finds_it_when_it_is_plugged_in(monkeypatch, tmp_path):
    with serving(monkeypatch, tmp_path) as (service, plug, seen, _), running(service):
        seen.until_state("absent")
        assert seen.states[-1]["text"] == "nothing is plugged in; plug it in"
        assert service.device_map()["channels"] is None
        plug.in_()
        seen.until_state("streaming")
        seen.until_samples(2000)
        assert service.device_map()["serial"] == "EMG8-A"
        assert seen.gaps == []


def test_a_device_that_comes_back_goes_on_with_a_gap(monkeypatch, tmp_path):
    with serving(monkeypatch, tmp_path) as (service, plug, seen, _):
        plug.in_()
        with running(service):
            seen.until_state("streaming")
            for cycle in range(1, 4):
                seen.until_samples(1000)
                plug.out()
                seen.until_state("lost")
                head = service.acquisition.ring.head
                plug.in_()
                seen.until_state("streaming")
                seen.until_samples(1000)
                seen.until(lambda cycle=cycle: len(seen.gaps) == cycle, "a gap")
                assert seen.gaps[-1]["causes"] == ["device_lost"]
                assert seen.gaps[-1]["seq"] == head
            samples = service.acquisition.samples()
            assert samples["gaps"] == 3
            assert samples["missing"] == samples["causes"]["device_lost"] == sum(gap["count"] for gap in seen.gaps)


def test_another_device_and_a_changed_one_are_left_alone_and_said(monkeypatch, tmp_path):
    with serving(monkeypatch, tmp_path) as (service, plug, seen, _):
        plug.in_()
        with running(service):
            seen.until_state("streaming")
            plug.out()
            seen.until_state("lost")
            plug.in_("EMG8-B")
            text = "EMG8-B is there, but EMG8-A is waited for; plug EMG8-A in again"
            seen.until(lambda: seen.states[-1]["text"] == text, text)
            plug.in_("EMG8-A", rate_hz=4000)
            seen.until(lambda: "came back with 2 channels at 4000 Hz" in seen.states[-1]["text"], "a refusal")
            assert {state["state"] for state in seen.states[2:]} == {"lost"}
            plug.in_("EMG8-A")
            seen.until_state("streaming")


def test_no_permission_is_a_state_of_its_own(monkeypatch, tmp_path):
    with serving(monkeypatch, tmp_path) as (service, plug, seen, _):
        plug.in_("forbidden")
        with running(service):
            seen.until_state("denied")
            assert "join the group emgd" in seen.states[-1]["text"]
            plug.in_()
            seen.until_state("streaming")


def test_after_the_machine_slept_the_device_is_opened_anew_and_the_gap_counts_it(monkeypatch, tmp_path):
    slept_ns = 0
    monkeypatch.setattr(supervisor, "suspended_ns", lambda: slept_ns)
    with serving(monkeypatch, tmp_path) as (service, plug, seen, _):
        plug.in_()
        with running(service):
            seen.until_state("streaming")
            seen.until_samples(1000)
            offset_ns = service.realtime_offset_ns()
            slept_ns = 5 * 10**9
            seen.until(lambda: seen.gaps, "a gap")
            assert seen.gaps[0]["causes"] == ["device_lost"]
            assert seen.gaps[0]["count"] > 5 * 8000
            assert service.realtime_offset_ns() == offset_ns + slept_ns
            assert any("slept for 5.0 s" in state["text"] for state in seen.states)


def test_a_device_that_cannot_come_back_is_not_waited_for(tmp_path):
    recording = {"driver": "replay", "recording": str(tmp_path / "none.npy")}
    service = Service(config.load(None, {"service": {"runtime_dir": str(tmp_path)}, "device": recording}))
    with pytest.raises(Exception, match="none"):
        service.start()


def test_a_second_request_to_stop_changes_nothing(monkeypatch, tmp_path):
    with serving(monkeypatch, tmp_path) as (service, _plug, seen, _):
        with running(service):
            seen.until_state("absent")
        service.supervisor.request_stop()
