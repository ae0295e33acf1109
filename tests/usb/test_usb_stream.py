"""A minute at full rate beside a thread that hogs the GIL: no gap, and every sample is the one that was measured."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from emulated import CHANNELS, RATE_HZ, streaming

SECONDS = 60
TRANSFERS_PER_S = 1000


def cpu_s(thread):
    """Processor time of a thread so far, in seconds."""
    fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def as_the_service_runs_it(thread):
    """Real-time priority for the sample loop, where this user may grant it."""
    with suppress(PermissionError):
        os.sched_setscheduler(thread.native_id, os.SCHED_FIFO, os.sched_param(10))


def hog(stop):
    while not stop.is_set():
        sum(range(10_000))


@pytest.mark.timeout(240)
def test_a_minute_at_full_rate_beside_a_thread_that_hogs_the_gil(device):
    stop = threading.Event()
    hogging = threading.Thread(target=hog, args=(stop,))
    hogging.start()
    try:
        with streaming(device.open(), SECONDS + 20) as stream:
            as_the_service_runs_it(stream.thread)
            stream.until_samples(1)
            began = time.monotonic()
            while (elapsed := time.monotonic() - began) < SECONDS:
                stream.amplifier.keep_alive(5000)
                stream.amplifier.probe_clock()
                time.sleep(0.5)
            loop_cpu_s = cpu_s(stream.thread)
            stream.stop()
            stats = stream.source.stats()
            total = stream.amplifier.status().samples
            assert stream.gaps == []
            assert stream.wire["truncated"] == stream.wire["corrupt"] == stream.wire["repeated"] == 0
            assert {name: stats[name] for name in ("stalls", "overflows", "errors", "failed_submits")} == {
                "stalls": 0,
                "overflows": 0,
                "errors": 0,
                "failed_submits": 0,
            }
            assert device.status()["fifo_lost_samples"] == 0
            assert total >= 0.99 * SECONDS * RATE_HZ
            assert stream.check_samples() == total
    finally:
        stop.set()
        hogging.join()
    print(
        f"\n{stats['completed'] / elapsed:.0f} transfers/s, {total} samples of {CHANNELS} channels, no gap; at most "
        f"{stats['most_waiting']} of {stats['transfers']} transfers waited; "
        f"the loop took {100 * loop_cpu_s / elapsed:.1f} % of a core"
    )
    assert stats["completed"] >= 0.99 * SECONDS * TRANSFERS_PER_S
