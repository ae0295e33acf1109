"""The emulated bus as a process: what it says, what its control socket does, and how it goes."""

import json
import signal
import struct
import subprocess
import sys
import time

import pytest
from bus_rig import PATIENCE_S, BusProcess, RedirClient, UsbIpClient, UsbIpError, connect

from emgd_drivers.emg8.protocol import FrameFlag, Status, decode_frames

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


@pytest.fixture
def opened():
    """Connects, and closes at the end."""
    sockets = []

    def open_one(address):
        sockets.append(connect(address))
        return sockets[-1]

    yield open_one
    for each in sockets:
        each.close()


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


def test_same_bytes_over_tcp(started):
    bus = started("emg8,channels=1", arguments=("--usbip-tcp", "0"))
    host, port = bus.ready.partition("usbip=tcp:")[2].split()[0].split(":")
    assert host == "127.0.0.1"
    with UsbIpClient(connect((host, int(port)))) as client, client_of(bus) as other:
        assert client.list() == other.list()
    with UsbIpClient(connect((host, int(port)))) as client:
        assert client.attach()[0] == 0
        assert [frame.frame_seq for frame in streamed(client, 20)] == list(range(20))


def test_usbredir_has_a_socket_for_each_device(started, opened, tmp_path):
    bus = started("emg8,channels=1,rate_hz=4000", "loopback", arguments=("--usbredir", str(tmp_path / "redir")))
    amp = RedirClient(opened(tmp_path / "redir" / "EMG8-000001.sock"))
    port = RedirClient(opened(tmp_path / "redir" / "LOOP-000001.sock"))
    amp.greet()
    port.greet()
    ids = [amp.bulk(0x81, 2048) for _ in range(20)]
    started_id = amp.control(OUT, START)
    assert amp.packet()[1] == started_id
    assert [amp.packet()[1] for _ in range(20)] == ids
    wanted = port.bulk(0x83, 512)
    port.bulk(0x02, data=b"hello")
    found = {packet_id: port.unpack_bulk(body)[3] for _, packet_id, body in (port.packet(), port.packet())}
    assert found[wanted] == b"hello"
    assert bus.say("unplug LOOP-000001") == "ok"
    assert port.packet()[0] == 2
    assert port.socket.recv(1) == b""
    assert opened(tmp_path / "redir" / "LOOP-000001.sock").recv(1) == b""
    assert bus.say("plug LOOP-000001") == "ok"
    RedirClient(opened(tmp_path / "redir" / "LOOP-000001.sock")).greet()


def test_peer_that_talks_nonsense_is_cut_off_with_one_line_and_nobody_else_is_disturbed(started):
    bus = started("emg8,channels=1", "emg8,channels=1,serial=OTHER")
    with client_of(bus) as client:
        client.attach("1-2")
        for noise in (
            b"GET / HTTP/1.1\r\n\r\n",
            bytes.fromhex("0111 8003 00000000") + b"1-1".ljust(32, b"\0") + b"\xff" * 48,
        ):
            with connect(bus.usbip_path) as peer:
                peer.sendall(noise)
                while peer.recv(65536):
                    pass
        assert len(streamed(client, 20)) == 20
    with client_of(bus) as client:
        assert client.attach("1-1")[0] == 0
    errors = bus.close().splitlines()
    assert errors == [
        "a host was cut off: it speaks USB/IP version 0x4745; 0x0111 is spoken here",
        "a host was cut off: it names device 0xffffffff; it has imported 0x00010002",
    ]


def test_faults_over_the_control_socket_reach_the_stream(bus):
    with client_of(bus) as client:
        client.attach()
        client.control_out(OUT, START)
        assert bus.say("drop 1-1 3") == "ok"
        first, second = decode_frames(client.bulk_in(), 1), decode_frames(client.bulk_in(), 1)
        assert (first[0].frame_seq, second[0].frame_seq) == (3, 4)
        assert bus.say("stall 1-1") == "ok"
        with pytest.raises(UsbIpError, match="32"):
            client.bulk_in()
        client.control_out(0x02, 1, 0, 0x81)
        assert decode_frames(client.bulk_in(), 1)[0].frame_seq == 5
        assert bus.say("babble 1-1") == "ok"
        with pytest.raises(UsbIpError, match="75"):
            client.bulk_in()
        assert bus.say("short 1-1 20") == "ok"
        assert len(client.bulk_in()) == 20
        assert bus.say("mute 1-1 200") == "ok"
        before_s = time.monotonic()
        client.control_in(IN, GET_SERIAL)
        assert time.monotonic() - before_s > 0.15
    assert bus.status()["faults_done"] == {"babble": 1, "drop": 3, "mute": 1, "short": 1, "stall": 1}


def test_amplifier_overflows_when_its_host_asks_for_nothing(started):
    bus = started("emg8,channels=8,speed=10,fifo_bytes=50000")
    with client_of(bus) as client:
        client.attach()
        client.control_out(OUT, START)
        status = bus.until(lambda status: status["fifo_lost_frames"] > 100)
        assert status["fifo_lost_samples"] == 48 * status["fifo_lost_frames"]
        client.control_out(OUT, STOP)
        found = Status.unpack(client.control_in(IN, GET_STATUS))
        frames = []
        while not frames or not frames[-1].flags & FrameFlag.END:
            frames += decode_frames(client.bulk_in(), 8)
        assert sum(frame.count for frame in frames) == found.samples - found.overflowed_samples
        assert frames[-1].first == found.samples


def test_nearer_event_comes_before_one_that_was_waited_for(bus):
    assert bus.say("mute 1-1 3600000") == "ok"
    assert bus.say("unplug 1-1") == "ok"
    assert bus.say("plug 1-1") == "ok"
    with client_of(bus) as client:
        client.attach()
        client.control_out(OUT, START)
        assert len(client.bulk_in()) == 64
        assert bus.say("mute 1-1 3600000") == "ok"
        client.submit(1, 16384)
        assert bus.say("mute 1-1 1") == "ok"
        client.reap()


def test_control_socket_cuts_off_whoever_never_ends_a_line(bus):
    with connect(bus.control_path) as control:
        control.sendall(b"x" * 10_000)
        assert control.recv(65536) == b"error a line is too long\n"
        assert control.recv(65536) == b""
    assert bus.say("list").startswith("ok ")


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
