"""The byte-level model of an ncs1 stimulator: answers, gives pulses and reports them as the firmware would.

It knows no clock: host time (CLOCK_MONOTONIC, ns) comes in with every call and may go in steps of any size. Whatever
falls between two calls happens in its order and at its own instant. One exception, as in the device: STOP has an
interrupt of its own, so nothing that fell due while its bytes were on the way comes before it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from emgd_drivers.fields import Field
from emgd_drivers.ncs1 import protocol
from emgd_drivers.ncs1.protocol import Ability, Cause, Flag, Kind, Limits, Message, Pulse, Result, State
from emgd_drivers.sim.oscillator import Oscillator
from emgd_drivers.sim.serial_model import SendBytes
from emgd_drivers.sim.serial_output import SerialOutput
from emgd_drivers.sim.stimulator_faults import ALLOWED_FORMS, StimulatorFault, parse_stimulator_faults
from emgd_drivers.sim.stimulator_faults import StimulatorFaultKind as Fault
from emgd_drivers.sim.stimulator_model import Given, GivePulse, Trigger

SERIAL: Final = "NCS1-SIM001"
FIRMWARE: Final = b"sim-1.0"

MOST_CURRENT_UA: Final = 100_000
MOST_WIDTH_US: Final = 1000
MOST_COMPLIANCE_V: Final = 400
STEP_UA: Final = 10

LOAD_OHM: Final = 2000
"""Two good electrodes on clean skin."""

OUTPUT_BYTES: Final = 4096
ANSWER_NS: Final = 50_000
"""The firmware takes this long to answer."""

LEAD_TICKS: Final = 500
"""And this long (50 µs) to begin a pulse that is wanted at once."""

REPORT_NS: Final = 300_000
"""From a pulse's end to its DELIVERED."""

LOAD_NS: Final = 20_000_000
"""A measurement of the load."""

BOOT_NS: Final = 50_000_000
"""From power to the first answer."""

SECOND_TRIGGER_NS: Final = 5_000_000

TICKS_PER_US: Final = protocol.TICK_HZ // 1_000_000
MICROVOLTS: Final = 1_000_000
MEAN_TICKS: Final = protocol.MEAN_WINDOW_US * TICKS_PER_US

FIELDS: Final = (
    Field("serial", str, "serial number", SERIAL, 1, 32),
    Field("drift_ppm", float, "error of the crystal; positive = its ticks are too long", 0.0, -1000, 1000),
    Field("load_ohm", int, "between the electrodes", LOAD_OHM, 1, 10_000_000),
    Field("faults", list, f"may be given again; KIND[=NUMBER][@PULSES], one of {ALLOWED_FORMS}", (), 0, 100),
)


@dataclass(frozen=True, slots=True)
class _Row:
    """What a request needs and which method answers it."""

    answer: Callable[[Any, bytes, int], tuple[Result, bytes]]
    length: int = 0


class Ncs1Model:
    """A SerialModel: an ncs1 that is powered up at `now_ns`, its `boot`-th time. No host is there before `host`.

    `on_pulse` is told of each pulse, `on_trigger` of each rise of the trigger line, at the instant it happens.
    """

    def __init__(
        self,
        *,
        serial: str = SERIAL,
        faults: Iterable[str] = (),
        drift_ppm: float = 0.0,
        load_ohm: int = LOAD_OHM,
        boot: int = 1,
        now_ns: int = 0,
    ) -> None:
        self.unplugged = False
        self.on_pulse: GivePulse = _ignore
        self.on_trigger: Trigger = _ignore
        self._serial = serial.encode("ascii")
        self._drift_ppm = drift_ppm
        self._load_ohm = load_ohm
        self._boot = boot - 1
        self._faults = list(parse_stimulator_faults(faults))
        self._given = 0
        self._relay = False
        self._host = False
        self._send: SendBytes = _take_none
        self._ran_ns = now_ns
        self._due_triggers: list[tuple[int, int]] = []
        self._start(now_ns)

    def _start(self, now_ns: int) -> None:
        """Power-up: everything is forgotten but the number of starts."""
        self._boot += 1
        self._clock = Oscillator(protocol.TICK_HZ, origin_ns=now_ns, drift_ppm=self._drift_ppm)
        self._awake_ns = now_ns
        self._output = SerialOutput(OUTPUT_BYTES)
        self._output.connect(self._send)
        self._decoder = protocol.Decoder()
        self._event_seq = 0
        self._delivered = 0
        self._last_tick: int | None = None
        self._recent: deque[tuple[int, int]] = deque()
        self._measured: protocol.Delivered | None = None
        self._clear()

    def _clear(self) -> None:
        """As after power-up, but for what protects skin: times and charge of the pulses given are kept."""
        self._state = State.OFF
        self._cause = Cause.NONE
        self._limits = Limits()
        self._feed_until_ns: int | None = None
        self._queue: deque[Pulse] = deque()
        self._last_seq = -1
        self._open_relay()

    # What stands for the cable.

    @property
    def blocked(self) -> bool:
        """Does something wait only for the host to take it?"""
        return self._output.blocked

    @property
    def state(self) -> State:
        """What the output may do."""
        return self._state

    @property
    def busy(self) -> bool:
        """May it still give a pulse by itself?"""
        return self._state is State.ARMED and not self.unplugged

    def describe(self) -> dict[str, Any]:
        """What it is doing."""
        return {
            "state": self._state.name.lower(),
            "cause": self._cause.name.lower(),
            "relay": self._relay,
            "fed": self._feed_until_ns is not None,
            "host": self._host,
            "boot": self._boot,
            "delivered": self._delivered,
            "damaged": self._decoder.damaged,
            "limits": list(protocol.values(self._limits)),
        }

    def connect(self, send: SendBytes) -> None:
        """Hand bytes to `send` from now on."""
        self._send = send
        self._output.connect(send)

    def host(self, present: bool, now_ns: int) -> None:
        """DTR rises when a host opens the port, and falls when it lets go of it."""
        self.run(now_ns)
        if self._host and not present:
            self._latch(Cause.HOST_GONE, now_ns)
        if self._host is not present:
            # Neither reads what was meant for the other.
            self._output = SerialOutput(OUTPUT_BYTES)
            self._output.connect(self._send)
            self._decoder = protocol.Decoder()
        self._host = present

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the host, cut anywhere."""
        if self.unplugged or self._has(Fault.DEAF):
            self.run(now_ns)
            return
        messages = list(self._decoder.feed(data))
        if any(message.kind == Kind.STOP for message in messages):
            self._latch(Cause.STOP, self._ran_ns)
        self.run(now_ns)
        for message in messages:
            if message.kind == Kind.STOP:
                self._latch(Cause.STOP, now_ns)
            elif self._host and now_ns >= self._awake_ns:
                self._answer(message, now_ns)
        self._output.drain(now_ns)

    def run(self, now_ns: int) -> None:
        """Let time pass."""
        while not self.unplugged and (due := self._next_inside()) is not None and due[0] <= now_ns:
            due_ns, happen = due
            happen(due_ns)
            self._happen(due_ns)
        self._ran_ns = max(self._ran_ns, now_ns)
        if not self.unplugged:
            self._output.drain(now_ns)

    def next_event_ns(self) -> int | None:
        """When to call `run` next; None = not before the host does something."""
        if self.unplugged:
            return None
        inside = self._next_inside()
        times = [self._output.next_ns(), inside[0] if inside else None]
        return min((time_ns for time_ns in times if time_ns is not None), default=None)

    # Faults at run time.

    def add_fault(self, text: str, now_ns: int) -> None:
        """One more thing is wrong from now on; ValueError for one that is not understood."""
        self.run(now_ns)
        self._faults += parse_stimulator_faults([text])
        self._happen(now_ns)

    def clear_faults(self, now_ns: int) -> None:
        """All is well again."""
        self.run(now_ns)
        self._faults.clear()
        if self._state is not State.ARMED:
            self._open_relay()

    def _fault(self, kind: Fault) -> StimulatorFault | None:
        """The last of this kind that has begun."""
        begun = [fault for fault in self._faults if fault.kind is kind and fault.after <= self._given]
        return begun[-1] if begun else None

    def _has(self, kind: Fault) -> bool:
        return self._fault(kind) is not None

    def _happen(self, now_ns: int) -> None:
        """Faults that are an event: each happens once."""
        for kind in (Fault.UNPLUG, Fault.RESTART):
            fault = self._fault(kind)
            if fault is not None and not self.unplugged:
                self._faults.remove(fault)
                if kind is Fault.UNPLUG:
                    self._clear()
                    self.unplugged = True
                else:
                    self._restart(Cause.INTERNAL, now_ns)

    def _restart(self, cause: Cause, now_ns: int) -> None:
        """The firmware begins anew, and says so once it is up."""
        self._start(now_ns)
        self._awake_ns = now_ns + BOOT_NS
        self._event(Kind.STARTED, protocol.Started(cause, self._boot).pack(), self._awake_ns)

    # What happens by itself.

    def _next_inside(self) -> tuple[int, Callable[[int], None]] | None:
        """The next thing that the device does by itself, and when (ns)."""
        events: list[tuple[int, Callable[[int], None]]] = []
        if self._queue:
            events.append((self._clock.host_ns(self._queue[0].tick), self._deliver))
        if self._feed_until_ns is not None:
            events.append((self._feed_until_ns, self._starve))
        if self._due_triggers:
            events.append((self._due_triggers[0][0], self._raise_trigger))
        return min(events, key=lambda event: event[0], default=None)

    def _starve(self, at_ns: int) -> None:
        """Nobody fed the watchdog."""
        self._feed_until_ns = None
        if self._state is State.ARMED:
            self._latch(Cause.WATCHDOG, at_ns)

    def _latch(self, cause: Cause, at_ns: int) -> None:
        """Output off until RESET; the first cause is kept."""
        dropped = len(self._queue)
        self._queue.clear()
        self._feed_until_ns = None
        if self._state is State.LATCHED:
            return
        self._state = State.LATCHED
        self._cause = cause
        self._open_relay()
        tick = self._clock.tick(at_ns)
        self._event(Kind.TROUBLE, protocol.Trouble(cause, dropped, tick).pack(), at_ns + ANSWER_NS)

    def _open_relay(self) -> None:
        self._relay = self._relay and self._has(Fault.STUCK_RELAY)

    def _deliver(self, at_ns: int) -> None:
        """The next pulse goes through the electrodes."""
        pulse = self._queue.popleft()
        given = self._through(pulse, at_ns)
        failing = self._fault(Fault.BROWN_OUT)
        if failing is not None:
            self._faults.remove(failing)
            self.on_pulse(replace(given, width_us=given.width_us // 2))
            self._given += 1
            self._restart(Cause.SUPPLY, at_ns)
            return
        self.on_pulse(given)
        self._trigger(given)
        self._report(pulse, given)
        # Only now: what is wrong after three pulses is wrong with the fourth.
        self._given += 1
        self._delivered += 1

    def _through(self, pulse: Pulse, at_ns: int) -> Given:
        """What the output stage makes of a pulse."""
        load_ohm = self._present_load_ohm()
        current_ua = pulse.current_ua * _percent(self._fault(Fault.CURRENT)) // 100
        width_us = pulse.width_us * _percent(self._fault(Fault.WIDTH)) // 100
        most_ua = self._limits.compliance_v * MICROVOLTS // load_ohm if load_ohm else 0
        return Given(at_ns, pulse.seq, min(current_ua, most_ua), width_us, load_ohm)

    def _report(self, pulse: Pulse, given: Given) -> None:
        """DELIVERED, as far as the readback works."""
        if self._has(Fault.NO_READBACK):
            return
        dc = self._fault(Fault.DC)
        measured = protocol.Delivered(
            seq=pulse.seq,
            tick=pulse.tick,
            current_ua=given.current_ua,
            width_us=given.width_us,
            load_ohm=given.load_ohm,
            dc_ua=dc.number if dc else 0,
            limited=int(given.current_ua < pulse.current_ua * _percent(self._fault(Fault.CURRENT)) // 100),
        )
        if self._has(Fault.STUCK_READBACK) and self._measured is not None:
            measured = replace(self._measured, seq=pulse.seq, tick=pulse.tick)
        self._measured = measured
        self._event(Kind.DELIVERED, measured.pack(), given.at_ns + given.width_us * 1000 + REPORT_NS)

    def _trigger(self, given: Given) -> None:
        if self._has(Fault.NO_TRIGGER):
            return
        moved = self._fault(Fault.TRIGGER)
        shift_ns = moved.number * 1000 if moved else 0
        rises = [given.at_ns + shift_ns]
        if self._has(Fault.EXTRA_TRIGGER):
            rises.append(rises[0] + SECOND_TRIGGER_NS)
        for at_ns in rises:
            # One that lies before the pulse cannot be made when the pulse is; its stamp is what counts.
            if at_ns <= given.at_ns:
                self.on_trigger(at_ns, given.seq)
            else:
                self._due_triggers.append((at_ns, given.seq))
        self._due_triggers.sort()

    def _raise_trigger(self, _at_ns: int) -> None:
        self.on_trigger(*self._due_triggers.pop(0))

    def _present_load_ohm(self) -> int:
        if self._has(Fault.OPEN):
            return 0
        load = self._fault(Fault.LOAD)
        return load.number if load else self._load_ohm

    # What requests do: (payload, now_ns) -> result and payload.

    def _answer(self, message: Message, now_ns: int) -> None:
        row = self._ROWS.get(message.kind)
        if row is None:
            result, payload = Result.UNKNOWN, b""
        elif len(message.payload) != row.length:
            result, payload = Result.LENGTH, b""
        else:
            result, payload = row.answer(self, message.payload, now_ns)
        slow = self._fault(Fault.SLOW)
        ready_ns = now_ns + ANSWER_NS + (slow.number * 1_000_000 if slow else 0)
        if message.kind == Kind.MEASURE_LOAD and result is Result.OK:
            ready_ns += LOAD_NS
        answer = Message(message.kind | protocol.ANSWER, message.seq, bytes([result]) + payload)
        self._say(answer, ready_ns)

    def _event(self, kind: Kind, payload: bytes, ready_ns: int) -> None:
        self._say(Message(kind, self._event_seq, payload), ready_ns)
        self._event_seq = (self._event_seq + 1) & 0xFFFF

    def _say(self, message: Message, ready_ns: int) -> None:
        if self._host and not self._has(Fault.MUTE):
            self._output.answer(protocol.encode(message), ready_ns)

    def _info(self, _payload: bytes, _now_ns: int) -> tuple[Result, bytes]:
        abilities = Ability.ISOLATED | Ability.TRIGGER | Ability.MEASURES_LOAD | Ability.READS_BACK
        most = (MOST_CURRENT_UA, MOST_WIDTH_US, MOST_COMPLIANCE_V, STEP_UA)
        info = protocol.Info(protocol.PROTOCOL, abilities, *most, protocol.TICK_HZ, self._boot, FIRMWARE, self._serial)
        return Result.OK, info.pack()

    def _status(self, _payload: bytes, now_ns: int) -> tuple[Result, bytes]:
        flags = Flag.RELAY if self._relay else Flag(0)
        flags |= Flag.HIGH_VOLTAGE if self._state is State.ARMED else Flag(0)
        flags |= Flag.WATCHDOG if self._feed_until_ns is not None else Flag(0)
        tick = self._clock.tick(now_ns)
        fields = (self._state, self._cause, flags, len(self._queue), self._boot, self._delivered, tick)
        return Result.OK, protocol.Status(*fields).pack()

    def _reset(self, payload: bytes, now_ns: int) -> tuple[Result, bytes]:
        self._clear()
        return self._status(payload, now_ns)

    def _set_limits(self, payload: bytes, now_ns: int) -> tuple[Result, bytes]:
        if self._state is not State.OFF:
            return Result.NOT_NOW, b""
        wanted = Limits.unpack(payload)
        if (
            wanted.current_ua > MOST_CURRENT_UA
            or wanted.width_us > MOST_WIDTH_US
            or wanted.compliance_v > MOST_COMPLIANCE_V
        ):
            return Result.VALUE, b""
        self._limits = wanted
        return self._get_limits(b"", now_ns)

    def _get_limits(self, _payload: bytes, _now_ns: int) -> tuple[Result, bytes]:
        return Result.OK, self._limits.pack()

    def _arm(self, payload: bytes, now_ns: int) -> tuple[Result, bytes]:
        if self._state is not State.OFF or 0 in protocol.values(self._limits):
            return Result.NOT_NOW, b""
        if self._feed_until_ns is None:
            return Result.NOT_FED, b""
        self._state = State.ARMED
        self._relay = True
        return self._status(payload, now_ns)

    def _disarm(self, payload: bytes, now_ns: int) -> tuple[Result, bytes]:
        self._queue.clear()
        if self._state is State.ARMED:
            self._state = State.OFF
        self._open_relay()
        return self._status(payload, now_ns)

    def _feed(self, payload: bytes, now_ns: int) -> tuple[Result, bytes]:
        (timeout_ms,) = protocol.FEED_MS.unpack(payload)
        if not 1 <= timeout_ms <= protocol.MAX_FEED_MS:
            return Result.VALUE, b""
        tick = self._clock.tick(now_ns)
        if self._state is not State.LATCHED:
            self._feed_until_ns = self._clock.host_ns(tick + timeout_ms * 1000 * TICKS_PER_US)
        return Result.OK, protocol.Fed(timeout_ms, self._state, self._cause, self._boot, tick).pack()

    def _pulse(self, payload: bytes, now_ns: int) -> tuple[Result, bytes]:
        pulse = Pulse.unpack(payload)
        tick = self._clock.tick(now_ns)
        begin = max(pulse.tick, tick + LEAD_TICKS)
        result = self._judge(pulse, tick, begin)
        if result is not Result.OK:
            return result, b""
        taken = replace(pulse, tick=begin)
        self._queue.append(taken)
        self._last_seq = pulse.seq
        self._last_tick = begin
        self._recent.append((begin, pulse.current_ua * pulse.width_us))
        echo = self._fault(Fault.ECHO)
        return Result.OK, replace(taken, current_ua=pulse.current_ua * _percent(echo) // 100).pack()

    def _judge(self, pulse: Pulse, tick: int, begin: int) -> Result:
        """Why a pulse is refused; OK when it is not."""
        while self._recent and self._recent[0][0] <= begin - MEAN_TICKS:
            self._recent.popleft()
        charge = pulse.current_ua * pulse.width_us + sum(charge for _, charge in self._recent)
        last = self._last_tick
        against = {
            Result.NOT_NOW: self._state is not State.ARMED,
            Result.VALUE: not pulse.current_ua or not pulse.width_us or pulse.current_ua % STEP_UA != 0,
            Result.REPEATED: pulse.seq <= self._last_seq,
            Result.CURRENT: pulse.current_ua > self._limits.current_ua,
            Result.WIDTH: pulse.width_us > self._limits.width_us,
            Result.FAR: begin - tick > protocol.MAX_AHEAD_US * TICKS_PER_US,
            Result.LATE: pulse.tick != 0 and tick - pulse.tick > protocol.MAX_PAST_US * TICKS_PER_US,
            Result.FULL: len(self._queue) >= protocol.MAX_QUEUED,
            Result.INTERVAL: last is not None and begin - last < self._limits.interval_us * TICKS_PER_US,
            Result.MEAN: charge > self._limits.mean_ua * protocol.MEAN_WINDOW_US,
        }
        return next((result for result, holds in against.items() if holds), Result.OK)

    def _measure_load(self, _payload: bytes, _now_ns: int) -> tuple[Result, bytes]:
        if self._state is State.LATCHED or self._queue:
            return Result.NOT_NOW, b""
        return Result.OK, protocol.OHM.pack(self._present_load_ohm())

    def _latch_clock(self, _payload: bytes, now_ns: int) -> tuple[Result, bytes]:
        return Result.OK, protocol.TICK.pack(self._clock.tick(now_ns))

    _ROWS: ClassVar[dict[int, _Row]] = {
        Kind.INFO: _Row(_info),
        Kind.STATUS: _Row(_status),
        Kind.RESET: _Row(_reset),
        Kind.SET_LIMITS: _Row(_set_limits, Limits.LAYOUT.size),
        Kind.GET_LIMITS: _Row(_get_limits),
        Kind.ARM: _Row(_arm),
        Kind.DISARM: _Row(_disarm),
        Kind.FEED: _Row(_feed, protocol.FEED_MS.size),
        Kind.PULSE: _Row(_pulse, Pulse.LAYOUT.size),
        Kind.MEASURE_LOAD: _Row(_measure_load),
        Kind.LATCH_CLOCK: _Row(_latch_clock),
    }


def make_model(options: Mapping[str, Any], now_ns: int, boot: int = 1) -> Ncs1Model:
    """The model for checked options; ValueError for a bad fault."""
    return Ncs1Model(
        serial=options["serial"],
        faults=options["faults"],
        drift_ppm=options["drift_ppm"],
        load_ohm=options["load_ohm"],
        boot=boot,
        now_ns=now_ns,
    )


def _percent(fault: StimulatorFault | None) -> int:
    return 100 if fault is None else fault.number


def _ignore(*_told: object) -> None:
    """Nobody wants to know."""


def _take_none(_data: bytes) -> int:
    return 0
