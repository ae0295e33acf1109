"""Device ticks to host time."""

from typing import Any

class ClockModel:
    """Clock of one device. `tick_hz` nominal ticks per second; `virtual`: ticks say nothing about real time."""

    tick_hz: float
    virtual: bool

    def __init__(self, tick_hz: float, *, virtual: bool = False) -> None: ...
    def observe_arrival(self, tick: int, host_ns: int) -> None:
        """A frame whose last sample was taken at `tick` was here at `host_ns`."""

    def observe_probe(self, before_ns: int, tick: int, after_ns: int) -> None:
        """The device's clock stood at `tick` some time between two host times."""

    def host_time_ns(self, tick: int) -> int:
        """CLOCK_MONOTONIC ns of `tick`."""

    def snapshot(self, now_ns: int) -> dict[str, Any]:
        """The model as published on `<device>/clock` (docs/protocol.md)."""
