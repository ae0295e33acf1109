"""Gate, `emgd.stimulate`, the ncs1 driver and the byte-level model of an ncs1 in one process, in a time that only the
test moves, beside an oracle that sees what goes through the electrodes.
"""

import logging
from contextlib import contextmanager
from itertools import count

from stim_rig import LIMITS, SITE, FakeLog, build
from stimulation_oracle import MS, Oracle
from stimulator_rig import VirtualWire

from emgd.interlock import Interlock
from emgd.ring_tap import Mark
from emgd.stim_commands import Arm, Confirm, Disarm, Fire, Leave, Release, Renew, Take
from emgd.stim_hands import Asked, Hands
from emgd.stimulate import Stimulation
from emgd.stream_watch import STIMULUS, Seen
from emgd_drivers.api import DeviceError, DeviceNotFoundError
from emgd_drivers.ncs1.driver import Ncs1Stimulator
from emgd_drivers.ncs1.protocol import State
from emgd_drivers.sim.stimulator import Ncs1Model
from emgd_drivers.sim.stimulator_faults import StimulatorFaultKind as Fault
from emgd_wire.codec import WireError
from emgd_wire.kinds import ErrorCode, Kind

RENEW_NS = 300 * MS
AMPLIFIER_NS = 2 * MS
"""Its newest sample is this old."""

LAST_WORD_MS = 1200
"""Within this, all that can be said of a pulse is said."""


class Wire(VirtualWire):
    """A wire in the world's time: there is another one each time that the port is opened."""

    def __init__(self, world):
        self._world = world
        super().__init__(world.model, world.ns)

    @property
    def time_ns(self):
        return self._world.ns

    @time_ns.setter
    def time_ns(self, ns):
        self._world.ns = max(ns, self._world.ns)


class Watch:
    """An amplifier that can fall silent. It marks what comes on the trigger line."""

    isolated = True
    next_seq = 100

    def __init__(self, world):
        self._world = world
        self._silent_ns = None
        self._pending = []

    def silent(self, silent):
        if silent != (self._silent_ns is not None):
            self._silent_ns = self._world.ns - AMPLIFIER_NS if silent else None

    def rise(self, at_ns, number):
        if self._silent_ns is None:
            self._pending.append(Mark(at_ns // MS, STIMULUS, -1, number, at_ns))

    def look(self):
        return Seen(self._world.ns - AMPLIFIER_NS if self._silent_ns is None else self._silent_ns, False, True)

    def marks(self):
        found, self._pending = self._pending, []
        return found


class Mishaps(logging.Handler):
    """What the stimulus thread survived, and should not have had to."""

    def __init__(self):
        super().__init__()
        self.found = []

    def emit(self, record):
        if record.getMessage() == "stimulus thread":
            self.found.append(record.exc_info)


class World:
    def __init__(self):
        self.ns = 1_000 * MS
        self.wrong = []
        self.oracle = Oracle()
        self.nonces = count(1)
        self.boots = count(1)
        self.watch = Watch(self)
        self.log = FakeLog()
        self.plug()
        self.mishaps = Mishaps()
        logging.getLogger("emgd.stimulate").addHandler(self.mishaps)
        self.stimulation = Stimulation(
            Hands(
                open=self._open,
                build=build,
                audit=self.log,
                publish=self._publish,
                watch=self.watch,
                interlock=Interlock(),
                clock=lambda: self.ns,
            )
        )
        self.stimulation.step()

    # --- the device

    def plug(self):
        self.model = Ncs1Model(boot=next(self.boots), now_ns=self.ns)
        self.model.on_pulse = self._given
        self.model.on_trigger = self.watch.rise
        self.ever = set()

    def fault(self, text):
        self.ever.add(text.partition("=")[0].partition("@")[0])
        self.model.add_fault(text, self.ns)

    def clear(self):
        self.model.clear_faults(self.ns)

    def _open(self):
        if self.model.unplugged:
            raise DeviceNotFoundError("no stimulator is connected; plug it in")
        wire = Wire(self)
        try:
            return Ncs1Stimulator(wire)
        except DeviceError:
            wire.close()
            raise

    def _given(self, given):
        percent = [one.number if (one := self.model._fault(kind)) else 100 for kind in (Fault.CURRENT, Fault.WIDTH)]
        with self._judged():
            self.oracle.pulse(given, percent=percent, deaf="deaf" in self.ever)

    def _publish(self, kind, payload, _seq):
        with self._judged():
            if kind is Kind.PULSE:
                self.oracle.tell(payload, believable="stuck-readback" not in self.ever)
            elif kind is Kind.STATE:
                self.oracle.state(payload["state"], self.ns)

    @contextmanager
    def _judged(self):
        """What the oracle says is kept for `look`: the stimulus thread survives whatever is raised in it."""
        try:
            yield
        except AssertionError as error:
            self.wrong.append(error)

    def look(self):
        """Raise what the oracle found wrong, or what happened in the stimulus thread and should not."""
        if self.wrong:
            raise self.wrong[0]
        assert self.mishaps.found == []
        if self.oracle.ended_ns is not None and "deaf" not in self.ever:
            assert self.model.state is not State.ARMED, "the output is enabled, and nothing is armed"

    # --- time

    def stand_still(self, ns):
        """The service does nothing for so long; the device goes on by itself."""
        end_ns = self.ns + ns
        while not self.model.unplugged and (due_ns := self.model.next_event_ns()) is not None and due_ns <= end_ns:
            self.ns = max(self.ns, due_ns)
            self.model.run(self.ns)
        self.ns = max(self.ns, end_ns)
        self.model.run(self.ns)

    def run(self, ms, *, renewing=None):
        """The service runs for so long; `renewing` is whose program is alive."""
        end_ns, renew_ns = self.ns + ms * MS, self.ns
        while self.ns < end_ns:
            self.stand_still(min(max(self.stimulation.wait_ns(), MS), end_ns - self.ns))
            if renewing is not None and self.ns >= renew_ns:
                renew_ns = self.ns + RENEW_NS
                self.ask(renewing, Renew(next(self.nonces)))
            else:
                self.stimulation.step()

    # --- clients

    def ask(self, holder, command):
        """The answer, a WireError if it is a no. The oracle hears what was granted before anything can follow of it."""
        answers = []

        def answer(result):
            answers.append(result)
            with self._judged():
                if isinstance(result, WireError):
                    assert result.code is not ErrorCode.INTERNAL, result
                else:
                    self._granted(holder, command, result)

        self.stimulation.step([Asked(holder, command, answer)])
        return answers[0]

    def _granted(self, holder, command, result):
        match command:
            case Take() | Renew():
                self.oracle.leased(holder.number, self.ns)
            case Release() | Leave():
                self.oracle.left(holder.number, self.ns)
            case Disarm():
                self.oracle.ended(self.ns)
            case Arm(limits=session):
                limits = {**LIMITS, **{name: min(value, LIMITS[name]) for name, value in session.items()}}
                self.oracle.armed(limits)
            case Fire():
                self.oracle.shot(holder.number, command, result)

    def arm(self, holder, session):
        return self.ask(holder, Arm("motor", SITE, "mw", limits=session))

    def fire(self, holder, **shot):
        values = {"kind": "single", "current_ua": 1_000, "width_us": 100, "count": 1, "interval_us": 0, "begin_ns": 0}
        return self.ask(holder, Fire(**{"site": SITE.id, "asked_ns": self.ns, **values, **shot}))

    def confirm(self, holder, current_ua):
        return self.ask(holder, Confirm(current_ua))

    def stop(self):
        self.stimulation.stop("the machine")
        self.oracle.ended(self.ns)

    def close(self):
        """Let all be told that can be, then look whether it was."""
        self.run(LAST_WORD_MS)
        self.oracle.all_is_told()
        self.look()
        self.stimulation.close()
        logging.getLogger("emgd.stimulate").removeHandler(self.mishaps)
