"""The stimulus: what stands between a request and a pulse, and between any failure and a stimulator that goes on.

This module alone calls a Stimulator, and asks the gate before each pulse (docs/safety/stimulating.md). One thread owns
it; `emgd.stim_thread` is that thread. `step` is one turn: what the device says and what the amplifier shows comes
in, commands are obeyed, time passes, pulses that are due go out, the device's watchdog is fed. Whenever the gate is not
armed any more, whatever the reason, the next thing that happens is that the device's output is disabled.

Time comes in through `Hands.clock`, so that tests run in a time of their own.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from emgd.audit import AuditError
from emgd.limits import LimitError
from emgd.pulses import Pulses
from emgd.stim_desk import Desk
from emgd.stim_hands import Asked, Hands
from emgd_drivers.api import DeviceError, DeviceLostError
from emgd_drivers.stimulator import Delivered, DeviceLimits, Stimulator, StimulatorInfo, Trouble
from emgd_ext.gate import WAIT, Gate, bit, names_in
from emgd_wire.codec import WireError
from emgd_wire.kinds import ErrorCode, Kind

log = logging.getLogger("emgd.stimulate")

ARMED: Final = frozenset({"armed", "firing", "cooldown"})
"""States of the gate in which the device's output may be enabled."""

STEP_NS: Final = 10_000_000
"""Longest pause between two turns while armed: a lease that is lost has to show within 50 ms, on a busy machine too."""

QUIET_STEP_NS: Final = 100_000_000
"""The same while nothing can be given: only to look for the device, and to see a lease end."""

LEAD_NS: Final = 8_000_000
"""A pulse goes to the device this long before its time: wake-ups and USB are late by some milliseconds."""

FEED_NS: Final = 100_000_000
"""The device's watchdog is fed ten times a second ..."""

FEED_MS: Final = 500
"""... and bites when nobody has for this long: the gate, too, disarms when time has jumped so far."""

FIRST_RETRY_NS: Final = 500_000_000
LAST_RETRY_NS: Final = 5_000_000_000
"""How often a stimulator that is not there is looked for, as with amplifiers."""


class Stimulation:
    """The one stimulator, its gate, and what both are doing. Not thread-safe."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands
        self.clock = hands.clock
        self.gate = Gate(hands.clock())
        self.scheduling = "not started"
        self.counts: Counter[str] = Counter()
        self.info: StimulatorInfo | None = None
        self.text = "the stimulator is looked for"
        self.ended = 0
        """Verdict that ended a shot before its time, since it was last told."""
        self.desk = Desk(self)
        self._driver: Stimulator | None = None
        self._output = False
        self._deaf = False
        self._reset_due = False
        self._pulses = Pulses()
        self._retry_ns = 0
        self._pause_ns = FIRST_RETRY_NS
        self._feed_due_ns = 0
        self._told = ""
        self.summary = self.desk.state_map()

    # --- for the thread

    @property
    def descriptor(self) -> int | None:
        """Readable when the device has news; None while it can have none."""
        if self._driver is None or self._deaf:
            return None
        try:
            return self._driver.fileno()
        except (DeviceError, OSError, ValueError):
            return None

    @property
    def is_there(self) -> bool:
        """The device is connected."""
        return self._driver is not None

    @property
    def armed(self) -> bool:
        """The device's output may be enabled."""
        return self._output or self.gate.state in ARMED

    def wait_ns(self) -> int:
        """How long nothing needs to be done."""
        if not self.armed:
            return QUIET_STEP_NS
        if self.gate.state != "firing":
            return STEP_NS
        due_ns: int = self.gate.snapshot()["due_ns"] - LEAD_NS - self.clock()
        return min(STEP_NS, max(due_ns, 0))

    def step(self, asked: Sequence[Asked] = ()) -> None:
        """One turn. What the amplifier shows comes before the commands, which are judged by it."""
        for work in (self._seek, self._hear, self.look):
            self._guarded(work)
        for one in asked:
            answer = self._obey(one)
            self._guarded(self._tell)  # whoever has an answer finds the state published to which it led
            one.answer(answer)
        for work in (self._pass, self._shoot, self._feed, self._tell):
            self._guarded(work)

    def stop(self, source: str) -> str:
        """The emergency stop: the device first. Returns what to say to who asked."""
        there = self._driver is not None
        stopped = self._stop_driver()
        self.gate.stop()
        self.follow()
        self.counts["stops"] += 1
        log.warning("emergency stop by %s", source)
        self._guarded(lambda: self.hands.audit.record("stop", source=source, stopped=stopped))
        self._guarded(self._tell)
        if not there:
            return "stopped: there is no stimulator now; nothing can be given before this is acknowledged"
        return "stopped" if stopped else "the stimulator did not take the stop: switch it off and pull its cable"

    def close(self) -> None:
        """Disarm and let go of the device, whatever state it is in."""
        self.gate.disarm()
        self.follow()
        self._let_go()
        self.gate.disconnect()

    def _obey(self, asked: Asked) -> dict[str, Any] | WireError:
        """The answer to a command, whatever becomes of it."""
        try:
            result: dict[str, Any] | WireError = self.desk.obey(asked.holder, asked.command)
        except Exception as error:  # noqa: BLE001 - see _guarded
            result = self.mishap(error)
        self.follow()
        return result

    # --- whatever goes wrong

    def _guarded(self, work: Callable[[], object]) -> None:
        """Do it, and see to it that nothing is given if it fails, or if it took the gate out of armed."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - nothing may end this thread: it is what disables the output
            self.mishap(error)
        self.follow()

    def mishap(self, error: Exception) -> WireError:
        """Make safe, and say it in an answer's form."""
        match error:
            case WireError():
                return error
            case LimitError():
                return WireError(ErrorCode.REFUSED, str(error), refusals=[one.as_map() for one in error.refusals])
            case DeviceLostError():
                self._lose(str(error))
                return WireError(ErrorCode.DEVICE_FAILED, str(error))
            case DeviceError():
                self._fail(str(error))
                return WireError(ErrorCode.DEVICE_FAILED, str(error))
            case AuditError():
                self.gate.disarm()
                self.follow()
                log.error("audit: %s", error)
                return WireError(ErrorCode.AUDIT, f"{error}; without its log nothing is given")
            case _:
                # Before the log: it may be what is broken.
                self._fail(f"{type(error).__name__}: {error}")
                log.error("stimulus thread", exc_info=error)
                return WireError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")

    def _fail(self, text: str) -> None:
        """Nobody knows what the device does: stop it, and latch that."""
        self._stop_driver()
        self.gate.fault(bit("device"))
        self.text = text
        log.error("stimulator: %s", text)

    def _lose(self, text: str) -> None:
        """The device is gone. When it is back it is IDLE, whatever it was."""
        self._let_go()
        self.gate.disconnect()
        self.text = text
        self._retry_ns = self.clock() + FIRST_RETRY_NS
        self._pause_ns = 2 * FIRST_RETRY_NS
        log.warning("stimulator: %s", text)

    def follow(self) -> None:
        """The device's output follows the gate: down at once, up only by arming."""
        if self.gate.state in ARMED:
            return
        if self._output:
            self._cut()
        if not self.desk.arming:
            self.hands.interlock.disarmed()

    def _cut(self) -> None:
        """Disable the output in the way that fits."""
        if self.gate.state == "fault" or self._driver is None:
            self._stop_driver()
            return
        self._output = False
        try:
            self._driver.disarm()
            self._pulses.dropped(self.clock())
            self._reset_due = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the stop is what is left
            self.mishap(error)

    def _stop_driver(self) -> bool:
        """The device's emergency stop; False when it could not be called, and the device was let go of instead."""
        self._output = False
        if self._driver is None:
            return False
        try:
            self._driver.stop()
        except Exception:
            log.exception("the stimulator did not take a stop: its port is closed, and its watchdog is not fed")
            self._let_go()
            return False
        self._deaf = True  # it is off, and asked anew by the reset before anything else
        self._last_words(self._driver)
        return True

    def _last_words(self, driver: Stimulator) -> None:
        """Reports of pulses that it gave before it was stopped; whatever else it says is said to nobody."""
        try:
            for news in driver.poll():
                if isinstance(news, Delivered):
                    self._pulses.delivered(news, 0, self.clock())
        except Exception as error:  # noqa: BLE001 - it is stopped, and need not answer
            log.info("stimulator, after a stop: %s", error)

    def _let_go(self) -> None:
        driver, self._driver, self._output, self._reset_due = self._driver, None, False, False
        if driver is not None:
            try:
                driver.close()
            except Exception:
                log.exception("the stimulator's port did not close")

    # --- the device

    def _seek(self) -> None:
        """Look for the device, if it is not there: reset, 0 uA, disarmed."""
        now_ns = self.clock()
        if self._driver is not None or now_ns < self._retry_ns:
            return
        self._retry_ns, self._pause_ns = now_ns + self._pause_ns, min(2 * self._pause_ns, LAST_RETRY_NS)
        try:
            driver = self.hands.open()
        except DeviceError as error:
            self.text = str(error)
            return
        self._driver, self.info = driver, driver.info
        self._pulses.has_marks = driver.info.has_trigger
        try:
            driver.reset()
        except DeviceError as error:
            # Nobody knows what it does, but we have not enabled anything: stop it and begin again.
            self._stop_driver()
            self._let_go()
            self.text = str(error)
            return
        self._deaf = self._reset_due = False
        self._pause_ns = FIRST_RETRY_NS
        self.text = f"{driver.info.serial} is connected"
        self._connect()

    def _connect(self) -> None:
        """The device was reset: IDLE, if no fault is latched."""
        if self.gate.state == "off":
            self.gate.set_limits(self.desk.quiet_table().limits)
            self.gate.connect(self.clock())

    def present(self) -> Stimulator:
        """The device; WireError when it is not there."""
        if self._driver is None:
            raise WireError(ErrorCode.NO_STIMULATOR, self.text, allowed="when the stimulator is there")
        return self._driver

    def prepare(self, limits: DeviceLimits) -> tuple[DeviceLimits, int | None]:
        """Set the device's own limits, from nothing; as read back, and the load in ohm where it can measure that."""
        driver = self.present()
        driver.reset()
        self._reset_due = False
        own = driver.set_limits(limits)
        return own, driver.measure_load() if driver.info.measures_load else None

    def enable(self) -> None:
        """The gate is armed: enable the device's output."""
        driver = self.present()
        if self.gate.state not in ARMED:
            raise ValueError("the output follows the gate, and it is not armed")
        self._output = True  # from here on whatever fails has it disabled
        driver.feed(FEED_MS)
        self._feed_due_ns = self.clock() + FEED_NS
        driver.arm()

    def recover(self) -> None:
        """Someone says that the cause of a fault is removed: the device has to agree, by a reset. DeviceError."""
        if self._driver is None:
            return
        self._driver.reset()
        self._driver.poll()  # what it said before the reset was said to nobody
        self._deaf = self._reset_due = False

    def recovered(self) -> None:
        """The fault is acknowledged."""
        if self._driver is not None:
            self.text = f"{self._driver.info.serial} is connected"
            self._connect()

    def _hear(self) -> None:
        """What the device says."""
        if self._driver is None or self._deaf:
            return
        for news in self._driver.poll():
            match news:
                case Delivered():
                    self._take_report(news)
                case Trouble(cause, text):
                    self._fail(f"{cause}: {text}")
                    self.hands.audit.record("trouble", cause=cause, text=text)
                    return

    def _take_report(self, report: Delivered) -> None:
        verdict = self.gate.readback(
            self.clock(),
            seq=report.seq,
            current_ua=report.current_ua,
            width_us=report.width_us,
            load_ohm=report.load_ohm,
            dc_ua=report.dc_ua,
            limited=report.limited,
        )
        self.follow()
        self._misplaced(self._pulses.delivered(report, verdict, self.clock()))

    def look(self) -> None:
        """What the amplifier shows: how fresh its samples are, and the marks of our pulses."""
        seen = self.hands.watch.look()
        if seen is not None:
            self.gate.stream(seen.sample_ns, self.clock(), saturated=seen.saturated, stamped=seen.stamped)
            self.follow()
        for mark in self.hands.watch.marks():
            if self._pulses.has_marks:
                self._misplaced(self._pulses.marked(mark))

    def _misplaced(self, problem: str | None) -> None:
        """A mark that does not belong to its pulse: what the samples say of latencies is not to be trusted."""
        if problem is None:
            return
        self._stop_driver()
        self.gate.fault(bit("mark"))
        self.follow()
        self.text = problem
        log.error("stimulator: %s", problem)
        self.hands.audit.record("mark", text=problem)

    def _pass(self) -> None:
        """Time passes."""
        now_ns = self.clock()
        self.gate.tick(now_ns)
        self.follow()
        self._misplaced(self._pulses.overdue(now_ns))
        if self._reset_due and self._driver is not None and not self._pulses.unreported:
            # At leisure, its output is disabled already: 0 uA, no limits, no watchdog that would bite later.
            self._reset_due = False
            self._driver.reset()
            if self.gate.state == "idle" and self.gate.snapshot()["awaited"]:
                # It waits for a pulse that was dropped; after a reset nothing is out.
                self.gate.connect(self.clock())
            self.hands.audit.sync()

    def _feed(self) -> None:
        """The lease is alive and the gate armed: tell the device that somebody is there."""
        now_ns = self.clock()
        if self._output and self._driver is not None and now_ns >= self._feed_due_ns:
            self._driver.feed(FEED_MS)
            self._feed_due_ns = now_ns + FEED_NS

    # --- pulses

    def _shoot(self) -> None:
        """Let out what is due: the gate says yes to each pulse, or there is none."""
        while self.gate.state == "firing" and self._output and self._driver is not None:
            now_ns = self.clock()
            if self.gate.snapshot()["due_ns"] - LEAD_NS > now_ns:
                return
            verdict, pulse = self.gate.fire(now_ns)
            self.follow()
            if pulse is None:
                if verdict & ~WAIT:
                    self.ended = verdict
                    self.counts["cancelled"] += 1
                    self.hands.audit.record("cancelled", shot=self.desk.shots, verdict=list(names_in(verdict)))
                return
            context = self.desk.shot_map()
            self.hands.audit.record("fire", **context, **pulse._asdict())
            self._pulses.sent(pulse, context)
            self._driver.pulse(pulse.seq, pulse.at_ns, pulse.current_ua, pulse.width_us)
            self.counts["pulses"] += 1

    def _tell(self) -> None:
        """Publish and log what is new: pulses that are over, and another state."""
        for payload in self._pulses.finished():
            seq = self.hands.watch.next_seq if payload["mark_seq"] is None else payload["mark_seq"]
            self.hands.publish(Kind.PULSE, payload, seq)
            self.hands.audit.record("pulse", **payload)
        payload = self.desk.state_map()
        if repr(payload) != self._told:
            self._told, self.ended = repr(payload), 0
            self.summary = payload
            self.hands.publish(Kind.STATE, payload, self.hands.watch.next_seq)
            self.hands.audit.record("state", **payload)
