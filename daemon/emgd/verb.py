"""What a verb of the control socket is: who calls it, what it takes, what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from emgd.deferred import Deferred
from emgd_drivers.fields import Field


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and when."""

    routing_id: bytes
    now_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """A result map, and for `history` the samples."""

    result: dict[str, Any]
    payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb: what it is for, what it takes, what it does. Its answer may come later, from another thread."""

    text: str
    fields: tuple[Field, ...]
    call: Callable[[Caller, dict[str, Any]], Answer | Deferred]
