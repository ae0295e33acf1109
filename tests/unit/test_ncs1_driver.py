"""The ncs1 driver on the model, on virtual time: what it asks and believes, and what each fault looks like."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stimulator_rig import LIMITS, MS, Bench, S, VirtualWire

from emgd_drivers.api import DeviceError, DeviceLostError, DeviceRefusedError
from emgd_drivers.ncs1 import protocol
from emgd_drivers.ncs1.clock import ContradictionError, TickClock
from emgd_drivers.ncs1.driver import Ncs1Stimulator
from emgd_drivers.ncs1.protocol import Kind, State
from emgd_drivers.sim.stimulator import Ncs1Model
from emgd_drivers.sim.stimulator_faults import FORMS, StimulatorFault, StimulatorFaultKind, parse_stimulator_faults
from emgd_drivers.stimulator import Delivered, DeviceLimits, StimulatorError, Trouble

FOR_EVER_NS = 10 * S


def test_opening_asks_and_changes_nothing():
    bench = Bench()
    said = protocol.Decoder()
    kinds = [message.kind for data in bench.wire.sent for message in said.feed(data)]
    assert kinds == [Kind.INFO]
    assert bench.driver.info.most_current_ua == 100_000
    assert bench.driver.info.isolated
    assert bench.driver.info.has_stop
    assert not bench.given


def test_limits_are_set_and_read_back():
    bench = Bench()
    bench.driver.reset()
    limits = DeviceLimits(40_000, 200, 300, 2000, 500)
    assert bench.driver.set_limits(limits) == limits
    assert bench.model.describe()["limits"] == [40_000, 200, 300, 2000, 500]
    with pytest.raises(DeviceRefusedError, match="out of range"):
        bench.driver.set_limits(DeviceLimits(100_001, 200, 300))


def test_a_pulse_is_given_when_it_was_wanted_and_read_back():
    bench = Bench(drift_ppm=50).ready()
    bench.pass_time(300 * MS)
    at_ns = bench.pulse(7, 12_340, 250, ahead_ns=20 * MS)
    (told,) = bench.news(50 * MS)
    assert (told.seq, told.current_ua, told.width_us, told.load_ohm) == (7, 12_340, 250, 2000)
    assert (told.dc_ua, told.limited) == (0, False)
    (given_,) = bench.given
    assert abs(given_.at_ns - at_ns) < 300_000
    assert abs(told.at_ns - given_.at_ns) < 3 * told.sigma_ns
    assert bench.rises == [(given_.at_ns, 7)]


def test_a_pulse_for_now_or_the_past_comes_at_once():
    bench = Bench().ready()
    now_ns = bench.wire.time_ns
    bench.driver.pulse(1, now_ns - 30 * MS, 5000, 200)
    bench.news()
    assert 0 <= bench.given[0].at_ns - now_ns < MS


def test_what_was_held_up_on_the_way_is_not_given_late():
    bench = Bench().ready()
    bench.wire.delay_ns = 101 * MS
    with pytest.raises(StimulatorError, match="no answer to PULSE"):
        bench.pulse(1)
    bench.pass_time(FOR_EVER_NS)
    assert not bench.given


def test_a_refusal_says_why_and_gives_no_pulse():
    bench = Bench().ready()
    with pytest.raises(DeviceRefusedError, match="above its current register"):
        bench.pulse(1, 50_010)
    with pytest.raises(DeviceRefusedError, match="choose 0 to 4294967295"):
        bench.pulse(2**32)
    bench.pass_time(S)
    assert not bench.given


def test_without_a_reset_there_is_no_pulse():
    bench = Bench()
    with pytest.raises(DeviceRefusedError, match="never reset"):
        bench.pulse(1)


def test_starved_it_says_so_and_gives_nothing_more():
    bench = Bench().ready(timeout_ms=100)
    bench.pass_time(200 * MS)
    (trouble,) = bench.driver.poll()
    assert isinstance(trouble, Trouble)
    assert trouble.cause == "watchdog"
    with pytest.raises(DeviceRefusedError):
        bench.pulse(1)
    bench.pass_time(FOR_EVER_NS)
    assert not bench.given


def test_stop_needs_no_answer_drops_what_waits_and_is_no_trouble():
    bench = Bench().ready()
    bench.pulse(1, ahead_ns=20 * MS)
    before_ns = bench.wire.time_ns
    bench.driver.stop()
    assert bench.wire.time_ns == before_ns
    assert bench.news(S) == []
    assert not bench.given
    assert bench.model.state is State.LATCHED
    bench.ready()
    bench.pulse(2)
    assert [told.seq for told in bench.news()] == [2]


def test_close_disables_the_output_and_may_be_repeated():
    bench = Bench().ready()
    bench.pulse(1, ahead_ns=20 * MS)
    bench.driver.close()
    bench.driver.close()
    bench.driver.stop()
    bench.pass_time(FOR_EVER_NS)
    assert not bench.given
    with pytest.raises(DeviceLostError):
        bench.driver.poll()


def test_a_device_left_armed_by_another_host_is_reset():
    bench = Bench().ready()
    second = Ncs1Stimulator(bench.wire)
    second.reset()
    assert bench.model.state is State.OFF
    assert bench.model.describe()["limits"] == [0] * 5


def test_another_serial_number_is_refused():
    model = Ncs1Model(serial="NCS1-A", now_ns=S)
    with pytest.raises(DeviceError, match="NCS1-A"):
        Ncs1Stimulator(VirtualWire(model), serial="NCS1-B")


# --- what each fault looks like


def error_of(bench, call, *arguments):
    with pytest.raises(StimulatorError) as caught:
        call(*arguments)
    return str(caught.value)


def test_mute_every_call_ends_in_time_with_an_error():
    bench = Bench().ready()
    bench.model.add_fault("mute", bench.wire.time_ns)
    for call in (lambda: bench.driver.feed(1000), bench.driver.disarm, lambda: bench.pulse(1)):
        before_ns = bench.wire.time_ns
        assert "no answer" in error_of(bench, call)
        assert bench.wire.time_ns - before_ns < 31 * MS
    bench.driver.stop()
    assert bench.model.state is State.LATCHED


def test_deaf_not_even_stop_is_heard_but_the_watchdog_ends_it():
    bench = Bench().ready(timeout_ms=500)
    bench.pulse(1, ahead_ns=20 * MS)
    bench.model.add_fault("deaf", bench.wire.time_ns)
    bench.wire.abort = lambda data: bench.model.receive(data, bench.wire.time_ns)  # without the cable's other line
    bench.driver.stop()
    assert bench.model.state is State.ARMED
    bench.pass_time(FOR_EVER_NS)
    assert bench.model.state is State.LATCHED
    assert len(bench.given) == 1, "what it had taken before it went deaf"


def test_slow_a_late_answer_is_an_error_and_is_not_taken_for_the_next():
    bench = Bench().ready()
    bench.model.add_fault("slow=40", bench.wire.time_ns)
    assert "no answer to FEED" in error_of(bench, bench.driver.feed, 1000)
    bench.model.clear_faults(bench.wire.time_ns)
    bench.driver.feed(900)


def test_echo_that_differs_is_an_error():
    bench = Bench("echo=110").ready()
    assert "echoed another pulse" in error_of(bench, bench.pulse, 1)


@pytest.mark.parametrize(
    ("fault", "current_ua", "width_us"), [("current=120@1", 6000, 200), ("width=150@1", 5000, 300)]
)
def test_what_is_delivered_is_read_back(fault, current_ua, width_us):
    bench = Bench(fault).ready()
    told = []
    for seq in (1, 2):
        bench.pulse(seq)
        told += bench.news(10 * MS)
    assert [(one.current_ua, one.width_us) for one in told] == [(5000, 200), (current_ua, width_us)]
    assert [(one.current_ua, one.width_us) for one in bench.given] == [(5000, 200), (current_ua, width_us)]


def test_a_stuck_relay_is_seen_at_disarm_and_at_reset():
    bench = Bench("stuck-relay").ready()
    assert "not off after a disarm: off, relay" in error_of(bench, bench.driver.disarm)
    assert "not off after a reset: off, relay" in error_of(bench, bench.driver.reset)
    bench.model.clear_faults(bench.wire.time_ns)
    bench.driver.reset()


def test_an_open_electrode_is_measured_and_read_back():
    bench = Bench("open").ready()
    assert bench.driver.measure_load() == 0
    bench.pulse(1)
    (told,) = bench.news()
    assert (told.current_ua, told.load_ohm, told.limited) == (0, 0, True)


def test_a_dry_electrode_reaches_the_voltage_limit():
    bench = Bench("load=40000").ready()
    assert bench.driver.measure_load() == 40_000
    bench.pulse(1, 20_000)
    (told,) = bench.news()
    assert (told.current_ua, told.load_ohm, told.limited) == (10_000, 40_000, True)


def test_direct_current_is_read_back():
    bench = Bench("dc=-70").ready()
    bench.pulse(1)
    assert bench.news()[0].dc_ua == -70


def test_a_brown_out_cuts_the_pulse_and_restarts_the_device():
    bench = Bench("brown-out@1", boot=3).ready()
    for seq in (1, 2):
        bench.pulse(seq, ahead_ns=5 * MS)
        bench.pass_time(10 * MS)
    assert [one.width_us for one in bench.given] == [200, 100]
    news = bench.news(100 * MS)
    assert [type(one) for one in news] == [Delivered, Trouble]
    assert news[1].cause == "restart"
    assert "supply" in news[1].text
    with pytest.raises(DeviceRefusedError):
        bench.pulse(3)
    assert bench.model.describe()["boot"] == 4
    bench.ready()
    bench.pulse(1)
    assert len(bench.news()) == 1


def test_a_restart_is_seen_even_when_its_report_is_lost():
    bench = Bench().ready()
    bench.model.add_fault("restart", bench.wire.time_ns)
    bench.pass_time(60 * MS)
    bench.wire.take()
    assert "has restarted (start 2, was 1)" in error_of(bench, bench.driver.feed, 1000)
    assert bench.model.describe()["limits"] == [0] * 5


def test_a_reset_waits_for_a_device_that_is_starting():
    bench = Bench().ready()
    bench.model.add_fault("restart", bench.wire.time_ns)
    bench.driver.reset()
    assert bench.model.describe()["boot"] == 2


def test_unplugged_while_armed_it_is_lost_and_gives_nothing_more():
    bench = Bench("unplug@1").ready()
    bench.pulse(1, ahead_ns=10 * MS)
    bench.pulse(2, ahead_ns=20 * MS)
    bench.pass_time(S)
    with pytest.raises(DeviceLostError):
        bench.driver.poll()
    with pytest.raises(DeviceLostError):
        bench.driver.feed(1000)
    bench.driver.stop()
    bench.driver.close()
    assert len(bench.given) == 1


@pytest.mark.parametrize(
    ("fault", "shifts_ns"),
    [
        ("no-trigger", []),
        ("trigger=3000", [3 * MS]),
        ("trigger=-2000", [-2 * MS]),
        ("extra-trigger", [0, 5 * MS]),
    ],
)
def test_the_trigger_line_may_be_missing_displaced_or_doubled(fault, shifts_ns):
    bench = Bench(fault).ready()
    bench.pulse(9)
    assert len(bench.news(20 * MS)) == 1
    at_ns = bench.given[0].at_ns
    assert [(rise_ns - at_ns, number) for rise_ns, number in bench.rises] == [(shift, 9) for shift in shifts_ns]


def test_a_stuck_readback_repeats_what_was_measured_last():
    bench = Bench("stuck-readback@1").ready()
    told = []
    for seq, current_ua in ((1, 5000), (2, 9000)):
        bench.pulse(seq, current_ua)
        told += bench.news(10 * MS)
    assert [(one.seq, one.current_ua) for one in told] == [(1, 5000), (2, 5000)]
    assert [one.current_ua for one in bench.given] == [5000, 9000]


def test_a_readback_may_be_missing():
    bench = Bench("no-readback@1").ready()
    for seq in (1, 2):
        bench.pulse(seq)
        bench.pass_time(10 * MS)
    assert [one.seq for one in bench.driver.poll()] == [1]
    assert len(bench.given) == 2


def test_a_report_lost_on_the_way_is_noticed_with_the_next():
    bench = Bench().ready()
    bench.pulse(1)
    assert len(bench.news()) == 1
    bench.pulse(2)
    bench.pass_time(10 * MS)
    bench.wire.take()  # lost
    bench.pulse(3)
    news = bench.news()
    assert [type(one) for one in news] == [Trouble, Delivered]
    assert news[0].cause == "lost_report"


def lying(kind, change):
    """A device that says something else in its answers of one kind."""

    def lie(message):
        if message.kind != kind | protocol.ANSWER:
            return message
        return message._replace(**change(message))

    return lie


def other_payload(layout, **fields):
    """The same payload, but for these fields."""

    def change(message):
        payload = layout.unpack(message.payload[1:])
        return {"payload": message.payload[:1] + replace(payload, **fields).pack()}

    return change


LIES = [
    (Kind.FEED, other_payload(protocol.Fed, timeout_ms=2000), "feed", (1000,), "took a time-out of 2000 ms"),
    (Kind.FEED, other_payload(protocol.Fed, state=State.OFF), "feed", (1000,), "was armed and says that it is off"),
    (Kind.FEED, other_payload(protocol.Fed, boot=9), "feed", (1000,), "has restarted"),
    (Kind.FEED, lambda message: {"seq": message.seq - 1}, "feed", (1000,), "no answer to FEED"),
    (Kind.FEED, lambda message: {"payload": b""}, "feed", (1000,), "without meaning"),
    (Kind.FEED, lambda message: {"payload": b"c"}, "feed", (1000,), "without meaning"),
    (Kind.FEED, lambda message: {"payload": message.payload[:-1]}, "feed", (1000,), "says what cannot be"),
    (Kind.DISARM, other_payload(protocol.Status, state=State.ARMED), "disarm", (), "not off after a disarm"),
    (Kind.DISARM, other_payload(protocol.Status, queued=1), "disarm", (), "not off after a disarm"),
    (Kind.DISARM, other_payload(protocol.Status, boot=9), "disarm", (), "has restarted"),
    (Kind.RESET, other_payload(protocol.Status, queued=1), "reset", (), "not off after a reset"),
    (Kind.GET_LIMITS, other_payload(protocol.Limits, width_us=1), "reset", (), "has limits after a reset"),
    (Kind.LATCH_CLOCK, lambda message: {"payload": message.payload[:-1]}, "reset", (), "LATCH_CLOCK of 7 bytes"),
    (Kind.LATCH_CLOCK, lambda message: {"payload": b"\0" + bytes(8)}, "arm", (), "off by"),
    (Kind.PULSE, other_payload(protocol.Pulse, seq=2), "pulse", (1, 0, 5000, 200), "echoed another pulse"),
    (Kind.PULSE, other_payload(protocol.Pulse, width_us=1), "pulse", (1, 0, 5000, 200), "echoed another pulse"),
    (Kind.PULSE, other_payload(protocol.Pulse, tick=0), "pulse", (1, 0, 5000, 200), "echoed another pulse"),
    (Kind.PULSE, other_payload(protocol.Pulse, tick=2**60), "pulse", (1, 0, 5000, 200), "echoed another pulse"),
]


@pytest.mark.parametrize(("kind", "change", "call", "arguments", "words"), LIES)
def test_an_answer_that_is_not_what_was_asked_is_an_error(kind, change, call, arguments, words):
    bench = Bench().ready()
    bench.pass_time(10 * MS)
    bench.wire.lie = lying(kind, change)
    assert words in error_of(bench, getattr(bench.driver, call), *arguments)


@pytest.mark.parametrize("kind", [Kind.SET_LIMITS, Kind.GET_LIMITS])
@pytest.mark.parametrize("register", ["current_ua", "width_us", "compliance_v", "interval_us", "mean_ua"])
def test_limits_that_are_not_those_set_are_an_error(kind, register):
    bench = Bench()
    bench.driver.reset()
    bench.wire.lie = lying(kind, other_payload(protocol.Limits, **{register: 7}))
    assert "other limits than set" in error_of(bench, bench.driver.set_limits, LIMITS)


@pytest.mark.parametrize("flags", range(7))
def test_armed_by_halves_is_an_error(flags):
    bench = Bench()
    bench.driver.reset()
    bench.driver.set_limits(LIMITS)
    bench.driver.feed(1000)
    bench.wire.lie = lying(Kind.ARM, other_payload(protocol.Status, flags=flags))
    assert "armed by halves" in error_of(bench, bench.driver.arm)


def test_a_stop_button_on_the_device_is_news():
    bench = Bench().ready()
    bench.model.receive(protocol.STOP, bench.wire.time_ns)
    (trouble,) = bench.news()
    assert trouble.cause == "stop"


def test_close_says_stop_before_it_lets_go():
    bench = Bench().ready()
    bench.driver.close()
    assert bench.wire.sent[-1] == protocol.STOP


def test_every_kind_of_fault_is_tried_here():
    text = Path(__file__).read_text(encoding="utf-8")
    for kind in StimulatorFaultKind:
        assert f'"{kind}' in text, kind


def test_faults_are_read_and_bad_ones_refused_with_what_is_allowed():
    assert parse_stimulator_faults(["current=120@3", "mute"]) == (
        StimulatorFault(StimulatorFaultKind.CURRENT, 120, 3),
        StimulatorFault(StimulatorFaultKind.MUTE),
    )
    for bad in ("", "tea", "current", "mute=3", "current=x", "slow=0", "trigger=200000", "mute@-1"):
        with pytest.raises(ValueError, match="fault"):
            parse_stimulator_faults([bad])
    assert set(FORMS) == set(StimulatorFaultKind)


# --- the clock


@given(
    st.integers(-100, 100),
    st.lists(st.tuples(st.integers(MS, S), st.integers(0, 2 * MS), st.floats(0, 1)), min_size=1, max_size=30),
)
def test_the_clock_never_leaves_the_span_in_which_the_truth_lies(drift_ppm, probes):
    clock = TickClock(10_000_000)
    now_ns = 5 * S
    rate = 1 + drift_ppm * 1e-6
    for pause_ns, trip_ns, place in probes:
        now_ns += pause_ns
        true_ns = now_ns + round(trip_ns * place)
        clock.probe(now_ns, round(true_ns / 100 / rate), now_ns + trip_ns)
        now_ns += trip_ns
    tick = round(now_ns / 100 / rate)
    # sigma is the half width over root 3.
    assert abs(clock.host_ns(tick) - now_ns) <= clock.sigma_ns(now_ns) * 1.733 + 200
    assert abs(clock.tick(now_ns) - tick) * 100 <= clock.sigma_ns(now_ns) * 1.733 + 300


def test_probes_from_before_the_host_was_slewed_are_forgotten():
    clock = TickClock(10_000_000)
    now_ns = S
    for number in range(50):
        # 400 ppm: more than crystals, less than what time synchronisation may do.
        clock.probe(now_ns, round(number * 1_000_000 * (1 - 400e-6)), now_ns + 10_000)
        now_ns += 100 * MS
    tick = round(49 * 1_000_000 * (1 - 400e-6))
    assert abs(clock.host_ns(tick) - (now_ns - 100 * MS + 5000)) <= 5000


def test_a_clock_that_was_set_back_contradicts_its_probes():
    clock = TickClock(10_000_000)
    clock.probe(S, 5_000_000, S + MS)
    clock.probe(2 * S, 15_000_000, 2 * S + MS)
    with pytest.raises(ContradictionError):
        clock.probe(3 * S, 0, 3 * S + MS)
