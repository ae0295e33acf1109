"""What happened in the ring since one last looked: gaps, marks and stretches of samples, in the order of the stream.

For readers in Python that look now and then. Samples themselves are not copied here: a reader fetches what it wants.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from emgd_ext import ring as ring_planes
from emgd_ext.ring import Event, Ring


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples `seq … seq + count - 1` are missing."""

    seq: int
    count: int


@dataclass(frozen=True, slots=True)
class Mark:
    """An instant; `code` is a position in emgd_wire.kinds.MARK_CODES. Which one it is follows from all but its time."""

    seq: int
    code: int
    channel: int
    value: int
    host_time_ns: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Samples `seq … seq + count - 1` are there, without a gap among them."""

    seq: int
    count: int


@dataclass(frozen=True, slots=True)
class Lapped:
    """The reader was too slow: gaps, marks or samples were overwritten before it saw them."""


Item: TypeAlias = Gap | Mark | Stretch | Lapped


class RingTap:
    """A place in the ring. A mark comes before the samples it belongs to; a gap between those around it."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._next_block = 0
        self._next_event = 0

    def skip(self) -> None:
        """Go to the newest end: only what comes from now on is of interest."""
        first, events = self._ring.events(self._next_event)
        self._next_event = first + len(events)
        self._next_block = self._ring.blocks

    def items(self) -> Iterator[Item]:
        """What is new, to be taken to the end."""
        blocks = self._ring.blocks
        # All that comes before these blocks was told before they were: read in this order, nothing can be missed.
        first, events = self._ring.events(self._next_event)
        # What is told of later ones waits until they are there, but marks of the one under construction are news.
        events = [event for event in events if event.before_block <= blocks]
        if first > self._next_event:
            yield Lapped()
        self._next_event = first + len(events)
        at = 0
        run: Stretch | None = None
        while self._next_block < blocks:
            block = self._ring.block(self._next_block)
            told = at
            while at < len(events) and events[at].before_block <= self._next_block:
                at += 1
            if block is None or at > told:
                if run is not None:
                    yield run
                run = None
                yield from map(_item, events[told:at])
            if block is None:
                yield Lapped()
            elif run is not None and run.seq + run.count == block.seq:
                run = Stretch(run.seq, run.count + block.count)
            else:
                if run is not None:
                    yield run
                run = Stretch(block.seq, block.count)
            self._next_block += 1
        if run is not None:
            yield run
        yield from map(_item, events[at:])


def _item(event: Event) -> Gap | Mark:
    if event.kind == ring_planes.GAP:
        return Gap(event.seq, event.count)
    return Mark(event.seq, event.code, event.channel, event.value, event.host_time_ns)
