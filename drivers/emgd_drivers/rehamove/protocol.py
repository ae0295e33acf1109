"""Bytes of a RehaMove3 (low level) to messages and back: docs/devices/rehamove3.md as code. No I/O, no clock."""

from binascii import crc_hqx
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

BAUD: Final = 3_000_000

START: Final = 0xF0
END: Final = 0x0F
STUFF: Final = 0x81
KEY: Final = 0x55
SPECIAL: Final = frozenset((START, END, STUFF))

HEAD_BYTES: Final = 9
"""START, and twice two bytes that are always stuffed."""

MAX_PACKET_BYTES: Final = 1200
NUMBERS: Final = 64

MOST_CURRENT_UA: Final = 130_000
STEP_UA: Final = 500
LEAST_WIDTH_US: Final = 10
MOST_WIDTH_US: Final = 4095
MOST_POINTS: Final = 16
ZERO_CURRENT: Final = 300
"""Coded current of 0 mA."""

POINT_BYTES: Final = 4
ID_BYTES: Final = 10
VERSION_BYTES: Final = 6

CHANNELS: Final = ("red", "blue", "black", "white")
CONNECTORS: Final = ("yellow", "green")


class Command(IntEnum):
    """Commands that emgd uses; an answer has the next number."""

    LL_INIT = 0
    LL_CHANNEL_CONFIG = 2
    LL_STOP = 4
    GET_VERSION_MAIN = 50
    GET_DEVICE_ID = 52
    GET_STIM_STATUS = 62
    GENERAL_ERROR = 66
    UNKNOWN_COMMAND = 67


class StimStatus(IntEnum):
    """What the stimulating part is set up for."""

    UNINITIALIZED = 0
    LOW_LEVEL = 1
    MID_LEVEL = 2
    MID_LEVEL_RUNNING = 3


VOLTAGES_V: Final = {1: 0, 2: 30, 3: 60, 4: 90, 5: 120, 6: 150}
"""Code of the high voltage -> V; 0 is the device's own choice, which is never asked for."""

OK: Final = 0
REFUSALS: Final = {2: "a parameter is wrong", 7: "it is not initialised", 11: "it cannot do this command"}
FAILURES: Final = {
    1: "a packet was damaged on the way",
    4: "an internal time-out",
    8: "its high voltage failed",
    10: "an electrode is off or dry",
    16: "a pulse took too long",
    28: "the current was not reached",
}


class Packet(NamedTuple):
    """One message. `command` may be one that nobody knows."""

    command: int
    number: int
    data: bytes = b""


class Point(NamedTuple):
    """A constant current for a while."""

    width_us: int
    current_ua: int


def encode(packet: Packet) -> bytes:
    """A packet as on the wire."""
    body = _stuffed(bytes([packet.number << 2 | packet.command >> 8, packet.command & 0xFF]) + packet.data)
    length = HEAD_BYTES + len(body) + 1
    head = bytes([START])
    for number in (length, crc_hqx(body, 0)):
        head += bytes([STUFF, number >> 8 ^ KEY, STUFF, number & 0xFF ^ KEY])
    return head + body + bytes([END])


class Decoder:
    """Bytes, cut anywhere, to packets. `damaged` counts what began like one and was none."""

    def __init__(self) -> None:
        self.damaged = 0
        self._open = bytearray()
        self._stuffing = False

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Packets, in order."""
        for byte in data:
            if not self._stuffing and byte == START:
                self.damaged += bool(self._open)
                self._open.clear()
            elif not self._open:
                continue
            self._open.append(byte)
            ended = not self._stuffing and byte == END
            self._stuffing = not self._stuffing and byte == STUFF
            if ended or len(self._open) > MAX_PACKET_BYTES:
                packet = _decoded(bytes(self._open))
                self._open.clear()
                self._stuffing = False
                if packet is None:
                    self.damaged += 1
                else:
                    yield packet


def _decoded(raw: bytes) -> Packet | None:
    """The packet from START to END; None when it is none."""
    if not HEAD_BYTES + 3 <= len(raw) <= MAX_PACKET_BYTES or any(raw[at] != STUFF for at in (1, 3, 5, 7)):
        return None
    length = (raw[2] ^ KEY) << 8 | raw[4] ^ KEY
    check = (raw[6] ^ KEY) << 8 | raw[8] ^ KEY
    stuffed = raw[HEAD_BYTES:-1]
    body = _plain(stuffed)
    if length != len(raw) or check != crc_hqx(stuffed, 0) or len(body) < 2:
        return None
    return Packet((body[0] & 3) << 8 | body[1], body[0] >> 2, body[2:])


def init_data(voltage: int) -> bytes:
    """Ll_Init with a code of VOLTAGES_V, and no measurement."""
    return bytes([voltage << 1])


def pulse_data(channel: int, connector: int, points: Sequence[Point]) -> bytes:
    """Ll_Channel_Config that gives a pulse of these points."""
    data = bytes([0x80 | channel << 5 | connector << 4 | len(points) - 1])
    for point in points:
        coded = point.current_ua // STEP_UA + ZERO_CURRENT
        data += bytes([point.width_us >> 4, (point.width_us & 0xF) << 4 | coded >> 6, coded << 2 & 0xFC, 0])
    return data


def points_of(data: bytes) -> tuple[int, int, list[Point]] | None:
    """(channel, connector, points) of Ll_Channel_Config; None when the data is none. Points only where enabled."""
    if not data:
        return None
    count = (data[0] & 0xF) + 1 if data[0] & 0x80 else 0
    if len(data) != 1 + count * POINT_BYTES:
        return None
    points = []
    for at in range(1, len(data), POINT_BYTES):
        coded = (data[at + 1] & 0xF) << 6 | data[at + 2] >> 2
        points.append(Point(data[at] << 4 | data[at + 1] >> 4, (coded - ZERO_CURRENT) * STEP_UA))
    return data[0] >> 5 & 3, data[0] >> 4 & 1, points


def balanced(current_ua: int, width_us: int) -> list[Point]:
    """A pulse and its mirror image: no charge remains."""
    return [Point(width_us, current_ua), Point(width_us, -current_ua)]


def voltage_code(most_v: int) -> int:
    """The highest voltage that is not above `most_v`; 1 = off when there is none."""
    return max(code for code, volts in VOLTAGES_V.items() if volts <= most_v)


def command_name(command: int) -> str:
    """A command for people."""
    names = {known.value: known.name for known in Command}
    return names.get(command) or f"command {command}"


def _stuffed(plain: bytes) -> bytes:
    return b"".join(bytes([STUFF, byte ^ KEY]) if byte in SPECIAL else bytes([byte]) for byte in plain)


def _plain(stuffed: bytes) -> bytes:
    plain = bytearray()
    key = 0
    for byte in stuffed:
        if byte == STUFF and not key:
            key = KEY
        else:
            plain.append(byte ^ key)
            key = 0
    return bytes(plain)


STOP: Final = bytes([END, END]) + 2 * encode(Packet(Command.LL_STOP, NUMBERS - 1))
"""Ll_Stop twice. One END may be swallowed by a STUFF before it, the other ends what was unfinished."""
