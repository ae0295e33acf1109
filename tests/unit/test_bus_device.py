"""USB devices of the emulated bus on virtual time, without any transport: requests, transfers, faults, plug state."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgd_drivers.api import RunState
from emgd_drivers.emg8.protocol import (
    FrameFlag,
    FrameStatus,
    FrameType,
    Status,
    decode_frames,
    frame_bytes,
)
from emgd_drivers.sim.bus.descriptors import string_descriptor
from emgd_drivers.sim.bus.emg8_device import Emg8UsbDevice
from emgd_drivers.sim.bus.pipe import PipeFault, TransferStatus, fill
from emgd_drivers.sim.faults import FaultPlan
from emgd_drivers.sim.model import Emg8Model
from emgd_drivers.sim.signal import SyntheticEmg

MS = 1_000_000
CHANNELS, RATE_HZ, N = 4, 4000, 4
EMG = SyntheticEmg(CHANNELS, RATE_HZ, rate_bounds_hz=(RATE_HZ, RATE_HZ))
FRAME_BYTES = frame_bytes(N, CHANNELS, 0)
ROOM = 4096
START, STOP, GET_STATUS = 3, 4, 11
OK, STALL, BABBLE, CANCELLED, GONE = TransferStatus


def model(*faults, signal=EMG, **options):
    return Emg8Model(signal, FaultPlan.parse(faults), serial="EMG8-000001", **options)


class Host:
    """A host that keeps numbers of its own for what it asks."""

    def __init__(self, *faults, **options):
        self.device = Emg8UsbDevice(model(*faults, **options))
        self.now_ns = 0
        self.tag = 0
        self.kept = []

    def ask(self, request_type, request, value=0, index=0, length=0, data=b""):
        """A control transfer; its completion."""
        self.tag += 1
        setup = struct.pack("<BBHHH", request_type, request, value, index, length or len(data))
        self.device.control(self.tag, setup, data, self.now_ns)
        found = self.done()
        (done,) = [each for each in found if each.tag == self.tag]
        self.kept = [each for each in found if each.tag != self.tag]
        return done

    def start(self):
        assert self.ask(0x40, START).status is OK

    def submit(self, count=1, room=ROOM):
        for _ in range(count):
            self.tag += 1
            self.device.submit_in(self.tag, 0x81, room, self.now_ns)
        return self.tag

    def done(self):
        kept, self.kept = self.kept, []
        return kept + self.device.drain(self.now_ns)

    def at(self, now_ns):
        """What ended by then, when somebody looks at each event's instant."""
        found = []
        while (next_ns := self.device.next_event_ns()) is not None and next_ns <= now_ns:
            self.now_ns = max(self.now_ns, next_ns)
            self.device.run(self.now_ns)
            found += self.done()
        self.now_ns = now_ns
        self.device.run(now_ns)
        return found + self.done()

    def status(self):
        return Status.unpack(self.ask(0xC0, GET_STATUS, length=32).data)


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def streaming(host):
    host.start()
    return host


def frames(completions):
    return [frame for done in completions for frame in decode_frames(done.data, CHANNELS)]


# Enumeration: bytes from docs/devices/emg8.md, section 1, and USB 2.0, chapter 9.

DEVICE = "12 01 0002 ff0000 40 0912 0100 0001 01 02 03 01"
CONFIGURATION = "09 02 1900 01 01 00 80 32  09 04 00 00 01 ff 00 00 00  07 05 81 02 0002 00"


@pytest.mark.parametrize(
    ("request_type", "request_", "value", "index", "answer"),
    [
        (0x80, 6, 0x0100, 0, DEVICE),
        (0x80, 6, 0x0200, 0, CONFIGURATION),
        (0x80, 6, 0x0300, 0, "04 03 0904"),
        (0x80, 6, 0x0301, 0x0409, "1a03" + "emgd project".encode("utf-16-le").hex()),
        (0x80, 6, 0x0302, 0x0409, "0a03" + "emg8".encode("utf-16-le").hex()),
        (0x80, 6, 0x0303, 0x0409, "1803" + "EMG8-000001".encode("utf-16-le").hex()),
        (0x80, 0, 0, 0, "0000"),
        (0x80, 8, 0, 0, "01"),
        (0x81, 0, 0, 0, "0000"),
        (0x81, 10, 0, 0, "00"),
        (0x82, 0, 0, 0x81, "0000"),
        (0x82, 0, 0, 0x00, "0000"),
        (0x82, 0, 0, 0x80, "0000"),
        (0xC0, 2, 0, 0, b"EMG8-000001".hex()),
    ],
)
def test_what_the_device_says_of_itself(host, request_type, request_, value, index, answer):
    done = host.ask(request_type, request_, value, index, 255)
    assert (done.status, done.data.hex()) == (OK, answer.replace(" ", ""))
    assert done.moved_bytes == len(done.data)
    assert host.ask(request_type, request_, value, index, 1).data == done.data[:1]


@pytest.mark.parametrize(
    ("request_type", "request_", "value", "index"),
    [
        (0x80, 6, 0x0101, 0),  # another device descriptor
        (0x80, 6, 0x0201, 0),  # a second configuration
        (0x80, 6, 0x0304, 0),  # a fourth string
        (0x80, 6, 0x0600, 0),  # device qualifier
        (0x80, 7, 0, 0),  # SET_DESCRIPTOR
        (0x81, 10, 0, 1),  # another interface
        (0x82, 0, 0, 0x82),  # another endpoint
        (0xC0, 0x33, 0, 0),  # no such vendor request
        (0xC1, 1, 0, 0),  # vendor request to an interface
        (0xA1, 0x21, 0, 0),  # class request
    ],
)
def test_what_the_device_does_not_know_is_stalled(host, request_type, request_, value, index):
    assert host.ask(request_type, request_, value, index, 64).status is STALL
    assert host.ask(0xC0, GET_STATUS, length=32).status is OK
    assert host.device.counts()["refusals"] == 1


@pytest.mark.parametrize(
    ("request_type", "request_", "value", "index", "status"),
    [
        (0x00, 5, 7, 0, OK),
        (0x00, 9, 1, 0, OK),
        (0x00, 9, 2, 0, STALL),
        (0x01, 11, 0, 0, OK),
        (0x01, 11, 1, 0, STALL),
        (0x01, 11, 0, 1, STALL),
        (0x02, 1, 1, 0x81, STALL),
        (0x02, 1, 0, 0x01, STALL),
        (0x02, 1, 0, 0x00, OK),
    ],
)
def test_what_can_be_set(host, request_type, request_, value, index, status):
    assert host.ask(request_type, request_, value, index).status is status


def test_refused_vendor_request_leaves_its_reason_in_get_status(host):
    assert host.ask(0x40, 5, data=struct.pack("<d", 1e9)).status is STALL
    assert host.status().last_error == 2


def test_unconfigured_device_moves_no_data(streaming):
    streaming.submit(2)
    streaming.ask(0x00, 9, 0)
    assert [done.status for done in streaming.done()] == [CANCELLED] * 2
    streaming.submit()
    assert [done.status for done in streaming.done()] == [STALL]
    assert streaming.ask(0x80, 8, length=1).data == b"\0"
    streaming.ask(0x00, 9, 1)
    streaming.submit()
    assert [done.status for done in streaming.at(5 * MS)] == [OK]


def test_string_that_is_too_long_is_refused():
    assert len(string_descriptor("x" * 126)) == 254
    with pytest.raises(ValueError, match="126 characters fit"):
        string_descriptor("x" * 127)


# One frame, one request.


def test_stream_is_the_models_own_byte_for_byte(streaming):
    streaming.submit(50)
    found = streaming.at(60 * MS)
    alone = model()
    alone.control(struct.pack("<BBHHH", 0x40, START, 0, 0, 0), b"", 0)
    assert [done.data for done in found] == alone.poll(60 * MS)[:50]
    assert [done.tag for done in found] == list(range(2, 52))
    assert {done.status for done in found} == {OK}


def test_every_sample_is_there_until_end(streaming):
    streaming.submit(100)
    found = streaming.at(37 * MS)
    streaming.ask(0x40, STOP)
    *data, end = frames(found + streaming.at(38 * MS))
    assert end.type == FrameType.END
    assert np.array_equal(np.concatenate([frame.samples for frame in data]), EMG.read(0, end.first))
    assert streaming.status().samples == end.first


@settings(deadline=None)
@given(count=st.integers(0, 5000), room=st.integers(0, 6000), packet=st.sampled_from([8, 64, 512]))
def test_filling_a_request_is_what_packets_do(count, room, packet):
    """Held against a host controller that takes packet by packet."""
    transfer = bytes(index % 251 for index in range(count))
    packets = [transfer[at : at + packet] for at in range(0, count, packet)]
    if count % packet == 0:
        packets.append(b"")
    taken = b""
    status, left = None, None
    while status is None:
        head = packets.pop(0)
        if len(taken) + len(head) > room:
            taken += head[: room - len(taken)]
            status = BABBLE
        else:
            taken += head
            if len(head) < packet or len(taken) == room:
                status = OK
                left = b"".join(packets) if packets else None
    assert fill(transfer, room, packet) == (status, taken, left)


WHOLE = SyntheticEmg(12, 27_000, rate_bounds_hz=(27_000, 27_000))
"""Its frames have 52 + 3 * 12 * 27 = 1024 bytes, two whole packets."""


@pytest.mark.parametrize(
    ("rooms", "taken"),
    [
        ([2048, 2048], [(OK, 1024), (OK, 1024)]),  # the packet of no bytes ends each request
        ([1024, 1024, 1024], [(OK, 1024), (OK, 0), (OK, 1024)]),  # each is full before, the next gets that packet
        ([512, 512, 512, 512], [(OK, 512), (OK, 512), (OK, 0), (OK, 512)]),
        ([1000, 2048], [(BABBLE, 1000), (OK, 1024)]),  # the second packet does not fit, the frame is lost
        ([0, 2048], [(BABBLE, 0), (OK, 1024)]),
    ],
)
def test_frame_of_whole_packets_is_ended_by_a_packet_of_no_bytes(rooms, taken):
    host = Host(signal=WHOLE)
    host.start()
    for room in rooms:
        host.submit(room=room)
    assert [(done.status, len(done.data)) for done in host.at(10 * MS)] == taken


def test_frame_longer_than_the_buffer_goes_on_in_the_next_request():
    host = Host(signal=WHOLE)
    host.start()
    host.submit(4, room=512)
    host.submit(3, room=2048)
    found = host.at(10 * MS)
    assert [len(done.data) for done in found] == [512, 512, 0, 512, 512, 1024, 1024]
    alone = model(signal=WHOLE)
    alone.control(struct.pack("<BBHHH", 0x40, START, 0, 0, 0), b"", 0)
    assert b"".join(done.data for done in found) == b"".join(alone.poll(10 * MS)[:4])


def test_rest_of_a_frame_is_forgotten_when_a_halt_is_cleared():
    host = Host(signal=WHOLE)
    host.start()
    host.submit(room=512)
    assert len(host.at(MS)) == 1
    host.device.stall()
    assert host.ask(0x02, 1, 0, 0x81).status is OK
    host.submit()
    (done,) = host.at(2 * MS)
    assert [frame.frame_seq for frame in decode_frames(done.data, 12)] == [1]


def test_request_waits_for_a_frame_and_a_frame_for_a_request(streaming):
    streaming.submit()
    assert streaming.at(MS - 300_000) == []
    (first,) = streaming.at(MS)
    assert streaming.at(5 * MS) == []
    streaming.submit(2)
    assert [frame.first for frame in frames([first, *streaming.done()])] == [0, 4, 8]


def test_device_overflows_when_nobody_asks_and_says_so():
    host = Host(fifo_bytes=FRAME_BYTES * 10)
    host.start()
    host.submit(3)
    found = frames(host.at(3 * MS))
    assert host.at(50 * MS) == []
    assert host.device.report(host.now_ns)["fifo_lost_frames"] == 37
    host.submit(100)
    found += frames(host.done() + host.at(60 * MS))
    assert [frame.frame_seq for frame in found] == list(range(len(found)))
    (after,) = [at for at, frame in enumerate(found) if frame.flags & FrameFlag.OVERFLOW]
    assert found[after].first - found[after - 1].first == 4 + host.status().overflowed_samples
    assert host.status().overflowed_samples == 37 * N


# What a host may do with requests.


def test_cancelled_request_takes_no_frame(streaming):
    first = streaming.submit(3) - 2
    assert streaming.device.cancel(first + 1)
    assert not streaming.device.cancel(first + 1)
    assert [(done.tag, done.status) for done in streaming.done()] == [(first + 1, CANCELLED)]
    found = streaming.at(5 * MS)
    assert [done.tag for done in found] == [first, first + 2]
    assert [frame.first for frame in frames(found)] == [0, 4]
    assert not streaming.device.cancel(first)


def test_bus_reset_ends_requests_and_silences_the_device_but_not_its_clock(streaming):
    streaming.submit(4)
    streaming.at(2 * MS)
    streaming.device.reset(streaming.now_ns)
    assert [done.status for done in streaming.done()] == [CANCELLED] * 2
    streaming.submit()
    assert streaming.at(20 * MS) == []
    status = streaming.status()
    assert (status.state, status.samples, status.tick) == (RunState.IDLE, 0, 48_000 * 20)
    streaming.start()
    assert [frame.first for frame in frames(streaming.at(30 * MS))] == [0]


def test_reset_of_the_port_is_a_bus_reset(streaming):
    streaming.submit()
    assert streaming.ask(0x23, 3, 4, 1).status is OK
    assert streaming.device.in_flight() == 0
    assert streaming.device.counts()["resets"] == 1


def test_pulled_cable_ends_every_request(streaming):
    streaming.submit(5)
    streaming.at(2 * MS)
    streaming.device.pull()
    assert [done.status for done in streaming.done()] == [GONE] * 3


# What can be made to go wrong.


def test_halt_lasts_until_the_host_clears_it(streaming):
    streaming.submit(5)
    streaming.at(2 * MS)
    streaming.device.stall()
    assert [done.status for done in streaming.done()] == [STALL] * 3
    assert streaming.ask(0x82, 0, 0, 0x81, 2).data == b"\1\0"
    streaming.submit()
    assert [done.status for done in streaming.at(5 * MS)] == [STALL]
    assert streaming.ask(0x02, 1, 0, 0x81).status is OK
    assert streaming.ask(0x82, 0, 0, 0x81, 2).data == b"\0\0"
    streaming.submit(4)
    assert [frame.first for frame in frames(streaming.done() + streaming.at(6 * MS))] == [8, 12, 16, 20]


def test_host_can_halt_an_endpoint_itself(streaming):
    assert streaming.ask(0x02, 3, 0, 0x81).status is OK
    streaming.submit()
    assert [done.status for done in streaming.done()] == [STALL]


@pytest.mark.parametrize(
    ("kind", "keep_bytes", "status", "seen"),
    [
        (PipeFault.SHORT, None, OK, FrameStatus.TRUNCATED),
        (PipeFault.SHORT, 0, OK, None),
        (PipeFault.SHORT, 10_000, OK, FrameStatus.TRUNCATED),
        (PipeFault.CORRUPT, None, OK, FrameStatus.CORRUPT),
        (PipeFault.BABBLE, None, BABBLE, FrameStatus.GOOD),
    ],
)
def test_fault_hits_the_next_transfer_and_no_other(streaming, kind, keep_bytes, status, seen):
    streaming.submit(4)
    before = streaming.at(MS)
    streaming.device.plan(kind, keep_bytes=keep_bytes)
    hit, *after = streaming.at(4 * MS)
    assert hit.status is status
    assert [frame.status for frame in decode_frames(hit.data, CHANNELS)][:1] == ([seen] if seen is not None else [])
    assert (
        len(hit.data)
        == {
            (PipeFault.SHORT, None): FRAME_BYTES // 2,
            (PipeFault.SHORT, 0): 0,
            (PipeFault.SHORT, 10_000): FRAME_BYTES - 1,
            (PipeFault.CORRUPT, None): FRAME_BYTES,
            (PipeFault.BABBLE, None): ROOM,
        }[kind, keep_bytes]
    )
    assert [frame.first for frame in frames([*before, *after])] == [0, 8, 12]
    assert streaming.device.faults_done() == {kind.value: 1}


def test_dropped_transfers_leave_a_hole_in_the_frame_sequence(streaming):
    streaming.device.plan(PipeFault.DROP, times=3)
    streaming.submit(4)
    assert [frame.frame_seq for frame in frames(streaming.at(7 * MS))] == [3, 4, 5, 6]
    assert streaming.device.faults_done() == {"drop": 3}


def test_faults_come_one_for_each_transfer_in_the_order_asked_for(streaming):
    for kind in (PipeFault.CORRUPT, PipeFault.DROP, PipeFault.SHORT):
        streaming.device.plan(kind)
    streaming.submit(3)
    found = frames(streaming.at(4 * MS))
    assert [(frame.status, frame.frame_seq) for frame in found] == [
        (FrameStatus.CORRUPT, 0),
        (FrameStatus.TRUNCATED, 2),
        (FrameStatus.GOOD, 3),
    ]


def test_mute_device_completes_nothing_and_then_all_that_waited(streaming):
    streaming.submit(20)
    streaming.at(2 * MS)
    streaming.device.mute(10 * MS)
    setup = struct.pack("<BBHHH", 0xC0, GET_STATUS, 0, 0, 32)
    streaming.device.control(1000, setup, b"", streaming.now_ns)
    streaming.device.control(1001, setup, b"", streaming.now_ns)
    assert streaming.at(10 * MS - 1) == []
    assert streaming.device.cancel(1000)
    assert [(done.tag, done.status) for done in streaming.done()] == [(1000, CANCELLED)]
    assert streaming.device.next_event_ns() == 10 * MS
    found = streaming.at(12 * MS)
    assert [done.tag for done in found if done.endpoint == 0] == [1001]
    assert [frame.first for frame in frames(done for done in found if done.endpoint)] == list(range(8, 48, 4))


def test_mute_device_still_fills_its_fifo():
    host = Host(fifo_bytes=FRAME_BYTES * 10)
    host.start()
    host.submit(100)
    host.device.mute(50 * MS)
    found = frames(host.at(55 * MS))
    assert host.status().overflowed_samples == pytest.approx(40 * N, abs=N)
    assert [frame.first for frame in found][:10] == list(range(0, 40, 4))
    assert found[10].flags & FrameFlag.OVERFLOW


@pytest.mark.parametrize("end", ["reset", "pull"])
def test_what_a_mute_device_withheld_is_never_known(streaming, end):
    streaming.device.mute(10 * MS)
    streaming.device.control(1000, struct.pack("<BBHHH", 0xC0, GET_STATUS, 0, 0, 32), b"", 0)
    if end == "reset":
        streaming.device.reset(MS)
    else:
        streaming.device.pull()
    assert [(done.tag, done.status) for done in streaming.done()] == [(1000, CANCELLED if end == "reset" else GONE)]


def test_plan_of_the_model_can_pull_the_cable():
    host = Host("unplug@5")
    host.start()
    host.submit(20)
    assert len(host.at(20 * MS)) == 5
    assert host.device.unplugged
    assert host.ask(0xC0, GET_STATUS, length=32).status is STALL


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["time", "submit", "cancel", "clear"]), st.integers(0, 20)), max_size=60)
)
def test_no_request_is_answered_twice_or_forgotten_and_no_frame_gets_lost(steps):
    host = Host()
    host.start()
    asked, done = [], []
    for what, amount in steps:
        if what == "time":
            done += host.at(host.now_ns + amount * 300_000)
        elif what == "submit":
            first = host.tag + 1
            asked += range(first, host.submit(amount) + 1)
        elif what == "cancel" and asked:
            host.device.cancel(asked[amount % len(asked)])
        elif what == "clear":
            assert host.ask(0x02, 1, 0, 0x81).status is OK
    done += host.done()
    tags = [each.tag for each in done]
    assert len(tags) == len(set(tags))
    assert len(asked) - len(tags) == host.device.in_flight()
    got = [each for each in done if each.status is OK]
    assert [frame.first for frame in frames(got)] == list(range(0, 4 * len(got), 4))
