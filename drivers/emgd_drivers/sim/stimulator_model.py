"""What a model of a stimulator is to whatever stands for its cable, its electrodes and its trigger line."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from emgd_drivers.sim.serial_model import SendBytes


@dataclass(frozen=True, slots=True)
class Given:
    """A pulse as it went through the electrodes, at `at_ns` (CLOCK_MONOTONIC). No current flows when they are open."""

    at_ns: int
    seq: int
    current_ua: int
    width_us: int
    load_ohm: int


GivePulse = Callable[[Given], None]
Trigger = Callable[[int, int], None]
"""The trigger line goes up: host time (ns) and number."""


class StimulatorModel(Protocol):
    """A SerialModel of a stimulator."""

    on_pulse: GivePulse
    on_trigger: Trigger

    @property
    def blocked(self) -> bool:
        """Does something wait only for the host to take it?"""

    @property
    def unplugged(self) -> bool:
        """Has a fault pulled the plug?"""

    @property
    def busy(self) -> bool:
        """May it still give a pulse by itself?"""

    def connect(self, send: SendBytes) -> None:
        """Hand bytes to `send` from now on."""

    def host(self, present: bool, now_ns: int) -> None:
        """The port was opened, or closed."""

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the host, cut anywhere."""

    def run(self, now_ns: int) -> None:
        """Let time pass."""

    def next_event_ns(self) -> int | None:
        """When to call `run` next."""

    def add_fault(self, text: str, now_ns: int) -> None:
        """One more thing is wrong; ValueError."""

    def clear_faults(self, now_ns: int) -> None:
        """All is well again."""

    def describe(self) -> dict[str, Any]:
        """What it is doing, for the word `state`."""
