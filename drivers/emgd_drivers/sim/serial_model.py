"""What a model of a serial device is to whatever stands for its cable: a pty, a CDC-ACM device on an emulated bus, or a
socket within a test.
"""

from collections.abc import Callable
from typing import Protocol

SendBytes = Callable[[bytes], int]
"""Hands bytes to the host and says how many it took: 0 when it takes none now."""


class SerialModel(Protocol):
    """A device at byte level. It knows no clock: host time (CLOCK_MONOTONIC, ns) comes in with every call.

    Bytes that the host does not take wait in the device, as far as its memory goes; what does not fit is lost as the
    real device would lose it.
    """

    @property
    def blocked(self) -> bool:
        """Does something wait only for the host to take it?"""

    def connect(self, send: SendBytes) -> None:
        """Hand bytes to `send` from now on."""

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the host, cut anywhere."""

    def run(self, now_ns: int) -> None:
        """Let time pass."""

    def next_event_ns(self) -> int | None:
        """When to call `run` next; long past = at once, None = not before the host does something."""
