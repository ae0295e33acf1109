"""usbredir conversations on virtual time, held against a guest that was written after the protocol's document."""

import struct

import pytest
from bus_rig import RedirClient, Wire
from bus_table import EMG, MS, START, BusTable
from hypothesis import given, settings
from hypothesis import strategies as st

from emgd_drivers.sim.bus.conversation import MAX_IN_FLIGHT, PeerError
from emgd_drivers.sim.bus.pipe import PipeFault
from emgd_drivers.sim.bus.usbredir import UsbRedirConversation
from emgd_drivers.sim.model import Emg8Model


class Table(BusTable):
    """The bus and guests of it."""

    def guest(self, name="amp", *, cut=False, capabilities=RedirClient.ALL):
        conversation = UsbRedirConversation(self.bus.port(name))
        return RedirClient(Wire(conversation, self.clock, cut=cut), capabilities=capabilities)

    def greeted(self, name="amp", **how):
        guest = self.guest(name, **how)
        guest.greet()
        return guest


@pytest.fixture
def table():
    return Table()


def slots(body):
    """Type, interval, interface and packet size of the endpoints that there are, by address."""
    sizes = struct.unpack_from("<32H", body, 96) if len(body) > 96 else [None] * 32
    return {
        (index & 16) << 3 | index & 15: (body[index], body[32 + index], body[64 + index], sizes[index])
        for index in range(32)
        if body[index] != 255
    }


CONTROL = {0x00: (0, 0, 0, 64), 0x80: (0, 0, 0, 64)}


def test_amplifier_introduces_itself(table):
    endpoints, interfaces, device = table.guest().greet()
    assert slots(endpoints) == CONTROL | {0x81: (2, 0, 0, 512)}
    assert interfaces == struct.pack("<I", 1) + b"".join(bytes([byte]).ljust(32, b"\0") for byte in (0, 0xFF, 0, 0))
    assert device == bytes.fromhex("02 ff 00 00 0912 0100 0001")


def test_serial_port_introduces_itself(table):
    endpoints, interfaces, device = table.guest("port").greet()
    assert slots(endpoints) == CONTROL | {0x81: (3, 9, 0, 16), 0x02: (2, 0, 1, 512), 0x83: (2, 0, 1, 512)}
    columns = (b"\0\1", b"\2\x0a", b"\2\0", b"\1\0")
    assert interfaces == struct.pack("<I", 2) + b"".join(column.ljust(32, b"\0") for column in columns)
    assert device == bytes.fromhex("02 02 00 00 4123 3e00 0302")


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("capabilities", [0, 1 << 5, 1 << 6, 1 << 4 | 1 << 1, RedirClient.ALL])
def test_shorter_forms_for_a_guest_that_knows_no_longer_ones(table, capabilities, cut):
    guest = table.guest(capabilities=capabilities, cut=cut)
    endpoints, _, device = guest.greet()
    assert len(endpoints) == (160 if guest.has(4) else 96)
    assert len(device) == (10 if guest.has(1) else 8)
    guest.control(0x40, START)
    wanted = guest.bulk(0x81, 2048)
    table.to(MS)
    (_, started, _), (kind, packet_id, body) = guest.pending()
    assert (started, kind, packet_id) == (wanted - 1, 101, wanted)
    assert guest.unpack_bulk(body)[:3] == (0x81, 0, 64)


def test_stream_equals_the_models_own(table):
    guest = table.greeted()
    ids = [guest.bulk(0x81, 70_000) for _ in range(40)]
    guest.control(0x40, START)
    for now_ns in range(0, 50 * MS, MS // 3):
        table.to(now_ns)
    _, *found = guest.pending()
    alone = Emg8Model(EMG)
    alone.control(struct.pack("<BBHHH", 0x40, START, 0, 0, 0), b"", 0)
    expected = list(zip(ids, alone.poll(50 * MS), strict=False))
    assert [(packet_id, guest.unpack_bulk(body)[3]) for _, packet_id, body in found] == expected


def test_control_packets_and_stall(table):
    guest = table.greeted()
    asked = guest.control(0x80, 6, 0x0100, 0, 18)
    refused = guest.control(0x40, 5, data=struct.pack("<d", 1e9))
    done = guest.control(0x40, 5, data=struct.pack("<d", 2000.0))
    head = "<BBBBHHH"
    assert guest.pending() == [
        (
            100,
            asked,
            struct.pack(head, 0x80, 6, 0x80, 0, 0x0100, 0, 18) + bytes.fromhex("12010002ff00004009120100000101020301"),
        ),
        (100, refused, struct.pack(head, 0, 5, 0x40, 4, 0, 0, 0)),
        (100, done, struct.pack(head, 0, 5, 0x40, 0, 0, 0, 8)),
    ]


def test_configuration_and_alternate_setting(table):
    guest = table.greeted()
    got = guest.send(7)
    assert guest.pending() == [(8, got, b"\0\1")]
    put = guest.send(6, b"\1")
    assert [(kind, packet_id) for kind, packet_id, _ in guest.pending()] == [(5, 0), (4, 0), (8, put)]
    refused = guest.send(6, b"\2")
    assert guest.pending() == [(8, refused, b"\4\2")]
    got = guest.send(10, b"\0")
    assert guest.pending() == [(11, got, b"\0\0\0")]
    put = guest.send(9, b"\0\0")
    assert [(kind, packet_id) for kind, packet_id, _ in guest.pending()] == [(5, 0), (4, 0), (11, put)]
    refused = guest.send(9, b"\0\1")
    assert guest.pending() == [(11, refused, b"\4\0\1")]


def test_cancelled_packet_is_answered_once_as_cancelled(table):
    guest = table.greeted()
    first, second = guest.bulk(0x81, 2048), guest.bulk(0x81, 2048)
    guest.send(21, packet_id=first)
    ((kind, packet_id, body),) = guest.pending()
    assert (kind, packet_id, *guest.unpack_bulk(body)) == (101, first, 0x81, 1, 0, b"")
    guest.control(0x40, START)
    table.to(MS)
    guest.pending()
    guest.send(21, packet_id=second)
    guest.send(21, packet_id=999)
    assert guest.pending() == []


@pytest.mark.parametrize(
    ("ask", "status", "length"),
    [
        (lambda port: port.stall(0), 4, 0),
        (lambda port: port.plan(PipeFault.BABBLE), 6, 2048),
        (lambda port: port.plan(PipeFault.SHORT, keep_bytes=7), 0, 7),
    ],
)
def test_fault_has_its_status(table, ask, status, length):
    guest = table.greeted()
    guest.control(0x40, START)
    guest.pending()
    guest.bulk(0x81, 2048)
    ask(table.bus.port("amp"))
    table.to(MS)
    ((_, _, body),) = guest.pending()
    assert guest.unpack_bulk(body)[1:3] == (status, length)


def test_reset_ends_packets_and_the_stream(table):
    guest = table.greeted()
    guest.control(0x40, START)
    guest.bulk(0x81, 2048)
    guest.pending()
    guest.send(3)
    ((_, _, body),) = guest.pending()
    assert guest.unpack_bulk(body)[1] == 1
    assert table.bus.port("amp").status(MS)["state"] == "idle"


def test_pulled_cable_is_told_and_ends_the_connection(table):
    guest = table.greeted()
    wanted = guest.bulk(0x81, 2048)
    table.bus.port("amp").unplug(MS)
    found = guest.pending()
    assert [(kind, packet_id) for kind, packet_id, _ in found] == [(101, wanted), (2, 0)]
    assert guest.unpack_bulk(found[0][2])[1] == 3
    assert guest.socket.recv(1) == b""
    late = table.guest()
    assert late.socket.recv(1) == b""
    table.bus.port("amp").plug(2 * MS)
    table.greeted()


def test_second_guest_is_sent_away(table):
    table.greeted()
    assert table.guest().socket.recv(1) == b""


def test_serial_port_notifies_and_sends_back(table):
    guest = table.greeted("port")
    started = guest.send(15, b"\x81")
    assert guest.pending() == [(16 + 1, started, b"\0\x81")]
    guest.send(15, b"\x81")
    guest.pending()
    guest.control(0x21, 0x22, 3, 0)
    notified = [body for kind, _, body in guest.pending() if kind == 103]
    assert notified == [struct.pack("<BBH", 0x81, 0, 10) + bytes.fromhex("a1 20 0000 0000 0200 0300")]
    wanted = guest.bulk(0x83, 512)
    sent = guest.bulk(0x02, data=b"hello")
    found = {packet_id: guest.unpack_bulk(body) for _, packet_id, body in guest.pending()}
    assert found == {sent: (2, 0, 5, b""), wanted: (0x83, 0, 5, b"hello")}
    for lines, notifications in ((0, 0), (1, 1), (0, 0), (1, 1)):
        guest.control(0x21, 0x22, lines, 0)
        assert [kind for kind, _, _ in guest.pending()] == [100] + [103] * notifications
    stopped = guest.send(16, b"\x81")
    assert guest.pending() == [(17, stopped, b"\0\x81")]
    guest.control(0x21, 0x22, 0, 0)
    guest.control(0x21, 0x22, 3, 0)
    assert [kind for kind, _, _ in guest.pending()] == [100, 100]


def test_reset_ends_interrupts_without_a_word_and_they_can_be_started_again(table):
    guest = table.greeted("port")
    guest.send(15, b"\x81")
    guest.pending()
    guest.send(3)
    assert guest.pending() == []
    guest.send(15, b"\x81")
    guest.control(0x21, 0x22, 1, 0)
    assert [kind for kind, _, _ in guest.pending()] == [17, 100, 103]


def test_interrupts_of_an_endpoint_without_any_are_refused(table):
    guest = table.greeted()
    started = guest.send(15, b"\x81")
    assert guest.pending() == [(17, started, b"\2\x81")]


def test_halted_interrupt_endpoint_tells_that_it_stopped(table):
    guest = table.greeted("port")
    guest.send(15, b"\x81")
    guest.control(0x02, 3, 0, 0x81)
    assert (17, 0, b"\4\x81") in guest.pending()


@pytest.mark.parametrize(
    ("kind", "body", "complaint"),
    [
        (77, b"", "type 77"),
        (12, b"\1\1\1", "type 12"),
        (100, b"\0" * 9, "CONTROL_PACKET of 9 bytes; it has at least 10"),
        (101, b"\x81" + b"\0" * 7, "ends within its header"),
        (101, b"\2\0\4\0" + b"\0" * 6 + b"abc", "4 announced, 3 there"),
        (101, b"\x81\0\0\0" + b"\0" * 4 + b"\xff\xff", "4294901760 announced"),
        (100, struct.pack("<BBBBHHH", 1, 0, 0x80, 0, 0, 0, 2), "endpoint 1"),
        (100, struct.pack("<BBBBHHH", 0, 5, 0x40, 0, 0, 0, 8) + b"abc", "3 bytes"),
        (22, b"", "its filter refuses the device"),
        (6, b"", "SET_CONFIGURATION of 0 bytes"),
    ],
)
def test_packet_that_makes_no_sense_ends_the_conversation(table, kind, body, complaint):
    guest = table.greeted()
    with pytest.raises(PeerError, match=complaint):
        guest.send(kind, body)


def test_packet_beyond_all_bounds_is_refused_before_it_is_there(table):
    guest = table.greeted()
    with pytest.raises(PeerError, match="a usbredir packet of 4294967295 bytes"):
        guest.socket.sendall(struct.pack("<IIQ", 101, 0xFFFFFFFF, 1))


@pytest.mark.parametrize(("kind", "body"), [(3, b""), (0, b"short")])
def test_hello_comes_first(table, kind, body):
    with pytest.raises(PeerError, match="usbredir begins with a hello"):
        table.guest().send(kind, body)


def test_id_in_flight_may_not_be_used_again(table):
    guest = table.greeted()
    first = guest.bulk(0x81, 512)
    guest.next_id -= 1
    with pytest.raises(PeerError, match=f"packet {first} is in flight already"):
        guest.bulk(0x81, 512)


def test_guest_that_asks_for_too_much_at_once_is_cut_off(table):
    guest = table.greeted()
    for _ in range(MAX_IN_FLIGHT):
        guest.bulk(0x81, 512)
    with pytest.raises(PeerError, match="more than 4096"):
        guest.bulk(0x81, 512)


def test_only_packets_in_flight_count(table):
    guest = table.greeted()
    for _ in range(MAX_IN_FLIGHT + 10):
        asked = guest.control(0xC0, 2, length=64)
        assert [packet_id for _, packet_id, _ in guest.pending()] == [asked]


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.sampled_from([0, 3, 6, 9, 15, 16, 21, 100, 101]))
def test_noise_is_an_error_of_the_peer_or_nothing(noise, greeted, kind):
    table = Table()
    other = table.greeted("port")
    guest = table.guest()
    if greeted:
        guest.greet()
    try:
        if greeted:
            guest.send(kind, noise)
        guest.socket.sendall(noise)
    except PeerError:
        guest.socket.close()
    table.to(MS)
    sent = other.bulk(0x02, data=b"x")
    assert [packet_id for _, packet_id, _ in other.pending()] == [sent]


@settings(deadline=None)
@given(st.data())
def test_every_packet_is_answered_once(data):
    table = Table()
    guest = table.greeted()
    guest.control(0x40, START)
    guest.pending()
    sent, answers = [], []
    for _ in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(["bulk", "cancel", "time", "fault"])):
            case "bulk":
                sent.append(guest.bulk(0x81, data.draw(st.sampled_from([16, 512, 1024]))))
            case "cancel" if sent:
                guest.send(21, packet_id=data.draw(st.sampled_from(sent)))
            case "time":
                table.to(table.clock.now_ns + data.draw(st.integers(0, 3 * MS)))
            case "fault":
                table.bus.port("amp").plan(data.draw(st.sampled_from(list(PipeFault))))
        answers += guest.pending()
    table.bus.port("amp").unplug(table.clock.now_ns)
    *answers, (last, _, _) = answers + guest.pending()
    assert last == 2
    assert sorted(packet_id for _, packet_id, _ in answers) == sorted(sent)
