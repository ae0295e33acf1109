"""What the stimulus thread needs of everybody else, as values: tests put others in their place."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from emgd.interlock import Interlock
from emgd.limits import LimitTable
from emgd.ring_tap import Mark
from emgd.stim_commands import Command, Holder
from emgd.stream_watch import Seen
from emgd_drivers.stimulator import Stimulator
from emgd_wire.codec import WireError
from emgd_wire.kinds import Kind


class Log(Protocol):
    """The audit log. All raise AuditError, after which nothing may go out."""

    def record(self, kind: str, **fields: Any) -> int:
        """Append a record."""

    def check(self) -> None:
        """Is there reason to arm nothing?"""

    def sync(self) -> None:
        """Have the disk keep it; takes as long as the disk does."""


class Watch(Protocol):
    """What is seen of the amplifier."""

    @property
    def isolated(self) -> bool:
        """A person may be connected to it while a stimulator is."""

    @property
    def next_seq(self) -> int:
        """Number of its next sample."""

    def look(self) -> Seen | None:
        """How it is now."""

    def marks(self) -> list[Mark]:
        """Marks of pulses since the last call."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command, who asks, and where the answer goes."""

    holder: Holder
    command: Command
    answer: Callable[[dict[str, Any] | WireError], None]


@dataclass(frozen=True, slots=True)
class Hands:
    """`open` finds and opens the stimulator (DeviceError). `build(profile, device's limits, session's limits)` makes a
    table (LimitError). `publish(kind, payload, seq)` tells everybody. `profile` is whose limits hold until something is
    armed.
    """

    open: Callable[[], Stimulator]
    build: Callable[[str, Mapping[str, int], Mapping[str, int]], LimitTable]
    audit: Log
    publish: Callable[[Kind, dict[str, Any], int], None]
    watch: Watch
    interlock: Interlock
    profile: str = "motor"
    clock: Callable[[], int] = time.monotonic_ns
