"""Keeps one data stream complete (docs/protocol.md, section 4): blocks in, ordered outputs and history requests out.

No I/O, no clock. The life of a stream, seen from here:

    state      entered when                          what happens to a live block
    ---------  ------------------------------------  ------------------------------------------------------------
    joining    at the start, without `from_seq`      it is delivered, whatever its number
    following  the next sample number is known       delivered if it connects; a hole becomes a history request
    waiting    a history request is open             it waits its turn, up to WAITING_BLOCKS
    finished   `end` was called and all is told      none comes

Every sample number from the first delivered one on is told exactly once: inside a block, in a block's `gap_before` or a
Gap (nobody has it; without causes, which the gap messages have), or in a Dropped (others may have it, we do not).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from emgd_client.messages import Block, Dropped, Gap, HistoryReply

WAITING_BLOCKS: Final = 1000
"""Live blocks that wait while a history request is open: 2 s of 2 ms blocks, as long as a request may take.

One more is let go, as if ZeroMQ had dropped it: the block after it shows the hole, which is then fetched."""

Output: TypeAlias = Block | Gap | Dropped


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """Ask `history` for samples `seq … seq + count - 1` of `stream`; the answer goes to `replied` or `refused`."""

    stream: str
    seq: int
    count: int

    @property
    def end(self) -> int:
        """Number of the sample that follows the range."""
        return self.seq + self.count


@dataclass(slots=True)
class Tally:
    """What one stream brought so far, in samples unless said otherwise.

    `next_seq` is the next sample number (None before the first block). `gaps` counts stretches, `missing` samples that
    nobody has; `dropped` those that were dropped for this client alone, `backfilled` what was fetched again of these.
    """

    next_seq: int | None = None
    samples: int = 0
    gaps: int = 0
    missing: int = 0
    dropped: int = 0
    backfilled: int = 0


class Assembler:
    """One stream's sans-I/O core: `live`, `announced`, `reached`, `end`, `replied`, `refused` feed it.

    `from_seq` is the first sample wanted (None: whatever comes first). Without `backfill` holes are told, not fetched.
    After each call look at `request`: while it is not None its answer is owed; blocks may go on coming meanwhile.
    """

    def __init__(self, stream: str, rate_hz: float, *, backfill: bool = True, from_seq: int | None = None) -> None:
        if from_seq is not None and not backfill:
            raise ValueError(f"from_seq {from_seq} of {stream} needs backfill: the past comes from the history")
        self.stream = stream
        self.rate_hz = rate_hz
        self.session: str | None = None
        self.tally = Tally(next_seq=from_seq)
        self.request: HistoryRequest | None = None
        self.finished = False
        self._backfill = backfill
        self._waiting: deque[Block] = deque()
        # Samples before `_reached` exist in this session, as far as the service said so beside its blocks.
        self._reached = 0
        self._ending = False
        # Where the last gap that was announced begins and ends; needed where no block follows it.
        self._last_gap = (0, 0)
        # Samples before `_asked_to` were asked for with something behind them: what is still missing of them is gone.
        self._asked_to = 0
        # Since the last block: samples directly before `next_seq` that nobody has, and samples told as Dropped.
        self._gap_before = 0
        self._dropped_before = 0
        # Until the first live block is out, what history brings was not dropped for us: it came before us.
        self._joined = False

    def live(self, block: Block) -> list[Output]:
        """A block from the stream socket."""
        outputs = self._enter(block.session)
        if len(self._waiting) >= WAITING_BLOCKS:
            return outputs
        self._waiting.append(block)
        return outputs + self._advance()

    def announced(self, gap: Gap) -> list[Output]:
        """A gap message. Blocks tell their gaps themselves; this is for one at the very end."""
        outputs = self._enter(gap.session)
        start, end = self._last_gap
        self._last_gap = (start if end == gap.seq else gap.seq, gap.seq + gap.count)
        return outputs

    def replied(self, reply: HistoryReply) -> list[Output]:
        """The answer to `request`. One of another session means that ours is over: nothing of it can be had."""
        request = self._take_request()
        if reply.session != self.session:
            return self._advance()
        outputs = self._lose(min(reply.seq + reply.expired, request.end)) if reply.expired else []
        for block in reply.blocks:
            if request.seq <= block.seq and block.end <= request.end:
                outputs += self._deliver(block)
        self._pass_gaps(reply.gaps)
        if request.seq < reply.next_seq < min(request.end, reply.newest):
            self.request = HistoryRequest(self.stream, reply.next_seq, request.end - reply.next_seq)
        return outputs + self._advance()

    def refused(self) -> list[Output]:
        """`request` came to nothing: its range is gone."""
        self._take_request()
        return self._advance()

    def reached(self, session: str, seq: int) -> list[Output]:
        """The service has samples up to `seq` and may be long in sending the next block: fetch what we lack now."""
        outputs = self._enter(session)
        self._reached = max(self._reached, seq)
        known, exists_to = self.tally.next_seq, self._exists_to()
        if self._backfill and self.request is None and known is not None and known < exists_to:
            self.request = HistoryRequest(self.stream, known, exists_to - known)
        return outputs

    def end(self, session: str, seq: int) -> list[Output]:
        """The stream is over, `seq` would be the next sample: fetch what is missing, then be `finished`."""
        outputs = self._enter(session)
        self._reached, self._ending = max(self._reached, seq), True
        return outputs + self._advance()

    def _enter(self, session: str) -> list[Output]:
        """Note the session; a new one puts the old one's affairs in order and is followed from its own first sample."""
        if self.session in {None, session}:
            self.session = session
            return []
        outputs: list[Output] = []
        for block in self._waiting:
            outputs += self._deliver(block)
        outputs += self._tell_tail()
        self._waiting.clear()
        self.session, self.request, self._ending, self._joined = session, None, False, True
        self._reached, self._asked_to, self._last_gap = 0, 0, (0, 0)
        self.tally.next_seq = 0 if self._backfill else None
        return outputs

    def _advance(self) -> list[Output]:
        """Deliver what waits, up to the first hole that has to be asked for."""
        outputs: list[Output] = []
        while self._waiting and not self._ask_to(self._waiting[0].seq - self._waiting[0].gap_before):
            outputs += self._deliver(self._waiting.popleft())
        if self._ending and not self._waiting and not self._ask_to(self._exists_to()):
            outputs += self._tell_tail()
            self.finished = True
        return outputs

    def _ask_to(self, seq: int) -> bool:
        """Whether a history request is open; opens one if samples before `seq` are missing and not asked for yet."""
        known = self.tally.next_seq
        if self.request is None and self._backfill and known is not None and max(known, self._asked_to) < seq:
            self.request = HistoryRequest(self.stream, known, seq - known)
            self._asked_to = seq
        return self.request is not None

    def _deliver(self, block: Block) -> list[Output]:
        """One block, cut to what is new of it, behind whatever is missing before it."""
        exists_to = block.seq - block.gap_before
        known = exists_to if self.tally.next_seq is None else self.tally.next_seq
        if block.end <= known:
            return []
        if block.seq < known:
            block = block.from_sample(known, self.rate_hz)
        outputs = self._lose(exists_to)
        gap_before = self._gap_before + block.seq - max(known, exists_to)
        outputs.append(replace(block, gap_before=gap_before, dropped_before=self._dropped_before))
        self._count(block, gap_before)
        return outputs

    def _count(self, block: Block, gap_before: int) -> None:
        """Enter a delivered block into the tally."""
        tally, count = self.tally, block.count
        tally.next_seq = block.end
        tally.samples += count
        tally.gaps += gap_before > 0
        tally.missing += gap_before
        self._gap_before = self._dropped_before = 0
        if block.origin == "live":
            self._joined = True
        elif self._joined:
            tally.dropped += count
            tally.backfilled += count

    def _lose(self, seq: int) -> list[Output]:
        """Samples before `seq` that are not here by now will never be."""
        known = self.tally.next_seq
        if known is None or seq <= known:
            return []
        count = seq - known
        outputs = [*self._tell_gap(), Dropped(self.stream, self.session or "", known, count)]
        self.tally.next_seq = seq
        self._dropped_before += count
        if self._joined:
            self.tally.dropped += count
        return outputs

    def _pass_gaps(self, gaps: Iterable[Gap]) -> None:
        """Gaps behind the last block of a history reply: go past them; the next output tells them."""
        for gap in gaps:
            self._pass_gap(gap.seq, gap.seq + gap.count)

    def _pass_gap(self, start: int, end: int) -> None:
        known = self.tally.next_seq
        if known is not None and start <= known < end:
            self._gap_before += end - known
            self.tally.next_seq = end

    def _exists_to(self) -> int:
        """The end of what the service has, less a gap at the very end."""
        start, end = self._last_gap
        return start if end == self._reached else self._reached

    def _tell_tail(self) -> list[Output]:
        """Say what is missing up to the end of what the service has."""
        outputs = self._lose(self._exists_to())
        self._pass_gap(self._exists_to(), self._reached)
        return outputs + self._tell_gap()

    def _tell_gap(self) -> list[Output]:
        """The gap before `next_seq` as an output of its own, where no block follows it directly."""
        count, known = self._gap_before, self.tally.next_seq
        if count == 0 or known is None:
            return []
        self._gap_before = 0
        self.tally.gaps += 1
        self.tally.missing += count
        return [Gap(self.stream, self.session or "", known - count, count, ())]

    def _take_request(self) -> HistoryRequest:
        """The open request, which is closed by this."""
        if self.request is None:
            raise RuntimeError("an answer without an open history request")
        request, self.request = self.request, None
        return request
