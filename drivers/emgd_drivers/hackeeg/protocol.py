"""Bytes of a HackEEG (ADS1299 on an Arduino Due): docs/devices/hackeeg.md as code. No I/O, no clock."""

import json
from enum import IntEnum
from typing import Any, Final

from emgd_drivers.api import DeviceError, DeviceRefusedError
from emgd_ext.fixed import Constant, Layout, Place

VENDOR: Final = 0x2341
PRODUCT: Final = 0x003E
"""The native USB port of an Arduino Due."""

BAUD: Final = 115_200
"""USB has none; it must not be 1200, which puts the Due into its boot loader."""

CHANNELS: Final = 8
MAX_COUNT: Final = 2**23 - 1
REFERENCE_UV: Final = 4.5e6
TICK_HZ: Final = 1e6
"""Of micros(), the only clock that it tells."""

RATES_HZ: Final = (16_000, 8000, 4000, 2000, 1000, 500, 250)
"""Position = the rate bits of CONFIG1."""

GAINS: Final = (1, 2, 4, 6, 8, 12, 24)
"""Position = the gain bits of CHnSET."""

TO_JSON: Final = b"jsonlines\n"
LINE_END: Final = b"\n"

_PREFIX: Final = bytes.fromhex("82 a1 43 cc c8 a1 44 c4 23")
"""MessagePack of {"C": 200, "D": 35 bytes}, as far as those."""

_AT: Final = len(_PREFIX)

OK_LINE: Final = b'{"STATUS_CODE":200,"STATUS_TEXT":"Ok"}\r\n'
"""Answers are JSON lines also between MessagePack samples."""

LAYOUT: Final = Layout(
    length=_AT + 35,
    channels=CHANNELS,
    header=_PREFIX,
    counter=Place(_AT + 4, 4),
    samples=Place(_AT + 11, 3, big_endian=True),
    constants=(Constant(_AT + 8, 0xF0, 0xC0),),  # the chip's status word begins with 1100
    tick=Place(_AT, 4),
    tick_hz=TICK_HZ,
    remark=OK_LINE,
)


class Register(IntEnum):
    """Registers of the ADS1299 that are written."""

    CONFIG1 = 0x01
    CONFIG3 = 0x03
    CH1SET = 0x05


CONFIG1: Final = 0x90
"""Reserved bits and no clock output; the rate is added."""

CONFIG3: Final = 0xE0
"""Reference buffer on."""


def uv_per_count(gain: int) -> float:
    """µV of one count."""
    return REFERENCE_UV / gain / MAX_COUNT


def command(name: str, *numbers: int) -> bytes:
    """A command as a JSON line."""
    line = json.dumps({"COMMAND": name, "PARAMETERS": list(numbers)}, separators=(",", ":"))
    return line.encode("ascii") + LINE_END


def settings(rate_hz: int, gain: int) -> list[tuple[int, int]]:
    """(register, value) of everything that is set: rate, reference, and all channels on normal inputs."""
    channel = GAINS.index(gain) << 4
    return [
        (Register.CONFIG1, CONFIG1 | RATES_HZ.index(rate_hz)),
        (Register.CONFIG3, CONFIG3),
        *((Register.CH1SET + number, channel) for number in range(CHANNELS)),
    ]


def answer_of(line: bytes, asked: str) -> dict[str, Any]:
    """An answer as a map. DeviceRefusedError for a status other than 200, DeviceError when it is none."""
    try:
        answer = json.loads(line)
        code = answer["STATUS_CODE"]
    except (ValueError, TypeError, KeyError):
        raise DeviceError(f"hackeeg: {asked} was answered with {line[:80]!r}; is it a HackEEG?") from None
    if code != 200:
        raise DeviceRefusedError(f"hackeeg: {asked} was refused: {code} {answer.get('STATUS_TEXT', '')}")
    return dict(answer)
