"""Bytes of an emg8 amplifier to values and back: docs/devices/emg8.md as code. No I/O, no clock.

Used by the driver, which reads what a device says, and by the device model, which says it. The sample loop has a
decoder of its own in Cython; `decode_frames` here is the plain one that it is held against.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from fractions import Fraction
from math import ceil, inf
from typing import Any, Final, Self, TypeVar

import numpy as np
import numpy.typing as npt

from emgd_drivers import api
from emgd_drivers.api import DeviceError, ImpedanceTest, Mode, RunState, Side
from emgd_ext.emg8 import Frame
from emgd_ext.kernels import crc32c, pack24

PROTOCOL_VERSION: Final = 0x0100
"""The only version of the control protocol there is; another one means other bytes."""

MAX_CHANNELS: Final = 1024
ALL_CHANNELS: Final = api.ALL_CHANNELS
"""wIndex of SET_CHANNEL and IMPEDANCE_TEST, and channel of an impedance mark, that means every channel."""

MAX_SERIAL_CHARACTERS: Final = 32

GAINS: Final = (1, 2, 4, 6, 8, 12, 24)
UV_PER_COUNT: Final = 400_000 / 2**23
"""µV per count at gain 1: the reference hardware spans ±400 mV with 24 bits."""

TICK_HZ: Final = 48_000_000
"""Nominal frequency of the device clock."""

MAX_COUNT: Final = 2**23 - 1
"""Highest raw count of a 24-bit converter, where it saturates."""

FRAMES_PER_S: Final = 1000
"""About as many frames a second the device aims at: 1 ms of delay at most."""

MAX_PLAIN_FRAME_BYTES: Final = 16384
"""A frame without marks is never longer, however many channels there are."""

MAX_MARKS: Final = 256
"""Most marks in one frame: far more than triggers in a millisecond, and one frame stays below 21 kB."""

MAGIC: Final = b"EMG8"
FRAME_VERSION: Final = 1

SETUP: Final = struct.Struct("<BBHHH")
INFO: Final = struct.Struct("<HHIddddIHH12sI")
CHANNEL: Final = struct.Struct("<BBHId16s")
STATUS: Final = struct.Struct("<BBHIQQQ")
LATCH: Final = struct.Struct("<QQ")
RATE: Final = struct.Struct("<d")
CHANNEL_SETTING: Final = struct.Struct("<BBH")
IMPEDANCE_TEST: Final = struct.Struct("<dd")
HEADER: Final = struct.Struct("<4sBBHIHHQQHHII")
MARK: Final = struct.Struct("<QBBHi")
CHECK: Final = struct.Struct("<I")

HEADER_BYTES: Final = HEADER.size + CHECK.size
SAMPLE_BYTES: Final = 3

Samples = npt.NDArray[np.int32]
"""Raw counts, shape (samples, channels)."""

Mark = tuple[int, int, int, int]
"""(seq, code, channel, value) of an instant tied to a sample."""


class Direction(IntEnum):
    """bmRequestType of a vendor request."""

    OUT = 0x40
    IN = 0xC0


class Request(IntEnum):
    """bRequest of a control request."""

    GET_INFO = 0x01
    GET_SERIAL = 0x02
    START = 0x03
    STOP = 0x04
    SET_RATE = 0x05
    GET_RATE = 0x06
    SET_CHANNEL = 0x07
    GET_CHANNEL = 0x08
    LATCH_CLOCK = 0x09
    KEEP_ALIVE = 0x0A
    GET_STATUS = 0x0B
    IMPEDANCE_TEST = 0x0C
    GET_IMPEDANCE_TEST = 0x0D


class Capability(IntFlag):
    """What a device says it can do."""

    IMPEDANCE = 1
    TEST_SIGNAL = 2
    TRIGGER = 4
    FOOTSWITCH = 8
    ELECTRODE_OFF = 16
    CLOCK_LATCH = 32
    KEEP_ALIVE = 64


class LastError(IntEnum):
    """Why the device refused the last request that it refused."""

    NONE = 0
    UNKNOWN_REQUEST = 1
    BAD_VALUE = 2
    BAD_LENGTH = 3
    BAD_CHANNEL = 4
    NOT_NOW = 5
    KEEP_ALIVE_EXPIRED = 6


ERROR_TEXTS: Final = {
    LastError.NONE: "it gives no reason",
    LastError.UNKNOWN_REQUEST: "it does not know this request",
    LastError.BAD_VALUE: "a value is out of range",
    LastError.BAD_LENGTH: "the data has a wrong length",
    LastError.BAD_CHANNEL: "it has no such channel",
    LastError.NOT_NOW: "not while it is streaming; stop it first",
    LastError.KEEP_ALIVE_EXPIRED: "it stopped because the host was silent for too long",
}


class FrameType(IntEnum):
    """What a frame is."""

    DATA = 1
    END = 2


class FrameFlag(IntFlag):
    """Flags of a frame."""

    START = 1
    OVERFLOW = 2
    END = 4


class FrameStatus(IntEnum):
    """What a host makes of a frame; the numbers are the data plane's."""

    GOOD = 0
    CORRUPT = 1
    TRUNCATED = 2


class MarkCode(IntEnum):
    """What a mark is; `UNKNOWN` is what a host makes of any other code."""

    UNKNOWN = 0
    TRIGGER = 1
    STIMULUS = 2
    FOOTSWITCH = 3
    ELECTRODE = 4
    IMPEDANCE = 5


_Kind = TypeVar("_Kind", bound=IntEnum)

_REQUESTS: Final = frozenset(Request)
_FRAME_TYPES: Final = frozenset(FrameType)
_MARK_CODES: Final = frozenset(MarkCode)


def request_name(request: int) -> str:
    """The name of a request for people, also of one that does not exist."""
    return Request(request).name if request in _REQUESTS else f"request 0x{request:02x}"


@dataclass(frozen=True, slots=True)
class Setup:
    """A USB setup packet; `length` is wLength in bytes."""

    direction: int
    request: int
    value: int
    index: int
    length: int

    def pack(self) -> bytes:
        """The 8 bytes of the setup packet."""
        return SETUP.pack(self.direction, self.request, self.value, self.index, self.length)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """From 8 bytes; DeviceError when there are not 8."""
        return cls(*_fields(SETUP, data, "a setup packet"))


@dataclass(frozen=True, slots=True)
class Info:
    """GET_INFO."""

    channels: int
    capabilities: Capability
    lowest_rate_hz: float
    highest_rate_hz: float
    rate_hz: float
    tick_hz: float
    fifo_bytes: int
    firmware: str
    max_frame_bytes: int
    max_marks: int = MAX_MARKS
    version: int = PROTOCOL_VERSION

    def pack(self) -> bytes:
        """64 bytes."""
        rates = (self.lowest_rate_hz, self.highest_rate_hz, self.rate_hz, self.tick_hz)
        head = (self.version, self.channels, self.capabilities, *rates, self.fifo_bytes, self.max_marks, 0)
        return INFO.pack(*head, _text_bytes(self.firmware, 12), self.max_frame_bytes)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """From 64 bytes; DeviceError for another length or an impossible channel count."""
        fields = _fields(INFO, data, "GET_INFO")
        version, channels, bits, low, high, rate, tick, fifo, marks, _, firmware, longest = fields
        if not 1 <= channels <= MAX_CHANNELS:
            raise DeviceError(f"emg8: GET_INFO says {channels} channels; 1 to {MAX_CHANNELS} are possible")
        return cls(channels, Capability(bits), low, high, rate, tick, fifo, _text(firmware), longest, marks, version)


@dataclass(frozen=True, slots=True)
class Channel:
    """GET_CHANNEL."""

    gain: int
    mode: Mode
    uv_per_count: float
    label: str
    electrode_off: bool = False
    saturated: bool = False
    test_current: Side = Side.NONE

    def pack(self) -> bytes:
        """32 bytes; a label that is too long in UTF-8 is cut at a character."""
        state = self.electrode_off | self.saturated << 1 | self.test_current << 2
        return CHANNEL.pack(self.gain, self.mode, state, 0, self.uv_per_count, _text_bytes(self.label, 16))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """From 32 bytes; DeviceError for another length or an unknown mode."""
        gain, mode, state, _, uv_per_count, label = _fields(CHANNEL, data, "GET_CHANNEL")
        known = _member(Mode, mode, "GET_CHANNEL says mode")
        sides = Side(state >> 2 & Side.BOTH)
        return cls(gain, known, uv_per_count, _text(label), bool(state & 1), bool(state & 2), sides)


@dataclass(frozen=True, slots=True)
class Status:
    """GET_STATUS. `samples` is the number of the next sample, `tick` the device's clock now."""

    state: RunState
    last_error: LastError
    frames: int
    samples: int
    overflowed_samples: int
    tick: int

    def pack(self) -> bytes:
        """32 bytes."""
        counts = (self.frames % 2**32, self.samples, self.overflowed_samples, self.tick)
        return STATUS.pack(self.state, self.last_error, 0, *counts)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """From 32 bytes; DeviceError for another length, an unknown state or an unknown error."""
        state, error, _, frames, samples, overflowed, tick = _fields(STATUS, data, "GET_STATUS")
        known = _member(RunState, state, "GET_STATUS says state")
        reason = _member(LastError, error, "GET_STATUS says last_error")
        return cls(known, reason, frames, samples, overflowed, tick)


def pack_impedance_test(test: ImpedanceTest) -> bytes:
    """GET_IMPEDANCE_TEST: 16 bytes."""
    return IMPEDANCE_TEST.pack(test.frequency_hz, test.current_na)


def unpack_impedance_test(data: bytes) -> ImpedanceTest:
    """From 16 bytes; DeviceError for another length, or a current or frequency that measures nothing."""
    frequency_hz, current_na = _fields(IMPEDANCE_TEST, data, "GET_IMPEDANCE_TEST")
    if not (0 < frequency_hz < inf and 0 < current_na < inf):
        raise DeviceError(
            f"emg8: GET_IMPEDANCE_TEST says {current_na:g} nA at {frequency_hz:g} Hz; both must be above 0: "
            "is the firmware sound?"
        )
    return ImpedanceTest(frequency_hz, current_na, has_marks=True)


def frame_samples(rate_hz: float, channels: int) -> int:
    """How many samples (instants) a usual frame holds."""
    room = (MAX_PLAIN_FRAME_BYTES - HEADER_BYTES - CHECK.size) // (SAMPLE_BYTES * channels)
    return max(1, min(ceil(Fraction(rate_hz) / FRAMES_PER_S), room))


def frame_bytes(samples: int, channels: int, marks: int) -> int:
    """Length of a frame on the wire."""
    return HEADER_BYTES + SAMPLE_BYTES * samples * channels + MARK.size * marks + CHECK.size


def encode_frame(
    samples: Samples,
    *,
    frame_seq: int,
    first: int,
    tick: int,
    flags: int = 0,
    frame_type: FrameType = FrameType.DATA,
    marks: Sequence[Mark] = (),
) -> bytes:
    """One frame. `samples` has shape (n, channels), n = 0 in an END frame; ValueError for counts beyond 24 bits."""
    count, channels = samples.shape
    body = pack24(samples)
    if marks:
        body += b"".join(MARK.pack(seq, code, 0, channel, value) for seq, code, channel, value in marks)
    numbers = (frame_seq, count, channels, first, tick, len(marks), 0, len(body), 0)
    head = HEADER.pack(MAGIC, FRAME_VERSION, frame_type, flags, *numbers)
    head += CHECK.pack(crc32c(head))
    return b"".join((head, body, CHECK.pack(crc32c(body, crc32c(head)))))


def decode_frames(data: bytes, channels: int) -> list[Frame]:
    """Frames in one transfer of a device with `channels` channels, one entry for each stretch of damage.

    This is the reference that says what the fast decoder must answer: plain, not fast.
    """
    frames: list[Frame] = []
    at = 0
    while at < len(data):
        if len(data) - at < HEADER_BYTES:
            frames.append(_unknown(FrameStatus.TRUNCATED))
            break
        if not _is_header(data, at, channels):
            frames.append(_unknown(FrameStatus.CORRUPT))
            at = _next_header(data, at + 1, channels)
            continue
        frame, length = _known(data, at)
        frames.append(frame)
        at += length
    return frames


def _known(data: bytes, at: int) -> tuple[Frame, int]:
    """The frame whose sound header is at `at`, and how many bytes it takes up."""
    header = HEADER.unpack_from(data, at)
    _, _, frame_type, flags, frame_seq, count, channels, first, tick, mark_count, _, body_bytes, _ = header
    end = at + HEADER_BYTES + body_bytes
    numbers = (int(frame_type), flags, frame_seq, first, count, tick)
    if end + CHECK.size > len(data):
        return Frame(FrameStatus.TRUNCATED, True, *numbers, None, []), len(data) - at
    length = end + CHECK.size - at
    if CHECK.unpack_from(data, end)[0] != crc32c(data[at:end]):
        return Frame(FrameStatus.CORRUPT, True, *numbers, None, []), length
    marks_at = end - MARK.size * mark_count
    samples = _unpack24(data[at + HEADER_BYTES : marks_at]).reshape(count, channels)
    marks = [
        (seq, code if code in _MARK_CODES else MarkCode.UNKNOWN, channel, value)
        for seq, code, _, channel, value in MARK.iter_unpack(data[marks_at:end])
    ]
    return Frame(FrameStatus.GOOD, True, *numbers, samples, marks), length


def _unknown(status: FrameStatus) -> Frame:
    """Bytes of which nothing may be believed."""
    return Frame(status, False, 0, 0, 0, 0, 0, 0, None, [])


def _is_header(data: bytes, at: int, channels: int) -> bool:
    """Are the bytes at `at` a whole header that can be believed?"""
    if len(data) - at < HEADER_BYTES:
        return False
    magic, version, frame_type, _, _, count, found, _, _, marks, _, body_bytes, _ = HEADER.unpack_from(data, at)
    check_at = at + HEADER.size
    return (
        magic == MAGIC
        and CHECK.unpack_from(data, check_at)[0] == crc32c(data[at:check_at])
        and version == FRAME_VERSION
        and frame_type in _FRAME_TYPES
        and found == channels
        and body_bytes == SAMPLE_BYTES * count * found + MARK.size * marks
    )


def _next_header(data: bytes, at: int, channels: int) -> int:
    """Where the first believable header from `at` on begins; the end of the transfer when there is none."""
    while (at := data.find(MAGIC, at)) >= 0:
        if _is_header(data, at, channels):
            return at
        at += 1
    return len(data)


def _unpack24(data: bytes) -> Samples:
    """24-bit two's complement, little endian, to int32."""
    octets = np.frombuffer(data, np.uint8).reshape(-1, SAMPLE_BYTES).astype(np.int32)
    counts: Samples = octets[:, 0] | octets[:, 1] << 8 | octets[:, 2] << 16
    return (counts ^ 0x800000) - 0x800000


def _fields(layout: struct.Struct, data: bytes, what: str) -> tuple[Any, ...]:
    """The fields of a structure that must have exactly its length."""
    if len(data) != layout.size:
        raise DeviceError(f"emg8: {what} has {len(data)} bytes, not {layout.size}; is this an emg8 device?")
    return layout.unpack(data)


def _member(kind: type[_Kind], value: int, what: str) -> _Kind:
    """One of the numbers that the description of the device lists."""
    try:
        return kind(value)
    except ValueError:
        raise DeviceError(
            f"emg8: {what} {value}; known are 0 to {max(kind)}: is the firmware newer than emgd?"
        ) from None


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _text_bytes(text: str, room: int) -> bytes:
    """UTF-8 in at most `room` bytes, cut between characters; struct pads with NUL."""
    return text.encode()[:room].decode("utf-8", "ignore").encode()
