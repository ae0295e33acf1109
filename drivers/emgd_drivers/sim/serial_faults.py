"""What goes wrong on purpose on the way from a serial device: faults as values and as the strings that people type.

Frames (or samples) are counted from 0 since the stream was started, those included that are lost.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final


class SerialFaultKind(StrEnum):
    """What happens at a frame."""

    DROP = "drop"
    LOSE = "lose"
    NOISE = "noise"
    CORRUPT = "corrupt"
    UNPLUG = "unplug"


@dataclass(frozen=True, slots=True)
class SerialFault:
    """One thing that happens at frame `frame`; `drop` to `amount` frames from there on.

    `amount` is how many bytes are lost from the middle of the frame (lose) or come unasked before it (noise), or which
    byte has its bits flipped, modulo the frame's length (corrupt).
    """

    kind: SerialFaultKind
    frame: int
    amount: int = 1

    def hits(self, frame: int) -> bool:
        """Does it happen to this frame?"""
        return self.frame <= frame < self.frame + (self.amount if self.kind is SerialFaultKind.DROP else 1)


_AT: Final = r"@(?P<frame>\d{1,18})"

FORMS: Final = {
    "drop@FRAME[+FRAMES]": re.compile(rf"(?P<kind>drop){_AT}(\+(?P<amount>[1-9]\d{{0,8}}))?", re.ASCII),
    "lose@FRAME:BYTES": re.compile(rf"(?P<kind>lose){_AT}:(?P<amount>[1-9]\d{{0,3}})", re.ASCII),
    "noise@FRAME:BYTES": re.compile(rf"(?P<kind>noise){_AT}:(?P<amount>[1-9]\d{{0,3}})", re.ASCII),
    "corrupt@FRAME:BYTE": re.compile(rf"(?P<kind>corrupt){_AT}:(?P<amount>\d{{1,4}})", re.ASCII),
    "unplug@FRAME": re.compile(rf"(?P<kind>unplug){_AT}", re.ASCII),
}
"""How a fault is shown -> how it is read."""

ALLOWED_FORMS: Final = ", ".join(FORMS)


def parse_serial_faults(texts: Iterable[str]) -> tuple[SerialFault, ...]:
    """From strings such as `lose@100:5`; ValueError names a bad one and the forms there are."""
    return tuple(_parsed(text) for text in texts)


def _parsed(text: str) -> SerialFault:
    for pattern in FORMS.values():
        if match := pattern.fullmatch(text.strip()):
            amount = match.groupdict().get("amount")
            return SerialFault(
                SerialFaultKind(match["kind"]), int(match["frame"]), 1 if amount is None else int(amount)
            )
    raise ValueError(f"fault {text!r} is not understood; write one of {ALLOWED_FORMS}")


def damaged(frame: bytes, faults: Iterable[SerialFault], random: Random) -> bytes | None:
    """What arrives of a frame to which these faults happen; None when the device is unplugged before it."""
    noise = b""
    for fault in faults:
        if fault.kind is SerialFaultKind.UNPLUG:
            return None
        if fault.kind is SerialFaultKind.DROP:
            frame = b""
        elif fault.kind is SerialFaultKind.LOSE:
            begin = max(0, (len(frame) - fault.amount) // 2)
            frame = frame[:begin] + frame[begin + fault.amount :]
        elif fault.kind is SerialFaultKind.CORRUPT and frame:
            at = fault.amount % len(frame)
            frame = frame[:at] + bytes([frame[at] ^ 0xFF]) + frame[at + 1 :]
        elif fault.kind is SerialFaultKind.NOISE:
            noise += random.randbytes(fault.amount)
    return noise + frame
