"""Ticks of a stimulator to host time and back, from few probes. No I/O, no clock.

The amplifier's clock model (emgd_ext.clock) lives on a thousand arrivals a second. A stimulator is heard a few times a
second, but each answer to a probe is a proof: at some time between two host times the clock stood at this tick. So
what is kept is the span of offsets that no probe contradicts.
"""

from typing import Final

NS_PER_S: Final = 1_000_000_000

WANDER: Final = 100e-6
"""How far two crystals part per second."""

SLEW: Final = 500e-6
"""And how far time synchronisation may slew CLOCK_MONOTONIC, now and then: then older probes are forgotten. What is
more than that is no clock that runs on."""

UNIFORM: Final = 3**0.5
"""Half width of a span by standard deviation, where each place in it is as good as any other."""


class ContradictionError(ValueError):
    """A probe that cannot be true if the others are: the device's clock was set back or stood still."""


class TickClock:
    """The clock of one device with `tick_hz` ticks a second, as far as its probes tell."""

    def __init__(self, tick_hz: int) -> None:
        self._ns_per_tick = NS_PER_S / tick_hz
        self._tick_hz = tick_hz
        self._begin: tuple[int, int] | None = None
        self._low_ns = 0.0
        self._high_ns = 0.0
        self._seen_ns = 0

    @property
    def known(self) -> bool:
        """Was there a probe?"""
        return self._begin is not None

    def forget(self) -> None:
        """The device began anew."""
        self._begin = None

    def probe(self, before_ns: int, tick: int, after_ns: int) -> None:
        """The clock stood at `tick` between two host times. ContradictionError when it cannot have."""
        if self._begin is None:
            self._begin = (tick, before_ns)
            self._low_ns, self._high_ns = 0.0, float(after_ns - before_ns)
            self._seen_ns = after_ns
            return
        nominal_ns = self._nominal_ns(tick)
        widened_ns = self._widened_ns(after_ns)
        own_low_ns, own_high_ns = before_ns - nominal_ns, after_ns - nominal_ns
        low_ns = max(self._low_ns - widened_ns, own_low_ns)
        high_ns = min(self._high_ns + widened_ns, own_high_ns)
        if low_ns - high_ns > abs(after_ns - self._seen_ns) * SLEW:
            raise ContradictionError(f"its clock is off by {(low_ns - high_ns) / 1000:.0f} us from what it was")
        if low_ns > high_ns:
            low_ns, high_ns = own_low_ns, own_high_ns
        self._low_ns, self._high_ns = low_ns, high_ns
        self._seen_ns = max(self._seen_ns, after_ns)

    def host_ns(self, tick: int) -> int:
        """CLOCK_MONOTONIC of a tick."""
        return round(self._nominal_ns(tick) + (self._low_ns + self._high_ns) / 2)

    def tick(self, host_ns: int) -> int:
        """The tick at a host time."""
        if self._begin is None:
            raise LookupError("no probe yet")
        tick, begin_ns = self._begin
        return tick + round((host_ns - begin_ns - (self._low_ns + self._high_ns) / 2) / self._ns_per_tick)

    def sigma_ns(self, host_ns: int) -> int:
        """How well the two agree at `host_ns`, standard deviation."""
        half_ns = (self._high_ns - self._low_ns) / 2 + self._widened_ns(host_ns)
        return max(1, round(half_ns / UNIFORM))

    def _nominal_ns(self, tick: int) -> float:
        """Host time of a tick if the clocks had started together and kept step; exact to some nanoseconds."""
        if self._begin is None:
            raise LookupError("no probe yet")
        begin_tick, begin_ns = self._begin
        return begin_ns + (tick - begin_tick) * NS_PER_S / self._tick_hz

    def _widened_ns(self, host_ns: int) -> float:
        return abs(host_ns - self._seen_ns) * WANDER
