"""USB/IP conversations on virtual time: bytes as the kernel's document has them, held against a client of its own."""

import contextlib
import struct

import pytest
from bus_rig import UsbIpClient, UsbIpError, Wire
from bus_table import EMG, MS, START, BusTable
from hypothesis import given, settings
from hypothesis import strategies as st

from emgd_drivers.emg8.protocol import decode_frames
from emgd_drivers.sim.bus.conversation import MAX_IN_FLIGHT, PeerError
from emgd_drivers.sim.bus.pipe import PipeFault
from emgd_drivers.sim.bus.usbip import UsbIpConversation
from emgd_drivers.sim.model import Emg8Model

IN, OUT = 0xC0, 0x40


class Table(BusTable):
    """The bus and clients of it."""

    def client(self, *, cut=False):
        return UsbIpClient(Wire(UsbIpConversation(self.bus), self.clock, cut=cut))

    def attached(self, bus_id="1-1", *, cut=False):
        client = self.client(cut=cut)
        assert client.attach(bus_id)[0] == 0
        return client


@pytest.fixture
def table():
    return Table()


def setup(request_type, request, value=0, index=0, length=0):
    return struct.pack("<BBHHH", request_type, request, value, index, length)


RECORD_TAIL = "00000001 00000002 00000003 1209 0001 0100 ff 00 00 01 01 01"


def record(bus_id, tail):
    path = f"/sys/devices/emgd/usb1/{bus_id}".encode().ljust(256, b"\0")
    return path + bus_id.encode().ljust(32, b"\0") + bytes.fromhex(tail)


def test_list_has_the_bytes_of_the_kernels_document(table):
    expected = bytes.fromhex("0111 0005 00000000 00000002")
    expected += record("1-1", RECORD_TAIL) + bytes.fromhex("ff000000")
    expected += record("1-2", "00000001 00000003 00000003 2341 003e 0203 02 00 00 01 01 02")
    expected += bytes.fromhex("02020100 0a000000")
    assert table.client().list() == expected


def test_import_has_the_bytes_of_the_kernels_document(table):
    assert table.client().attach("1-1") == (0, record("1-1", RECORD_TAIL))


@pytest.mark.parametrize(("bus_id", "status"), [("1-3", 4), ("", 4), ("1-1" * 10, 4), ("1-2", 2)])
def test_device_that_cannot_be_had_is_refused_by_status(table, bus_id, status):
    table.attached("1-2")
    assert table.client().attach(bus_id) == (status, b"")


def test_unplugged_device_is_neither_listed_nor_given(table):
    table.bus.port("amp").unplug(0)
    assert table.client().list()[:12] == bytes.fromhex("0111 0005 00000000 00000001")
    assert table.client().attach("1-1") == (4, b"")


def test_golden_bytes_of_one_control_request(table):
    client = table.attached()
    client.socket.sendall(
        bytes.fromhex(
            "00000001 00000d05 00010002 00000001 0000000000000200 00000012 00000000 ffffffff 00000000 8006000100001200"
        )
    )
    assert client.exactly(48 + 18) == bytes.fromhex(
        "00000003 00000d05 00000000 00000000 00000000  00000000 00000012 00000000 00000000 00000000  0000000000000000"
        "12010002ff00004009120100000101020301"
    )


def test_bytes_may_come_one_by_one(table):
    client = table.attached(cut=True)
    assert client.control_in(IN, 2) == b"A1"
    with pytest.raises(UsbIpError, match="32"):
        client.control_out(OUT, 5, data=struct.pack("<d", 1e9))
    assert client.control_out(OUT, 5, data=struct.pack("<d", 2000.0)) == 8


def test_stream_equals_the_models_own(table):
    client = table.attached()
    tags = [client.submit(1, 4096) for _ in range(40)]
    client.control_out_now = client.submit(0, data=b"", setup=setup(OUT, START))
    for now_ns in range(0, 50 * MS, MS // 3):
        table.to(now_ns)
    answers = client.pending()
    alone = Emg8Model(EMG)
    alone.control(setup(OUT, START), b"", 0)
    assert answers[0][1] == client.control_out_now
    assert [(seq, data) for _, seq, _, data in answers[1:]] == list(zip(tags, alone.poll(50 * MS), strict=False))


def test_unlinked_request_is_answered_once_and_as_unlinked(table):
    client = table.attached()
    first, second = client.submit(1, 4096), client.submit(1, 4096)
    unlink = client.unlink(first)
    assert client.pending() == [(4, unlink, -104, b"")]
    client.control_out(OUT, START)
    table.to(MS)
    (answer,) = client.pending()
    assert answer[:3] == (3, second, 0)
    late, never = client.unlink(second), client.unlink(99)
    assert client.pending() == [(4, late, 0, b""), (4, never, 0, b"")]


def test_pulled_cable_ends_requests_and_then_the_connection(table):
    client = table.attached()
    tags = [client.submit(1, 4096) for _ in range(3)]
    table.bus.port("amp").unplug(MS)
    assert client.pending() == [(3, tag, -108, b"") for tag in tags]
    assert client.everything() == b""
    table.bus.port("amp").plug(2 * MS)
    again = table.attached()
    assert again.control_in(IN, 2) == b"A1"
    assert client.everything() == b""  # The old connection does not come back to life.


def test_replugged_device_is_fresh(table):
    client = table.attached()
    client.control_out(OUT, START)
    table.to(1000 * MS)
    port = table.bus.port("amp")
    port.unplug(1000 * MS)
    assert port.status(1000 * MS)["samples"] == 4001
    port.plug(1500 * MS)
    table.clock.now_ns = 1500 * MS
    client = table.attached()
    state, _, _, samples, _, tick = struct.unpack("<BB2xIQQQ", client.control_in(IN, 11, length=32))
    assert (state, samples, tick) == (0, 0, 0)


def test_client_that_leaves_frees_the_device_and_silences_it(table):
    client = table.attached()
    client.submit(1, 4096)
    client.control_out(OUT, START)
    client.close()
    assert table.bus.port("amp").status(MS)["state"] == "idle"
    again = table.attached()
    assert again.control_in(IN, 2) == b"A1"
    assert again.pending() == []


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda port: port.stall(0), (-32, 0)),
        (lambda port: port.plan(PipeFault.BABBLE), (-75, 4096)),
        (lambda port: port.plan(PipeFault.SHORT, keep_bytes=7), (0, 7)),
        (lambda port: port.plan(PipeFault.CORRUPT), (0, 64)),
    ],
)
def test_fault_has_its_error_number(table, ask, answer):
    client = table.attached()
    client.control_out(OUT, START)
    seq = client.submit(1, 4096)
    ask(table.bus.port("amp"))
    table.to(MS)
    ((_, found, status, data),) = client.pending()
    assert (found, status, len(data)) == (seq, *answer)


def test_serial_port_beside_the_amplifier(table):
    amp, port = table.attached("1-1"), table.attached("1-2")
    amp.control_out(OUT, START)
    asked = port.submit(3, 1024)
    frame = amp.submit(1, 4096)
    sent = port.submit(2, data=b"hello")
    table.to(MS)
    assert port.pending() == [(3, sent, 0, 5), (3, asked, 0, b"hello")]
    assert [seq for _, seq, _, _ in amp.pending()] == [frame]


URB = "00000001 00000001 00010002 00000001 00000001 00000000 00000200 00000000 00000000 00000000 0000000000000000"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("0106 8005 00000000", "version 0x0106; 0x0111 is spoken here"),
        ("0111 8004 00000000", "no USB/IP operation 0x8004"),
        ("0111 0005 00000000", "no USB/IP operation 0x0005"),
    ],
)
def test_operation_that_makes_no_sense_ends_the_conversation(table, data, complaint):
    with pytest.raises(PeerError, match=complaint):
        table.client().socket.sendall(bytes.fromhex(data))


@pytest.mark.parametrize(
    ("at", "word", "complaint"),
    [
        (0, 5, "no USB/IP command 5"),
        (0, 3, "no USB/IP command 3"),
        (8, 0x00010003, "it names device 0x00010003; it has imported 0x00010002"),
        (12, 2, "endpoint 1, direction 2"),
        (16, 16, "endpoint 16"),
        (24, 1024 * 1024 + 1, "1048577 bytes"),
        (24, 0xFFFFFFFF, "-1 bytes"),
        (32, 8, "isochronous"),
    ],
)
def test_request_that_makes_no_sense_ends_the_conversation(table, at, word, complaint):
    client = table.attached()
    broken = bytearray.fromhex(URB)
    broken[at : at + 4] = word.to_bytes(4, "big")
    with pytest.raises(PeerError, match=complaint):
        client.socket.sendall(bytes(broken))


def test_control_request_must_agree_with_its_setup_packet(table):
    client = table.attached()
    with pytest.raises(PeerError, match="does not go with 8 bytes"):
        client.submit(0, 8, setup=setup(IN, 2, length=64))
    client = table.client()
    table.bus.port("amp").host = None
    client.attach()
    with pytest.raises(PeerError, match="does not go with 8 bytes"):
        client.submit(0, data=bytes(8), setup=setup(IN, 2, length=8))


def test_number_that_is_in_flight_may_not_be_used_again(table):
    client = table.attached()
    client.socket.sendall(bytes.fromhex(URB))
    with pytest.raises(PeerError, match="request 1 is in flight already"):
        client.socket.sendall(bytes.fromhex(URB))


def test_host_that_asks_for_too_much_at_once_is_cut_off(table):
    client = table.attached()
    for _ in range(MAX_IN_FLIGHT):
        client.submit(1, 512)
    with pytest.raises(PeerError, match="more than 4096 requests are in flight"):
        client.submit(1, 512)


def test_only_requests_in_flight_count(table):
    client = table.attached()
    for _ in range(MAX_IN_FLIGHT + 10):
        assert client.control_in(IN, 2) == b"A1"


@settings(deadline=None)
@given(st.binary(max_size=400), st.booleans(), st.integers(0, 47))
def test_noise_is_an_error_of_the_peer_or_nothing(noise, attached, prefix):
    """Whatever comes, the conversation ends in its own way or goes on; the other device is not disturbed."""
    table = Table()
    other = table.attached("1-2")
    client = table.attached("1-1") if attached else table.client()
    head = bytes.fromhex(URB)[:prefix] if attached else bytes.fromhex("0111 8003 00000000")[: prefix % 9]
    with contextlib.suppress(PeerError):
        client.socket.sendall(head + noise)
    client.close()
    table.to(MS)
    sent = other.submit(2, data=b"x")
    assert other.pending() == [(3, sent, 0, 1)]


@settings(deadline=None)
@given(st.data())
def test_every_request_is_answered_once(data):
    table = Table()
    client = table.attached()
    client.control_out(OUT, START)
    submitted, unlinks, answers = [], {}, []
    for _ in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(["submit", "unlink", "time", "fault"])):
            case "submit":
                submitted.append(client.submit(1, data.draw(st.sampled_from([16, 512, 1024]))))
            case "unlink" if submitted:
                victim = data.draw(st.sampled_from(submitted))
                unlinks[client.unlink(victim)] = victim
            case "time":
                table.to(table.clock.now_ns + data.draw(st.integers(0, 3 * MS)))
            case "fault":
                table.bus.port("amp").plan(data.draw(st.sampled_from(list(PipeFault))))
        answers += client.pending()
    table.bus.port("amp").unplug(table.clock.now_ns)
    answers += client.pending()
    ended = [seq for command, seq, _, _ in answers if command == 3]
    taken_back = [unlinks[seq] for command, seq, status, _ in answers if command == 4 and status == -104]
    assert sorted(ended + taken_back) == submitted
    assert sorted(seq for command, seq, _, _ in answers if command == 4) == sorted(unlinks)


def test_frames_of_a_stream_decode(table):
    client = table.attached()
    client.control_out(OUT, START)
    for _ in range(5):
        client.submit(1, 4096)
    table.to(5 * MS)
    frames = [frame for _, _, _, data in client.pending() for frame in decode_frames(data, 1)]
    assert [frame.first for frame in frames] == [0, 4, 8, 12, 16]
