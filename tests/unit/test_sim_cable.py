"""A simulated device in a process of its own: its stream, its manners, and how it goes away."""

import json
import os
import signal
import socket
import time

import numpy as np
import pytest

from emgd_drivers.api import DeviceLostError, DeviceNotFoundError, DeviceRefusedError, RunState
from emgd_drivers.emg8.protocol import FrameFlag, FrameType, decode_frames
from emgd_drivers.fields import FieldError
from emgd_drivers.registry import open_amplifier
from emgd_drivers.sim import DeviceSpec, cable, open_simulated
from emgd_drivers.sim.signal import SyntheticEmg

PATIENCE_S = 10
"""How long a busy machine may take for what usually takes milliseconds."""


@pytest.fixture
def opened():
    amplifiers = []

    def make(**spec):
        amplifiers.append(open_simulated(DeviceSpec(**spec)))
        amplifiers[-1]._transport._bulk.settimeout(PATIENCE_S)
        return amplifiers[-1]

    yield make
    for amplifier in amplifiers:
        amplifier.close()


def transfers(amplifier):
    """What comes over bulk IN until the device is gone."""
    while transfer := amplifier._transport._bulk.recv(65536):
        yield transfer


def frames_until_end(amplifier, channels):
    found = []
    for transfer in transfers(amplifier):
        found += decode_frames(transfer, channels)
        if found[-1].type == FrameType.END:
            break
    return found


def samples(frames):
    return np.concatenate([frame.samples for frame in frames])


def test_whole_signal_arrives_as_fast_as_possible(opened):
    amplifier = opened(channels=3, rate_hz=4000.0, length=100_001, speed=0, faults=("seed=9",))
    amplifier.start()
    *data, end = frames_until_end(amplifier, 3)
    assert np.array_equal(samples(data), SyntheticEmg(3, 4000.0, seed=9).read(0, 100_001))
    assert (end.type, end.first) == (FrameType.END, 100_001)
    assert amplifier.status().state == RunState.ENDED
    assert (amplifier.info.simulated, amplifier.info.speed, amplifier.info.has_clock) == (True, 0, False)


def test_stream_keeps_pace_with_the_host_clock(opened):
    amplifier = opened(channels=1, rate_hz=4000.0)
    before_ns = time.monotonic_ns()
    amplifier.start()
    for _, transfer in zip(range(100), transfers(amplifier), strict=False):
        (last,) = decode_frames(transfer, 1)
    taken_ns = (last.first + last.count - 1) * 250_000
    assert time.monotonic_ns() >= before_ns + taken_ns  # no sample before its time
    assert amplifier.status().overflowed_samples == 0


def test_probe_brackets_the_instant_of_its_tick(opened):
    amplifier = opened(channels=1, rate_hz=4000.0)
    first = amplifier.probe_clock()
    amplifier.start()
    for _ in zip(range(50), transfers(amplifier), strict=False):
        pass
    second = amplifier.probe_clock()
    elapsed_ns = (second.tick - first.tick) / 48e6 * 1e9
    assert second.before_ns - first.after_ns <= elapsed_ns + 21  # one tick
    assert elapsed_ns - 21 <= second.after_ns - first.before_ns


def test_refusal_comes_in_words(opened):
    with pytest.raises(DeviceRefusedError, match="the device refused SET_RATE: a value is out of range"):
        opened(channels=1).set_rate(1e9)


def test_host_that_does_not_read_makes_the_device_overflow_and_say_how_much(opened):
    amplifier = opened(channels=8, rate_hz=48_000.0, speed=20, fifo_bytes=100_000)
    amplifier.start()
    deadline_s = time.monotonic() + PATIENCE_S
    while not amplifier.status().overflowed_samples:
        assert time.monotonic() < deadline_s
    amplifier.stop()
    *data, end = frames_until_end(amplifier, 8)
    status = amplifier.status()
    assert status.samples == end.first
    assert sum(frame.count for frame in data) == end.first - status.overflowed_samples
    assert [frame.frame_seq for frame in (*data, end)] == list(range(len(data) + 1))
    assert any(frame.flags & FrameFlag.OVERFLOW for frame in (*data, end))


def test_unplugged_device_ends_the_stream_and_its_process(opened):
    amplifier = opened(channels=1, rate_hz=4000.0, faults=("unplug@20",))
    amplifier.start()
    assert [decode_frames(transfer, 1)[0].frame_seq for transfer in transfers(amplifier)] == list(range(20))
    with pytest.raises(DeviceLostError, match=r"is gone \(at GET_STATUS\); open it again"):
        amplifier.status()
    assert amplifier._transport._process.wait(PATIENCE_S) == 0


def test_device_that_dies_is_lost(opened):
    amplifier = opened(channels=1, rate_hz=4000.0)
    amplifier.start()
    os.kill(amplifier._transport.pid, signal.SIGKILL)
    for _ in transfers(amplifier):
        pass
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="is gone"):
            amplifier.probe_clock()


def test_device_that_hangs_is_lost_after_the_time_out(opened, monkeypatch):
    monkeypatch.setattr(cable, "CONTROL_TIMEOUT_S", 0.05)
    amplifier = opened(channels=1, rate_hz=4000.0)
    os.kill(amplifier._transport.pid, signal.SIGSTOP)
    try:
        with pytest.raises(DeviceLostError, match=r"no answer to GET_STATUS within 0.05 s; open it again"):
            amplifier.status()
    finally:
        os.kill(amplifier._transport.pid, signal.SIGCONT)
    with pytest.raises(DeviceLostError, match="is gone"):
        amplifier.status()


def test_device_leaves_ctrl_c_to_the_host(opened):
    amplifier = opened(channels=1, rate_hz=4000.0)
    os.kill(amplifier._transport.pid, signal.SIGINT)
    assert amplifier.status().state == RunState.IDLE


@pytest.mark.parametrize("streaming", [False, True])
def test_device_ends_by_itself_when_its_host_is_gone(opened, streaming):
    amplifier = opened(channels=1, rate_hz=4000.0)
    if streaming:
        amplifier.start()
    amplifier._transport._control.close()
    assert amplifier._transport._process.wait(PATIENCE_S) == 0


def test_device_that_ignores_the_end_of_its_cable_is_killed(opened, monkeypatch):
    monkeypatch.setattr(cable, "END_TIMEOUT_S", 0.05)
    amplifier = opened(channels=1, rate_hz=4000.0)
    os.kill(amplifier._transport.pid, signal.SIGSTOP)
    amplifier.close()
    assert amplifier._transport._process.returncode == -signal.SIGKILL


def test_close_may_be_called_twice(opened):
    amplifier = opened(channels=1, rate_hz=4000.0)
    amplifier.close()
    amplifier.close()


def test_recording_is_played_exactly_with_its_own_saturation(opened, tmp_path):
    counts = np.arange(-3000, 3000, dtype=np.int16).reshape(-1, 2)
    np.save(tmp_path / "emg.npy", counts)
    (tmp_path / "emg.json").write_text(json.dumps({"rate_hz": 2000, "uv_per_count": 0.5}))
    amplifier = opened(signal="recording", path=str(tmp_path / "emg.npy"), speed=0)
    assert [(channel.uv_per_count, channel.saturation_count) for channel in amplifier.channels] == [(0.5, 32767)] * 2
    amplifier.start()
    *data, end = frames_until_end(amplifier, 2)
    assert np.array_equal(samples(data), counts)
    assert end.first == len(counts)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"channels": 2000}, "2000 channels; choose 1 to 1024"),
        ({"channels": 2, "faults": ("saturate@1:7",)}, "saturate@1 names channel 7; choose 0 to 1"),
        ({"signal": "recording", "path": "/nowhere/at-all.npy"}, "/nowhere/at-all.npy"),
    ],
)
def test_device_that_cannot_be_built_says_why_in_one_line(spec, said):
    with pytest.raises(DeviceNotFoundError, match=said) as refusal:
        open_simulated(DeviceSpec(**spec))
    assert "\n" not in str(refusal.value)


def test_device_that_ends_while_it_starts_is_not_found(monkeypatch):
    monkeypatch.setattr(cable.sys, "executable", "/bin/true")
    with pytest.raises(DeviceNotFoundError, match="ended while it started"):
        open_simulated(DeviceSpec())


def test_device_that_is_never_ready_is_not_found(monkeypatch):
    monkeypatch.setattr(cable, "START_TIMEOUT_S", 0.0001)
    with pytest.raises(DeviceNotFoundError, match=r"not ready after 0.0001 s"):
        open_simulated(DeviceSpec())


def test_spec_survives_its_way_to_the_other_process():
    spec = DeviceSpec(signal="recording", path="ä b.npy", loop=True, sidecar="x.json", speed=2.5, faults=("wrap",))
    assert DeviceSpec.from_json(spec.to_json()) == spec
    spec = DeviceSpec(electrodes=("0:E1=dry", "3=bridge"))
    assert DeviceSpec.from_json(spec.to_json()) == spec


def test_electrodes_that_cannot_be_are_a_mistake_in_their_field():
    options = {"channels": 2, "rate_hz": 4000.0, "triggers": False, "serial": "S", "speed": 1.0, "faults": []}
    with pytest.raises(FieldError, match="names channel 2; choose 0 to 1") as refusal:
        open_amplifier("sim", options | {"electrodes": ["2=dry"]})
    assert refusal.value.field == "electrodes"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"signal": "radio"}, "'radio'; choose synthetic or recording"),
        ({"faults": ("drop",)}, "'drop' is not understood"),
        ({"electrodes": ("0:E1=wet",)}, "'0:E1=wet' is not understood"),
        ({"channels": 2, "electrodes": ("2=dry",)}, "names channel 2; choose 0 to 1"),
        ({"signal": "recording", "electrodes": ("0=dry",)}, "a recording has those it was made with"),
    ],
)
def test_bad_spec_is_refused_before_a_process_is_started(fields, said):
    with pytest.raises(ValueError, match=said):
        DeviceSpec(**fields)


def test_transfers_keep_their_bounds():
    host, device = cable._socketpair()
    with host, device:
        device.send(b"one")
        device.send(b"two")
        assert host.type == socket.SOCK_SEQPACKET
        assert [host.recv(100), host.recv(100)] == [b"one", b"two"]
