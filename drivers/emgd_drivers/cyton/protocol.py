"""Bytes of an OpenBCI Cyton: docs/devices/cyton.md as code. No I/O, no clock."""

from typing import Final

from emgd_drivers.api import DeviceError
from emgd_ext.fixed import Layout, Place

VENDOR: Final = 0x0403
PRODUCT: Final = 0x6015
"""The dongle's FTDI FT231X; other devices use this chip too."""

BAUD: Final = 115_200
RATE_HZ: Final = 250.0
CHANNELS: Final = 8
FRAME_BYTES: Final = 33
MAX_COUNT: Final = 2**23 - 1
GAINS: Final = (1, 2, 4, 6, 8, 12, 24)
DEFAULT_GAIN: Final = 24
"""After a reset."""

REFERENCE_UV: Final = 4.5e6
"""Reference voltage of the ADS1299: full scale at gain 1."""

RESET: Final = b"v"
START: Final = b"b"
STOP: Final = b"s"
ANSWER_END: Final = b"$$$"

LAYOUT: Final = Layout(
    length=FRAME_BYTES,
    channels=CHANNELS,
    header=b"\xa0",
    counter=Place(1, 1),
    samples=Place(2, 3, big_endian=True),
    ends=bytes(range(0xC0, 0xC7)),
)


def uv_per_count(gain: int) -> float:
    """µV of one count."""
    return REFERENCE_UV / gain / MAX_COUNT


def gain_command(channel: int, gain: int) -> bytes:
    """Set one channel (from 0): on, this gain, normal input, in the bias, SRB2 joined, SRB1 not."""
    return f"x{channel + 1}0{GAINS.index(gain)}0110X".encode("ascii")


def firmware_of(start_text: bytes) -> str:
    """The firmware version in what a reset answers; DeviceError when it is no Cyton, or one with a Daisy module."""
    text = start_text.decode("ascii", "replace")
    if "OpenBCI" not in text:
        raise DeviceError(f"cyton: a reset answered {text[-80:]!r}; is it a Cyton, and is its board switched on?")
    if "Daisy" in text:
        raise DeviceError("cyton: a Daisy module is attached, whose 16 channels are not supported; take it off")
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "Firmware":
            return value.strip()
    return "unknown"
