"""Frames of fixed length, read the plain way: what the fast decoder must answer.

Works on all bytes of a stream at once and knows nothing of deliveries and time. Also makes the frames of two devices,
in code that shares nothing with the drivers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from emgd_ext.fixed import Constant, Layout, Place

CYTON_RATE_HZ = 250.0
DUE_RATE_HZ = 16_000.0
OK = b'{"STATUS_CODE":200,"STATUS_TEXT":"Ok"}\r\n'

CYTON = Layout(
    length=33,
    channels=8,
    header=b"\xa0",
    ends=bytes(range(0xC0, 0xC7)),
    counter=Place(1, 1),
    samples=Place(2, 3, True),
)
DUE = Layout(
    length=44,
    channels=8,
    header=b"\x82\xa1C\xcc\xc8\xa1D\xc4\x23",
    counter=Place(13, 4),
    tick=Place(9, 4),
    tick_hz=1e6,
    constants=(Constant(17, 0xF0, 0xC0),),
    samples=Place(20, 3, True),
    remark=OK,
)


def three_bytes(values):
    return b"".join((int(value) & 0xFFFFFF).to_bytes(3, "big") for value in values)


def cyton_frame(number, values, *, end=0xC0, aux=bytes(6)):
    return bytes([0xA0, number % 256]) + three_bytes(values) + aux + bytes([end])


def due_frame(number, values, *, micros):
    head = (micros % 2**32).to_bytes(4, "little") + (number % 2**32).to_bytes(4, "little")
    return b"\x82\xa1\x43\xcc\xc8\xa1\x44\xc4\x23" + head + b"\xc0\x00\x00" + three_bytes(values)


@dataclass
class Found:
    """`frames`: (counter, samples) in order; `skipped`: lengths of the stretches that were no frames, each with the
    number of frames found before it; `rest`: bytes that nothing was decided about; `remarks`: how many."""

    frames: list = field(default_factory=list)
    skipped: list = field(default_factory=list)
    remarks: int = 0
    rest: int = 0

    def skip(self):
        if self.skipped and self.skipped[-1][0] == len(self.frames):
            self.skipped[-1][1] += 1
        else:
            self.skipped.append([len(self.frames), 1])


def is_cyton(frame):
    return len(frame) == 33 and frame[0] == 0xA0 and 0xC0 <= frame[32] <= 0xC6


def is_due(frame):
    return len(frame) == 44 and frame[:9] == b"\x82\xa1\x43\xcc\xc8\xa1\x44\xc4\x23" and frame[17] & 0xF0 == 0xC0


def values_of(octets):
    return [int.from_bytes(octets[at : at + 3], "big", signed=True) for at in range(0, 24, 3)]


@dataclass
class Device:
    """How a device's frames look; `head` bytes hold header and number."""

    length: int
    header: bytes
    head: int
    is_frame: Callable
    number: Callable
    turn: int
    values: Callable
    remark: bytes = b""


CYTON_FRAMES = Device(33, b"\xa0", 2, is_cyton, lambda f: f[1], 256, lambda f: values_of(f[2:26]))
DUE_FRAMES = Device(
    44,
    b"\x82\xa1\x43\xcc\xc8\xa1\x44\xc4\x23",
    17,
    is_due,
    lambda f: int.from_bytes(f[13:17], "little"),
    2**32,
    lambda f: values_of(f[20:44]),
    OK,
)


def read_cyton(data):
    return read(data, CYTON_FRAMES)


def read_due(data):
    return read(data, DUE_FRAMES)


def read(data, device):
    """All that the bytes settle, and the last frame if nothing at all stands behind it."""
    found = Found()
    at = 0
    found_again = None
    while at < len(data):
        here = data[at:]
        if device.remark and here.startswith(device.remark):
            found.remarks += 1
            at += len(device.remark)
            continue
        if device.remark and device.remark.startswith(here):
            break
        locked = bool(found.frames) and (not found.skipped or found.skipped[-1][0] < len(found.frames))
        verdict = judge(here, device, 1 if locked or at == found_again else 2)
        if verdict == "undecided":
            break
        out_of_step = bool(found.skipped) and not locked and found.skipped[-1][1] % device.length
        if verdict == "frame" and out_of_step and len(device.header) < 4 and at != found_again:
            found_again = at + device.length
            for _ in range(device.length):
                found.skip()
            at += device.length
        elif verdict == "frame":
            found.frames.append((device.number(here), device.values(here[: device.length])))
            at += device.length
        else:
            found.skip()
            at += 1
    found.rest = len(data) - at
    return found


def judge(here, device, followers):
    """Does a frame stand at the beginning of `here`, with so many numbered ones behind it?"""
    number = device.number(here) if len(here) >= device.head else None
    for following in range(followers + 1):
        last = following == followers
        verdict = judge_one(here, device, None if number is None else number + following, whole=not last)
        if verdict or last:
            return verdict or "frame"
        here = here[device.length :]
        while device.remark and here.startswith(device.remark):
            here = here[len(device.remark) :]
        if not here:
            return "frame" if following == followers - 1 else "undecided"
        if device.remark.startswith(here):
            return "undecided"
    raise AssertionError


def judge_one(here, device, number, *, whole):
    """What speaks against a frame of this number, or only its head; nothing does: None."""
    if not (device.header.startswith(here[: len(device.header)]) or here.startswith(device.header)):
        return "nothing"
    if len(here) < device.head:
        return "undecided"
    if device.number(here) != number % device.turn:
        return "nothing"
    if whole and len(here) < device.length:
        return "undecided"
    return "nothing" if whole and not device.is_frame(here[: device.length]) else None


def ramp(number):
    """Samples whose values tell which sample and channel they are."""
    return (number * 977 + np.arange(8) * 104_729) % 2**24 - 2**23
