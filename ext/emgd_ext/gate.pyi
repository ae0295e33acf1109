"""The stimulus safety gate: a thin wrapper of c/gate.h, which says what each call does."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

LIMIT_NAMES: Final[tuple[str, ...]]
"""Limits; a limit's place is its bit in a verdict."""
REASON_NAMES: Final[tuple[str, ...]]
"""All that a verdict can name, the limits first."""
STATE_NAMES: Final[tuple[str, ...]]
LAYER_NAMES: Final[tuple[str, ...]]
KIND_NAMES: Final[tuple[str, ...]]
"""Kinds of shot by number; 0 is none."""
WARNING_NAMES: Final[tuple[str, ...]]
WAIT: Final[int]
"""`fire` with nothing but these bits: the shot stands, ask again."""
BOOKED: Final[int]
"""Pulses that can be remembered."""
SQUARES_PER_UA2: Final[int]
"""`rms_squares` of one microampere squared."""

class Range(NamedTuple):
    """`ceiling`: nothing looser is accepted. `end`: nothing tighter makes sense."""

    ceiling: int
    end: int

class Pulse(NamedTuple):
    """The one pulse that a `fire` permits: at `at_ns` (CLOCK_MONOTONIC), once."""

    seq: int
    at_ns: int
    current_ua: int
    width_us: int
    number: int
    of: int

def ranges() -> dict[str, Range]:
    """Ceiling and end of each limit, as compiled in."""

def names_in(verdict: int) -> tuple[str, ...]:
    """Names of the bits of a verdict."""

def bit(name: str) -> int:
    """Bit of a name of REASON_NAMES."""

class Limits:
    """The limits in force: every limit at its hard ceiling, until layers tighten them."""

    def __init__(self) -> None: ...
    def merge(self, values: Mapping[str, int], layer: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Tighten; returns (names out of range, names it would have loosened and did not).

        With any name out of range nothing was changed.
        """

    def check(self) -> tuple[str, ...]:
        """Names of what keeps this table from being used; none when it is valid."""

    @property
    def values(self) -> dict[str, int]:
        """Limit -> value in its unit."""

    @property
    def layers(self) -> dict[str, str]:
        """Limit -> layer that set it."""

class Gate:
    """One gate; not thread-safe. Methods return a verdict: 0 is yes, else `names_in` names what stands against."""

    def __init__(self, now_ns: int = 0) -> None: ...
    def set_limits(self, limits: Limits) -> int: ...
    def connect(self, now_ns: int) -> int: ...
    def disconnect(self) -> None: ...
    def take(self, holder: int, nonce: int, now_ns: int) -> int: ...
    def renew(self, holder: int, nonce: int, now_ns: int) -> int: ...
    def release(self, holder: int) -> int: ...
    def stream(self, sample_ns: int, now_ns: int, *, saturated: bool = False, stamped: bool = True) -> int: ...
    def load(self, load_ohm: int, now_ns: int) -> int: ...
    def arm(
        self,
        now_ns: int,
        *,
        holder: int,
        operator_id: int,
        site: int,
        load_ohm: int,
        compliance_v: int,
        device_current_ua: int,
        device_width_us: int,
        area_mm2: int = 0,
        isolated: bool = False,
    ) -> int: ...
    def confirm(self, holder: int, ceiling_ua: int, now_ns: int) -> int: ...
    def request(
        self,
        now_ns: int,
        *,
        holder: int,
        site: int,
        kind: int,
        current_ua: int,
        width_us: int,
        count: int = 1,
        interval_us: int = 0,
        asked_ns: int | None = None,
        begin_ns: int = 0,
    ) -> int: ...
    def figures(
        self,
        *,
        holder: int = 0,
        site: int = 0,
        kind: int,
        current_ua: int,
        width_us: int,
        count: int = 1,
        interval_us: int = 0,
        asked_ns: int = 0,
        begin_ns: int = 0,
    ) -> dict[str, int]:
        """What such a request would ask for: limit -> value in its unit, where the limit applies."""

    def cancel(self) -> None: ...
    def fire(self, now_ns: int) -> tuple[int, Pulse | None]:
        """(verdict, the pulse that may go out): no pulse unless the verdict is 0."""

    def readback(
        self,
        now_ns: int,
        *,
        seq: int,
        current_ua: int,
        width_us: int,
        load_ohm: int,
        dc_ua: int = 0,
        limited: bool = False,
    ) -> int: ...
    def tick(self, now_ns: int) -> int: ...
    def disarm(self) -> None: ...
    def stop(self) -> None: ...
    def fault(self, causes: int = 0) -> None: ...
    def acknowledge(self, now_ns: int, *, operator_id: int, present: int = 0) -> int: ...
    def warnings(self) -> tuple[str, ...]:
        """Names of WARNING_NAMES: what an operator should know though it stops nothing."""

    @property
    def state(self) -> str:
        """Name of STATE_NAMES."""

    def snapshot(self) -> dict[str, Any]:
        """What the gate knows, for status, audit and tests."""
