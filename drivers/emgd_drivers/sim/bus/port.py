"""The ports of the emulated bus: which device is plugged in where, which host has it, and what was seen so far.

Like the devices it knows no clock; host time (CLOCK_MONOTONIC, ns) comes in.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from emgd_drivers.sim.bus.pipe import PipeFault
from emgd_drivers.sim.bus.usb_device import NS_PER_MS, UsbDevice

MAX_MUTE_MS: Final = 3_600_000
"""An hour: more is a slip of the finger."""

MAX_DROPS: Final = 1_000_000


class BusError(Exception):
    """Something was asked of a port that it cannot do; the text says what can be done instead."""


class Host(Protocol):
    """Who has a device: told when there may be something for it to fetch."""

    def deliver(self) -> None:
        """Fetch what ended from the device, and notice when it is gone."""


class Port:
    """A place for one device, `name` to people and `bus_id` to USB/IP.

    `make` builds the device, powered up at the given time (ns): with each plug a fresh one with the same serial number.
    `changed` is called after something was done to the device from outside.
    """

    def __init__(self, name: str, kind: str, bus_id: str, make: Callable[[int], UsbDevice], now_ns: int) -> None:
        self.name: Final = name
        self.kind: Final = kind
        self.bus_id: Final = bus_id
        self.restarts = 0
        self.host: Host | None = None
        self.changed: Callable[[], None] = _nobody_listens
        self._make = make
        self._done: Counter[str] = Counter()
        self._past: Counter[str] = Counter()
        self._last_report: dict[str, Any] = {}
        self.device: UsbDevice | None = make(now_ns)

    def attach(self, host: Host) -> UsbDevice:
        """Give the device to a host. BusError when there is none, or another host has it."""
        device = self._plugged()
        if self.host is not None:
            raise BusError(f"{self.name} is in use by another host")
        self.host = host
        return device

    def detach(self, host: Host, now_ns: int) -> None:
        """The host lets go: the device falls silent, as at a bus reset. Harmless when the host does not have it."""
        if self.host is host:
            self.host = None
            if self.device is not None:
                self.device.reset(now_ns)
                self.device.drain(now_ns)

    def run(self, now_ns: int) -> None:
        """Let time pass."""
        if self.device is not None:
            self.device.run(now_ns)
            if self.device.unplugged:
                self._pull(now_ns)

    def next_event_ns(self) -> int | None:
        """When to call `run` next; long past = at once, None = not before something is done to the device."""
        return None if self.device is None else self.device.next_event_ns()

    def plug(self, now_ns: int) -> None:
        """Plug the device in again, freshly powered up."""
        if self.device is not None:
            raise BusError(f"{self.name} is plugged in already")
        self.device = self._make(now_ns)
        self.restarts += 1
        self.changed()

    def unplug(self, now_ns: int) -> None:
        """Pull the cable: requests in flight end as gone, the device loses power."""
        self._plugged().run(now_ns)
        self._pull(now_ns)
        self.changed()

    def stall(self, now_ns: int) -> None:
        """Halt the stream's endpoint until the host clears it."""
        self._plugged().run(now_ns)
        self._plugged().stall()
        self._done["stall"] += 1
        self.changed()

    def mute(self, duration_ms: int, now_ns: int) -> None:
        """Let nothing complete for a while."""
        if not 0 < duration_ms <= MAX_MUTE_MS:
            raise BusError(f"{duration_ms} ms is no time to be mute; choose 1 to {MAX_MUTE_MS}")
        self._plugged().run(now_ns)
        self._plugged().mute(now_ns + duration_ms * NS_PER_MS)
        self._done["mute"] += 1
        self.changed()

    def plan(self, kind: PipeFault, *, times: int = 1, keep_bytes: int | None = None) -> None:
        """Let something happen to the next `times` transfers; `keep_bytes` is what is left of a short one."""
        if not 0 < times <= MAX_DROPS:
            raise BusError(f"{times} transfers cannot be hit; choose 1 to {MAX_DROPS}")
        self._plugged().plan(kind, times, keep_bytes)

    def status(self, now_ns: int) -> dict[str, Any]:
        """What there is to know, ready for JSON. Transfers and bytes go on counting over replugs."""
        now = self._snapshot(now_ns)
        return {
            "name": self.name,
            "kind": self.kind,
            "busid": self.bus_id,
            "connected": self.device is not None,
            "attached": self.host is not None,
            "restarts": self.restarts,
            "state": "unplugged",
            **now,
            "faults_done": dict(sorted((self._done + self._faults()).items())),
        }

    def _snapshot(self, now_ns: int) -> dict[str, Any]:
        """Figures of the present device, or of the last one as it was when it went."""
        if self.device is None:
            return self._last_report
        self.run(now_ns)
        if self.device is None:  # It pulled its own cable just now.
            return self._last_report
        counts = self.device.counts()
        totals = {name: counts[name] + self._past[name] for name in ("transfers", "bytes", "refusals", "resets")}
        return {**self.device.report(now_ns), **counts, **totals}

    def _faults(self) -> Counter[str]:
        return Counter() if self.device is None else self.device.faults_done()

    def _plugged(self) -> UsbDevice:
        if self.device is None:
            raise BusError(f"{self.name} is unplugged; plug it in first")
        return self.device

    def _pull(self, now_ns: int) -> None:
        device = self._plugged()
        counts = device.counts()
        for name in ("transfers", "bytes", "refusals", "resets"):
            self._past[name] += counts[name]
        report = {**device.report(now_ns), **counts, **{name: self._past[name] for name in self._past}}
        self._last_report = report | {"state": "unplugged", "in_flight": 0}
        self._done += device.faults_done()
        self._done["unplug"] += 1
        device.pull()
        self.device = None
        host, self.host = self.host, None
        if host is not None:
            host.deliver()


class Bus:
    """All ports. Bus ids are 1-1, 1-2, … in the given order."""

    def __init__(self, ports: Iterable[Port] = ()) -> None:
        self.ports: list[Port] = list(ports)

    def add(self, name: str, kind: str, make: Callable[[int], UsbDevice], now_ns: int) -> Port:
        """One more port with a device in it. BusError when the name is taken."""
        if any(port.name == name for port in self.ports):
            raise BusError(f"there are two devices called {name!r}; give one another serial or name")
        port = Port(name, kind, f"1-{len(self.ports) + 1}", make, now_ns)
        self.ports.append(port)
        return port

    def port(self, name: str) -> Port:
        """A port by its name or bus id; BusError when there is none."""
        for port in self.ports:
            if name in {port.name, port.bus_id}:
                return port
        known = ", ".join(port.name for port in self.ports) or "none"
        raise BusError(f"there is no device {name!r}; there are: {known}")


def _nobody_listens() -> None:
    """Of a port that nobody serves."""
