"""A stimulator's model and its driver in one process, on a clock that only the test moves."""

import contextlib
import os

from emgd_drivers.api import DeviceLostError
from emgd_drivers.ncs1 import protocol
from emgd_drivers.ncs1.driver import Ncs1Stimulator
from emgd_drivers.sim.stimulator import Ncs1Model
from emgd_drivers.stimulator import DeviceLimits

MS = 1_000_000
S = 1_000_000_000

LIMITS = DeviceLimits(50_000, 500, 400)


class VirtualWire:
    """A Wire to a model; bytes take no time, and waiting moves the clock from event to event.

    `lie` makes other messages of those that an ncs1 sends.
    """

    def __init__(self, model, now_ns=S):
        self.model = model
        self.time_ns = now_ns
        self.sent = []
        self.delay_ns = 0
        self.lie = None
        self._heard = bytearray()
        self._signal = -1
        self._open = True
        model.connect(self._take)
        model.host(True, now_ns)

    def _take(self, data):
        if self.lie is not None:
            told = (self.lie(message) for message in protocol.Decoder().feed(data))
            self._heard += b"".join(protocol.encode(message) for message in told)
        else:
            self._heard += data
        if self._signal >= 0:
            os.eventfd_write(self._signal, 1)
        return len(data)

    def now_ns(self):
        return self.time_ns

    def send(self, data, until_ns, doing):
        self._check(doing)
        self.sent.append(data)
        self.time_ns += self.delay_ns
        self.model.receive(data, self.time_ns)

    def receive(self, until_ns, doing):
        self._check(doing)
        while True:
            self.model.run(self.time_ns)
            if self._heard:
                return self.take()
            if self.time_ns >= until_ns or self.model.unplugged:
                self._check(doing)
                self.time_ns = max(self.time_ns, until_ns) + 1
                return b""
            due_ns = self.model.next_event_ns()
            self.time_ns = until_ns if due_ns is None else min(until_ns, max(due_ns, self.time_ns))

    def abort(self, data):
        if self._open:
            self.sent.append(data)
            self.model.receive(data, self.time_ns)
            self.model.host(False, self.time_ns)

    def revive(self):
        if self._open:
            self.model.host(True, self.time_ns)

    def take(self):
        """What has come."""
        data = bytes(self._heard)
        self._heard.clear()
        if self._signal >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._signal)
        return data

    def fileno(self):
        if self._signal < 0:
            self._signal = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return self._signal

    def close(self):
        if self._open:
            self.model.host(False, self.time_ns)
            self._open = False
            if self._signal >= 0:
                os.close(self._signal)

    def pass_time(self, ns):
        """Let time pass from event to event."""
        end_ns = self.time_ns + ns
        while (due_ns := self.model.next_event_ns()) is not None and due_ns <= end_ns:
            self.time_ns = max(self.time_ns, due_ns)
            self.model.run(self.time_ns)
        self.time_ns = end_ns
        self.model.run(end_ns)

    def _check(self, doing):
        if not self._open or self.model.unplugged:
            raise DeviceLostError(f"gone (at {doing})")


class Bench:
    """An ncs1 driver on its model; `given` is what goes through the electrodes, `rises` the trigger line."""

    def __init__(self, *faults, boot=1, **options):
        self.model = Ncs1Model(faults=faults, boot=boot, now_ns=S, **options)
        self.given = []
        self.rises = []
        self.model.on_pulse = self.given.append
        self.model.on_trigger = lambda at_ns, number: self.rises.append((at_ns, number))
        self.wire = VirtualWire(self.model)
        self.driver = Ncs1Stimulator(self.wire)

    def ready(self, timeout_ms=1000, limits=LIMITS):
        """Reset, limited, fed, armed."""
        self.driver.reset()
        self.driver.set_limits(limits)
        self.driver.feed(timeout_ms)
        self.driver.arm()
        return self

    def pulse(self, seq, current_ua=5000, width_us=200, ahead_ns=0):
        at_ns = self.wire.time_ns + ahead_ns
        self.driver.pulse(seq, at_ns, current_ua, width_us)
        return at_ns

    def pass_time(self, ns):
        self.wire.pass_time(ns)

    def news(self, after_ns=5 * MS):
        self.pass_time(after_ns)
        return self.driver.poll()


class RawHost:
    """A host that says bytes and reads messages, without a driver."""

    def __init__(self, model, now_ns=S):
        self.wire = VirtualWire(model, now_ns)
        self.model = model
        self.decoder = protocol.Decoder()
        self.seq = 0

    def say(self, data):
        self.model.receive(data, self.wire.time_ns)

    def ask(self, kind, payload=b"", wait_ns=MS):
        """Result and payload of the answer, None when there is none."""
        self.seq += 1
        self.say(protocol.encode(protocol.Message(kind, self.seq, payload)))
        found = [m for m in self.heard(wait_ns) if (m.kind, m.seq) == (kind | protocol.ANSWER, self.seq)]
        return (protocol.Result(found[0].payload[0]), found[0].payload[1:]) if found else None

    def heard(self, wait_ns=MS):
        self.wire.pass_time(wait_ns)
        return list(self.decoder.feed(self.wire.take()))
