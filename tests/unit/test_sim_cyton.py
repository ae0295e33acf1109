"""The Cyton's model: frames to the byte, answers, numbering, time, losses and faults."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serial_rig import MS, FixedSignal, S, SerialHost, values

from emgd_drivers.sim.cyton import FIELDS, START_TEXT, CytonModel, make_model

UV_PER_COUNT = 4.5e6 / 24 / (2**23 - 1)


def cyton(**options):
    return SerialHost(CytonModel(FixedSignal(), **options))


def frames(data):
    assert len(data) % 33 == 0
    return [data[at : at + 33] for at in range(0, len(data), 33)]


def test_frame_to_the_byte():
    host = cyton()
    host.say("x1000000X")  # gain 1: 0.536 µV per count
    host.say("8b")
    first, second = frames(host.wait(8 * MS))
    # 0 to 6 µV; channel 1 at gain 1, the others at 24 (0.02235 µV): 1 µV = 45, 2 = 89, ... 6 = 268; channel 8 is off.
    assert first.hex() == "a000" + "000000 00002d 000059 000086 0000b3 0000e0 00010c 000000".replace(" ", "") + (
        "000000001f40" + "c0"
    )
    # 100 µV at gain 1 = 186; 101 µV and on at gain 24.
    assert second.hex() == "a001" + "0000ba 0011a7 0011d3 001200 00122d 00125a 001286 000000".replace(" ", "") + (
        "000000000000" + "c0"
    )


def test_counts_equal_the_signal_at_each_gain():
    for index, gain in enumerate((1, 2, 4, 6, 8, 12, 24)):
        host = cyton()
        assert host.say(f"x50{index}0110X") == b"Success: Channel set for 5$$$"
        host.say("b")
        scale = 4.5e6 / gain / (2**23 - 1)
        sent = [values(frame[2:26])[4] for frame in frames(host.wait(40 * MS))]
        np.testing.assert_allclose(np.array(sent) * scale, 100 * np.arange(10) + 4, atol=scale / 2)


def test_number_wraps_and_rate_is_exact():
    host = cyton()
    host.say("b")
    got = frames(host.wait(2 * S))
    assert [frame[1] for frame in got] == [number % 256 for number in range(500)]
    assert {frame[0] for frame in got} == {0xA0}
    assert {frame[32] for frame in got} == {0xC0}


def test_drift_slows_the_stream():
    host = cyton(drift_ppm=10_000.0)
    host.say("b")
    assert len(frames(host.wait(100 * S))) == 24_752  # 25000 / 1.01


def test_start_text_comes_after_a_reset_and_settings_are_back():
    host = cyton()
    host.say("x1000000X")
    host.say("b")
    host.wait(100 * MS)
    assert host.say("v") == b""
    assert host.wait(499 * MS) == b""
    assert host.wait(1 * MS).decode() == START_TEXT
    assert START_TEXT.endswith("$$$")
    assert host.wait(S) == b""
    host.say("b")
    assert frames(host.wait(8 * MS))[1][2:5].hex() == "00117a"  # 100 µV at gain 24: 4474


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("V", "v3.1.5$$$"),
        ("C", "no daisy to attach!8$$$"),
        ("c", ""),
        ("d", "updating channel settings to default$$$"),
        ("x3060110X", "Success: Channel set for 3$$$"),
        ("x30X", "Failure: too few chars$$$"),
        ("x3060110Y", "Failure: Err: 9th char not X$$$"),
        ("z801Z", "Success: Lead off set for 8$$$"),
        ("z8Z", "Failure: too few chars$$$"),
        ("z8011", "Failure: Err: 5th char not Z$$$"),
        ("~~", "Success: Sample rate is 250Hz$$$"),
        ("~4", "Success: Sample rate is 1000Hz$$$"),
        ("~9", "Failure: sample value out of bounds$$$"),
        ("\r\n g", ""),
    ],
)
def test_answers(said, answer):
    host = cyton()
    assert host.say(said).decode() == answer
    assert host.say("V") == b"v3.1.5$$$"


def test_settings_are_silent_while_it_streams_and_hold_at_once():
    host = cyton()
    host.say("b")
    host.wait(4 * MS)
    assert host.say("2") == b""
    assert host.say("x1010110X") == b""
    (frame,) = frames(host.wait(4 * MS))
    assert values(frame[2:26])[:2] == [round(100 / (UV_PER_COUNT * 12)), 0]
    host.say("@")
    (frame,) = frames(host.wait(4 * MS))
    assert values(frame[2:26])[1] == round(201 / UV_PER_COUNT)


def test_answer_stands_between_whole_frames():
    host = cyton()
    host.say("b")
    host.wait(8 * MS)
    heard = host.wait(4 * MS) + host.say("V") + host.wait(4 * MS)
    assert heard[33:42] == b"v3.1.5$$$"
    assert (heard[1], heard[43]) == (2, 3)


def test_registers_are_listed():
    host = cyton()
    host.say("z110Z")
    lines = host.say("?").decode().split("\n")
    assert lines[1] == "Board ADS Registers"
    assert "CONFIG1, 01, 96, 1, 0, 0, 1, 0, 1, 1, 0" in lines
    assert "CH1SET, 05, 68, 0, 1, 1, 0, 1, 0, 0, 0" in lines
    assert "LOFF_SENSP, 0F, 01, 0, 0, 0, 0, 0, 0, 0, 1" in lines
    assert lines[-1] == "$$$"


@pytest.mark.parametrize(("sides", "amplitude_uv"), [("10", 60.0), ("01", 60.0), ("11", 120.0), ("00", 0.0)])
def test_test_current_adds_a_sine(sides, amplitude_uv):
    host = cyton()
    host.model.chip.electrode_ohm = 10_000.0
    host.say(f"z2{sides}Z")
    host.say("b")
    got = np.array([values(frame[2:26]) for frame in frames(host.wait(4 * S))]) * UV_PER_COUNT
    added = got - (100 * np.arange(1000)[:, np.newaxis] + np.arange(8))
    in_phase = added[:, 1] @ np.sin(2 * np.pi * 31.5 * np.arange(1000) / 250) / 500
    assert in_phase == pytest.approx(amplitude_uv, abs=0.01)
    assert np.abs(added[:, [0, 2, 3]]).max() <= UV_PER_COUNT / 2 * 1.001


def test_host_that_reads_late_loses_whole_frames_and_the_number_tells():
    host = SerialHost(CytonModel(FixedSignal(), buffer_bytes=330), room=0)
    host.say("b")
    host.wait(100 * MS)  # 25 frames
    assert host.model.blocked
    assert host.model.lost_frames == 15
    host.room = None
    kept = frames(host.wait(4 * MS))
    assert [frame[1] for frame in kept] == [*range(10), 25]


def test_frame_goes_out_in_pieces_as_the_host_takes_them():
    host = SerialHost(CytonModel(FixedSignal()), room=10)
    host.say("b")
    heard = host.wait(40 * MS)
    assert len(heard) == 10
    while host.model.blocked:
        host.room = 7
        heard += host.wait(0)
    assert [frame[1] for frame in frames(heard)] == list(range(10))


def test_faults():
    host = cyton(faults=["drop@2+2", "lose@5:5", "noise@7:3", "corrupt@8:32"])
    host.say("b")
    heard = host.wait(40 * MS)
    assert len(heard) == 10 * 33 - 2 * 33 - 5 + 3
    assert [heard[at] for at in (1, 34, 67)] == [0, 1, 4]
    short = heard[99 : 99 + 28]
    assert short[:2].hex() == "a005"
    assert short[-1] == 0xC0
    at = 127 + 33 + 3
    assert heard[at : at + 2].hex() == "a007"
    assert heard[at + 33 + 32] == 0x3F
    assert frames(heard[at + 66 :])[0][1] == 9


def test_unplug_fault_ends_all():
    host = cyton(faults=["unplug@3"])
    host.say("b")
    assert len(frames(host.wait(40 * MS))) == 3
    assert host.model.unplugged
    assert host.say("V") == b""
    assert host.model.next_event_ns() is None


@pytest.mark.parametrize("text", ["lose@1", "lose@1:0", "drop", "drop@-1", "noise@1:12345", "unplug@1:2", "eat@3"])
def test_bad_fault_is_refused(text):
    with pytest.raises(ValueError, match="not understood; write one of drop@FRAME"):
        cyton(faults=[text])


def test_jitter_makes_late_never_early_and_keeps_the_order():
    host = cyton(jitter_ns=50 * MS)
    host.say("b")
    heard = b""
    for elapsed_ms in range(4, 404, 4):
        heard += host.wait(4 * MS)
        assert elapsed_ms // 4 - 13 <= len(frames(heard)) <= elapsed_ms // 4
    assert [frame[1] for frame in frames(heard)] == list(range(len(heard) // 33))
    assert len(heard) < 99 * 33


def test_signal_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="1000 samples/s; the Cyton has 250"):
        CytonModel(FixedSignal(1000.0))


def test_signal_that_ends_is_followed_by_silence():
    host = SerialHost(CytonModel(FixedSignal(length=2)))
    host.say("b")
    assert [values(frame[2:26])[7] for frame in frames(host.wait(16 * MS))] == [313, 4787, 0, 0]


def test_made_from_options():
    options = {field.name: field.default for field in FIELDS} | {"faults": ["drop@0"], "jitter_ms": 1.0}
    host = SerialHost(make_model(options, 0))
    host.say("b")
    assert frames(host.wait(16 * MS))[0][1] == 1


@given(st.binary(max_size=60))
def test_no_bytes_upset_it(data):
    host = cyton()
    host.say(data)
    host.wait(S)
    host.say("Xs")  # whatever was begun is ended
    host.wait(S)
    host.say("Z~~")
    host.wait(S)
    assert host.say("V").endswith(b"$$$")
