"""Nothing grows: not over 10 000 transfers that are submitted and reaped, not over 200 times of opening and closing."""

import ctypes
import gc
import os
from pathlib import Path

import pytest
from emulated import bridge_notes, until

CYCLES = 10_000
OPENINGS = 200
WARM_UP = 2000, 20

# A leak of one struct usbdevfs_urb (56 bytes) a cycle would be 560 kB, one of a transfer an opening 100 MB.
HEAP_ROOM_BYTES = 128 * 1024
RSS_ROOM_BYTES = 1024 * 1024


class MallInfo(ctypes.Structure):
    """struct mallinfo2 of glibc."""

    NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]


def heap_bytes():
    """What is allocated now, to the byte."""
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = MallInfo
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd


def rss_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def figures():
    return heap_bytes(), rss_bytes(), descriptors()


def check(what, before, after):
    grown = [b - a for a, b in zip(before, after, strict=True)]
    print(f"\n{what}: heap {grown[0]:+} bytes, resident {grown[1]:+} bytes, descriptors {grown[2]:+}")
    assert grown[0] < HEAP_ROOM_BYTES
    assert grown[1] < RSS_ROOM_BYTES
    assert grown[2] == 0


@pytest.mark.timeout(240)
def test_transfers_leak_nothing(device):
    amplifier = device.open()
    source = amplifier.source()
    amplifier.start()

    def reap(count):
        while count:
            count -= source.receive(1000) is not None

    reap(WARM_UP[0])
    before = figures()
    reap(CYCLES)
    check(f"{CYCLES} submit/reap cycles", before, figures())
    amplifier.stop()
    amplifier.close()


@pytest.mark.timeout(400)
def test_opening_and_closing_leaks_nothing(device):
    amplifier = device.open()

    def open_and_close(count):
        for _ in range(count):
            amplifier = device.open()
            assert amplifier.source().stats()["in_flight"] > 100
            amplifier.close()

    open_and_close(WARM_UP[1])
    noted = len(bridge_notes())
    before = figures()
    open_and_close(OPENINGS)
    check(f"{OPENINGS} openings", before, figures())
    amplifier.close()
    until(lambda: sum(" close " in note for note in bridge_notes()[noted:]) >= OPENINGS, "all descriptors are closed")
    closes = [note for note in bridge_notes()[noted:] if " close " in note]
    assert all(note.endswith("pending=0 unreaped=0") for note in closes), "every transfer was reaped before"
