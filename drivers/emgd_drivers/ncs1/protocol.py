"""Bytes of an ncs1 stimulator to messages and back: docs/devices/ncs1.md as code. No I/O, no clock.

Used by the driver, which asks, and by the device model, which answers.
"""

import struct
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Final, NamedTuple, Self

from emgd_ext.kernels import crc32c

VENDOR: Final = 0x1209
PRODUCT: Final = 0x0002
BAUD: Final = 115_200
"""USB has none."""

VERSION: Final = 1
PROTOCOL: Final = 0x0100
TICK_HZ: Final = 10_000_000

END: Final = b"\0"
STOP_RUN: Final = 4
"""So many END in a row are STOP."""

STOP: Final = END * 16
"""What a host sends to stop: damage may take twelve of them."""

MAX_ENCODED_BYTES: Final = 120
"""Without END; more than the longest message, less than the 254 from which COBS needs more than one byte."""

MAX_FEED_MS: Final = 2000
MAX_QUEUED: Final = 2
MAX_AHEAD_US: Final = 50_000
MAX_PAST_US: Final = 100_000
MEAN_WINDOW_US: Final = 10_000_000

ANSWER: Final = 0x80
"""Kind of an answer = kind of its request plus this."""

HEAD: Final = struct.Struct("<BBH")
CHECK: Final = struct.Struct("<I")
FEED_MS: Final = struct.Struct("<H")
OHM: Final = struct.Struct("<I")
TICK: Final = struct.Struct("<Q")


class Kind(IntEnum):
    """What a message is. STOP is never on the wire: the decoder makes it of a run of END."""

    STOP = 0x00
    INFO = 0x01
    STATUS = 0x02
    RESET = 0x03
    SET_LIMITS = 0x04
    GET_LIMITS = 0x05
    ARM = 0x06
    DISARM = 0x07
    FEED = 0x08
    PULSE = 0x09
    MEASURE_LOAD = 0x0A
    LATCH_CLOCK = 0x0B
    DELIVERED = 0xC1
    TROUBLE = 0xC2
    STARTED = 0xC3


EVENTS: Final = (Kind.DELIVERED, Kind.TROUBLE, Kind.STARTED)


class Result(IntEnum):
    """How a request ended."""

    OK = 0
    UNKNOWN = 1
    LENGTH = 2
    VALUE = 3
    NOT_NOW = 4
    NOT_FED = 5
    CURRENT = 6
    WIDTH = 7
    INTERVAL = 8
    MEAN = 9
    FAR = 10
    LATE = 11
    FULL = 12
    REPEATED = 13


RESULT_TEXTS: Final = {
    Result.OK: "done",
    Result.UNKNOWN: "it does not know this request",
    Result.LENGTH: "the request has a wrong length",
    Result.VALUE: "a value is out of range or no multiple of its step",
    Result.NOT_NOW: "not in its present state; reset it first",
    Result.NOT_FED: "its watchdog is not fed",
    Result.CURRENT: "above its current register",
    Result.WIDTH: "above its width register",
    Result.INTERVAL: "sooner after the pulse before than its interval register",
    Result.MEAN: "the mean current over 10 s would be above its register",
    Result.FAR: "more than 50 ms ahead",
    Result.LATE: "more than 100 ms past",
    Result.FULL: "two pulses wait already",
    Result.REPEATED: "the pulse's number is not above that of the one before",
}


class State(IntEnum):
    """What the output may do."""

    OFF = 0
    ARMED = 1
    LATCHED = 2


class Cause(IntEnum):
    """Why the device latched or started."""

    NONE = 0
    STOP = 1
    WATCHDOG = 2
    HOST_GONE = 3
    SUPPLY = 4
    OUTPUT = 5
    INTERNAL = 6


CAUSE_TEXTS: Final = {
    Cause.NONE: "nothing happened",
    Cause.STOP: "it was stopped",
    Cause.WATCHDOG: "its watchdog was not fed",
    Cause.HOST_GONE: "the host let go of it",
    Cause.SUPPLY: "its supply failed",
    Cause.OUTPUT: "its output stage gave something else than set",
    Cause.INTERNAL: "its firmware failed",
}


class Ability(IntFlag):
    """What a device can do."""

    ISOLATED = 1
    TRIGGER = 2
    MEASURES_LOAD = 4
    READS_BACK = 8


class Flag(IntFlag):
    """Flags of STATUS."""

    RELAY = 1
    HIGH_VOLTAGE = 2
    WATCHDOG = 4


class ProtocolError(ValueError):
    """A sound frame whose payload is not what its kind has."""


class Message(NamedTuple):
    """What a frame carries. `kind` may be one that nobody knows."""

    kind: int
    seq: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Payload:
    """Numbers in the order of the wire."""

    LAYOUT: ClassVar[struct.Struct]

    def pack(self) -> bytes:
        """As on the wire."""
        return self.LAYOUT.pack(*astuple(self))

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """From the wire; ProtocolError for a wrong length or a number without meaning."""
        if len(payload) != cls.LAYOUT.size:
            raise ProtocolError(f"{cls.__name__} has {len(payload)} bytes, not {cls.LAYOUT.size}")
        try:
            return cls(*cls.LAYOUT.unpack(payload))
        except ValueError as error:
            raise ProtocolError(f"{cls.__name__}: {error}") from None


@dataclass(frozen=True, slots=True)
class Info(Payload):
    """INFO."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<HHIIIIII16s32s")

    protocol: int
    abilities: int
    most_current_ua: int
    most_width_us: int
    most_compliance_v: int
    current_step_ua: int
    tick_hz: int
    boot: int
    firmware_bytes: bytes
    serial_bytes: bytes

    @property
    def firmware(self) -> str:
        """Version, for people."""
        return _text(self.firmware_bytes)

    @property
    def serial(self) -> str:
        """Serial number."""
        return _text(self.serial_bytes)


@dataclass(frozen=True, slots=True)
class Status(Payload):
    """STATUS, and the answer to RESET, ARM and DISARM."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<BBBBIIQ")

    state: int
    cause: int
    flags: int
    queued: int
    boot: int
    delivered: int
    tick: int

    def __post_init__(self) -> None:
        State(self.state)
        Cause(self.cause)


@dataclass(frozen=True, slots=True)
class Limits(Payload):
    """The device's registers."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IIIII")

    current_ua: int = 0
    width_us: int = 0
    compliance_v: int = 0
    interval_us: int = 0
    mean_ua: int = 0


@dataclass(frozen=True, slots=True)
class Fed(Payload):
    """Answer to FEED."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<HBBIQ")

    timeout_ms: int
    state: int
    cause: int
    boot: int
    tick: int

    def __post_init__(self) -> None:
        State(self.state)
        Cause(self.cause)


@dataclass(frozen=True, slots=True)
class Pulse(Payload):
    """PULSE, and its echo."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IQII")

    seq: int
    tick: int
    current_ua: int
    width_us: int


@dataclass(frozen=True, slots=True)
class Delivered(Payload):
    """DELIVERED."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<IQIIIiB")

    seq: int
    tick: int
    current_ua: int
    width_us: int
    load_ohm: int
    dc_ua: int
    limited: int


@dataclass(frozen=True, slots=True)
class Trouble(Payload):
    """TROUBLE."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<BBQ")

    cause: int
    dropped: int
    tick: int

    def __post_init__(self) -> None:
        Cause(self.cause)


@dataclass(frozen=True, slots=True)
class Started(Payload):
    """STARTED."""

    LAYOUT: ClassVar[struct.Struct] = struct.Struct("<BI")

    cause: int
    boot: int

    def __post_init__(self) -> None:
        Cause(self.cause)


def values(limits: Limits) -> tuple[int, ...]:
    """The registers in the order of the wire."""
    return astuple(limits)


def name_of(kind: int) -> str:
    """A kind for people, also of an answer and of one that does not exist."""
    names = {known.value: known.name for known in Kind}
    return names.get(kind) or names.get(kind & ~ANSWER) or f"kind {kind:#04x}"


def encode(message: Message) -> bytes:
    """A message as on the wire, with its END."""
    plain = HEAD.pack(VERSION, message.kind, message.seq) + message.payload
    return _cobs(plain + CHECK.pack(crc32c(plain))) + END


class Decoder:
    """Bytes, cut anywhere, to messages. `damaged` counts the stretches between two END that were none."""

    def __init__(self) -> None:
        self.damaged = 0
        self._open = bytearray()
        self._ends = 0

    def feed(self, data: bytes) -> Iterator[Message]:
        """Messages, and Kind.STOP for each run of STOP_RUN END, in order."""
        for byte in data:
            if byte:
                self._ends = 0
                if len(self._open) <= MAX_ENCODED_BYTES:
                    self._open.append(byte)
                continue
            self._ends += 1
            if self._ends == STOP_RUN:
                yield Message(Kind.STOP, 0)
            if self._open:
                message = _decoded(bytes(self._open))
                self._open.clear()
                if message is None:
                    self.damaged += 1
                else:
                    yield message


def _decoded(encoded: bytes) -> Message | None:
    """The message in what stood between two END; None when there is none."""
    if len(encoded) > MAX_ENCODED_BYTES:
        return None
    plain = _uncobs(encoded)
    if plain is None or len(plain) < HEAD.size + CHECK.size:
        return None
    (check,) = CHECK.unpack(plain[-CHECK.size :])
    version, kind, seq = HEAD.unpack_from(plain)
    if crc32c(plain[: -CHECK.size]) != check or version != VERSION or kind == Kind.STOP:
        return None
    return Message(kind, seq, plain[HEAD.size : -CHECK.size])


def _cobs(plain: bytes) -> bytes:
    """Without zeros: each is replaced by the distance to the next. For less than 254 bytes."""
    return b"".join(bytes([len(piece) + 1]) + piece for piece in plain.split(b"\0"))


def _uncobs(encoded: bytes) -> bytes | None:
    """What `_cobs` was given; None when a distance leads beyond the end."""
    pieces = []
    at = 0
    while at < len(encoded):
        end = at + encoded[at]
        if end > len(encoded):
            return None
        pieces.append(encoded[at + 1 : end])
        at = end
    return b"\0".join(pieces)


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode("ascii", "replace")
