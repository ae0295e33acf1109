"""What the stimulus thread needs of everybody else, as values: tests put others in their place."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from emgd.interlock import Interlock
from emgd.ring_tap import Mark
from emgd.stim_commands import Command, Holder
from emgd.stream_watch import Seen
from emgd_drivers.stimulator import Stimulator
from emgd_ext.gate import Limits
from emgd_wire.codec import WireError
from emgd_wire.kinds import Kind


class AuditError(RuntimeError):
    """The audit log cannot be written."""


class LimitTable(Protocol):
    """The limits in force."""

    @property
    def profile(self) -> str:
        """Name of the profile."""

    @property
    def limits(self) -> Limits:
        """For the gate."""

    @property
    def digest(self) -> str:
        """Of the whole table."""

    @property
    def values(self) -> dict[str, int]:
        """Limit -> value in its unit."""

    def as_map(self) -> dict[str, Any]:
        """For clients and the audit."""


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
    table, and `acknowledge(profile)` says what an operator has to confirm before it is used (WireError).
    `explain(verdict, figures, table)` puts a verdict into words. `record(kind, **fields)` writes the audit log
    (AuditError). `publish(kind, payload, seq)` tells everybody. `profile` is whose limits hold until something is armed.
    """

    open: Callable[[], Stimulator]
    build: Callable[[str, Mapping[str, int], Mapping[str, int]], LimitTable]
    acknowledge: Callable[[str], str]
    explain: Callable[[int, Mapping[str, int], LimitTable | None], Sequence[Mapping[str, Any]]]
    record: Callable[..., None]
    publish: Callable[[Kind, dict[str, Any], int], None]
    watch: Watch
    interlock: Interlock
    profile: str = "motor"
    clock: Callable[[], int] = time.monotonic_ns
