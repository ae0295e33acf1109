"""Each kernel once more in plain Python, NumPy and SciPy: slow, short, and the oracle of the kernels' tests.

Written from the documents (docs/devices/emg8.md, docs/protocol.md), not from the C.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

POLYNOMIAL_REFLECTED: Final = 0x82F63B78
"""CRC-32C's 0x1EDC6F41 with its bits reversed (RFC 3720)."""


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC-32C, bit by bit."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ POLYNOMIAL_REFLECTED if crc & 1 else crc >> 1
    return crc ^ 0xFFFFFFFF


def unpack24(data: bytes) -> npt.NDArray[np.int32]:
    """Packed 24-bit little-endian two's complement to int32."""
    octets = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
    unsigned = octets[:, 0] + (octets[:, 1] << 8) + (octets[:, 2] << 16)
    signed: npt.NDArray[np.int32] = np.where(unsigned >= 1 << 23, unsigned - (1 << 24), unsigned).astype(np.int32)
    return signed


def cascade(
    counts: npt.NDArray[np.int32],
    uv_per_count: Sequence[float],
    sections: Sequence[npt.NDArray[np.float64]],
) -> npt.NDArray[np.float64]:
    """µV after each channel's sections, primed with the first row: shape of `counts` (n, channels)."""
    from scipy import signal  # noqa: PLC0415 - only tests come here

    out = np.empty(counts.shape, np.float64)
    for channel, sos in enumerate(sections):
        x = counts[:, channel] * uv_per_count[channel]
        if len(sos):
            x, _ = signal.sosfilt(sos, x, zi=signal.sosfilt_zi(sos) * x[0])
        out[:, channel] = x
    return out


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame as far as the rules of sequence need it; `known` False: nothing of the rest may be believed."""

    known: bool
    good: bool = True
    cause: str = "corrupt"
    frame_seq: int = 0
    first: int = 0
    count: int = 0
    start: bool = False
    overflow: bool = False


@dataclass(slots=True)
class SequenceRules:
    """Which samples exist and what is missing, by the table in docs/devices/emg8.md."""

    expected: int = 0
    next_frame: int | None = None
    frame_samples: int = 0
    damage: list[str] = field(default_factory=list)
    delivered: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[tuple[int, int, frozenset[str]]] = field(default_factory=list)

    def accept(self, frames: Iterable[Seen]) -> None:
        """Take frames in the order in which they came."""
        for frame in frames:
            self._accept(frame)

    def _accept(self, frame: Seen) -> None:
        if not frame.known:
            self.damage.append(frame.cause)
            return
        end = frame.first + frame.count
        ahead = 0 if self.next_frame is None else (frame.frame_seq - self.next_frame) % (1 << 32)
        if self.next_frame is not None and (end < self.expected or (frame.count and end == self.expected)):
            return  # sent twice
        if frame.good and frame.count:
            self.frame_samples = frame.count
        if frame.first > self.expected:
            self._missing(frame, ahead)
        begin = max(frame.first, self.expected)
        if frame.good and end > begin:
            self.delivered.append((begin, end - begin))
        elif not frame.good and end > begin:
            self.gaps.append((begin, end - begin, frozenset({frame.cause})))
        self.expected = end
        self.next_frame = (frame.frame_seq + 1) % (1 << 32)
        self.damage.clear()

    def _missing(self, frame: Seen, ahead: int) -> None:
        missing = frame.first - self.expected
        frames = ahead
        if self.next_frame is None:
            size = self.frame_samples
            frames = 0 if frame.start else -(-missing // size) if size else missing
        self.gaps.append((self.expected, missing, self._causes(frames, overflowed=frame.overflow)))

    def _causes(self, missing_frames: int, *, overflowed: bool) -> frozenset[str]:
        causes = set(self.damage) if missing_frames else set()
        if missing_frames > len(self.damage):
            causes.add("lost")
        if overflowed or not causes:
            causes.add("overflow")
        return frozenset(causes)

    def finish(self, total: int) -> None:
        """The stream is over after `total` samples."""
        if total > self.expected:
            missing = total - self.expected
            frames = -(-missing // self.frame_samples) if self.frame_samples else missing
            self.gaps.append((self.expected, missing, self._causes(frames, overflowed=False)))
            self.expected = total
