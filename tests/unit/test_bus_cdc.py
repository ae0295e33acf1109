"""The CDC-ACM device on virtual time: what it says of itself, its lines, and bytes both ways."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgd_drivers.ncs1 import protocol
from emgd_drivers.sim.bus.cdc_device import CdcAcmDevice, UsbIdentity
from emgd_drivers.sim.bus.kinds import KINDS
from emgd_drivers.sim.bus.loopback import MEMORY_BYTES, Loopback
from emgd_drivers.sim.bus.pipe import TransferStatus

IDENTITY = UsbIdentity(0x2341, 0x003E, "Arduino LLC", "Arduino Due", bcd_device=0x0203)
NOTIFY_IN, DATA_OUT, DATA_IN = 0x81, 0x02, 0x83
OK, STALL, BABBLE, CANCELLED, GONE = TransferStatus
MS = 1_000_000

DEVICE = "12 01 0002 020000 40 4123 3e00 0302 01 02 03 01"
CONFIGURATION = """09 02 4300 02 01 00 80 32
    09 04 00 00 01 02 02 01 00  05 24 00 1001  05 24 01 00 01  04 24 02 02  05 24 06 00 01  07 05 81 03 1000 09
    09 04 01 00 02 0a 00 00 00  07 05 02 02 0002 00  07 05 83 02 0002 00"""


class Chatter:
    """A device that says a byte every millisecond, and holds what is not taken."""

    def __init__(self):
        self.said = 0
        self.waiting = b""
        self.heard = b""

    @property
    def blocked(self):
        return bool(self.waiting)

    def connect(self, send):
        self.send = send

    def receive(self, data, now_ns):
        self.heard += data

    def run(self, now_ns):
        due = now_ns // MS
        self.waiting += bytes(number % 256 for number in range(self.said, due))
        self.said = max(self.said, due)
        if self.waiting:
            self.waiting = self.waiting[self.send(self.waiting) :]

    def next_event_ns(self):
        return (self.said + 1) * MS


class Host:
    def __init__(self, model):
        self.device = CdcAcmDevice(model, IDENTITY, "S1")
        self.now_ns = 0
        self.tag = 0

    def ask(self, request_type, request, value=0, index=0, length=0, data=b""):
        self.tag += 1
        setup = struct.pack("<BBHHH", request_type, request, value, index, length or len(data))
        self.device.control(self.tag, setup, data, self.now_ns)
        return self.done()

    def read(self, endpoint=DATA_IN, room=512):
        self.tag += 1
        self.device.submit_in(self.tag, endpoint, room, self.now_ns)
        return self.tag

    def write(self, data):
        self.tag += 1
        self.device.submit_out(self.tag, DATA_OUT, data, self.now_ns)
        return self.tag

    def done(self):
        return self.device.drain(self.now_ns)

    def at(self, now_ns):
        self.now_ns = now_ns
        self.device.run(now_ns)
        return self.done()


@pytest.fixture
def host():
    return Host(Loopback())


@pytest.mark.parametrize(("value", "expected"), [(0x0100, DEVICE), (0x0200, CONFIGURATION)])
def test_what_the_device_says_of_itself(host, value, expected):
    (done,) = host.ask(0x80, 6, value, 0, 255)
    assert done.data == bytes.fromhex(expected)


def test_lines_and_coding(host):
    (coding,) = host.ask(0xA1, 0x21, 0, 0, 7)
    assert coding.data == struct.pack("<IBBB", 115_200, 0, 0, 8)
    wanted = struct.pack("<IBBB", 250_000, 2, 1, 7)
    assert [done.status for done in host.ask(0x21, 0x20, data=wanted)] == [OK]
    (coding,) = host.ask(0xA1, 0x21, 0, 0, 7)
    assert coding.data == wanted
    host.ask(0x21, 0x22, 3)
    assert host.device.report(0) == {"state": "open", "baud": 250_000, "dtr": 1, "rts": 1, "received_bytes": 0}
    assert [done.status for done in host.ask(0x21, 0x23, 100)] == [OK]


@pytest.mark.parametrize(
    ("request_type", "request_", "data"),
    [(0x21, 0x20, b"12345678"), (0x21, 0x24, b""), (0xA1, 0x20, b""), (0x40, 1, b"")],
)
def test_what_it_does_not_know_is_stalled(host, request_type, request_, data):
    assert [done.status for done in host.ask(request_type, request_, data=data)] == [STALL]


def test_rising_dtr_is_answered_by_the_state_of_the_line(host):
    host.ask(0x21, 0x22, 1)
    asked = host.read(NOTIFY_IN, 16)
    (done,) = host.done()
    assert (done.tag, done.data.hex(" ", 1)) == (asked, "a1 20 00 00 00 00 02 00 03 00")
    host.read(NOTIFY_IN, 16)
    assert len(host.ask(0x21, 0x22, 3)) == 1  # DTR was up already
    host.ask(0x21, 0x22, 0)
    assert len(host.ask(0x21, 0x22, 1)) == 2


def test_halted_out_endpoint_takes_nothing_until_it_is_cleared(host):
    host.ask(0x02, 3, 0, DATA_OUT)
    (status,) = host.ask(0x82, 0, 0, DATA_OUT, 2)
    assert status.data == b"\1\0"
    host.write(b"x")
    assert [done.status for done in host.done()] == [STALL]
    host.ask(0x02, 1, 0, DATA_OUT)
    host.write(b"y")
    assert [(done.status, done.moved_bytes) for done in host.done()] == [(OK, 1)]
    host.read()
    assert [done.data for done in host.done()] == [b"y"]


def test_mute_port_holds_what_is_written(host):
    host.device.mute(10 * MS)
    first, second = host.write(b"a"), host.write(b"b")
    host.read()
    assert host.at(9 * MS) == []
    assert host.device.cancel(first)
    assert [(done.tag, done.status) for done in host.done()] == [(first, CANCELLED)]
    found = {done.tag: done for done in host.at(10 * MS)}
    assert found[second].moved_bytes == 1
    assert found[second + 1].data == b"b"


def test_reset_puts_lines_and_coding_back(host):
    host.ask(0x21, 0x22, 3)
    host.ask(0x21, 0x20, data=struct.pack("<IBBB", 9600, 0, 0, 8))
    host.device.reset(0)
    assert host.device.report(0) == {"state": "closed", "baud": 115_200, "dtr": 0, "rts": 0, "received_bytes": 0}
    host.read(NOTIFY_IN, 16)
    assert host.done() == []


def test_bytes_wait_in_the_model_until_the_host_asks():
    model = Chatter()
    host = Host(model)
    assert host.at(5 * MS) == []
    assert model.blocked
    host.read()
    assert [done.data for done in host.done()] == [bytes(range(5))]
    host.read()
    assert [done.data for done in host.at(6 * MS)] == [b"\5"]
    assert host.device.next_event_ns() == 7 * MS


def test_loop_back_plug_loses_what_does_not_fit():
    host = Host(Loopback())
    data = bytes(range(256)) * (MEMORY_BYTES // 256)
    host.write(data)
    host.write(b"too much")
    host.done()
    found = b""
    while len(found) < len(data):
        host.read()
        found += b"".join(done.data for done in host.done())
    assert found == data
    host.read()
    host.read()
    assert b"".join(done.data for done in host.done()) == b""


@settings(deadline=None)
@given(
    writes=st.lists(st.binary(max_size=3000), max_size=10),
    rooms=st.lists(st.sampled_from([512, 1024, 4096]), min_size=1, max_size=10),
)
def test_every_byte_comes_back_in_order(writes, rooms):
    host = Host(Loopback())
    found = b""
    for number, data in enumerate(writes):
        host.read(room=rooms[number % len(rooms)])
        host.write(data)
        found += b"".join(done.data for done in host.done())
    for _ in range(100):
        host.read(room=512)
        found += b"".join(done.data for done in host.done())
    assert found == b"".join(writes)


def test_amplifier_streams_over_the_bus_until_a_fault_unplugs_it():
    options = {field.name: field.default for field in KINDS["cyton"].fields} | {"faults": ["unplug@2"]}
    host = Host(Loopback())
    host.device = KINDS["cyton"].prepare(options)(0)
    host.write(b"b")
    host.read()
    heard = b""
    for now_ms in (4, 8):
        heard += b"".join(done.data for done in host.at(now_ms * MS) if done.data)
        host.read()
    assert not host.device.unplugged
    assert (heard[:2].hex(), heard[33:35].hex(), len(heard)) == ("a000", "a001", 66)
    host.at(12 * MS)
    assert host.device.unplugged


def test_hackeeg_says_who_it_is():
    options = {field.name: field.default for field in KINDS["hackeeg"].fields}
    host = Host(Loopback())
    host.device = KINDS["hackeeg"].prepare(options)(0)
    (done,) = host.ask(0x80, 6, 0x0100, 0, 255)
    assert done.data[8:12].hex() == "41233e00"
    host.read()
    assert [done.data for done in host.at(MS)] == [b"Ready\r\n"]


def test_an_ncs1_on_the_bus_knows_by_dtr_whether_a_host_is_there():
    options = {field.name: field.default for field in KINDS["ncs1"].fields}
    host = Host(Chatter())
    host.device = KINDS["ncs1"].prepare(options)(0)
    info = protocol.encode(protocol.Message(protocol.Kind.INFO, 1))
    host.write(info)
    tag = host.read()
    assert not [done for done in host.at(10 * MS) if done.tag == tag], "without DTR it says nothing"
    host.ask(0x21, 0x22, 1)
    host.write(info)
    (answer,) = [done.data for done in host.at(20 * MS) if done.tag == tag]
    (message,) = protocol.Decoder().feed(answer)
    assert protocol.Info.unpack(message.payload[1:]).serial == "NCS1-SIM001"
    host.ask(0x21, 0x22, 0)
    assert host.device._model.describe()["cause"] == "host_gone"
