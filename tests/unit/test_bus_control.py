"""The words of the control socket and the ports of the bus on virtual time."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgd_drivers.emg8.protocol import FrameType, decode_frames
from emgd_drivers.sim.bus.control import VERBS, answer
from emgd_drivers.sim.bus.kinds import KINDS, add_device
from emgd_drivers.sim.bus.port import Bus, BusError

MS = 1_000_000


@pytest.fixture
def bus():
    found = Bus()
    add_device(found, "emg8,channels=1,rate_hz=4000,serial=A 1", 0)
    add_device(found, "loopback,serial=L1,name=loop", 0)
    return found


def say(bus, line, now_ns=0):
    return answer(bus, line, now_ns).text


def status(bus, name="1-1", now_ns=0):
    return json.loads(say(bus, f"status {name}", now_ns).removeprefix("ok "))


def test_list_names_all_devices(bus):
    assert say(bus, "unplug loop") == "ok"
    assert json.loads(say(bus, "list").removeprefix("ok ")) == [
        {"name": "A-1", "kind": "emg8", "busid": "1-1", "connected": True},
        {"name": "loop", "kind": "loopback", "busid": "1-2", "connected": False},
    ]


def test_status_of_an_amplifier(bus):
    assert status(bus) == {
        "name": "A-1",
        "kind": "emg8",
        "busid": "1-1",
        "connected": True,
        "attached": False,
        "restarts": 0,
        "state": "idle",
        "frames": 0,
        "samples": 0,
        "fifo_lost_frames": 0,
        "fifo_lost_samples": 0,
        "transfers": 0,
        "bytes": 0,
        "in_flight": 0,
        "faults_planned": 0,
        "refusals": 0,
        "resets": 0,
        "faults_done": {},
    }


def test_counts_go_on_over_replugs_and_say_what_was_last(bus):
    port = bus.port("A-1")
    for plugged in (1, 2):
        port.device.control(1, bytes.fromhex("40 03 0000 0000 0000"), b"", port_ns := plugged * 1000 * MS)
        for tag in range(2, 12):
            port.device.submit_in(tag, 0x81, 4096, port_ns)
        say(bus, "drop A-1 2", port_ns)
        say(bus, "unplug A-1", port_ns + 20 * MS)
        found = status(bus)
        assert (found["state"], found["connected"], found["in_flight"]) == ("unplugged", False, 0)
        assert (found["transfers"], found["bytes"]) == (10 * plugged, 640 * plugged)
        assert (found["frames"], found["samples"]) == (12, 81)
        assert found["faults_done"] == {"drop": 2 * plugged, "unplug": plugged}
        say(bus, "plug A-1", port_ns + 30 * MS)
        assert status(bus, now_ns=port_ns + 30 * MS)["samples"] == 0
    assert status(bus, now_ns=port_ns + 30 * MS)["restarts"] == 2


def test_device_that_pulls_its_own_cable_is_unplugged():
    bus = Bus()
    add_device(bus, "emg8,channels=1,rate_hz=4000,faults=unplug@5,faults=drop@2", 0)
    port = bus.port("1-1")
    port.device.control(1, bytes.fromhex("40 03 0000 0000 0000"), b"", 0)
    for tag in range(2, 12):
        port.device.submit_in(tag, 0x81, 4096, 0)
    found = status(bus, now_ns=20 * MS)
    assert (found["connected"], found["faults_done"]) == (False, {"unplug": 1})
    assert found["transfers"] == 4
    say(bus, "plug 1-1", 30 * MS)
    assert status(bus, now_ns=31 * MS)["connected"]


@pytest.mark.parametrize(
    ("line", "planned"),
    [("babble A-1", 1), ("short A-1", 1), ("short A-1 10", 1), ("corrupt 1-1", 1), ("drop 1-1", 1), ("drop A-1 7", 7)],
)
def test_faults_are_planned(bus, line, planned):
    assert say(bus, line) == "ok"
    assert status(bus)["faults_planned"] == planned


def test_mute_and_stall_are_counted(bus):
    assert say(bus, "mute A-1 20") == "ok"
    assert bus.port("A-1").next_event_ns() == 20 * MS
    assert say(bus, "stall A-1") == "ok"
    assert status(bus)["faults_done"] == {"mute": 1, "stall": 1}


@pytest.mark.parametrize("word", [word for word in VERBS if word not in {"plug", "status"}])
def test_unplugged_device_can_only_be_plugged_in(bus, word):
    say(bus, "unplug loop")
    numbers = " 5" if word == "mute" else ""
    assert say(bus, f"{word} loop{numbers}") == "error loop is unplugged; plug it in first"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "",
            "'' is not understood; words are unplug, plug, stall, babble, short, corrupt, drop, mute, status, list",
        ),
        ("explode A-1", "'explode A-1' is not understood; words are"),
        ("list all", "'list all' is not understood"),
        ("unplug", "write: unplug NAME"),
        ("unplug A-1 now", "write: unplug NAME"),
        ("unplug B", "there is no device 'B'; there are: A-1, loop"),
        ("plug A-1", "A-1 is plugged in already"),
        ("mute A-1", "write: mute NAME MS"),
        ("mute A-1 0", "0 ms is no time to be mute; choose 1 to 3600000"),
        ("mute A-1 1.5", "numbers are whole and not negative; write: mute NAME MS"),
        ("drop A-1 0", "0 transfers cannot be hit; choose 1 to 1000000"),
        ("drop A-1 -1", "numbers are whole and not negative; write: drop NAME [N]"),
        ("short A-1 1 2", "write: short NAME [BYTES]"),
    ],
)
def test_mistake_is_answered_by_what_can_be_said(bus, line, text):
    assert say(bus, line).startswith(f"error {text}")
    assert status(bus)["faults_done"] == {}


def test_quit_stands_alone(bus):
    assert answer(bus, "quit", 0) == ("ok", True)
    assert not answer(bus, "quit now", 0).quits


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_line_gets_one_line(line):
    bus = Bus()
    add_device(bus, "loopback", 0)
    said = say(bus, line)
    assert "\n" not in said
    assert said.startswith(("ok", "error "))


def test_port_tells_whoever_listens(bus):
    heard = []
    port = bus.port("A-1")
    port.changed = lambda: heard.append(port.device is not None)
    for line in ("stall A-1", "mute A-1 5", "unplug A-1", "plug A-1"):
        say(bus, line)
    assert heard == [True, True, False, True]


def test_name_is_one_word_and_taken_once(bus):
    with pytest.raises(BusError, match="name is 'a b'; write letters, digits, dots, dashes and underscores"):
        add_device(bus, "loopback,name=a b", 0)
    with pytest.raises(BusError, match="two devices called 'loop'; give one another serial or name"):
        add_device(bus, "loopback,name=loop", 0)


def test_options_reach_the_model():
    bus = Bus()
    text = "emg8,drift_ppm=100,speed=2,triggers=yes,length=50,rate_hz=2000,channels=3,fifo_bytes=50000,faults=seed=4"
    add_device(bus, text, 0)
    port = bus.port("1-1")
    port.device.control(1, bytes.fromhex("c0 01 0000 0000 4000"), b"", 0)
    port.device.control(2, bytes.fromhex("40 03 0000 0000 0000"), b"", 0)
    port.device.control(3, bytes.fromhex("c0 09 0000 0000 1000"), b"", 10 * MS)
    info, _, latch = port.device.drain(0)
    assert int.from_bytes(info.data[2:4], "little") == 3
    assert int.from_bytes(info.data[40:44], "little") == 50_000
    ticks = int.from_bytes(latch.data[:8], "little")
    assert ticks == int(2 * 48_000 * 10 / 1.0001)
    assert status(bus, now_ns=1000 * MS)["samples"] == 50


@pytest.mark.parametrize("plugged", [1, 2])
def test_recording_passes_through_the_emulated_hardware_unaltered(tmp_path, plugged):
    counts = np.random.default_rng(3).integers(-30_000, 30_000, (777, 3)).astype(np.int16)
    np.save(tmp_path / "rec.npy", counts)
    (tmp_path / "other.json").write_text(json.dumps({"rate_hz": 2000, "unit": "uV"}))
    bus = Bus()
    add_device(bus, f"emg8,recording={tmp_path / 'rec.npy'},sidecar={tmp_path / 'other.json'}", 0)
    port = bus.port("1-1")
    for _ in range(1, plugged):
        port.unplug(0)
        port.plug(0)
    port.device.control(1, bytes.fromhex("40 03 0000 0000 0000"), b"", 0)
    for tag in range(2, 500):
        port.device.submit_in(tag, 0x81, 4096, 0)
    port.run(1000 * MS)
    _, *transfers = port.device.drain(1000 * MS)
    *data, end = [frame for done in transfers for frame in decode_frames(done.data, 3)]
    assert np.array_equal(np.concatenate([frame.samples for frame in data]), counts)
    assert (end.type, end.first) == (FrameType.END, 777)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_plugged_in_again_with_the_same_serial_number(kind):
    bus = Bus()
    add_device(bus, f"{kind},serial=SAME-1", 0)
    port = bus.port("SAME-1")
    before = port.device
    for _ in range(2):
        port.unplug(0)
        port.plug(0)
        assert port.device is not before
        port.device.control(1, bytes.fromhex("80 06 0303 0904 ff00"), b"", 0)
        (done,) = port.device.drain(0)
        assert done.data[2:].decode("utf-16-le") == "SAME-1"
