"""From a stimulator's pulse to the sample where it shows: in one process to the sample, between two within a few."""

import time

import numpy as np
import pytest
from serial_rig import MS, S
from stimulator_rig import Bench

from emgd_drivers.emg8.protocol import Direction, FrameType, MarkCode, Request, Setup, Status, decode_frames
from emgd_drivers.registry import open_amplifier
from emgd_drivers.sim.faults import FaultPlan
from emgd_drivers.sim.model import Emg8Model
from emgd_drivers.sim.signal import SyntheticEmg
from emgd_drivers.sim.trigger_line import TriggerInput, TriggerOutput

START = Setup(Direction.OUT, Request.START, 0, 0, 0).pack()
STATUS = Setup(Direction.IN, Request.GET_STATUS, 0, 0, 32).pack()
STOP = Setup(Direction.OUT, Request.STOP, 0, 0, 0).pack()
CHANNELS = 2


def amplifier(rate_hz=48_000.0, *, length=None, plan=None, **options):
    model = Emg8Model(SyntheticEmg(CHANNELS, rate_hz, length=length), plan, now_ns=0, **options)
    model.control(START, b"", S)
    return model


def marks(model, now_ns):
    """(seq, number) of the stimulus marks, and how many samples there were."""
    found = []
    samples = 0
    for transfer in model.poll(now_ns):
        for frame in decode_frames(transfer, CHANNELS):
            samples += frame.count
            for seq, code, channel, value in frame.marks:
                assert frame.first <= seq < frame.first + frame.count
                if code == MarkCode.STIMULUS:
                    assert channel == 0
                    found.append((seq, value))
    return found, samples


@pytest.mark.parametrize("hold_ns", [0, 2 * MS])
@pytest.mark.parametrize("rate_hz", [1000.0, 48_000.0, 99_999.0])
def test_a_pulse_is_marked_at_the_first_sample_from_then_on(rate_hz, hold_ns):
    plan = FaultPlan.parse(["drift=80ppm"])
    model = amplifier(rate_hz, plan=plan, trigger_hold_ns=hold_ns)
    times_ns = [S + 3 * MS + 7_654_321 * number for number in range(20)]
    found = []
    for number, at_ns in enumerate(times_ns):
        found += marks(model, at_ns)[0]
        model.trigger(at_ns, number)
    found += marks(model, times_ns[-1] + 20 * MS)[0]
    assert [number for _, number in found] == list(range(20))
    for (seq, _), at_ns in zip(found, times_ns, strict=True):
        # One tick of the amplifier is 21 ns.
        assert model.true_host_ns(seq - 1) - 21 < at_ns <= model.true_host_ns(seq) + 21


def test_a_pulse_at_the_very_instant_of_a_sample_is_marked_there():
    model = amplifier()
    model.trigger(model.true_host_ns(100), 1)
    assert marks(model, S + 10 * MS)[0] == [(100, 1)]


def test_news_that_is_late_by_less_than_the_hold_finds_its_sample():
    late = amplifier(trigger_hold_ns=2 * MS)
    prompt = amplifier()
    for number in range(10):
        at_ns = S + 5 * MS + number * 3_333_333
        prompt.poll(at_ns)
        prompt.trigger(at_ns, number)
    expected = []
    found = []
    for number in range(10):
        at_ns = S + 5 * MS + number * 3_333_333
        found += marks(late, at_ns + 1_900_000)[0]
        late.trigger(at_ns, number)
    found += marks(late, S + 100 * MS)[0]
    again = amplifier()
    for number in range(10):
        at_ns = S + 5 * MS + number * 3_333_333
        expected += marks(again, at_ns)[0]
        again.trigger(at_ns, number)
    expected += marks(again, S + 100 * MS)[0]
    assert found == expected


def test_news_that_is_too_late_takes_the_first_sample_that_is_left():
    model = amplifier(1000.0)
    model.poll(S + 100 * MS)
    model.trigger(S + 50 * MS, 7)
    ((seq, number),), _ = marks(model, S + 110 * MS)
    assert (seq, number) == (101, 7)


def test_the_number_is_the_low_31_bits():
    model = amplifier()
    model.trigger(S + 100, 2**31 + 5)
    assert marks(model, S + 10 * MS)[0] == [(1, 5)]


def test_a_line_that_rises_like_mad_loses_no_mark():
    model = amplifier()
    for number in range(300):
        model.trigger(S + 1 + number, number)
    found, _ = marks(model, S + 50 * MS)
    assert [number for _, number in found] == list(range(300))


def test_an_idle_amplifier_has_no_sample_to_mark():
    model = Emg8Model(SyntheticEmg(CHANNELS, 1000.0), now_ns=0)
    model.trigger(S, 1)
    model.control(START, b"", S)
    assert marks(model, S + 20 * MS)[0] == []


@pytest.mark.parametrize("rate_hz", [1000.0, 100_000.0])
def test_frames_that_are_held_back_cost_no_sample_and_are_no_longer(rate_hz):
    samples = []
    for hold_ns in (0, 2 * MS):
        model = amplifier(rate_hz, trigger_hold_ns=hold_ns)
        total = 0
        for step in range(1, 51):
            total += marks(model, S + step * MS + 123_456)[1]
        model.control(STOP, b"", S + 51 * MS)
        for transfer in model.poll(S + 52 * MS):
            for frame in decode_frames(transfer, CHANNELS):
                total += frame.count
                assert frame.type == FrameType.END or frame.count <= max(1, np.ceil(rate_hz / 1000))
        samples.append(total)
        taken = Status.unpack(model.control(STATUS, b"", S + 53 * MS)).samples
        assert total == taken
    assert samples[0] == samples[1]


def test_both_models_joined_by_a_call():
    bench = Bench()
    model = amplifier()
    bench.model.on_trigger = model.trigger
    bench.ready()
    wanted = [bench.pulse(seq, ahead_ns=10 * MS) for seq in (1, 2) if bench.pass_time(20 * MS) is None]
    bench.pass_time(30 * MS)
    found, _ = marks(model, bench.wire.time_ns)
    assert [number for _, number in found] == [1, 2]
    for (seq, _), at_ns, given in zip(found, wanted, bench.given, strict=True):
        assert given.at_ns == pytest.approx(at_ns, abs=100_000)
        assert model.true_host_ns(seq - 1) - 21 < given.at_ns <= model.true_host_ns(seq) + 21


def test_a_line_between_two_processes_carries_time_and_number(tmp_path):
    path = tmp_path / "trigger"
    line = TriggerOutput(path)
    line.rise(1, 1)
    assert line.missed == 1, "nobody listens"
    listening = TriggerInput(path)
    line.rise(123_456_789_012_345, 2**32 + 7)
    assert list(listening.rises()) == [(123_456_789_012_345, 7)]
    assert list(listening.rises()) == []
    listening.close()
    line.close()
    assert not path.exists()


def test_an_amplifier_in_its_own_process_listens_to_the_line(tmp_path):
    path = tmp_path / "trigger"
    options = {"channels": CHANNELS, "rate_hz": 8000.0, "triggers": False, "serial": "EMG8-T", "faults": []}
    simulated = open_amplifier("sim", options | {"speed": 1.0, "trigger": path})
    line = TriggerOutput(path)
    try:
        bulk = simulated._transport._bulk
        bulk.settimeout(20)
        simulated.start()
        begun_ns = time.monotonic_ns()
        time.sleep(0.05)
        line.rise(time.monotonic_ns(), 42)
        risen_ns = time.monotonic_ns()
        found = []
        while not found and time.monotonic_ns() < risen_ns + 20 * S:
            for frame in decode_frames(bulk.recv(65536), CHANNELS):
                found += [mark for mark in frame.marks if mark[1] == MarkCode.STIMULUS]
    finally:
        line.close()
        simulated.close()
    ((seq, _, _, value),) = found
    assert value == 42
    # Sample 0 was taken within `start`, at an unknown time before `begun_ns`; the mark cannot be before its sample.
    assert seq >= 8000 * 0.05
    assert seq / 8000 * S >= 0.9 * (risen_ns - begun_ns)
