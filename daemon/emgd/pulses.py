"""Pulses that were let out: each is followed until the stimulator has said what it gave and the amplifier marked it.

Command, report and mark are matched by the pulse's number; the mark carries its low 31 bits. What does not match is a
problem in words: a mark that is missing, displaced, or there without a pulse. No I/O, no clock: time comes in as an
argument.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from emgd.ring_tap import Mark
from emgd_drivers.stimulator import Delivered
from emgd_ext.gate import Pulse, names_in

MARK_NS: Final = 200_000_000
"""How long a mark may be on its way after the report: many times what blocks and cables take."""

REPORT_NS: Final = 250_000_000
"""A report that has not come by now will not: the gate has called it missing 50 ms ago."""

DISPLACED_NS: Final = 2_000_000
"""How far report and mark may lie apart: each clock model is good for some 0.1 ms, a report over USB for 1 ms. More is
another pulse, or a latency that nobody may read."""

MARK_BITS: Final = (1 << 31) - 1
"""A mark's value is a signed 32-bit number."""


@dataclass(slots=True)
class _Out:
    """A pulse that is out."""

    pulse: Pulse
    context: Mapping[str, Any]
    reasons: tuple[str, ...] = ()
    delivered: Delivered | None = None
    mark: Mark | None = None
    report_due_ns: int = 0
    mark_due_ns: int = 0


class Pulses:
    """Pulses that are out, by number; `has_marks`: the stimulator's trigger line goes to the amplifier."""

    def __init__(self) -> None:
        self.has_marks = False
        self._out: dict[int, _Out] = {}
        self._finished: list[dict[str, Any]] = []

    def sent(self, pulse: Pulse, context: Mapping[str, Any]) -> None:
        """It was handed to the device; `context` goes into what is published of it."""
        self._out[pulse.seq] = _Out(pulse, dict(context), report_due_ns=pulse.at_ns + REPORT_NS)

    def delivered(self, report: Delivered, verdict: int, now_ns: int) -> str | None:
        """The device has given it; `verdict` is the gate's. Returns the problem with its mark, if there is one."""
        out = self._out.get(report.seq)
        if out is None:
            return None  # the gate has a name for that
        out.delivered = report
        out.reasons = names_in(verdict)
        out.mark_due_ns = now_ns + MARK_NS
        return self._settle(out)

    def marked(self, mark: Mark) -> str | None:
        """The amplifier has seen one. Returns the problem, if there is one."""
        out = next((one for one in self._out.values() if one.pulse.seq & MARK_BITS == mark.value & MARK_BITS), None)
        if out is None or out.mark is not None:
            return f"the amplifier marks a pulse {mark.value} at sample {mark.seq} that nobody asked for"
        out.mark = mark
        return self._settle(out)

    def overdue(self, now_ns: int) -> str | None:
        """Give up what does not come any more. Returns the problem, if it is a mark that is missing."""
        problem = None
        for out in list(self._out.values()):
            if out.delivered is None:
                if now_ns >= out.report_due_ns:
                    self._finish(out)
            elif now_ns >= out.mark_due_ns:
                problem = f"pulse {out.pulse.seq} was given, but the amplifier does not mark it"
                self._finish(out)
        return problem

    def dropped(self, after_ns: int) -> None:
        """The device was disarmed: what was to be given later than `after_ns` is not given."""
        for out in list(self._out.values()):
            if out.delivered is None and out.pulse.at_ns > after_ns + DISPLACED_NS:
                out.reasons = ("dropped",)
                self._finish(out)

    def finished(self) -> list[dict[str, Any]]:
        """What there is to publish since the last call, a map for each pulse."""
        found, self._finished = self._finished, []
        return found

    @property
    def unreported(self) -> int:
        """How many the device has to tell of."""
        return sum(out.delivered is None for out in self._out.values())

    def _settle(self, out: _Out) -> str | None:
        if out.delivered is None or (self.has_marks and out.mark is None):
            return None
        self._finish(out)
        if out.mark is None:
            return None
        off_ns = out.mark.host_time_ns - out.delivered.at_ns
        if abs(off_ns) <= DISPLACED_NS:
            return None
        return f"the mark of pulse {out.pulse.seq} is {off_ns / 1e6:+.1f} ms from when the stimulator gave it"

    def _finish(self, out: _Out) -> None:
        del self._out[out.pulse.seq]
        self._finished.append(_payload(out))


_REPORTED: Final = ("at_ns", "sigma_ns", "current_ua", "width_us", "load_ohm", "dc_ua", "limited")


def _payload(out: _Out) -> dict[str, Any]:
    """The payload of `pulse`, docs/protocol.md."""
    pulse, report, mark = out.pulse, out.delivered, out.mark
    return {
        **out.context,
        "pulse": pulse.seq,
        "number": pulse.number + 1,
        "of": pulse.of,
        "at_ns": pulse.at_ns,
        "current_ua": pulse.current_ua,
        "width_us": pulse.width_us,
        "delivered": None if report is None else {name: getattr(report, name) for name in _REPORTED},
        "reasons": list(out.reasons),
        "mark_seq": mark.seq if mark else None,
        "mark_ns": mark.host_time_ns if mark else None,
    }
