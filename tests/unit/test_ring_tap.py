"""Looking into the ring now and then: nothing is missed, nothing comes twice, and the order is that of the stream."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import Rig, end_frame, frame

from emgd.ring_tap import Gap, Lapped, Mark, RingTap, Stretch
from emgd_drivers.emg8.protocol import FrameFlag
from emgd_ext.ring import GAP, Block, Event

N, BLOCK = 48, 32


def sent(number, marks=()):
    return frame(number, number * N, N, 3, flags=FrameFlag.START if number == 0 else 0, marks=marks)


def looked(rig, tap, transfers, look_after):
    """Feed transfers; look after those in `look_after`, and at the end."""
    items = []
    for number, transfer in enumerate(transfers):
        rig.feed(transfer)
        if number in look_after:
            items += tap.items()
    return items + list(tap.items())


frames = st.lists(st.sampled_from(["good", "lost", "stimulus", "marked twice"]), min_size=1, max_size=30)


@settings(deadline=None)  # the rig designs its filters in a process of their own, once
@given(frames, st.sets(st.integers(0, 29)))
def test_every_sample_gap_and_mark_is_told_once_and_in_order(kinds, look_after):
    rig = Rig(block_samples=BLOCK)
    tap = RingTap(rig.ring)
    marks = {"stimulus": [(5, 2, 0, 1)], "marked twice": [(0, 1, 0, 1), (N - 1, 5, 2, 3)]}
    transfers = [
        sent(number, [(number * N + seq, *rest) for seq, *rest in marks.get(kind, [])])
        for number, kind in enumerate(kinds)
        if kind != "lost"
    ]
    items = looked(rig, tap, [*transfers, end_frame(len(kinds), len(kinds) * N, 3)], look_after)
    found = rig.published()
    stretches = [item for item in items if isinstance(item, Stretch)]
    told = np.concatenate([np.arange(s.seq, s.seq + s.count) for s in stretches]) if stretches else np.array([])
    assert told.tolist() == found.seqs
    assert [(item.seq, item.count) for item in items if isinstance(item, Gap)] == [gap[:2] for gap in found.gaps]
    assert [(m.seq, m.code, m.channel, m.value) for m in items if isinstance(m, Mark)] == found.marks
    for place, item in enumerate(items):
        behind = [one for one in items[place + 1 :] if isinstance(one, Stretch)]
        before = [one for one in items[:place] if isinstance(one, Stretch)]
        if isinstance(item, Mark):
            assert all(one.seq + one.count <= item.seq for one in before), "a mark comes before its samples"
        if isinstance(item, Gap):
            assert all(one.seq + one.count <= item.seq for one in before)
            assert all(one.seq >= item.seq + item.count for one in behind)
    assert list(tap.items()) == []


def test_a_mark_is_told_before_its_block_is_whole():
    rig = Rig(block_samples=480)
    tap = RingTap(rig.ring)
    rig.feed(sent(0, [(7, 2, 0, 1)]))
    (mark,) = tap.items()
    assert mark == Mark(7, 2, 0, 1)
    assert mark.host_time_ns > 0


def test_what_was_before_is_skipped():
    rig = Rig(block_samples=BLOCK).feed(sent(0, [(7, 2, 0, 1)]), sent(2))
    tap = RingTap(rig.ring)
    tap.skip()
    assert list(tap.items()) == []
    rig.feed(sent(3, [(3 * N + 1, 2, 0, 2)]))
    items = list(tap.items())
    assert items[0] == Mark(3 * N + 1, 2, 0, 2)
    # The block that was under construction then holds the last samples of the frame before.
    assert all(isinstance(item, Stretch) and item.seq >= 4 * BLOCK for item in items[1:])


def test_who_looks_too_late_is_told_so():
    rig = Rig(block_samples=BLOCK, capacity=320)
    tap = RingTap(rig.ring)
    rig.feed(*[sent(number) for number in range(40)])
    items = list(tap.items())
    assert Lapped() in items
    assert isinstance(items[-1], Stretch)


def test_marks_that_were_overwritten_are_told_too():
    rig = Rig(block_samples=BLOCK)
    tap = RingTap(rig.ring)
    rig.feed(*[sent(number, [(number * N + k, 1, 0, 1) for k in range(N)]) for number in range(100)])
    assert next(iter(tap.items())) == Lapped()


class Racing:
    """A ring whose next block and the gap behind it come between the reader's two looks."""

    blocks = 1

    def events(self, since):
        gap = Event(GAP, 2 * BLOCK, 10, 0, 2, 1, 0, 0)
        return since, [gap][since:]

    def block(self, index):
        return Block(index * BLOCK + 10 * (index > 1), BLOCK, 10 * (index > 1), 0, 0, bytes(1))


def test_a_gap_is_not_told_ahead_of_the_samples_before_it():
    ring = Racing()
    tap = RingTap(ring)
    assert list(tap.items()) == [Stretch(0, BLOCK)]
    ring.blocks = 3
    assert list(tap.items()) == [Stretch(BLOCK, BLOCK), Gap(2 * BLOCK, 10), Stretch(2 * BLOCK + 10, BLOCK)]
