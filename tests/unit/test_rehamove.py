"""RehaMove3 low level: golden bytes, no packet out of noise, and what its driver makes of a device that lacks much."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stimulator_rig import MS, S, VirtualWire

from emgd_drivers.api import DeviceError, DeviceLostError, DeviceRefusedError
from emgd_drivers.fields import FieldError, check_fields
from emgd_drivers.registry import stimulator_fields
from emgd_drivers.rehamove import protocol
from emgd_drivers.rehamove.driver import RehaMoveStimulator
from emgd_drivers.rehamove.protocol import Command, Decoder, Packet, Point, encode
from emgd_drivers.sim.rehamove import KNOWN_FAULTS, RehaMoveModel
from emgd_drivers.stimulator import DeviceLimits, StimulatorError
from paths import ROOT

PACKETS = st.builds(Packet, st.integers(0, 1023), st.integers(0, 63), st.binary(max_size=70))
POINTS = st.builds(Point, st.integers(0, 4095), st.integers(-260, 260).map(lambda steps: steps * 500))
LIMITS = DeviceLimits(20_000, 300, 150)

# The published table of the check value has 0x4084 at place 4; 12 bytes in all.
LL_STOP = bytes.fromhex("f0 81 55 81 59 81 15 81 d1 00 04 0f")

# Red, yellow, two points: 200 us of +10 mA (320 = 0x140) and of -10 mA (280 = 0x118). The first byte, 0x81, is stuffed.
PULSE_BODY = bytes.fromhex("04 02 81d4 0c850000 0c846000")


def decoded(data):
    return list(Decoder().feed(data))


def test_golden_stop():
    assert encode(Packet(Command.LL_STOP, 0)) == LL_STOP
    assert decoded(LL_STOP) == [Packet(Command.LL_STOP, 0)]
    assert LL_STOP.hex(" ") in re.sub(r"\s+", " ", (ROOT / "docs" / "devices" / "rehamove3.md").read_text())


def test_golden_pulse():
    data = protocol.pulse_data(0, 0, protocol.balanced(10_000, 200))
    raw = encode(Packet(Command.LL_CHANNEL_CONFIG, 1, data))
    assert raw[9:-1] == PULSE_BODY
    assert raw[:5] == bytes([0xF0, 0x81, 0x55, 0x81, len(raw) ^ 0x55])
    assert decoded(raw) == [Packet(Command.LL_CHANNEL_CONFIG, 1, data)]


def test_golden_init():
    assert protocol.init_data(6).hex() == "0c"
    assert [protocol.voltage_code(volts) for volts in (0, 29, 30, 89, 150, 400)] == [1, 1, 2, 3, 6, 6]


@given(PACKETS)
def test_every_packet_there_and_back(packet):
    raw = encode(packet)
    # A check value may look like START or END; behind its STUFF it is not taken for one.
    assert not {protocol.START, protocol.END} & set(raw[9:-1])
    assert decoded(raw) == [packet]


@given(st.lists(PACKETS, max_size=5), st.lists(st.integers(1, 30), max_size=20))
def test_bytes_may_be_cut_anywhere(packets, cuts):
    data = b"".join(map(encode, packets))
    decoder = Decoder()
    heard = []
    for cut in cuts:
        heard += decoder.feed(data[:cut])
        data = data[cut:]
    assert [*heard, *decoder.feed(data)] == packets


@given(PACKETS, st.data())
def test_one_changed_byte_is_never_another_packet(packet, data):
    raw = bytearray(encode(packet))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    assert decoded(bytes(raw)) in ([], [packet])


def test_much_noise_is_never_a_packet():
    chance = random.Random(3)  # noqa: S311 - the same noise each time
    noise = bytes(chance.choice((0xF0, 0x0F, 0x81, 0x55, 0x59, chance.randrange(256))) for _ in range(200_000))
    decoder = Decoder()
    assert list(decoder.feed(noise)) == []
    assert decoder.damaged > 10_000


@given(st.binary(max_size=60))
def test_stop_is_heard_behind_anything(before):
    assert Packet(Command.LL_STOP, 63) in decoded(before + protocol.STOP)


@given(
    st.integers(0, 3),
    st.integers(0, 1),
    st.lists(POINTS, min_size=1, max_size=16),
)
def test_every_pulse_there_and_back(channel, connector, points):
    assert protocol.points_of(protocol.pulse_data(channel, connector, points)) == (channel, connector, points)


@given(st.integers(1, 260), st.integers(10, 4095))
def test_no_charge_remains(steps, width_us):
    points = protocol.balanced(steps * 500, width_us)
    assert sum(point.current_ua * point.width_us for point in points) == 0
    assert points[0] == Point(width_us, steps * 500)


# --- the driver


class Bench:
    def __init__(self, *faults, **options):
        self.model = RehaMoveModel(faults=faults, now_ns=S, **options)
        self.given = []
        self.model.on_pulse = self.given.append
        self.wire = VirtualWire(self.model)
        self.driver = RehaMoveStimulator(self.wire)

    def ready(self, limits=LIMITS):
        self.driver.reset()
        self.driver.set_limits(limits)
        self.driver.feed(1000)
        self.driver.arm()
        return self

    def pulse(self, seq=1, current_ua=5000, width_us=200, ahead_ns=0):
        self.driver.pulse(seq, self.wire.time_ns + ahead_ns, current_ua, width_us)


def test_what_it_lacks_is_said():
    info = Bench().driver.info
    assert (info.most_current_ua, info.most_width_us, info.most_compliance_v) == (130_000, 4095, 150)
    assert info.current_step_ua == 500
    lacks = (info.isolated, info.has_watchdog, info.has_stop, info.has_trigger, info.measures_load, info.reads_back)
    assert not any(lacks)
    assert any("no emergency stop" in note for note in info.notes)


def test_a_pulse_is_followed_by_its_mirror_image():
    bench = Bench().ready()
    bench.pulse(7, 5000, 250)
    (sent,) = [
        packet for data in bench.wire.sent for packet in decoded(data) if packet.command == Command.LL_CHANNEL_CONFIG
    ]
    assert protocol.points_of(sent.data)[2] == [Point(250, 5000), Point(250, -5000)]
    assert [(one.current_ua, one.width_us) for one in bench.given] == [(5000, 250)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"current_ua": 20_500}, "choose up to 20000 uA"),
        ({"current_ua": 5100}, "steps of 500 uA"),
        ({"current_ua": 0}, "no current of 0"),
        ({"current_ua": -5000}, "no current of -5000"),
        ({"width_us": 301}, "choose 10 to 300 us"),
        ({"width_us": 9}, "choose 10 to 300 us"),
        ({"ahead_ns": 2 * MS}, "when it is due"),
    ],
)
def test_the_driver_holds_the_limits_that_the_device_lacks(change, words):
    bench = Bench().ready()
    with pytest.raises(DeviceRefusedError, match=words):
        bench.pulse(**change)
    assert not bench.given
    assert not [data for data in bench.wire.sent if b"\x02\x81\xd4" in data], "nothing went out"


def test_a_pulse_a_moment_ahead_waits_for_its_time():
    bench = Bench().ready()
    at_ns = bench.wire.time_ns + MS // 2
    bench.pulse(ahead_ns=MS // 2)
    assert 0 <= bench.given[0].at_ns - at_ns < 1000


def test_limits_beyond_the_device_are_refused_and_voltage_comes_in_steps():
    bench = Bench()
    bench.driver.reset()
    with pytest.raises(DeviceRefusedError, match="130000"):
        bench.driver.set_limits(DeviceLimits(130_500, 200, 150))
    assert bench.driver.set_limits(DeviceLimits(10_000, 200, 100)).compliance_v == 90
    bench.driver.arm()
    assert bench.model.describe()["volts"] == 90
    with pytest.raises(DeviceRefusedError, match="disarm it first"):
        bench.driver.set_limits(LIMITS)


def test_a_voltage_below_the_lowest_step_cannot_be_armed():
    bench = Bench()
    bench.driver.reset()
    assert bench.driver.set_limits(DeviceLimits(10_000, 200, 29)).compliance_v == 0
    with pytest.raises(DeviceRefusedError, match="no limits"):
        bench.driver.arm()


def test_a_host_that_goes_leaves_the_voltage_on_and_no_pulse():
    """What docs/devices/rehamove3.md warns of."""
    bench = Bench().ready()
    bench.model.host(False, bench.wire.time_ns)
    bench.wire.pass_time(10 * S)
    assert bench.model.describe()["volts"] == 150
    assert not bench.given


def test_stop_and_close_switch_the_voltage_off_behind_a_damaged_packet():
    for end in ("stop", "close"):
        bench = Bench().ready()
        bench.model.receive(LL_STOP[:6], bench.wire.time_ns)
        getattr(bench.driver, end)()
        assert bench.model.describe()["volts"] == 0


def test_another_number_is_refused():
    with pytest.raises(DeviceError, match="RM3-SIM001"):
        RehaMoveStimulator(VirtualWire(RehaMoveModel(now_ns=S)), serial="OTHER")


def test_it_is_never_looked_for():
    with pytest.raises(FieldError, match="port is missing"):
        check_fields(stimulator_fields("rehamove3"), {})


# --- what each fault looks like


def test_mute_and_slow_answers_end_in_time_with_an_error():
    for fault in ("mute", "slow=50"):
        bench = Bench().ready()
        bench.model.add_fault(fault, bench.wire.time_ns)
        before_ns = bench.wire.time_ns
        with pytest.raises(StimulatorError, match="no answer to GET_STIM_STATUS"):
            bench.driver.feed(1000)
        assert bench.wire.time_ns - before_ns < 31 * MS


def test_deaf_nothing_is_stopped():
    """There is no watchdog that would: what the document warns of."""
    bench = Bench().ready()
    bench.model.add_fault("deaf", bench.wire.time_ns)
    bench.driver.stop()
    assert bench.model.describe()["volts"] == 150


@pytest.mark.parametrize(
    ("fault", "words", "given_ua"), [("open", "electrode", 0), ("load=40000", "current was not reached", 3750)]
)
def test_bad_electrodes_are_errors(fault, words, given_ua):
    bench = Bench(fault).ready()
    with pytest.raises(StimulatorError, match=words):
        bench.pulse(current_ua=15_000)
    assert [one.current_ua for one in bench.given] == [given_ua]


@pytest.mark.parametrize(("fault", "given"), [("current=120", (6000, 200)), ("width=150", (5000, 300))])
def test_a_wrong_pulse_is_not_noticed(fault, given):
    """There is no readback: what the document warns of."""
    bench = Bench(fault).ready()
    bench.pulse()
    assert bench.driver.poll() == []
    assert [(one.current_ua, one.width_us) for one in bench.given] == [given]


def test_a_voltage_that_stays_on_is_seen_at_disarm():
    bench = Bench("stuck-relay").ready()
    with pytest.raises(StimulatorError, match="not off"):
        bench.driver.disarm()


def test_a_restart_is_seen_when_it_is_fed_and_a_pulse_is_refused():
    bench = Bench().ready()
    bench.model.add_fault("restart", bench.wire.time_ns)
    bench.wire.pass_time(S)
    with pytest.raises(DeviceRefusedError, match="not initialised"):
        bench.pulse()
    with pytest.raises(StimulatorError, match="was armed and says status 0"):
        bench.driver.feed(1000)
    assert not bench.given


def test_unplugged_it_is_lost():
    bench = Bench().ready()
    bench.model.add_fault("unplug", bench.wire.time_ns)
    with pytest.raises(DeviceLostError):
        bench.driver.feed(1000)


def test_faults_that_it_cannot_have_are_refused():
    for fault in ("dc=5", "no-trigger"):
        with pytest.raises(ValueError, match="not one of a RehaMove3"):
            RehaMoveModel(faults=[fault])
    assert len(KNOWN_FAULTS) == 10
