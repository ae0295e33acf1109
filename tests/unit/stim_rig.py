"""A Stimulation in a time of its own: a stimulator that records its calls, an amplifier that is always fresh, and
audit and messages as lists.
"""

import json
import os
from dataclasses import dataclass, field

from emgd.audit import AuditError
from emgd.interlock import Interlock
from emgd.limits import LimitTable
from emgd.ring_tap import Mark
from emgd.stim_commands import Arm, Fire, Holder, Site, Take
from emgd.stim_hands import Asked, Hands
from emgd.stimulate import Stimulation
from emgd.stream_watch import STIMULUS, Seen
from emgd_drivers.stimulator import Delivered, DeviceLimits, Stimulator, StimulatorInfo
from emgd_ext.gate import Limits, names_in
from emgd_wire.codec import WireError
from emgd_wire.kinds import Kind

MS = 1_000_000
ME = Holder(7, "me")
OTHER = Holder(8, "other")
SITE = Site("right", "arm", "median", "wrist")

LIMITS = {
    "current_ua": 50_000,
    "width_us": 200,
    "charge_nc": 20_000,
    "energy_uj": 2_000,
    "load_energy_uj": 5_000,
    "compliance_v": 300,
    "rate_mhz": 10_000,
    "interval_us": 100_000,
    "pair_interval_us": 5_000,
    "train_pulses": 50,
    "train_duration_ms": 10_000,
    "train_rest_ms": 10_000,
    "mean_current_ua": 100,
    "site_pulses": 100,
    "step_ua": 5_000,
    "first_shot_ua": 5_000,
    "impedance_ohm": 10_000,
    "readback_current_percent": 10,
    "readback_width_percent": 5,
    "dc_ua": 10,
    "lease_ms": 1_000,
    "idle_reset_ms": 60_000,
}


def build(profile, device, session):
    limits = Limits()
    assert limits.merge(device, "device")[0] == ()
    assert limits.merge(LIMITS, "profile")[0] == ()
    assert limits.merge(session, "session")[0] == ()
    return LimitTable(profile, limits, "digest")


class FakeLog:
    """The audit log as a list. `broken`: it cannot be written; `full`: it soon cannot."""

    def __init__(self):
        self.records = []
        self.broken = False
        self.full = False
        self.synced = 0

    def record(self, kind, **fields):
        if self.broken:
            raise AuditError("the disk is full")
        json.dumps(fields)
        self.records.append((kind, fields))
        return len(self.records)

    def check(self):
        if self.broken or self.full:
            raise AuditError("the disk is nearly full")

    def sync(self):
        if self.broken:
            raise AuditError("the disk is full")
        self.synced = len(self.records)


class Clock:
    def __init__(self):
        self.ns = 1_000 * MS

    def __call__(self):
        return self.ns


INFO = StimulatorInfo(
    driver="fake",
    serial="FAKE-1",
    firmware="1",
    most_current_ua=100_000,
    most_width_us=1_000,
    most_compliance_v=400,
    current_step_ua=10,
    isolated=True,
    has_watchdog=True,
    has_stop=True,
    measures_load=True,
    reads_back=True,
)


class FakeStimulator(Stimulator):
    """Does what it is told, and writes down every call. `broken`: call -> what it raises."""

    def __init__(self, clock, calls, info=INFO):
        self.clock = clock
        self.calls = calls
        self.broken = {}
        self.news = []
        self.reports = True
        self.output = False
        self.limits = DeviceLimits(0, 0, 0)
        self.fed_until_ns = 0
        self.given = []
        self.load_ohm = 1_000
        self._info = info
        self.descriptor = os.eventfd(0)

    def _called(self, name, *args):
        self.calls.append((self.clock.ns, name, *args))
        if (error := self.broken.get(name)) is not None:
            raise error

    def names(self):
        return [call[1] for call in self.calls]

    @property
    def info(self):
        return self._info

    def fileno(self):
        return self.descriptor

    def reset(self):
        self._called("reset")
        self.output, self.limits = False, DeviceLimits(0, 0, 0)

    def set_limits(self, limits):
        self._called("set_limits", limits)
        self.limits = limits
        return limits

    def measure_load(self):
        self._called("measure_load")
        return self.load_ohm

    def feed(self, timeout_ms):
        self._called("feed", timeout_ms)
        self.fed_until_ns = self.clock.ns + timeout_ms * MS

    def arm(self):
        self._called("arm")
        assert self.fed_until_ns > self.clock.ns
        self.output = True

    def disarm(self):
        self._called("disarm")
        self.output = False

    def pulse(self, seq, at_ns, current_ua, width_us):
        self._called("pulse", seq, at_ns, current_ua, width_us)
        assert self.output, "a pulse without output"
        assert current_ua <= self.limits.current_ua
        assert width_us <= self.limits.width_us
        self.given.append((seq, at_ns, current_ua, width_us))
        if self.reports:
            self.news.append(Delivered(seq, at_ns, 1000, current_ua, width_us, self.load_ohm, 0, limited=False))

    def poll(self):
        if (error := self.broken.get("poll")) is not None:
            raise error
        due = [one for one in self.news if not isinstance(one, Delivered) or one.at_ns <= self.clock.ns]
        self.news = [one for one in self.news if one not in due]
        return due

    def stop(self):
        self._called("stop")
        self.output = False

    def close(self):
        self._called("close")
        self.output = False
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class FakeWatch:
    """An amplifier whose newest sample is always 2 ms old."""

    def __init__(self, clock):
        self.clock = clock
        self.isolated = True
        self.running = True
        self.saturated = False
        self.stamped = True
        self.pending = []
        self.next_seq = 100

    def look(self):
        return Seen(self.clock.ns - 2 * MS, self.saturated, self.stamped) if self.running else None

    def marks(self):
        found, self.pending = self.pending, []
        return found

    def mark(self, value, at_ns, seq=4711):
        self.pending.append(Mark(seq, STIMULUS, 0, value, at_ns))


@dataclass
class Rig:
    """All of it."""

    info: StimulatorInfo = INFO
    clock: Clock = field(default_factory=Clock)
    calls: list = field(default_factory=list)
    log: FakeLog = field(default_factory=FakeLog)
    told: list = field(default_factory=list)
    there: bool = True

    def __post_init__(self):
        self.devices = []
        self.watch = FakeWatch(self.clock)
        self.interlock = Interlock()
        self.stimulation = Stimulation(
            Hands(
                open=self._open,
                build=build,
                audit=self.log,
                publish=lambda kind, payload, seq: self.told.append((kind, payload, seq)),
                watch=self.watch,
                interlock=self.interlock,
                clock=self.clock,
            )
        )

    def _open(self):
        from emgd_drivers.api import DeviceNotFoundError

        if not self.there:
            raise DeviceNotFoundError("no stimulator is connected; plug it in")
        self.devices.append(FakeStimulator(self.clock, self.calls, self.info))
        return self.devices[-1]

    @property
    def device(self):
        return self.devices[-1]

    @property
    def state(self):
        return self.stimulation.gate.state

    @property
    def reasons(self):
        known = self.stimulation.gate.snapshot()
        return set(names_in(known["faults"] | known["dropped"]))

    def ask(self, command, holder=ME):
        """A turn with a command in it; its result, or its WireError raised."""
        answers = []
        self.stimulation.step([Asked(holder, command, answers.append)])
        (answer,) = answers
        if isinstance(answer, WireError):
            raise answer
        return answer

    def run(self, ms, *, until=None, turn_ms=1):
        """Time passes, a millisecond a turn."""
        for _ in range(ms // turn_ms):
            self.clock.ns += turn_ms * MS
            self.stimulation.step()
            if until is not None and until():
                return True
        return until is None

    def armed(self, **changes):
        """Connected, leased, armed."""
        self.stimulation.step()
        self.ask(Take(1))
        self.ask(Arm(**{"profile": "motor", "site": SITE, "operator": "mw", **changes}))
        return self

    def shot(self, **changes):
        """A Fire for the armed site."""
        values = {"kind": "single", "current_ua": 5_000, "width_us": 200, "count": 1, "interval_us": 0, "begin_ns": 0}
        return Fire(**{"site": SITE.id, "asked_ns": self.clock.ns, **values, **changes})

    def states(self):
        """States as published."""
        return [payload["state"] for kind, payload, _ in self.told if kind is Kind.STATE]

    def pulses(self):
        """Pulses as published."""
        return [(payload, seq) for kind, payload, seq in self.told if kind is Kind.PULSE]
