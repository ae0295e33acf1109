"""Samples out of the ring by number, exactly as they were published."""

from dataclasses import dataclass, field
from typing import Any, Final

from emgd.templates import causes_in
from emgd_ext import ring as ring_planes
from emgd_ext.ring import Block, Ring
from emgd_wire.kinds import MAX_HISTORY_BYTES, Flag

BYTES_PER_NUMBER: Final = 4  # int32 and float32 alike
TRIES: Final = 3
"""A range at the far end of the ring can be overwritten while it is read; each new try begins further on."""


class NotInHistoryError(LookupError):
    """The whole range is gone or has not happened yet."""

    def __init__(self, oldest: int, newest: int) -> None:
        super().__init__(f"samples {oldest} to {newest} are there")
        self.oldest = oldest
        self.newest = newest


GAP_BEFORE: Final = int(Flag.GAP_BEFORE)


@dataclass(slots=True)
class Slice:
    """A range of samples: what `history` answers (docs/protocol.md), and the samples' bytes."""

    seq: int
    count: int
    oldest: int
    newest: int
    expired: int
    blocks: list[list[Any]] = field(default_factory=list)
    gaps: list[list[Any]] = field(default_factory=list)
    payload: bytes = b""

    def as_map(self) -> dict[str, Any]:
        """The result map, without what only the caller knows."""
        return {
            "seq": self.seq,
            "count": self.count,
            "next_seq": self.seq + self.count,
            "oldest": self.oldest,
            "newest": self.newest,
            "expired": self.expired,
            "blocks": self.blocks,
            "gaps": self.gaps,
        }


def fetch(ring: Ring, plane: int, seq: int, count: int, sample_ns: float, flag_mask: int) -> Slice:
    """Samples seq … seq+count-1 of a plane as far as they are there, at most MAX_HISTORY_BYTES of them.

    Blocks are cut at the ends of the range. NotInHistoryError when nothing of it is there.
    """
    for _ in range(TRIES):
        found = _fetch_once(ring, plane, seq, count, sample_ns, flag_mask)
        if found is not None:
            return found
    raise NotInHistoryError(*bounds(ring))


def bounds(ring: Ring) -> tuple[int, int]:
    """(first sample that is there, one past the newest that was published)."""
    first = ring.first_block()
    newest = ring.block(ring.blocks - 1) if ring.blocks else None
    end = newest.seq + newest.count if newest else 0
    return (first[1].seq if first else end, _end_of_gaps(ring, end))


def _end_of_gaps(ring: Ring, end: int) -> int:
    """Where the gaps end that were noticed after the newest block."""
    for event in ring.events()[1]:
        if event.kind == ring_planes.GAP and event.seq == end:
            end = event.seq + event.count
    return end


def _fetch_once(ring: Ring, plane: int, seq: int, count: int, sample_ns: float, flag_mask: int) -> Slice | None:
    oldest, newest = bounds(ring)
    at = ring.block_from(max(seq, oldest))
    end = min(seq + count, newest)
    # The gap before the oldest block is still known, so a range that reaches into it has something to say.
    known_from = at[1].seq - at[1].gap_before if at else oldest
    if end <= max(seq, known_from):
        raise NotInHistoryError(oldest, newest)
    blocks, covered = _collect(ring, at, seq, end)
    payload = _read(ring, plane, blocks)
    if payload is None:
        return None
    expired = max(0, min(known_from, covered) - seq)
    found = Slice(seq, covered - seq, oldest, newest, expired, payload=payload)
    edge = seq
    for block, skip, rows in blocks:
        begin = block.seq + skip
        gap = min(block.gap_before, begin - edge) if skip == 0 else 0
        flags = block.flags & flag_mask & ~(0 if gap else GAP_BEFORE)
        stamp = block.host_time_ns + round(skip * sample_ns)
        channel_flags = bytes(byte & flag_mask & 0xFF for byte in block.channel_flags)
        found.blocks.append([begin, rows, gap, stamp, flags, channel_flags])
        edge = begin + rows
    found.gaps = _gaps(ring, found, covered)
    return found


def _collect(ring: Ring, at: tuple[int, Block] | None, seq: int, end: int) -> tuple[list[tuple[Block, int, int]], int]:
    """Blocks of the range as (block, rows to skip, rows to take), and where the range ends for want of room or of
    blocks.
    """
    room = MAX_HISTORY_BYTES // (ring.channels * BYTES_PER_NUMBER)
    blocks: list[tuple[Block, int, int]] = []
    if at is None:
        return blocks, end
    index, block = at
    while True:
        skip = max(0, seq - block.seq)
        rows = min(block.seq + block.count, end) - block.seq - skip
        if rows <= 0:
            return blocks, end
        if rows > room:
            rows = room
            end = block.seq + skip + rows
        if rows > 0:
            blocks.append((block, skip, rows))
            room -= rows
        if room == 0:
            return blocks, block.seq + skip + rows
        index += 1
        following = ring.block(index)
        if following is None:
            return blocks, end
        block = following


def _read(ring: Ring, plane: int, blocks: list[tuple[Block, int, int]]) -> bytes | None:
    """The samples of blocks one after the other; runs without a gap are copied at once. None when overwritten
    meanwhile.
    """
    runs: list[list[int]] = []
    for block, skip, rows in blocks:
        begin = block.seq + skip
        if runs and runs[-1][0] + runs[-1][1] == begin:
            runs[-1][1] += rows
        else:
            runs.append([begin, rows])
    parts = []
    for begin, rows in runs:
        samples = ring.read(plane, begin, rows)
        if samples is None:
            return None
        parts.append(samples.tobytes())
    return b"".join(parts)


def _gaps(ring: Ring, found: Slice, end: int) -> list[list[Any]]:
    """Gaps within the slice, with causes as far as they are still remembered."""
    holes = []
    edge = found.seq + found.expired
    for begin, rows, gap, *_ in found.blocks:
        if gap:
            holes.append((begin - gap, begin))
        edge = begin + rows
    if edge < end:
        holes.append((edge, end))
    if not holes:
        return []
    events = [event for event in ring.events()[1] if event.kind == ring_planes.GAP]
    gaps: list[list[Any]] = []
    for begin, stop in holes:
        known = [
            [max(event.seq, begin), min(event.seq + event.count, stop), causes_in(event.code)]
            for event in events
            if event.seq < stop and event.seq + event.count > begin
        ]
        if sum(last - first for first, last, _ in known) == stop - begin:
            gaps += [[first, last - first, causes] for first, last, causes in known]
        else:
            gaps.append([begin, stop - begin, []])
    return gaps
