"""What the stimulus thread sees of the amplifier: how fresh its samples are, and the marks that its pulses leave.

It only reads the ring, which any number of threads may do.
"""

from dataclasses import dataclass
from typing import Final

from emgd.acquisition import Acquisition
from emgd.ring_tap import Mark, RingTap
from emgd_wire.kinds import MARK_CODES, Flag

STIMULUS: Final = MARK_CODES.index("stimulus")

TIMED: Final = frozenset({"locked", "holdover"})
"""States of the clock model in which a sample's time means something."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest sample's host time; `saturated`: every channel is; `stamped`: a pulse could be timed."""

    sample_ns: int
    saturated: bool
    stamped: bool


class StreamWatch:
    """The eyes of the stimulus thread. `adopt` is called once, by the thread that finds the amplifier."""

    def __init__(self) -> None:
        self._acquisition: Acquisition | None = None
        self._tap: RingTap | None = None

    def adopt(self, acquisition: Acquisition) -> None:
        """Watch this amplifier; marks count from now on."""
        tap = RingTap(acquisition.ring)
        tap.skip()
        self._tap = tap
        self._acquisition = acquisition

    @property
    def isolated(self) -> bool:
        """A person may be connected to it while a stimulator is."""
        return self._acquisition is not None and self._acquisition.info.isolated

    @property
    def next_seq(self) -> int:
        """Number of the amplifier's next sample."""
        return self._acquisition.ring.head if self._acquisition else 0

    def look(self) -> Seen | None:
        """The amplifier as it is now; None while there is nothing to see."""
        acquisition = self._acquisition
        if acquisition is None or not acquisition.ring.blocks:
            return None
        block = acquisition.ring.block(acquisition.ring.blocks - 1)
        if block is None:
            return None
        sample_ns = block.host_time_ns + round((block.count - 1) * acquisition.sample_ns)
        saturated = all(flags & Flag.SATURATED for flags in block.channel_flags)
        return Seen(sample_ns, saturated, acquisition.clock_state in TIMED)

    def marks(self) -> list[Mark]:
        """Marks of pulses since the last call."""
        if self._tap is None:
            return []
        return [item for item in self._tap.items() if isinstance(item, Mark) and item.code == STIMULUS]
