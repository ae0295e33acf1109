"""The few things that a client does to the outside, as values: `session` yields them, a driver performs them.

The logic of the client library is written once, as generators that yield these commands and are sent the answers;
the blocking `client` and the asyncio `aio` are two small drivers that differ in nothing but `await`.
"""

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")


class Door(Enum):
    """Which socket is meant."""

    CONTROL = auto()
    STREAM = auto()


@dataclass(frozen=True, slots=True)
class Connect:
    """Open the control socket anew, forgetting what is queued in it. Answer: why nobody listens there, or None."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send one frame on the control socket once the service takes it. Answer: Outcome."""

    frame: bytes
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the next message. Answer: Outcome with its frames."""

    door: Door
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Run an operation that nobody else may mix with on the control socket. Answer: what it returns."""

    operation: "Operation[Any]"


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand an item to the user. Answer: None."""

    item: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a Send or Receive ended: whether it was `done` in time, and when (CLOCK_MONOTONIC, ns)."""

    done: bool
    now_ns: int
    frames: tuple[bytes, ...] = ()


Command: TypeAlias = Connect | Send | Receive | Exclusive | Deliver
Operation: TypeAlias = Generator[Command, Any, T]
