"""Everything that can go wrong with a transfer: the right gap, cause and counter, and true samples after it."""

import pytest
from emulated import RATE_HZ, Device, bridge_notes, streaming, until

FRAME = 48
SETTLE = 4800


def check(stream, compared_least):
    """The stream ended by itself, and what is there is true."""
    assert stream.loop.outcome == "ended"
    total = stream.amplifier.status().samples
    assert stream.loop.next_seq == total
    compared = stream.check_samples()
    assert compared + stream.missing == total, "every sample is there or said to be missing"
    assert compared > compared_least


@pytest.mark.parametrize(
    ("fault", "times", "causes", "wire", "transport"),
    [
        ("drop", 1, ("lost",), {}, {}),
        ("drop", 5, ("lost",), {}, {}),
        ("short", 1, ("truncated",), {"truncated": 1}, {}),
        ("corrupt", 1, ("corrupt",), {"corrupt": 1}, {}),
        ("babble", 1, ("lost",), {"truncated": 1}, {"overflows": 1, "recoveries": 1}),
    ],
)
def test_a_bad_transfer_costs_its_samples_and_no_others(device, fault, times, causes, wire, transport):
    done = device.status()["faults_done"].get(fault, 0)
    with streaming(device.open()) as stream:
        stream.until_samples(SETTLE)
        device.say(fault, times) if fault == "drop" else device.say(fault)
        until(lambda: device.status()["faults_done"].get(fault) == done + times, "the fault has happened")
        stream.until_samples(SETTLE)
        stream.stop()
        assert sum(count for _, count, _ in stream.gaps) == stream.missing == times * FRAME
        assert {why for _, _, why in stream.gaps} == {causes}
        assert all(seq % FRAME == 0 for seq, _, _ in stream.gaps), "whole frames are missing"
        assert {name: stream.wire[name] for name in ("truncated", "corrupt")} == {"truncated": 0, "corrupt": 0} | wire
        stats = stream.source.stats()
        expected = dict.fromkeys(("stalls", "overflows", "errors", "recoveries", "cancelled"), 0) | transport
        assert {name: stats[name] for name in expected} == expected
        check(stream, 2 * SETTLE - 500)


def test_a_stall_is_cleared_and_costs_no_sample_that_the_device_can_keep(device):
    with streaming(device.open()) as stream:
        stream.until_samples(SETTLE)
        before = len(bridge_notes())
        device.say("stall")
        stream.until_samples(3 * SETTLE)
        stream.stop()
        stats = stream.source.stats()
        assert stats["stalls"] >= 1
        assert stats["recoveries"] == 1
        assert sum(note.endswith("clear_halt 0x81") for note in bridge_notes()[before:]) == 1
        assert stream.gaps == [], "the device's memory held what came meanwhile"
        check(stream, 3 * SETTLE)


def test_a_device_that_is_halted_when_it_is_opened_streams_all_the_same(device):
    amplifier = device.open()
    device.say("stall")
    with streaming(amplifier) as stream:
        stream.until_samples(SETTLE)
        stream.stop()
        assert stream.missing == 0
        check(stream, SETTLE)


def test_a_silence_that_the_devices_memory_bridges_costs_nothing(device):
    with streaming(device.open()) as stream:
        stream.until_samples(SETTLE)
        device.say("mute", 300)
        stream.until_samples(int(RATE_HZ))
        stream.stop()
        assert stream.gaps == []
        check(stream, int(RATE_HZ))


def test_a_silence_that_is_too_long_is_an_overflow_of_the_device(device):
    with streaming(device.open()) as stream:
        stream.until_samples(SETTLE)
        device.say("mute", 4000)
        stream.until_samples(int(3 * RATE_HZ))
        stream.stop()
        assert {why for _, _, why in stream.gaps} == {("overflow",)}
        assert stream.missing == device.status()["fifo_lost_samples"] > 0
        check(stream, int(RATE_HZ))


def test_a_device_that_leaves_ends_the_loop_as_lost_and_streams_again_when_it_is_back(device):
    with streaming(device.open()) as stream:
        stream.until_samples(SETTLE)
        device.say("unplug")
        until(lambda: not stream.thread.is_alive(), "the loop noticed")
        assert stream.loop.outcome == "lost"
        assert stream.missing == 0
        assert stream.check_samples() >= SETTLE
        stream.source.close()
        assert stream.source.stats()["abandoned"] == 0
    device.say("plug")
    until(device.present, "it is back on the bus")
    with streaming(device.open()) as stream:
        stream.until_samples(SETTLE)
        stream.stop()
        check(stream, SETTLE)


def test_a_device_that_is_closed_in_the_stream_lets_go_of_everything(device):
    before = len(bridge_notes())
    amplifier = device.open()
    with streaming(amplifier) as stream:
        stream.until_samples(SETTLE)
        amplifier.close()
        until(lambda: not stream.thread.is_alive(), "the loop was told")
        assert stream.loop.outcome == "lost"
    opens = sum(note.endswith(" open") for note in bridge_notes()[before:])

    def closes():
        return [note for note in bridge_notes()[before:] if " close " in note]

    until(lambda: len(closes()) >= opens, "every descriptor is closed")
    assert all(note.endswith("pending=0 unreaped=0") for note in closes())


def test_a_device_that_still_streams_for_a_dead_host_is_taken_over(device):
    first = device.open()
    first.start()
    until(lambda: first.status().samples > RATE_HZ / 2, "it has filled its memory")
    first.close()
    with streaming(device.open()) as stream:
        stream.until_samples(SETTLE)
        stream.stop()
        assert stream.gaps == []
        check(stream, SETTLE)


def test_two_devices_stream_side_by_side(device):
    small = Device("EMG8-000002")
    with streaming(device.open(rate_hz=8000.0)) as one, streaming(small.open(rate_hz=4000.0)) as two:
        for stream in (one, two):
            stream.until_samples(2000)
        for stream in (one, two):
            stream.stop()
            assert stream.gaps == []
            check(stream, 2000)
