"""The ring as Python sees it."""

from typing import Any, NamedTuple

import numpy.typing as npt

RAW: int
FILTERED: int
GAP: int
MARK: int
EVENT_SLOTS: int

class Block(NamedTuple):
    """One published block: which samples, when, flags, and a byte of flags per channel."""

    seq: int
    count: int  # type: ignore[assignment]  # the glossary's word; it hides tuple.count, which nobody calls
    gap_before: int
    host_time_ns: int
    flags: int
    channel_flags: bytes

class Event(NamedTuple):
    """A gap (code = set of causes) or a mark (code = mark code)."""

    kind: int
    seq: int
    count: int  # type: ignore[assignment]  # the glossary's word; it hides tuple.count, which nobody calls
    host_time_ns: int
    before_block: int
    code: int
    channel: int
    value: int

class Ring:
    """The last `capacity` samples (rounded up to whole blocks) of `channels` channels, raw and filtered."""

    fd: int

    def __init__(self, channels: int, block_samples: int, capacity: int) -> None: ...
    @property
    def channels(self) -> int:
        """Numbers in a row."""
    @property
    def block_samples(self) -> int:
        """Length of an uncut block."""
    @property
    def capacity(self) -> int:
        """Depth of the history window in samples."""
    @property
    def total_bytes(self) -> int:
        """Size of the shared memory."""
    @property
    def head(self) -> int:
        """Number of the next sample."""
    @property
    def blocks(self) -> int:
        """Blocks published so far."""
    def block(self, index: int) -> Block | None:
        """Block number `index`, or None when it is gone or has not happened."""
    def first_block(self) -> tuple[int, Block] | None:
        """(index, Block) of the oldest block whose samples are all there, or None."""
    def block_from(self, seq: int) -> tuple[int, Block] | None:
        """(index, Block) of the first block that holds `seq` or a later sample, or None when there is none yet."""
    def events(self, since: int = 0) -> tuple[int, list[Event]]:
        """Events from number `since` on that are still there: (number of the first, list of Event)."""
    def read(self, plane: int, seq: int, count: int) -> npt.NDArray[Any] | None:
        """Samples of a plane, (count, channels) int32 or float32; None when some are gone or not there yet."""
