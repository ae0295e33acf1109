"""Bytes of the emg8 amplifier: golden bytes, round trips, and the reference decoder against all kinds of damage."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_drivers.api import DeviceError, ImpedanceTest, Mode, RunState, Side
from emgd_drivers.emg8.protocol import (
    ALL_CHANNELS,
    HEADER_BYTES,
    Capability,
    Channel,
    Direction,
    FrameFlag,
    FrameStatus,
    FrameType,
    Info,
    LastError,
    MarkCode,
    Request,
    Setup,
    Status,
    decode_frames,
    encode_frame,
    frame_bytes,
    frame_samples,
    pack_impedance_test,
    request_name,
    unpack_impedance_test,
)
from emgd_ext.emg8 import Emg8Decoder

GOLDEN = bytes.fromhex((Path(__file__).parents[1] / "golden" / "emg8_frame.hex").read_text())
IMPEDANCE_GOLDEN = bytes.fromhex((Path(__file__).parents[1] / "golden" / "emg8_impedance_frame.hex").read_text())
UNREADABLE = (False, 0, 0, 0, 0, 0, 0)
"""known and the numbers of a frame whose header may not be believed."""


def crc32c(data):
    """The check value bit by bit, as RFC 3720 has it: slow, but nobody else's code."""
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def frame(first=0, count=4, channels=3, **changes):
    samples = np.arange(first * channels, (first + count) * channels, dtype=np.int32).reshape(count, channels)
    return encode_frame(samples, **({"frame_seq": first // 4, "first": first, "tick": 1000 * first} | changes))


def reseal(data):
    """Give a frame whose header was changed the check values that fit."""
    head = data[:44] + struct.pack("<I", crc32c(data[:44])) + data[48:-4]
    return head + struct.pack("<I", crc32c(head))


def changed(data, offset, fmt, value):
    out = bytearray(data)
    struct.pack_into(fmt, out, offset, value)
    return bytes(out)


def plain(frames):
    """Frames with samples as lists, so that they compare."""
    return [item._replace(samples=None if item.samples is None else item.samples.tolist()) for item in frames]


def kinds(frames):
    return [(item.status, item.known, item.first) for item in frames]


def test_worked_example_encodes_to_the_golden_bytes():
    samples = np.array([[1], [-2]], np.int32)
    assert encode_frame(samples, frame_seq=0, first=0, tick=1000, flags=FrameFlag.START) == GOLDEN


def test_worked_example_carries_check_values_that_a_stranger_computes_too():
    assert crc32c(b"123456789") == 0xE3069283
    assert GOLDEN[44:48] == struct.pack("<I", crc32c(GOLDEN[:44]))
    assert GOLDEN[-4:] == struct.pack("<I", crc32c(GOLDEN[:-4]))


def test_worked_example_decodes():
    (found,) = decode_frames(GOLDEN, 1)
    assert found[:8] == (FrameStatus.GOOD, True, FrameType.DATA, FrameFlag.START, 0, 0, 2, 1000)
    assert found.samples.tolist() == [[1], [-2]]
    assert found.samples.dtype == np.int32
    assert found.marks == []


counts24 = st.integers(-(2**23), 2**23 - 1)
u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
marks = st.lists(st.tuples(u64, st.integers(0, 255), u16, st.integers(-(2**31), 2**31 - 1)), max_size=5)


@st.composite
def sample_tables(draw):
    count, channels = draw(st.integers(0, 5)), draw(st.integers(1, 5))
    values = draw(st.lists(counts24, min_size=count * channels, max_size=count * channels))
    return np.array(values, np.int32).reshape(count, channels)


@given(sample_tables(), u32, u64, u64, u16, st.sampled_from(FrameType), marks)
def test_what_is_encoded_is_decoded(samples, frame_seq, first, tick, flags, frame_type, some_marks):
    data = encode_frame(
        samples, frame_seq=frame_seq, first=first, tick=tick, flags=flags, frame_type=frame_type, marks=some_marks
    )
    assert len(data) == frame_bytes(*samples.shape, len(some_marks))
    (found,) = decode_frames(data, samples.shape[1])
    assert found[:8] == (FrameStatus.GOOD, True, frame_type, flags, frame_seq, first, len(samples), tick)
    assert np.array_equal(found.samples, samples)
    assert found.marks == [(seq, code if code <= 5 else 0, channel, value) for seq, code, channel, value in some_marks]


def test_count_beyond_24_bits_is_refused():
    with pytest.raises(ValueError, match="24 bits"):
        encode_frame(np.array([[2**23]], np.int32), frame_seq=0, first=0, tick=0)


def test_nothing_decodes_to_no_frames():
    assert decode_frames(b"", 3) == []


def test_several_frames_in_one_transfer_are_all_found():
    assert kinds(decode_frames(frame(0) + frame(4) + frame(8), 3)) == [(0, True, 0), (0, True, 4), (0, True, 8)]


@pytest.mark.parametrize("kept", [1, 20, HEADER_BYTES - 1])
def test_rest_shorter_than_a_header_is_truncated_and_unknown(kept):
    (found,) = decode_frames(frame(4)[:kept], 3)
    assert found[:8] == (FrameStatus.TRUNCATED, *UNREADABLE)
    assert found.samples is None


@pytest.mark.parametrize("lacking", [1, 4, 5, 40])
def test_cut_body_is_truncated_and_its_range_is_known(lacking):
    (found,) = decode_frames(frame(4)[:-lacking], 3)
    assert found[:8] == (FrameStatus.TRUNCATED, True, FrameType.DATA, 0, 1, 4, 4, 4000)
    assert found.samples is None


@pytest.mark.parametrize("offset", [HEADER_BYTES, HEADER_BYTES + 10, -5, -4, -1])
def test_damaged_body_is_corrupt_and_its_range_is_known(offset):
    data = bytearray(frame(4))
    data[offset] ^= 0x10
    found, after = decode_frames(bytes(data) + frame(8), 3)
    assert found[:8] == (FrameStatus.CORRUPT, True, FrameType.DATA, 0, 1, 4, 4, 4000)
    assert (found.samples, found.marks) == (None, [])
    assert kinds([after]) == [(FrameStatus.GOOD, True, 8)]


@pytest.mark.parametrize("offset", [0, 4, 5, 12, 16, 24, 36, 43, 44, 47])
def test_damaged_header_is_one_stretch_and_the_next_frame_is_found(offset):
    data = bytearray(frame(4))
    data[offset] ^= 0x10
    found, after = decode_frames(bytes(data) + frame(8), 3)
    assert found[:8] == (FrameStatus.CORRUPT, *UNREADABLE)
    assert kinds([after]) == [(FrameStatus.GOOD, True, 8)]


@pytest.mark.parametrize(
    ("offset", "fmt", "value"),
    [(0, "4s", b"EMG9"), (4, "<B", 2), (5, "<B", 3), (5, "<B", 0), (14, "<H", 4), (36, "<I", 35), (12, "<H", 5)],
    ids=["magic", "version", "type 3", "type 0", "channels", "body length", "sample count"],
)
def test_header_that_is_whole_but_impossible_is_corrupt_and_unknown(offset, fmt, value):
    (found,) = decode_frames(reseal(changed(frame(4), offset, fmt, value)), 3)
    assert found[:8] == (FrameStatus.CORRUPT, *UNREADABLE)


def test_frame_of_a_device_with_other_channels_is_corrupt_and_unknown():
    (found,) = decode_frames(frame(4, channels=2), 3)
    assert found[:8] == (FrameStatus.CORRUPT, *UNREADABLE)


@pytest.mark.parametrize("stray", [b"x", b"E", b"EMG"])
def test_frame_is_found_directly_behind_stray_bytes(stray):
    assert kinds(decode_frames(stray + frame(4), 3)) == [(FrameStatus.CORRUPT, False, 0), (FrameStatus.GOOD, True, 4)]


def test_stretch_of_damage_takes_a_header_that_was_cut_with_it():
    assert kinds(decode_frames(bytes(50) + frame(4)[:47], 3)) == [(FrameStatus.CORRUPT, False, 0)]


def test_magic_without_a_sound_header_does_not_resynchronise():
    data = b"EMG8" + bytes(60) + b"EMG8" + frame(8)
    assert kinds(decode_frames(data, 3)) == [(FrameStatus.CORRUPT, False, 0), (FrameStatus.GOOD, True, 8)]


def test_frame_that_lost_its_end_takes_the_next_one_with_it():
    joined = frame(4)[:-4] + frame(8)
    assert kinds(decode_frames(joined, 3)) == [(FrameStatus.CORRUPT, True, 4), (FrameStatus.CORRUPT, False, 0)]


@st.composite
def damaged_transfers(draw):
    data = b"".join(
        frame(4 * number, marks=[(4 * number, draw(st.integers(0, 6)), 0, -1)] * draw(st.integers(0, 2)))
        for number in range(draw(st.integers(1, 3)))
    )
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["flip", "cut", "insert", "remove"]))
        if how == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
        elif how == "cut":
            data = data[:at]
        elif how == "insert":
            data = data[:at] + draw(st.sampled_from([b"E", b"EMG8", bytes(7), frame(40)[:60]])) + data[at:]
        elif how == "remove":
            data = data[:at] + data[at + draw(st.integers(1, 60)) :]
    return data


@given(damaged_transfers())
def test_fast_decoder_says_what_the_reference_says(data):
    assert plain(Emg8Decoder(3).decode(data)) == plain(decode_frames(data, 3))


@given(st.binary(max_size=200), st.integers(1, 4))
def test_any_bytes_are_told_as_damage_without_an_exception(data, channels):
    assert all(item.status != FrameStatus.GOOD for item in decode_frames(data, channels))


@pytest.mark.parametrize(
    ("rate_hz", "channels", "samples"),
    [(48_000, 8, 48), (48_000.5, 8, 49), (1, 8, 1), (250, 8, 1), (1000, 8, 1), (1001, 8, 2), (48_000, 1024, 5)],
)
def test_frame_holds_a_millisecond_or_what_fits(rate_hz, channels, samples):
    assert frame_samples(rate_hz, channels) == samples
    assert frame_bytes(samples, channels, 0) <= 16384


def test_usual_frame_has_the_length_that_the_text_says():
    assert frame_bytes(frame_samples(48_000, 8), 8, 0) == 1204


def test_setup_packet_is_usb_layout():
    setup = Setup(0x40, 7, 0, 0xFFFF, 4)
    assert setup.pack() == bytes.fromhex("40 07 0000 ffff 0400")
    assert Setup.unpack(setup.pack()) == setup


def test_info_has_every_field_where_the_text_puts_it():
    info = Info(8, Capability.CLOCK_LATCH | Capability.TRIGGER, 1000.0, 1e5, 48e3, 48e6, 262144, "1.2.3", 5300, 256)
    data = info.pack()
    assert len(data) == 64
    assert data[:8] == bytes.fromhex("0001 0800 24000000")
    assert struct.unpack_from("<dddd", data, 8) == (1000.0, 1e5, 48e3, 48e6)
    assert struct.unpack_from("<IHH", data, 40) == (262144, 256, 0)
    assert data[48:60] == b"1.2.3".ljust(12, b"\0")
    assert struct.unpack_from("<I", data, 60) == (5300,)
    assert Info.unpack(data) == info


def test_channel_has_every_field_where_the_text_puts_it():
    channel = Channel(24, Mode.TEST, 0.002, "APB", electrode_off=True, saturated=True, test_current=Side.NEGATIVE)
    data = channel.pack()
    assert len(data) == 32
    assert data[:8] == bytes.fromhex("18 02 0b00 00000000")
    assert struct.unpack_from("<d", data, 8) == (0.002,)
    assert data[16:] == b"APB".ljust(16, b"\0")
    assert Channel.unpack(data) == channel


def test_long_label_is_cut_between_characters():
    assert Channel.unpack(Channel(1, Mode.NORMAL, 1.0, "gastrocnemius mü").pack()).label == "gastrocnemius m"


def test_status_has_every_field_where_the_text_puts_it():
    status = Status(RunState.ENDED, LastError.KEEP_ALIVE_EXPIRED, 7, 2**40, 3, 2**50)
    data = status.pack()
    assert data == bytes.fromhex("02 06 0000 07000000") + struct.pack("<QQQ", 2**40, 3, 2**50)
    assert Status.unpack(data) == status


@pytest.mark.parametrize(
    ("unpack", "data", "said"),
    [
        (Info.unpack, bytes(63), "GET_INFO has 63 bytes, not 64"),
        (Info.unpack, bytes(64), "0 channels; 1 to 1024"),
        (Channel.unpack, b"", "GET_CHANNEL has 0 bytes, not 32"),
        (Channel.unpack, b"\x01\x09" + bytes(30), "mode 9; known are 0 to 3"),
        (Status.unpack, b"\x03" + bytes(31), "state 3; known are 0 to 2"),
        (Status.unpack, b"\x00\x07" + bytes(30), "last_error 7; known are 0 to 6"),
        (Setup.unpack, bytes(7), "setup packet has 7 bytes, not 8"),
        (unpack_impedance_test, bytes(15), "GET_IMPEDANCE_TEST has 15 bytes, not 16"),
        (unpack_impedance_test, struct.pack("<dd", 31.25, 0.0), "0 nA at 31.25 Hz; both must be above 0"),
        (unpack_impedance_test, struct.pack("<dd", float("nan"), 24.0), "24 nA at nan Hz; both must be above 0"),
        (unpack_impedance_test, struct.pack("<dd", float("inf"), 24.0), "24 nA at inf Hz; both must be above 0"),
    ],
)
def test_answers_that_make_no_sense_are_one_clear_line(unpack, data, said):
    with pytest.raises(DeviceError, match=said):
        unpack(data)


def test_impedance_test_has_every_field_where_the_text_puts_it():
    test = ImpedanceTest(31.25, 24.0, has_marks=True)
    data = pack_impedance_test(test)
    assert data == bytes.fromhex("0000000000403f40 0000000000003840")
    assert unpack_impedance_test(data) == test


def test_impedance_request_is_what_the_text_says():
    setup = Setup(Direction.OUT, Request.IMPEDANCE_TEST, Side.BOTH, ALL_CHANNELS, 0)
    assert setup.pack() == bytes.fromhex("40 0c 0300 ffff 0000")
    assert Setup(Direction.IN, Request.GET_IMPEDANCE_TEST, 0, 0, 16).pack() == bytes.fromhex("c0 0d 0000 0000 1000")


def test_impedance_mark_has_every_field_where_the_text_puts_it():
    samples = np.array([[1], [-2]], np.int32)
    mark = (11, MarkCode.IMPEDANCE, ALL_CHANNELS, int(Side.BOTH))
    data = encode_frame(samples, frame_seq=1, first=10, tick=5000, marks=[mark])
    assert data[-20:-4] == bytes.fromhex("0b00000000000000 05 00 ffff 03000000")
    assert data == IMPEDANCE_GOLDEN
    assert data[-4:] == struct.pack("<I", crc32c(data[:-4]))
    for decode in (decode_frames, lambda transfer, channels: Emg8Decoder(channels).decode(transfer)):
        (found,) = decode(IMPEDANCE_GOLDEN, 1)
        assert found.marks == [mark]


def test_requests_have_names_for_people():
    assert request_name(0x0C) == "IMPEDANCE_TEST"
    assert request_name(5) == "SET_RATE"
    assert request_name(0x77) == "request 0x77"
