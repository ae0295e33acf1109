"""The ncs1 model, byte by byte on virtual time: what it promises whatever the host says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stimulator_rig import MS, RawHost, S

from emgd_drivers.ncs1 import protocol
from emgd_drivers.ncs1.protocol import Cause, Flag, Kind, Limits, Result, State
from emgd_drivers.sim.stimulator import Ncs1Model

US_TICKS = 10
LIMITS = Limits(50_000, 500, 400, 1000, 1000)


class Device(RawHost):
    """A model with a raw host, and what it gave."""

    def __init__(self, *faults, **options):
        super().__init__(Ncs1Model(faults=faults, now_ns=S, **options))
        self.given = []
        self.model.on_pulse = self.given.append

    def status(self):
        return protocol.Status.unpack(self.ask(Kind.STATUS)[1])

    def arm(self, timeout_ms=2000, limits=LIMITS):
        assert self.ask(Kind.SET_LIMITS, limits.pack())[0] is Result.OK
        assert self.feed(timeout_ms) is Result.OK
        assert self.ask(Kind.ARM)[0] is Result.OK
        return self

    def feed(self, timeout_ms):
        return self.ask(Kind.FEED, protocol.FEED_MS.pack(timeout_ms))[0]

    def tick(self):
        return protocol.TICK.unpack(self.ask(Kind.LATCH_CLOCK)[1])[0]

    def pulse(self, seq, current_ua=5000, width_us=200, tick=0, wait_ns=MS):
        return self.ask(Kind.PULSE, protocol.Pulse(seq, tick, current_ua, width_us).pack(), wait_ns)

    def wait(self, ns):
        self.wire.pass_time(ns)


def test_it_powers_up_with_limits_0_and_output_off():
    device = Device(boot=7)
    assert device.status() == protocol.Status(State.OFF, Cause.NONE, 0, 0, 7, 0, 0)
    assert Limits.unpack(device.ask(Kind.GET_LIMITS)[1]) == Limits()
    assert device.pulse(1)[0] is Result.NOT_NOW
    assert device.feed(1000) is Result.OK
    assert device.ask(Kind.ARM)[0] is Result.NOT_NOW, "limits are 0"
    device.wait(S)
    assert not device.given


def test_it_says_what_it_is():
    result, payload = Device(serial="NCS1-42").ask(Kind.INFO)
    info = protocol.Info.unpack(payload)
    assert result is Result.OK
    assert (info.protocol, info.serial, info.tick_hz) == (0x0100, "NCS1-42", 10_000_000)
    assert (info.most_current_ua, info.most_width_us, info.most_compliance_v) == (100_000, 1000, 400)


def test_one_request_is_one_pulse():
    device = Device().arm()
    result, payload = device.pulse(3, 5000, 200)
    echo = protocol.Pulse.unpack(payload)
    assert (result, echo.seq, echo.current_ua, echo.width_us) == (Result.OK, 3, 5000, 200)
    device.wait(S)
    assert [(pulse.seq, pulse.current_ua, pulse.width_us) for pulse in device.given] == [(3, 5000, 200)]


def test_a_pulse_comes_at_its_tick_and_is_reported():
    device = Device(drift_ppm=100).arm()
    wanted = device.tick() + 200_000
    device.pulse(1, tick=wanted, wait_ns=0)
    messages = device.heard(30 * MS)
    (told,) = [protocol.Delivered.unpack(message.payload) for message in messages if message.kind == Kind.DELIVERED]
    assert told == protocol.Delivered(1, wanted, 5000, 200, 2000, 0, 0)
    # A crystal that is 100 ppm slow: this tick is late by 100 ns each millisecond since power-up.
    assert device.given[0].at_ns == pytest.approx(S + wanted * 100 * (1 + 100e-6), abs=2)


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({"current_ua": 50_010}, Result.CURRENT),
        ({"width_us": 501}, Result.WIDTH),
        ({"current_ua": 0}, Result.VALUE),
        ({"width_us": 0}, Result.VALUE),
        ({"current_ua": 5005}, Result.VALUE),
        ({"seq": 5}, Result.REPEATED),
        ({"seq": 4}, Result.REPEATED),
        ({"ahead_us": 51_100}, Result.FAR),
        ({"ahead_us": -99_100}, Result.LATE),
        ({"ahead_us": -98_900}, Result.OK),
        ({"ahead_us": 50_900}, Result.OK),
        ({}, Result.OK),
    ],
)
def test_it_refuses_what_exceeds_its_registers(change, result):
    device = Device().arm()
    device.wait(S)
    assert device.pulse(5)[0] is Result.OK
    device.wait(200 * MS)
    device.feed(2000)
    before = len(device.given)
    # A request of the rig takes a millisecond, so the pulse is asked for 1000 us after this tick.
    tick = device.tick() + change.pop("ahead_us", 0) * US_TICKS
    fields = {"seq": 6, "tick": tick} | change
    assert device.pulse(**fields)[0] is result
    device.wait(100 * MS)
    assert len(device.given) - before == (result is Result.OK)


def test_its_interval_register_holds_between_beginnings():
    device = Device().arm(limits=Limits(50_000, 500, 400, 20_000, 1000))
    tick = device.tick() + 30_000
    assert device.pulse(1, tick=tick)[0] is Result.OK
    assert device.pulse(2, tick=tick + 199_999)[0] is Result.INTERVAL
    assert device.pulse(2, tick=tick + 200_000)[0] is Result.OK


def test_two_pulses_wait_at_most():
    device = Device().arm()
    tick = device.tick() + 300_000
    assert [device.pulse(seq, tick=tick + seq * 20_000)[0] for seq in (1, 2, 3)] == [Result.OK, Result.OK, Result.FULL]
    device.wait(S)
    assert [pulse.seq for pulse in device.given] == [1, 2]


def test_its_mean_current_register_holds_over_10_s_and_over_resets():
    # 50 mA x 500 us = 25 uC; 5 uA over 10 s are 50 uC.
    limits = Limits(50_000, 500, 400, 1000, 5)
    device = Device().arm(limits=limits)
    assert [device.pulse(seq, 50_000, 500, wait_ns=5 * MS)[0] for seq in (1, 2, 3)] == [
        Result.OK,
        Result.OK,
        Result.MEAN,
    ]
    device.ask(Kind.RESET)
    device.arm(limits=limits)
    assert device.pulse(1, 50_000, 500)[0] is Result.MEAN
    device.wait(10 * S)
    device.ask(Kind.RESET)
    device.arm(limits=limits)
    assert device.pulse(1, 50_000, 500)[0] is Result.OK


@pytest.mark.parametrize(
    ("kind", "payload", "result"),
    [
        (0x7E, b"", Result.UNKNOWN),
        (Kind.FEED, b"", Result.LENGTH),
        (Kind.INFO, b"\1", Result.LENGTH),
        (Kind.FEED, protocol.FEED_MS.pack(0), Result.VALUE),
        (Kind.FEED, protocol.FEED_MS.pack(2001), Result.VALUE),
        (Kind.SET_LIMITS, Limits(100_001, 1, 1, 1, 1).pack(), Result.VALUE),
        (Kind.SET_LIMITS, Limits(1, 1001, 1, 1, 1).pack(), Result.VALUE),
        (Kind.SET_LIMITS, Limits(1, 1, 401, 1, 1).pack(), Result.VALUE),
        (Kind.ARM, b"", Result.NOT_NOW),
    ],
)
def test_what_cannot_be_is_refused(kind, payload, result):
    assert Device().ask(kind, payload) == (result, b"")


@pytest.mark.parametrize("register", range(5))
def test_a_register_of_0_keeps_it_from_being_armed(register):
    device = Device()
    registers = [50_000, 500, 400, 1000, 1000]
    registers[register] = 0
    device.ask(Kind.SET_LIMITS, Limits(*registers).pack())
    device.feed(1000)
    assert device.ask(Kind.ARM)[0] is Result.NOT_NOW


def test_it_is_armed_only_fed_and_its_limits_then_stay():
    device = Device()
    device.ask(Kind.SET_LIMITS, LIMITS.pack())
    assert device.ask(Kind.ARM)[0] is Result.NOT_FED
    device.feed(100)
    assert device.ask(Kind.ARM)[0] is Result.OK
    assert device.ask(Kind.SET_LIMITS, Limits(*([60_000] + [1] * 4)).pack())[0] is Result.NOT_NOW


def test_unfed_it_disables_its_output_on_the_tick_and_says_so():
    device = Device().arm(timeout_ms=100)
    fed_ns = device.wire.time_ns - 2 * MS  # each request of `arm` waits a millisecond; FEED came before ARM
    tick = device.tick()
    device.pulse(1, tick=tick + 40 * 10_000, wait_ns=0)
    device.wait(60 * MS)
    assert len(device.given) == 1
    device.pulse(2, tick=tick + 90 * 10_000, wait_ns=0)
    device.pulse(3, tick=tick + 105 * 10_000, wait_ns=0)
    messages = device.heard(100 * MS)
    trouble = [protocol.Trouble.unpack(message.payload) for message in messages if message.kind == Kind.TROUBLE]
    assert [(one.cause, one.dropped) for one in trouble] == [(Cause.WATCHDOG, 1)]
    assert trouble[0].tick * 100 + S == pytest.approx(fed_ns + 100 * MS, abs=MS // 10)
    assert [pulse.seq for pulse in device.given] == [1, 2]
    assert device.status().state == State.LATCHED
    assert not device.status().flags


def test_feeding_does_not_end_a_latch_and_reset_does():
    device = Device().arm(timeout_ms=10)
    device.wait(20 * MS)
    result, payload = device.ask(Kind.FEED, protocol.FEED_MS.pack(1000))
    fed = protocol.Fed.unpack(payload)
    assert (result, fed.state, fed.cause) == (Result.OK, State.LATCHED, Cause.WATCHDOG)
    for kind in (Kind.ARM, Kind.MEASURE_LOAD):
        assert device.ask(kind)[0] is Result.NOT_NOW
    assert device.ask(Kind.DISARM)[0] is Result.OK
    assert device.status().state == State.LATCHED
    assert protocol.Status.unpack(device.ask(Kind.RESET)[1]).state == State.OFF
    assert Limits.unpack(device.ask(Kind.GET_LIMITS)[1]) == Limits()


def test_disarm_drops_what_waits():
    device = Device().arm()
    device.pulse(1, tick=device.tick() + 200_000)
    status = protocol.Status.unpack(device.ask(Kind.DISARM)[1])
    assert (status.state, status.flags & (Flag.RELAY | Flag.HIGH_VOLTAGE), status.queued) == (State.OFF, 0, 0)
    device.wait(S)
    assert not device.given


@pytest.mark.parametrize("before", [b"", b"\x04\x01\x09", protocol.encode(protocol.Message(Kind.INFO, 1))[:-1]])
@pytest.mark.parametrize("armed", [True, False])
def test_stop_works_in_the_middle_of_anything(before, armed):
    device = Device()
    if armed:
        device.arm()
        device.pulse(1, tick=device.tick() + 200_000)
    device.say(before)
    device.say(protocol.STOP)
    device.wait(S)
    assert not device.given
    assert (device.status().state, device.status().cause) == (State.LATCHED, Cause.STOP)
    assert device.pulse(2)[0] is Result.NOT_NOW


@given(st.binary(max_size=60), st.integers(0, 12))
def test_stop_works_behind_any_bytes_and_when_twelve_of_its_own_are_lost(noise, lost):
    device = Device().arm()
    device.say(noise)
    device.say(protocol.STOP[lost:])
    assert device.status().state == State.LATCHED


def test_stop_right_behind_a_reset_counts():
    device = Device().arm()
    device.say(protocol.encode(protocol.Message(Kind.RESET, 1)) + protocol.STOP)
    assert (device.status().state, device.status().cause) == (State.LATCHED, Cause.STOP)


def test_stop_comes_before_what_fell_due_while_the_device_was_not_looked_at():
    device = Device().arm()
    device.pulse(1, tick=device.tick() + 100_000)
    device.wire.time_ns += 50 * MS  # as if its process had been held up; the bytes may have come at any time since
    device.say(protocol.STOP)
    assert not device.given


def test_a_host_that_goes_is_output_off():
    device = Device().arm()
    device.pulse(1, tick=device.tick() + 200_000)
    device.model.host(False, device.wire.time_ns)
    device.wait(S)
    assert not device.given
    device.model.host(True, device.wire.time_ns)
    assert (device.status().state, device.status().cause) == (State.LATCHED, Cause.HOST_GONE)


def test_without_a_host_it_obeys_nothing_but_stop():
    device = Device().arm()
    device.ask(Kind.DISARM)
    device.model.host(False, device.wire.time_ns)
    device.ask(Kind.RESET)
    device.say(protocol.STOP)
    device.model.host(True, device.wire.time_ns)
    assert (device.status().state, device.status().cause) == (State.LATCHED, Cause.HOST_GONE)


def test_noise_changes_nothing():
    device = Device().arm()
    before = device.status()
    device.say(bytes(range(1, 256)) * 20 + b"\0")
    after = device.status()
    assert (before.state, before.flags, before.queued) == (after.state, after.flags, after.queued)
    assert device.model.describe()["damaged"] == 1


def test_measuring_the_load_takes_20_ms():
    device = Device(load_ohm=1234)
    assert device.ask(Kind.MEASURE_LOAD, wait_ns=19 * MS) is None
    assert device.ask(Kind.MEASURE_LOAD, wait_ns=21 * MS) == (Result.OK, protocol.OHM.pack(1234))


@given(st.lists(st.integers(0, 3 * MS), min_size=1, max_size=30))
def test_what_it_says_does_not_depend_on_how_often_it_is_looked_at(steps):
    said = []
    for pieces in ([sum(steps)], steps):
        device = Device().arm(timeout_ms=20)
        for seq in (1, 2):
            device.pulse(seq, tick=device.tick() + seq * 60_000, wait_ns=0)
        for step in pieces:
            device.wire.time_ns += step
            device.model.run(device.wire.time_ns)
        device.wire.time_ns += 100 * MS
        said.append((device.heard(0), device.given))
    assert said[0] == said[1]
