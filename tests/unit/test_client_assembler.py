"""The assembler against a model of the service: whatever is lost, every sample number is told once and in order."""

from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from emgd_client.assembler import Assembler, HistoryRequest
from emgd_client.messages import Block, Dropped, Gap, HistoryReply

STREAM = "amp0/raw"
RATE_HZ = 1000.0


def make_block(seq, count, gap_before=0, session="s0", origin="live"):
    samples = np.arange(seq, seq + count, dtype="<i4").reshape(count, 1)
    return Block(STREAM, session, seq, samples, seq * 1_000_000, 0, b"\0", gap_before, origin=origin)


@dataclass
class Model:
    """What a service has: blocks and gaps of one session, and how far back its history goes."""

    session: str
    head: int = 0
    oldest: int = 0
    blocks: list[Block] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def missing(self) -> set[int]:
        return {number for seq, count in self.gaps for number in range(seq, seq + count)}

    def take(self, count: int) -> Block:
        gap_before = self.head - (self.blocks[-1].end if self.blocks else 0)
        block = make_block(self.head, count, gap_before, self.session)
        self.blocks.append(block)
        self.head = block.end
        return block

    def history(self, request: HistoryRequest, limit: int) -> HistoryReply | None:
        """At most `limit` samples of the range; None for what the protocol refuses."""
        newest = self.blocks[-1].end if self.blocks else 0
        begin, end = max(request.seq, self.oldest), min(request.end, newest)
        if begin >= end:
            return None
        end = min(end, begin + limit)
        blocks = []
        for block in self.blocks:
            first, last = max(block.seq, begin), min(block.end, end)
            if first < last:
                gap_before = min(block.gap_before, first - begin) if first == block.seq else 0
                blocks.append(make_block(first, last - first, gap_before, self.session, "history"))
        clipped = [(max(seq, begin), min(seq + count, end)) for seq, count in self.gaps]
        gaps = [Gap(STREAM, self.session, first, last - first, ("lost",)) for first, last in clipped if first < last]
        figures = {"next_seq": end, "oldest": self.oldest, "newest": newest, "expired": begin - request.seq}
        return HistoryReply(
            self.session, request.seq, end - request.seq, **figures, blocks=tuple(blocks), gaps=tuple(gaps)
        )


class FollowedStream(RuleBasedStateMachine):
    """A stream with gaps, drops, partial replies, forgotten history and restarts, as a client may meet it."""

    @initialize(from_seq=st.sampled_from([None, 0, 7]), backfill=st.booleans())
    def begin(self, from_seq, backfill):
        backfill = backfill or from_seq is not None
        self.assembler = Assembler(STREAM, RATE_HZ, backfill=backfill, from_seq=from_seq)
        self.first = from_seq
        self.model = Model("s0")
        self.outputs = []
        self.carried = 0
        self.lossless = backfill
        self.patch = patch("emgd_client.assembler.WAITING_BLOCKS", 3)
        self.patch.start()

    def teardown(self):
        if hasattr(self, "patch"):
            self.patch.stop()

    @rule(count=st.integers(1, 6), arrives=st.booleans())
    def block(self, count, arrives):
        block = self.model.take(count)
        if arrives:
            self.outputs += self.assembler.live(block)

    @rule(count=st.integers(1, 5))
    def gap(self, count):
        """The small messages of a gap are taken to arrive; blocks tell of gaps themselves."""
        self.model.gaps.append((self.model.head, count))
        gap = Gap(STREAM, self.model.session, self.model.head, count, ("lost",))
        self.model.head += count
        self.outputs += self.assembler.announced(gap)

    @rule(which=st.integers(0, 1000))
    def repeated_block(self, which):
        """An old block once more; one that comes first of all would only begin the stream earlier."""
        if self.model.blocks and self.assembler.tally.next_seq is not None:
            self.outputs += self.assembler.live(self.model.blocks[which % len(self.model.blocks)])

    @rule(limit=st.integers(1, 12))
    def answer(self, limit):
        if self.assembler.request is None:
            return
        reply = self.model.history(self.assembler.request, limit)
        self.outputs += self.assembler.refused() if reply is None else self.assembler.replied(reply)

    @rule(count=st.integers(1, 10))
    def forget(self, count):
        self.model.oldest = min(self.model.head, self.model.oldest + count)
        self.lossless = False

    @rule()
    def silence(self):
        self.outputs += self.assembler.reached(self.model.session, self.model.head)

    @rule()
    def no_answer(self):
        if self.assembler.request is not None:
            self.outputs += self.assembler.refused()
            self.lossless = False

    @precondition(lambda self: self.model.blocks)
    @rule()
    def restart(self):
        """The device's stream begins anew; what the old one still had is gone, told as far as it is known."""
        heard_before = self.assembler.session is not None
        self.model = Model(f"s{int(self.model.session[1:]) + 1}")
        self.lossless = False
        self.outputs += self.assembler.reached(self.model.session, 0)
        old = [output for output in self.outputs if output.session != self.model.session]
        self.outputs = []
        self.told(old, self.first, missing=None)
        last_block = max((number for number, output in enumerate(old) if isinstance(output, Block)), default=-1)
        told_behind_it = [output.count for output in old[last_block + 1 :] if isinstance(output, Dropped)]
        self.carried = sum(told_behind_it) + (self.carried if last_block < 0 else 0)
        if heard_before:
            self.first = 0 if self.assembler._backfill else None

    @rule(limit=st.integers(1, 12))
    def end(self, limit):
        """Ask for the end, see that all is told, and go on as if it had not been the end."""
        self.outputs += self.assembler.end(self.model.session, self.model.head)
        for _ in range(1000):
            if self.assembler.request is None:
                break
            self.answer(limit)
        assert self.assembler.finished
        if (at := self.told(self.outputs, self.first, self.model.missing())) is not None:
            assert at == max(self.model.head, self.first or 0)
        self.assembler.finished = self.assembler._ending = False

    @invariant()
    def everything_is_told_once_and_in_order(self):
        if not hasattr(self, "outputs"):
            return
        self.told(self.outputs, self.first, self.model.missing())
        if self.lossless:
            assert not any(isinstance(output, Dropped) for output in self.outputs)

    def told(self, outputs, first, missing):
        """Walk over outputs; the number after the last. `missing` are the samples nobody has, None = not checked."""
        at, dropped = first, self.carried
        for output in outputs:
            if isinstance(output, Block):
                begin = output.seq - output.gap_before
                gap = range(begin, output.seq)
                assert output.samples[:, 0].tolist() == list(range(output.seq, output.end))
                assert output.host_time_ns == output.seq * 1_000_000
                assert missing is None or missing.isdisjoint(range(output.seq, output.end))
                assert output.dropped_before == dropped
                assert output.gap_before >= 0
                assert output.end > output.seq
                dropped, end = 0, output.end
            elif isinstance(output, Gap):
                assert output.count > 0
                begin, gap, end = output.seq, range(output.seq, output.seq + output.count), output.seq + output.count
            else:
                assert output.count > 0
                begin, gap, end = output.seq, range(0), output.seq + output.count
                dropped += output.count
            assert at is None or begin == at
            assert missing is None or missing.issuperset(gap)
            at = end
        return at


FollowedStream.TestCase.settings = settings(max_examples=500, stateful_step_count=40, deadline=None)
TestFollowedStream = FollowedStream.TestCase


def test_blocks_that_connect_are_handed_on_as_they_are():
    assembler = Assembler(STREAM, RATE_HZ)
    first, second = make_block(10, 5), make_block(15, 5)
    assert [block.seq for block in assembler.live(first) + assembler.live(second)] == [10, 15]
    assert assembler.request is None
    assert (assembler.tally.samples, assembler.tally.dropped) == (10, 0)


def test_a_drop_across_a_gap_asks_only_for_what_exists():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assert assembler.live(make_block(28, 5, gap_before=3)) == []
    assert assembler.request == HistoryRequest(STREAM, 10, 15)


def test_later_blocks_wait_for_an_open_request_and_come_behind_its_answer():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.live(make_block(20, 10))
    assert assembler.live(make_block(30, 10)) == []
    reply = HistoryReply("s0", 10, 10, 20, 0, 30, 0, (make_block(10, 10, origin="history"),), ())
    assert [(block.seq, block.origin) for block in assembler.replied(reply)] == [
        (10, "history"),
        (20, "live"),
        (30, "live"),
    ]
    assert (assembler.tally.dropped, assembler.tally.backfilled) == (10, 10)


def test_beyond_the_bound_waiting_blocks_are_let_go_and_fetched_later():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    with patch("emgd_client.assembler.WAITING_BLOCKS", 2):
        for seq in range(20, 80, 10):
            assembler.live(make_block(seq, 10))
    assembler.refused()
    assert assembler.tally.next_seq == 40
    assembler.live(make_block(80, 10))
    assert assembler.request == HistoryRequest(STREAM, 40, 40)


def test_a_refused_range_is_told_as_dropped_and_on_the_block_behind_it():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.live(make_block(20, 10, gap_before=4))
    dropped, block = assembler.refused()
    assert dropped == Dropped(STREAM, "s0", 10, 6)
    assert (block.seq, block.gap_before, block.dropped_before) == (20, 4, 6)


def test_without_backfill_a_drop_is_told_and_nothing_asked():
    assembler = Assembler(STREAM, RATE_HZ, backfill=False)
    assembler.live(make_block(0, 10))
    dropped, block = assembler.live(make_block(20, 10))
    assert dropped == Dropped(STREAM, "s0", 10, 10)
    assert block.dropped_before == 10
    assert assembler.request is None


def test_a_gap_that_a_history_reply_ends_in_belongs_to_the_block_behind_it():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.live(make_block(30, 10))
    cut_in_gap = (Gap(STREAM, "s0", 20, 3, ("lost",)),)
    assembler.replied(HistoryReply("s0", 10, 13, 23, 0, 40, 0, (make_block(10, 10, origin="history"),), cut_in_gap))
    assert assembler.request == HistoryRequest(STREAM, 23, 7)
    rest = HistoryReply("s0", 23, 7, 30, 0, 40, 0, (make_block(25, 5, gap_before=2, origin="history"),), ())
    block, live = assembler.replied(rest)
    assert (block.seq, block.gap_before, block.dropped_before) == (25, 5, 0)
    assert (live.seq, assembler.tally.gaps, assembler.tally.missing) == (30, 1, 5)


def test_a_block_that_is_partly_here_already_is_cut_and_its_time_moves_on():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    (block,) = assembler.live(make_block(8, 5))
    assert (block.seq, block.samples[:, 0].tolist(), block.host_time_ns) == (10, [10, 11, 12], 10_000_000)
    assert assembler.live(make_block(11, 2)) == []


def test_a_new_session_is_followed_from_its_first_sample():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(500, 10))
    assert assembler.live(make_block(20, 10, session="s1")) == []
    assert assembler.request == HistoryRequest(STREAM, 0, 20)


def test_a_new_session_forgets_what_the_old_one_asked_for_and_announced():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.live(make_block(90, 10))
    assembler.announced(Gap(STREAM, "s0", 100, 40, ("lost",)))
    assembler.live(make_block(50, 10, session="s1"))
    assert assembler.request == HistoryRequest(STREAM, 0, 50)
    assembler.refused()
    assert assembler.end("s1", 140) == []
    assert assembler.request == HistoryRequest(STREAM, 60, 80)


def test_the_known_rest_of_an_old_session_is_told_as_dropped_when_a_new_one_begins():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.reached("s0", 25)
    assert assembler.reached("s1", 0) == [Dropped(STREAM, "s0", 10, 15)]
    assert (assembler.request, assembler.tally.dropped) == (None, 15)


def test_an_answer_from_another_session_brings_nothing():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.live(make_block(20, 10))
    block = make_block(10, 10, session="s1", origin="history")
    dropped, live = assembler.replied(HistoryReply("s1", 10, 10, 20, 0, 20, 0, (block,), ()))
    assert dropped == Dropped(STREAM, "s0", 10, 10)
    assert (live.seq, live.dropped_before) == (20, 10)


def test_forgotten_samples_a_gap_and_a_drop_keep_their_order():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.live(make_block(40, 10))
    gap = Gap(STREAM, "s0", 14, 6, ("lost",))
    assert assembler.replied(HistoryReply("s0", 10, 10, 20, 14, 50, 4, (), (gap,))) == [Dropped(STREAM, "s0", 10, 4)]
    told_gap, dropped, block = assembler.refused()
    assert (told_gap.seq, told_gap.count, dropped) == (14, 6, Dropped(STREAM, "s0", 20, 20))
    assert (block.seq, block.gap_before, block.dropped_before) == (40, 0, 24)


def test_more_forgotten_than_asked_for_ends_at_what_was_asked_for():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.live(make_block(20, 10))
    outputs = assembler.replied(HistoryReply("s0", 10, 10, 20, 500, 600, 1000, (), ()))
    assert [(output.seq, type(output)) for output in outputs] == [(10, Dropped), (20, Block)]


def test_nothing_is_asked_for_when_the_device_falls_silent_and_all_is_here():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.reached("s0", 10)
    assert assembler.request is None
    assembler.reached("s0", 14)
    assert assembler.request == HistoryRequest(STREAM, 10, 4)


def test_what_came_before_us_is_not_counted_as_dropped():
    assembler = Assembler(STREAM, RATE_HZ, from_seq=0)
    assembler.live(make_block(10, 10))
    assembler.replied(HistoryReply("s0", 0, 10, 10, 5, 20, 5, (make_block(5, 5, origin="history"),), ()))
    tally = assembler.tally
    assert (tally.samples, tally.dropped, tally.backfilled) == (15, 0, 0)


def test_a_gap_at_the_very_end_is_a_gap_and_not_a_drop():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.announced(Gap(STREAM, "s0", 10, 3, ("lost",)))
    assembler.announced(Gap(STREAM, "s0", 13, 2, ("corrupt",)))
    assert assembler.end("s0", 15) == [Gap(STREAM, "s0", 10, 5, ())]
    assert assembler.finished


def test_history_blocks_outside_the_range_that_was_asked_for_are_passed_over():
    assembler = Assembler(STREAM, RATE_HZ)
    assembler.live(make_block(0, 10))
    assembler.live(make_block(20, 10))
    wild = make_block(1_000_000, 10, origin="history")
    outputs = assembler.replied(HistoryReply("s0", 10, 10, 20, 0, 30, 0, (wild,), ()))
    assert [output.seq for output in outputs] == [10, 20]
    assert isinstance(outputs[0], Dropped)


def test_the_past_without_backfill_is_refused():
    with pytest.raises(ValueError, match="from_seq 5 of amp0/raw needs backfill"):
        Assembler(STREAM, RATE_HZ, backfill=False, from_seq=5)


def test_an_answer_that_nobody_asked_for_is_a_mistake():
    with pytest.raises(RuntimeError, match="without an open history request"):
        Assembler(STREAM, RATE_HZ).refused()
