"""The impedance check: a small state machine that sends a test current through electrodes and measures what they make
of it in the raw samples.

One side after the other (E1, E2, both), all channels that were asked for at once: switch the current over, wait until
the stream says from which sample on it flows and the electrodes have settled, take a window, go on. The test current
flows in SETTLING and MEASURING and in no other state: every way out of these two leads through a state that ends only
when the device has obeyed the request to switch it off.

Nothing here reads a clock or a ring: time, marks, gaps and the position in the stream come in as arguments.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emgd.electrode_states import Window, describe
from emgd.lockin import LockIn
from emgd_drivers.api import ALL_CHANNELS, ChannelInfo, DeviceError, DeviceLostError, ImpedanceTest, Side
from emgd_wire.kinds import MARK_CODES

log = logging.getLogger("emgd.impedance")

WINDOW_S: Final = 1.6
"""Whole cycles of 31.25, 50 and 60 Hz (50, 80, 96), so that mains falls out. At rest 0.4 s would do; in a muscle that
works it is the length that counts: there the uncertainty is some 250 Ohm, and falls with the root of it."""

SETTLE_S: Final = 0.4
"""Electrode and skin charge with at most 1 MOhm x 50 nF = 50 ms; after eight such times 0.03 % is missing."""

LATENCY_S: Final = 0.25
"""A device that does not mark its test: what is on the way when it obeys may be this old (a radio link, a FIFO)."""

CONFIRM_S: Final = 1.0
"""A mark that has not come by now was lost in a gap, so the device is asked again."""

MAX_TRIES: Final = 3
"""Requests without an answer, and windows with a disturbance in them, for each side."""

STALL_S: Final = 2.0
"""No new sample for so long, and the check is given up."""

MAX_ROWS: Final = 4096
"""Samples that are worked through at once: bounds memory, whatever has piled up."""

SIDES: Final = (Side.POSITIVE, Side.NEGATIVE, Side.BOTH)
SIDE_NAMES: Final = {Side.POSITIVE: "e1", Side.NEGATIVE: "e2", Side.BOTH: "both"}

_STIMULUS: Final = MARK_CODES.index("stimulus")
_IMPEDANCE: Final = MARK_CODES.index("impedance")


class State(StrEnum):
    """Where a check is; the test current flows in SETTLING and MEASURING alone."""

    IDLE = "idle"
    SETTLING = "settling"
    MEASURING = "measuring"
    ENDING = "ending"
    ABORTING = "aborting"
    DONE = "done"
    ABORTED = "aborted"


class Event(StrEnum):
    """What can happen to a check."""

    START = "start"
    SETTLED = "settled"
    MEASURED = "side measured"
    COMPLETE = "last side measured"
    DISTURBED = "window disturbed"
    ABORT = "abort"
    QUIET = "current is off"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.IDLE, Event.START): State.SETTLING,
    (State.DONE, Event.START): State.SETTLING,
    (State.ABORTED, Event.START): State.SETTLING,
    (State.SETTLING, Event.SETTLED): State.MEASURING,
    (State.SETTLING, Event.ABORT): State.ABORTING,
    (State.MEASURING, Event.MEASURED): State.SETTLING,
    (State.MEASURING, Event.DISTURBED): State.SETTLING,
    (State.MEASURING, Event.COMPLETE): State.ENDING,
    (State.MEASURING, Event.ABORT): State.ABORTING,
    (State.ENDING, Event.QUIET): State.DONE,
    (State.ABORTING, Event.QUIET): State.ABORTED,
}
"""The whole machine; what is not here cannot happen. docs/impedance.md shows it as a drawing."""

FLOWING: Final = frozenset({State.SETTLING, State.MEASURING})
SWITCHING_OFF: Final = frozenset({State.ENDING, State.ABORTING})


class Reason(StrEnum):
    """Why a check was aborted, for programs."""

    CLIENT = "client"
    STIMULUS = "stimulus"
    DEVICE_LOST = "device_lost"
    REFUSED = "refused"
    NOT_CONFIRMED = "not_confirmed"
    GAPS = "gaps"
    NO_SAMPLES = "no_samples"
    CHANGED = "changed"
    SERVICE = "service"


class NotStreamingError(RuntimeError):
    """There are no samples in which a test current could be seen."""


class BusyError(RuntimeError):
    """A check runs already."""


class InterlockError(RuntimeError):
    """Something forbids a test current now; the text says what."""


@dataclass(frozen=True, slots=True)
class Hands:
    """What the machine can do to the world. `switch` may raise DeviceError; `read(seq, count)` gives raw samples, None
    when some were overwritten; `flag` tells the sample loop where a device does not mark its test; `interlock` says
    what forbids a test current now, None = nothing; `publish(payload, seq, count)` tells everybody.
    """

    switch: Callable[[int | None, Side], None]
    read: Callable[[int, int], npt.NDArray[np.int32] | None]
    flag: Callable[[Sequence[int], bool], None]
    interlock: Callable[[], str | None]
    publish: Callable[[dict[str, Any], int, int], None]


@dataclass(slots=True)
class _Check:
    """One check from start to end."""

    number: int
    channels: tuple[int, ...]
    side: int = 0
    tries: int = 1
    reason: Reason | None = None
    text: str = ""
    windows: list[Window] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)


class ImpedanceCheck:
    """The machine of one amplifier that sends `test`. `sample_ns` is from one sample to the next in host time."""

    def __init__(
        self, test: ImpedanceTest, infos: Sequence[ChannelInfo], rate_hz: float, sample_ns: float, hands: Hands
    ) -> None:
        self.state = State.IDLE
        self._test = test
        self._infos = infos
        self._rate_hz = rate_hz
        self._sample_ns = sample_ns
        self._hands = hands
        self._check = _Check(0, ())
        self._position = 0  # one past the newest sample that was told
        self._moved_ns = 0  # when it last grew
        self._asked_ns: int | None = None  # when the device obeyed the last request; None: it has not yet
        self._asked_at = 0  # position then
        self._requests = 0  # requests for the present sides that it obeyed
        self._complained = False
        self._awaiting: set[int] = set()  # channels whose mark has not come
        self._begin: int | None = None  # first sample of the window, once it is known
        self._lockin: LockIn | None = None
        self._saturated = np.zeros(len(infos), np.int64)
        self._settle_samples = round(SETTLE_S * rate_hz)
        self._wait_samples = self._settle_samples + (0 if test.has_marks else round(LATENCY_S * rate_hz))
        self._window_samples = LockIn(test.frequency_hz, rate_hz, 1, WINDOW_S).samples
        self._limits = np.array([info.saturation_count for info in infos])

    # --- for the service

    @property
    def busy(self) -> bool:
        """A check runs, or its test current has still to be switched off."""
        return self.state in FLOWING or self.state in SWITCHING_OFF

    def start(self, channels: Sequence[int] | None, now_ns: int, head: int) -> int:
        """Begin a check of some channels (None: all), where the next sample is `head`; returns its number.

        BusyError, InterlockError.
        """
        if self.busy:
            raise BusyError(f"impedance check {self._check.number} runs already")
        if (forbidden := self._hands.interlock()) is not None:
            raise InterlockError(forbidden)
        every = range(len(self._infos))
        self._check = _Check(self._check.number + 1, tuple(every if channels is None else sorted(set(channels))))
        self._position, self._moved_ns = head, now_ns
        self._fire(Event.START, now_ns)
        return self._check.number

    def stop(self, reason: Reason, text: str, now_ns: int) -> bool:
        """Give up and switch the current off; False when no current flows."""
        if self.state not in FLOWING:
            return False
        self._abort(reason, text, now_ns)
        return True

    def lose(self, text: str, now_ns: int) -> None:
        """The device is gone, and its test current with it: nobody is there to be asked."""
        self.stop(Reason.DEVICE_LOST, text, now_ns)
        if self.state in SWITCHING_OFF:
            self._quiet(now_ns)

    def ready_ns(self, now_ns: int) -> int | None:
        """When the check will be over if nothing disturbs; None when none runs."""
        if not self.busy:
            return None
        left = 0
        if self.state in FLOWING:
            left = (len(SIDES) - 1 - self._check.side) * (self._wait_samples + self._window_samples)
        if self._lockin is not None:
            left += self._lockin.missing
        elif self.state is State.SETTLING:
            wait = self._wait_samples if self._begin is None else max(0, self._begin - self._position)
            left += wait + self._window_samples
        return now_ns + round(left * self._sample_ns)

    def as_map(self, now_ns: int) -> dict[str, Any]:
        """Payload of the stream `impedance` (docs/protocol.md)."""
        check = self._check
        flowing = self.state in FLOWING
        return {
            "check": check.number,
            "state": self.state.value,
            "side": SIDE_NAMES[SIDES[check.side]] if flowing else None,
            "step": check.side + 1 if flowing else 0,
            "steps": len(SIDES),
            "attempt": check.tries if flowing else 0,
            "channels": list(check.channels),
            "ready_ns": self.ready_ns(now_ns),
            "reason": check.reason.value if check.reason else None,
            "text": check.text,
            "frequency_hz": self._test.frequency_hz,
            "current_na": self._test.current_na,
            "windows": [[SIDE_NAMES[window.sides], window.seq, window.count] for window in check.windows],
            "results": check.results,
        }

    # --- what happens in the stream

    def mark(self, seq: int, code: int, channel: int, value: int, now_ns: int) -> None:
        """A mark came."""
        if code == _STIMULUS and self.state in FLOWING:
            self._abort(Reason.STIMULUS, f"a stimulus at sample {seq}", now_ns)
        elif code == _IMPEDANCE and self.busy:
            told = set(self._check.channels) if channel == ALL_CHANNELS else {channel} & set(self._check.channels)
            self._take_test_mark(seq, told, value, now_ns)

    def _take_test_mark(self, seq: int, told: set[int], value: int, now_ns: int) -> None:
        wanted = SIDES[self._check.side] if self.state in FLOWING else Side.NONE
        if not told:
            return
        if self.state is State.MEASURING:
            # The device obeys each request once, so this is one that was sent twice, or nobody's.
            if value != wanted:
                self._abort(Reason.CHANGED, f"the device changed its test current at sample {seq} by itself", now_ns)
            elif seq < self._window_end():
                self._moved(seq, now_ns)
                self._disturbed(Reason.CHANGED, f"the test current began anew at sample {seq}", now_ns)
        elif value == wanted:
            self._awaiting -= told
            if not self._awaiting and self.state is State.SETTLING:
                self._begin = max(self._begin or 0, seq + self._settle_samples)
        elif self._begin is not None and self.state is State.SETTLING:
            self._abort(Reason.CHANGED, f"the device changed its test current at sample {seq} by itself", now_ns)

    def gap(self, seq: int, count: int, now_ns: int) -> None:
        """Samples are missing."""
        self._moved(seq + count, now_ns)
        if self.state is State.MEASURING and seq < self._window_end():
            self._disturbed(Reason.GAPS, f"{count} samples are missing from {seq} on", now_ns)
        elif self.state is State.SETTLING and self._begin is not None:
            # What was measured before a gap counts for nothing after it; the current flows all the same.
            self._begin = max(self._begin, seq + count)

    def lapped(self, now_ns: int) -> None:
        """Something was overwritten before it was told: it may have been a stimulus, so nothing is sure any more."""
        if self.state in FLOWING:
            self._abort(Reason.GAPS, "the service could not keep up with the stream", now_ns)

    def samples(self, seq: int, count: int, now_ns: int) -> None:
        """Samples are there, without a gap among them."""
        end = seq + count
        self._moved(end, now_ns)
        while True:
            if self.state is State.SETTLING and self._begin is not None and self._begin < end:
                self._fire(Event.SETTLED, now_ns)
            if self.state is not State.MEASURING or self._lockin is None:
                return
            at = self._window_end() - self._lockin.missing
            rows = min(end - at, self._lockin.missing, MAX_ROWS)
            if rows <= 0:
                return
            self._take_rows(max(seq, at), at, rows, now_ns)

    def _take_rows(self, seq: int, wanted: int, rows: int, now_ns: int) -> None:
        found = self._hands.read(seq, rows) if seq == wanted else None
        if found is None or self._lockin is None:
            self._disturbed(Reason.GAPS, f"sample {wanted} was not to be had", now_ns)
            return
        self._saturated += (np.abs(found) >= self._limits).sum(axis=0)
        self._lockin.add(found)
        if self._lockin.missing == 0:
            self._measured(now_ns)

    def _measured(self, now_ns: int) -> None:
        """A window is full."""
        check = self._check
        if self._lockin is None or self._begin is None:
            return
        size = self._lockin.samples
        window = Window(SIDES[check.side], self._begin, size, self._lockin.tone(), self._saturated / size)
        shaken = [channel for channel in check.channels if window.disturbed[channel]]
        if shaken and check.tries < MAX_TRIES:
            text = f"channel {shaken[0]} was saturated for moments"
            self._disturbed(Reason.GAPS, text, now_ns)
            return
        check.windows.append(window)
        if check.side + 1 < len(SIDES):
            self._fire(Event.MEASURED, now_ns)
        else:
            check.results = describe(check.windows, check.channels, self._infos, self._test.current_na)
            self._fire(Event.COMPLETE, now_ns)

    def _disturbed(self, reason: Reason, text: str, now_ns: int) -> None:
        """The window is worth nothing: take another one, as long as there are tries left."""
        if self._check.tries >= MAX_TRIES:
            self._abort(reason, f"{text}, in attempt {self._check.tries} of {MAX_TRIES}", now_ns)
        else:
            self._check.tries += 1
            self._fire(Event.DISTURBED, now_ns)

    def _moved(self, position: int, now_ns: int) -> None:
        if position > self._position:
            self._position, self._moved_ns = position, now_ns

    # --- time

    def step(self, now_ns: int, head: int) -> None:
        """Do what is due. `head` is the number of the next sample of the stream. DeviceLostError after the loss was
        noted here.
        """
        if self.state in FLOWING:
            if (forbidden := self._hands.interlock()) is not None:
                self._abort(Reason.STIMULUS, forbidden, now_ns)
            elif now_ns - self._moved_ns > STALL_S * 1e9:
                self._abort(Reason.NO_SAMPLES, f"no samples for {STALL_S:g} s", now_ns)
        if self.state is State.SETTLING:
            self._ask(SIDES[self._check.side], now_ns, head)
        if self.state in SWITCHING_OFF:
            self._ask(Side.NONE, now_ns, head)
            if self._is_off(now_ns):
                self._quiet(now_ns)

    def _ask(self, sides: Side, now_ns: int, head: int) -> None:
        """Tell the device which sides are wanted, if it has not been told or has not answered."""
        if self._asked_ns is not None and not self._is_late(now_ns):
            return
        if self._requests >= MAX_TRIES:
            if sides:
                text = f"no answer to {self._requests} requests for a test current"
                self._abort(Reason.NOT_CONFIRMED, text, now_ns)
            return
        try:
            self._switch(sides)
        except DeviceLostError as error:
            self.lose(str(error), now_ns)
            raise
        except DeviceError as error:
            if sides:
                self._abort(Reason.REFUSED, str(error), now_ns)
            elif not self._complained:  # said once: it is tried until it is done
                self._complained = True
                log.warning("the test current could not be switched off, trying again: %s", error)
            return
        self._requests += 1
        self._asked_ns, self._asked_at = now_ns, max(head, self._position)
        if self._test.has_marks:
            self._awaiting = set(self._check.channels)
        elif sides:
            self._begin = self._asked_at + self._wait_samples

    def _is_late(self, now_ns: int) -> bool:
        """The device obeyed long ago, and the stream has not said so."""
        return self._asked_ns is not None and bool(self._awaiting) and now_ns - self._asked_ns > CONFIRM_S * 1e9

    def _switch(self, sides: Side) -> None:
        every = len(self._check.channels) == len(self._infos)
        if sides and not self._test.has_marks:
            self._hands.flag(self._check.channels, True)
        if every or not sides:
            self._hands.switch(None, sides)
            return
        for channel in self._check.channels:
            self._hands.switch(channel, sides)

    def _is_off(self, now_ns: int) -> bool:
        """The device has obeyed, and the last sample with test current has passed by, or will be long in coming."""
        if self._asked_ns is None:
            return False
        if self._requests >= MAX_TRIES and self._is_late(now_ns):
            log.warning("the test current is off, but the stream did not say so")
            return True
        if self._test.has_marks:
            return not self._awaiting
        passed = self._position >= self._asked_at + round(LATENCY_S * self._rate_hz)
        return passed or now_ns - self._asked_ns > CONFIRM_S * 1e9

    def _quiet(self, now_ns: int) -> None:
        if not self._test.has_marks:
            self._hands.flag(self._check.channels, False)
        self._fire(Event.QUIET, now_ns)

    # --- transitions

    def _abort(self, reason: Reason, text: str, now_ns: int) -> None:
        self._check.reason, self._check.text = reason, text
        self._fire(Event.ABORT, now_ns)

    def _fire(self, event: Event, now_ns: int) -> None:
        """Change the state as the table says, get the new one ready, and tell everybody."""
        before, self.state = self.state, TRANSITIONS[self.state, event]
        log.debug("impedance check %d: %s -> %s (%s)", self._check.number, before, self.state, event)
        if self.state is State.MEASURING:
            self._lockin = LockIn(self._test.frequency_hz, self._rate_hz, len(self._infos), WINDOW_S)
            self._saturated[:] = 0
        else:
            self._lockin = None
        if event is Event.DISTURBED:
            self._begin = self._position + self._settle_samples  # the same current goes on
        elif event is not Event.SETTLED:
            self._begin = None
            self._asked_ns, self._requests, self._complained = None, 0, False
            self._awaiting = set()
        if event is Event.MEASURED:
            self._check.side += 1
            self._check.tries = 1
        self._tell(now_ns)

    def _tell(self, now_ns: int) -> None:
        windows = self._check.windows
        seq = windows[0].seq if windows else self._position
        count = windows[-1].seq + windows[-1].count - seq if windows else 0
        self._hands.publish(self.as_map(now_ns), seq, count)

    def _window_end(self) -> int:
        """One past the last sample of the window that is being taken."""
        return (self._begin or 0) + (self._lockin.samples if self._lockin else 0)


def diagram() -> str:
    """The table as a Mermaid drawing, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.IDLE}"]
    lines += [f"    {before} --> {after}: {event}" for (before, event), after in TRANSITIONS.items()]
    return "\n".join(lines)
