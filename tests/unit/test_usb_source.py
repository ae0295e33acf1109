"""The bulk source against a libusb that does what the test says: every way in which a transfer can end."""

import ctypes
import errno
import gc
import subprocess
import threading
import time
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import end_frame, frame, ramp

from emgd import filters
from emgd_drivers.emg8 import protocol
from emgd_ext import ring as planes
from emgd_ext.clock import ClockModel
from emgd_ext.emg8 import Emg8Decoder
from emgd_ext.loop import SampleLoop
from emgd_ext.ring import Ring
from emgd_ext.usb import BulkSource, libusb_version
from paths import ROOT

COMPLETED, ERROR, TIMED_OUT, CANCELLED, STALL, NO_DEVICE, OVERFLOW = range(7)
IO, ACCESS, GONE, BUSY, PIPE, NO_MEM, OTHER = -1, -3, -4, -6, -9, -11, -99
COUNT, EACH = 4, 64


@pytest.fixture(scope="session")
def fake_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("fake") / "libusb-fake.so"
    source = ROOT / "tests" / "unit" / "fake_libusb.c"
    include = ROOT / "ext" / "emgd_ext" / "c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-I", include, "-o", path, source], check=True)
    return str(path)


class Fake:
    """The test's hand on the fake library."""

    def __init__(self, path):
        self.path = path
        self.library = ctypes.CDLL(path)
        self.library.fake_reset()

    def __getattr__(self, name):
        return ctypes.c_int.in_dll(self.library, f"fake_{name}").value

    def set(self, **values):
        for name, value in values.items():
            ctypes.c_int.in_dll(self.library, f"fake_{name}").value = value

    def plan(self, *outcomes, place=0):
        for status, length, fill in outcomes:
            self.library.fake_plan(place, status, length, fill)

    def plan_frames(self, frames):
        self.kept = frames
        for data in frames:
            self.library.fake_plan_data(data, len(data))

    @property
    def in_flight(self):
        return self.library.fake_in_flight()

    def open(self, transfers=COUNT, transfer_bytes=EACH):
        return BulkSource(self.path, 1, 2, 0, 0x81, transfers, transfer_bytes)

    @property
    def left(self):
        return {name: getattr(self, name) for name in ("contexts", "handles", "claimed", "allocated", "device_refs")}


NOTHING_LEFT = dict.fromkeys(("contexts", "handles", "claimed", "allocated", "device_refs"), 0)


@pytest.fixture
def fake(fake_path):
    made = Fake(fake_path)
    yield made
    gc.collect()
    assert made.left == NOTHING_LEFT


@pytest.fixture
def source(fake):
    made = fake.open()
    yield made
    made.close()


def data(fill, length=10):
    return (COMPLETED, length, fill)


def received(source, count, timeout_ms=20):
    return [source.receive(timeout_ms) for _ in range(count)]


def gone(source, tries=40):
    """Is it gone within so many reads?"""
    for _ in range(tries):
        try:
            source.receive(20)
        except EOFError:
            return True
    return False


def test_the_version_of_a_library_is_told(fake_path):
    assert libusb_version(fake_path) == "1.2.3"


def test_a_library_that_is_missing_or_lacks_something_is_refused_with_the_reason(tmp_path):
    with pytest.raises(OSError, match=r"libusb cannot be loaded from /nowhere/x\.so: .*No such file"):
        libusb_version("/nowhere/x.so")
    empty = tmp_path / "empty.so"
    (tmp_path / "empty.c").write_text("int nothing;\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", empty, tmp_path / "empty.c"], check=True)
    with pytest.raises(OSError, match="it has no libusb_get_version"):
        libusb_version(str(empty))


def test_all_transfers_are_in_flight_before_anything_is_read(fake, source):
    assert fake.in_flight == source.stats()["in_flight"] == COUNT
    assert fake.claimed == 1
    assert fake.detach == 1, "a kernel driver makes way"


def test_transfers_come_one_at_a_time_in_order_and_go_back_in_flight(fake, source):
    fake.plan(*(data(number, 1 + number) for number in range(30)))
    assert received(source, 30) == [bytes([number]) * (1 + number) for number in range(30)]
    assert source.receive(1) is None
    assert fake.in_flight == COUNT
    assert source.stats()["completed"] == 30


def test_transfers_that_are_over_out_of_order_are_handed_over_in_order(fake, source):
    fake.plan(data(1), place=1)
    fake.plan(data(2), place=1)
    assert source.receive(5) is None
    fake.plan(data(0))
    assert [got[0] for got in received(source, 3)] == [0, 1, 2]


def test_how_late_the_loop_was_is_counted(fake, source):
    fake.plan(data(1), data(2), data(3))
    received(source, 3)
    assert source.stats()["most_waiting"] == 3


def test_a_silent_device_is_waited_for_no_longer_than_asked(source):
    before = time.monotonic()
    assert source.receive(30) is None
    assert time.monotonic() - before >= 0.03


def test_an_empty_transfer_is_counted_and_skipped(fake, source):
    fake.plan((COMPLETED, 0, 0), data(7))
    assert source.receive(20) == b"\x07" * 10
    assert source.stats()["empty"] == 1


def test_nothing_but_empty_transfers_is_silence(fake, source):
    fake.plan(*[(COMPLETED, 0, 0)] * 2000)
    before = time.monotonic()
    assert source.receive(10) is None
    assert time.monotonic() - before < 1


def test_a_transfer_that_is_filled_to_the_last_byte_is_counted(fake, source):
    fake.plan(data(1, EACH))
    assert source.receive(20) == b"\x01" * EACH
    assert source.stats()["full"] == 1


def test_a_stall_is_cleared_and_the_stream_goes_on(fake, source):
    fake.plan(data(1), (STALL, 0, 0))
    assert source.receive(20) == b"\x01" * 10
    assert source.receive(20) is None
    assert fake.clears == 1
    assert fake.in_flight == COUNT
    fake.plan(data(2))
    assert source.receive(20) == b"\x02" * 10
    stats = source.stats()
    assert (stats["stalls"], stats["recoveries"], stats["cancelled"]) == (1, 1, 0)


def test_a_halt_is_not_cleared_before_all_that_was_in_flight_is_over(fake, source):
    fake.set(stuck=1)
    fake.plan((STALL, 0, 0))
    assert source.receive(5) is None
    assert fake.cancels == COUNT - 1
    assert fake.clears == 0
    assert fake.submits == COUNT
    fake.set(stuck=0)
    source.receive(5)
    assert fake.clears == 1


def test_what_a_cancelled_transfer_still_brought_is_handed_over(fake, source):
    fake.set(cancelled_bytes=5)
    fake.plan((STALL, 3, 9))
    assert received(source, 2) == [b"\x09" * 3, b"\xca" * 5]
    assert source.stats()["cancelled"] == 0, "that was us"


def test_stalls_without_a_byte_in_between_end_the_stream_after_a_while(fake, source):
    fake.set(stall_on_submit=1)
    before = time.monotonic()
    assert gone(source)
    assert 0.1 < time.monotonic() - before < 2, "the pauses grow, so that a device may come to its senses"
    assert fake.clears == 8
    with pytest.raises(EOFError):
        source.receive(0)


def test_stalls_with_bytes_in_between_never_end_it(fake, source):
    for number in range(30):
        fake.plan((STALL, 0, 0), data(number))
        got = [got for got in received(source, 2) if got]
        assert got == [bytes([number]) * 10]
    assert source.stats()["stalls"] == 30


def test_a_halt_that_cannot_be_cleared_because_the_device_left_ends_it(fake, source):
    fake.set(clear_code=GONE)
    fake.plan((STALL, 0, 0))
    assert gone(source)


def test_a_halt_that_cannot_be_cleared_otherwise_is_tried_again(fake, source):
    fake.set(clear_code=OTHER, stall_on_submit=1)
    assert source.receive(1) is None
    fake.set(clear_code=0, stall_on_submit=0)
    source.receive(20)
    fake.plan(data(5))
    assert b"\x05" * 10 in received(source, 3)


def test_an_overflow_is_said_and_the_stream_goes_on(fake, source):
    fake.plan((OVERFLOW, EACH, 1), data(2))
    assert source.receive(20) == b"", "too long: part of it is lost"
    assert [got for got in received(source, 2) if got] == [b"\x02" * 10]
    assert source.stats()["overflows"] == 1
    assert fake.clears == 1


def test_a_bus_error_brings_what_came_before_it_and_the_stream_goes_on(fake, source):
    fake.plan((ERROR, 3, 1))
    assert source.receive(20) == b"\x01" * 3
    source.receive(5)
    fake.plan(data(2))
    assert source.receive(20) == b"\x02" * 10
    stats = source.stats()
    assert (stats["errors"], stats["recoveries"]) == (1, 1)


def test_an_outcome_that_libusb_does_not_have_yet_counts_as_error(fake, source):
    fake.plan((42, 0, 0))
    source.receive(5)
    assert source.stats()["errors"] == 1


def test_a_transfer_that_somebody_else_cancelled_is_counted(fake, source):
    fake.plan((CANCELLED, 0, 0))
    source.receive(5)
    source.receive(5)
    assert source.stats()["cancelled"] == 1
    assert fake.in_flight == COUNT


def test_a_timed_out_transfer_brings_what_it_has_and_goes_back(fake, source):
    fake.plan((TIMED_OUT, 4, 1), (TIMED_OUT, 0, 0), data(2))
    assert received(source, 2) == [b"\x01" * 4, b"\x02" * 10]
    stats = source.stats()
    assert (stats["timed_out"], stats["recoveries"]) == (2, 0)


def test_a_device_that_leaves_is_gone_after_its_last_bytes(fake, source):
    fake.plan(data(1), data(2), *[(NO_DEVICE, 0, 0)] * (COUNT + 2))
    fake.set(submit_code=GONE, submit_failures=1000)
    assert received(source, 2) == [b"\x01" * 10, b"\x02" * 10]
    with pytest.raises(EOFError):
        source.receive(20)


def test_a_device_that_leaves_is_gone_even_if_nothing_comes_back(fake, source):
    fake.set(submit_code=GONE, submit_failures=1000)
    fake.plan(data(1))
    source.receive(20)
    before = time.monotonic()
    assert gone(source)
    assert time.monotonic() - before < 1


def test_a_kernel_that_takes_no_transfer_for_a_while_is_asked_again(fake, source):
    fake.set(submit_code=NO_MEM, submit_failures=2)
    fake.plan(*(data(number) for number in range(6)))
    assert [got[0] for got in received(source, 6)] == list(range(6))
    assert source.stats()["failed_submits"] == 2
    source.receive(1)
    assert source.stats()["in_flight"] == COUNT


def test_a_kernel_that_takes_no_transfer_any_more_ends_the_stream(fake, source):
    fake.set(submit_code=NO_MEM, submit_failures=10_000)
    fake.plan(*(data(number) for number in range(COUNT)))
    assert len(received(source, COUNT)) == COUNT
    assert gone(source)


def test_events_that_cannot_be_fetched_end_the_stream_after_a_while(fake, source):
    fake.set(event_code=IO)
    assert gone(source)
    assert source.stats()["failed_events"] > 1
    fake.set(event_code=0)


def test_an_interrupted_wait_is_no_failure(fake, source):
    fake.set(event_code=-10)
    assert source.receive(1) is None
    fake.set(event_code=0)
    fake.plan(data(1))
    assert source.receive(20) == b"\x01" * 10
    assert source.stats()["failed_events"] == 0


@pytest.mark.parametrize(
    ("setting", "error", "text"),
    [
        ({"init_code": OTHER}, errno.EIO, "libusb could not be started"),
        ({"open_code": ACCESS}, errno.EACCES, "it could not be opened"),
        ({"open_code": GONE}, errno.ENODEV, "it could not be opened"),
        ({"claim_code": BUSY}, errno.EBUSY, "its interface could not be claimed"),
        ({"submit_code": NO_MEM, "submit_failures": 1}, errno.ENOMEM, "no transfers could be submitted"),
    ],
)
def test_what_cannot_be_opened_says_why_and_leaves_nothing_open(fake, setting, error, text):
    fake.set(**setting)
    with pytest.raises(OSError, match=text) as caught:
        fake.open()
    assert caught.value.errno == error
    assert fake.left == NOTHING_LEFT


def test_only_some_transfers_being_taken_at_first_is_a_failure_and_leaves_nothing_open(fake):
    fake.set(submit_code=NO_MEM, submit_good=COUNT - 1, submit_failures=1)
    with pytest.raises(OSError, match="no transfers could be submitted"):
        fake.open()
    assert fake.in_flight == 0


def test_a_want_of_memory_leaves_nothing_open(fake):
    with pytest.raises(OSError, match="no memory") as caught:
        fake.open(transfers=5000)
    assert caught.value.errno == errno.ENOMEM
    assert fake.left == NOTHING_LEFT


def test_a_device_that_is_not_on_the_bus_is_said(fake):
    with pytest.raises(OSError, match="not on the bus") as caught:
        BulkSource(fake.path, 1, 3, 0, 0x81, COUNT, EACH)
    assert caught.value.errno == errno.ENODEV


def test_no_transfers_are_a_mistake(fake):
    with pytest.raises(ValueError, match="at least one"):
        fake.open(transfers=0)


def test_closing_reaps_everything_and_twice_does_no_harm(fake):
    source = fake.open()
    source.close()
    source.close()
    assert fake.left == NOTHING_LEFT
    assert fake.in_flight == 0
    with pytest.raises(EOFError):
        source.receive(10)


def test_closing_is_bounded_when_transfers_never_come_back(fake):
    source = fake.open()
    fake.set(stuck=1)
    before = time.monotonic()
    source.close()
    assert 0.5 < time.monotonic() - before < 3
    assert source.stats()["abandoned"] == COUNT
    assert fake.left == NOTHING_LEFT


def test_a_source_that_nobody_holds_any_more_closes(fake):
    fake.open()
    gc.collect()
    assert fake.left == NOTHING_LEFT


def test_closing_beside_a_reader_tells_the_reader(fake):
    source = fake.open()
    fake.plan(*(data(number) for number in range(50)))
    seen = []

    def read():
        try:
            while True:
                seen.append(source.receive(50))
        except EOFError:
            seen.append("gone")

    thread = threading.Thread(target=read)
    thread.start()
    while len(seen) < 50:
        time.sleep(0.001)
    source.close()
    thread.join(5)
    assert seen[-1] == "gone"


def looped(source, channels, buffer_bytes=4096):
    designed = [filters.design(filters.PRESETS["off"], 8000.0)] * channels
    return SampleLoop(
        Emg8Decoder(channels),
        ClockModel(protocol.TICK_HZ),
        Ring(channels, 8, 8000),
        filters.cascade_of(designed, [1.0] * channels),
        np.full(channels, 2**23 - 1, np.int32),
        protocol.TICK_HZ / 8000.0,
        buffer_bytes,
    )


def test_the_sample_loop_ends_as_lost_when_the_device_leaves(fake):
    source = fake.open(transfer_bytes=512)
    loop = looped(source, 2)
    fake.plan(*[(NO_DEVICE, 0, 0)] * COUNT)
    thread = threading.Thread(target=loop.run, args=(source,))
    thread.start()
    thread.join(5)
    assert loop.outcome == "lost"


def test_an_overflow_is_a_truncated_transfer_to_the_sample_loop(fake):
    source = fake.open(transfer_bytes=512)
    loop = looped(source, 2)
    fake.plan((OVERFLOW, 512, 0))
    thread = threading.Thread(target=loop.run, args=(source,))
    thread.start()
    while not loop.stats()[0]["truncated"]:
        time.sleep(0.001)
    loop.stop()
    thread.join(5)
    assert loop.stats()[0]["truncated"] == 1
    source.close()


def test_the_sample_loop_takes_frames_where_they_lie(fake):
    frames = [frame(number, 8 * number, 8, 2) for number in range(200)] + [end_frame(200, 1600, 2)]
    fake.plan_frames(frames)
    source = fake.open(transfers=7, transfer_bytes=512)
    loop = looped(source, 2, buffer_bytes=1)
    loop.run(source)
    assert loop.outcome == "ended"
    assert loop.stats()[1]["missing"] == 0
    assert np.array_equal(np.array(loop.ring.read(planes.RAW, 0, 1600)).reshape(-1, 2), ramp(0, 1600, 2))
    source.close()


ENDINGS = st.lists(
    st.sampled_from(["data"] * 6 + ["empty", "stall", "error", "overflow", "cancelled", "timed out"]), max_size=60
)
MOST_WAITS = 250  # of 20 ms each
STATUS = {"stall": STALL, "error": ERROR, "cancelled": CANCELLED, "timed out": TIMED_OUT, "overflow": OVERFLOW}


@settings(max_examples=60, deadline=None)
@given(endings=ENDINGS, places=st.lists(st.integers(0, COUNT - 1), min_size=60, max_size=60))
def test_whatever_happens_no_byte_is_lost_repeated_or_out_of_order(fake_path, endings, places):
    fake = Fake(fake_path)
    with closing(fake.open()) as source:
        got, sent = [], []
        for number, ending in enumerate(endings):
            if ending == "data":
                fake.plan(data(number))
                sent.append(number)
            else:
                fake.plan((STATUS.get(ending, COMPLETED), 0, 0), place=places[number] if ending == "empty" else 0)
            # A byte after each trouble: eight of them in a row would be the end.
            fake.plan(data(100 + number))
            sent.append(100 + number)
            waited = 0
            while len(got) < len(sent):
                arrived = source.receive(20)
                got += [arrived[0]] if arrived else []
                waited = 0 if arrived else waited + 1
                assert waited < MOST_WAITS, f"only {len(got)} of {len(sent)} came"
        assert got == sent
        source.receive(1)
        assert source.stats()["in_flight"] == COUNT
