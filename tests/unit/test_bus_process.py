"""The emulated bus as a process: what it says, what its control socket does, and how it goes."""

import json
import signal
import struct
import subprocess
import sys

import pytest
from bus_rig import PATIENCE_S, BusProcess, UsbIpClient, UsbIpError, connect

from emgd_drivers.emg8.protocol import Status, decode_frames

IN, OUT = 0xC0, 0x40
START, STOP, GET_SERIAL, GET_STATUS = 3, 4, 2, 11


@pytest.fixture
def started(tmp_path):
    processes = []

    def start(*devices, arguments=()):
        processes.append(BusProcess(tmp_path, *devices, arguments=arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.close()


@pytest.fixture
def bus(started):
    return started("emg8,channels=1,rate_hz=4000")


def client_of(bus):
    return UsbIpClient(connect(bus.usbip_path))


def streamed(client, frames):
    """Start the device and take so many frames, a few requests in flight."""
    for _ in range(8):
        client.submit(1, 16384)
    client.submit(0, data=b"", setup=struct.pack("<BBHHH", OUT, START, 0, 0, 0))
    found = []
    while len(found) < frames:
        _, _, status, data = client.reap()
        assert status == 0
        if isinstance(data, bytes):
            found += decode_frames(data, 1)
            client.submit(1, 16384)
    return found


def test_stream_over_a_unix_socket(bus):
    with client_of(bus) as client:
        assert client.attach()[0] == 0
        frames = streamed(client, 50)
        assert [frame.frame_seq for frame in frames] == list(range(50))
        assert [frame.first for frame in frames] == list(range(0, 200, 4))
    assert bus.until(lambda status: not status["attached"])["state"] == "idle"


def test_unplug_ends_requests_in_flight_and_plug_brings_a_fresh_device(bus):
    with client_of(bus) as client:
        client.attach()
        streamed(client, 10)
        last = [client.submit(1, 16384) for _ in range(2000)]  # two seconds' worth: some are left
        assert bus.say("unplug EMG8-000001") == "ok"
        statuses = {seq: status for _, seq, status, _ in client.rest()}
        found = [statuses[seq] for seq in last]
        assert found[-1] == -108
        assert found == sorted(found, reverse=True)  # first those that a frame filled, then those that none will
    status = bus.status()
    assert (status["connected"], status["attached"], status["state"]) == (False, False, "unplugged")
    assert status["samples"] >= 40
    assert bus.say("unplug 1-1") == "error EMG8-000001 is unplugged; plug it in first"
    with client_of(bus) as client:
        assert client.list() == bytes.fromhex("0111 0005 00000000 00000000")
    with client_of(bus) as client:
        assert client.attach() == (4, b"")
    assert bus.say("plug EMG8-000001") == "ok"
    assert bus.say("plug EMG8-000001") == "error EMG8-000001 is plugged in already"
    with client_of(bus) as client:
        client.attach()
        assert client.control_in(IN, GET_SERIAL) == b"EMG8-000001"
        found = Status.unpack(client.control_in(IN, GET_STATUS))
        assert (found.state, found.samples) == (0, 0)
        assert found.tick < 48e6 * PATIENCE_S
        assert [frame.first for frame in streamed(client, 5)] == [0, 4, 8, 12, 16]
    assert bus.status()["restarts"] == 1


def test_second_host_is_told_that_the_device_is_busy(bus):
    with client_of(bus) as first, client_of(bus) as second:
        assert first.attach()[0] == 0
        assert second.attach() == (2, b"")
        assert first.control_in(IN, GET_SERIAL) == b"EMG8-000001"


def test_refused_request_is_a_stall_and_nothing_else_is_disturbed(bus):
    with client_of(bus) as client:
        client.attach()
        with pytest.raises(UsbIpError) as refused:
            client.control_out(OUT, 5, data=struct.pack("<d", 1e9))
        assert refused.value.errno == 32
        assert client.control_in(IN, GET_SERIAL) == b"EMG8-000001"


def test_two_devices_are_told_apart_by_their_serial_numbers(started):
    bus = started("emg8,serial=LEFT,channels=1", "emg8,serial=RIGHT,channels=2,name=other")
    assert [device["name"] for device in json.loads(bus.say("list").removeprefix("ok "))] == ["LEFT", "other"]
    with client_of(bus) as left, client_of(bus) as right:
        left.attach("1-1")
        right.attach("1-2")
        assert left.control_in(IN, GET_SERIAL) == b"LEFT"
        assert right.control_in(IN, GET_SERIAL) == b"RIGHT"
        assert bus.say("unplug LEFT") == "ok"
        assert right.control_in(IN, GET_SERIAL) == b"RIGHT"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_clean(started, tmp_path, number):
    bus = started("emg8,channels=1")
    with client_of(bus) as client:
        client.attach()
        bus.process.send_signal(number)
        assert client.everything() == b""
        assert bus.process.wait(PATIENCE_S) == 0
    assert bus.close() == ""
    assert list(tmp_path.iterdir()) == []


def test_quit_ends_it(bus):
    assert bus.say("quit") == "ok"
    assert bus.process.wait(PATIENCE_S) == 0


def test_help_names_devices_and_words():
    shown = subprocess.run(
        [sys.executable, "-m", "emgd_drivers.sim.bus", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for word in ("emg8", "drift_ppm=", "unplug NAME", "usbip attach"):
        assert word in shown


@pytest.mark.parametrize(
    ("device", "complaint"),
    [
        ("emg9", "there is no kind of device 'emg9'; choose emg8"),
        ("emg8,channels=0", "emg8,channels=0: channels cannot be 0 (allowed: integer, 1 to 1024)"),
        ("emg8,colour=red", "there is no 'colour' here"),
        ("emg8,channels", "'channels' is no option; write NAME=VALUE"),
        ("emg8,channels=1,channels=2", "channels is given twice"),
        ("emg8,channels=many", "channels cannot be 'many'"),
        ("emg8,faults=drop@x", "fault 'drop@x' is not understood"),
        ("emg8,recording=/nowhere.npy", "nowhere.npy"),
    ],
)
def test_device_that_cannot_be_is_refused_in_one_line(tmp_path, device, complaint):
    command = [sys.executable, "-m", "emgd_drivers.sim.bus", "--control", str(tmp_path / "c"), "--device", device]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert ended.stderr.count("\n") == 1
