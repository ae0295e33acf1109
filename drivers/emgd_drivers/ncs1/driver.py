"""The `ncs1` driver of the configuration: emgd's reference stimulator on a serial port (docs/devices/ncs1.md)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from emgd_drivers.api import DeviceError, DeviceRefusedError
from emgd_drivers.fields import Field
from emgd_drivers.ncs1 import protocol
from emgd_drivers.ncs1.clock import ContradictionError, TickClock
from emgd_drivers.ncs1.protocol import Ability, Cause, Flag, Kind, Message, Result, State
from emgd_drivers.prompt_port import PromptPort, Wire
from emgd_drivers.serial_port import find_port
from emgd_drivers.stimulator import (
    MOST_BLOCKING_S,
    Delivered,
    DeviceLimits,
    News,
    Stimulator,
    StimulatorError,
    StimulatorInfo,
    Trouble,
)

FIELDS: Final = (
    Field("port", Path, "serial port; default: the only ncs1 that is connected", None),
    Field("serial", str, "serial number; default: the only one that is connected", None, 1, 32),
)

HOTPLUG: Final = ("tty",)

ARM_PROBES: Final = 8
"""LATCH_CLOCK at arm: one of so many is answered at once even on a busy machine."""

BOOT_S: Final = 1.0
"""A device that has just started answers after 50 ms."""

LOAD_S: Final = 0.02
"""A measurement of the load takes this long, on top of the answer."""

MOST_SEQ: Final = 2**32 - 1
MAX_READS: Final = 64
"""`poll` takes no more than this many pieces: whoever sends without end shall not hold its caller."""

RESULTS: Final = frozenset(Result)
NS_PER_S: Final = 1_000_000_000
TICKS_PER_US: Final = protocol.TICK_HZ // 1_000_000


_Kind = TypeVar("_Kind", bound=protocol.Payload)


class Ncs1Stimulator(Stimulator):
    """An opened ncs1. Opening asks what it is and changes nothing.

    `answer_s` is how long an answer is waited for; more than MOST_BLOCKING_S is for tests on machines that stall.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        driver: str = "ncs1",
        serial: str | None = None,
        simulated: bool = False,
        answer_s: float = MOST_BLOCKING_S,
    ) -> None:
        self._wire = wire
        self._driver = driver
        self._simulated = simulated
        self._answer_ns = round(answer_s * NS_PER_S)
        self._name = f"{driver} {serial or ''}".strip()
        self._seq = 0
        self._clock = TickClock(protocol.TICK_HZ)
        self._begin_anew()
        self._device = self._hello()
        if serial is not None and self._device.serial != serial:
            raise DeviceError(f"{self._name}: the device there is {self._device.serial}; look at port and serial")
        self._name = f"{driver} {self._device.serial}"

    def _begin_anew(self) -> None:
        """Forget what was said and heard."""
        self._decoder = protocol.Decoder()
        self._news: list[News] = []
        self._event_seq: int | None = None
        self._armed = False
        self._stopped = False

    def __str__(self) -> str:
        return self._name

    @property
    def info(self) -> StimulatorInfo:
        """What it is."""
        device = self._device
        abilities = Ability(device.abilities)
        return StimulatorInfo(
            driver=self._driver,
            serial=device.serial,
            firmware=device.firmware,
            most_current_ua=device.most_current_ua,
            most_width_us=device.most_width_us,
            most_compliance_v=device.most_compliance_v,
            current_step_ua=device.current_step_ua,
            isolated=Ability.ISOLATED in abilities,
            simulated=self._simulated,
            has_watchdog=True,
            has_stop=True,
            has_trigger=Ability.TRIGGER in abilities,
            measures_load=Ability.MEASURES_LOAD in abilities,
            reads_back=Ability.READS_BACK in abilities,
            most_ahead_us=protocol.MAX_AHEAD_US,
        )

    def fileno(self) -> int:
        """Readable when `poll` may have news."""
        return self._wire.fileno()

    def reset(self) -> None:
        """Output off, limits 0, watchdog expired, and verified to be so."""
        self._wire.revive()
        for _ in range(MAX_READS):
            if not self._wire.receive(self._wire.now_ns(), "reset"):
                break
        self._begin_anew()
        self._clock.forget()
        self._device = self._hello()
        status = protocol.Status.unpack(self._ask(Kind.RESET))
        clean = (status.state, status.cause, status.flags, status.queued) == (State.OFF, Cause.NONE, 0, 0)
        if not clean:
            raise StimulatorError(f"{self} is not off after a reset: {_shown(status)}; switch it off")
        limits = self._read_limits()
        if limits != protocol.Limits():
            raise StimulatorError(f"{self} has limits after a reset: {limits}; switch it off")
        self._probe()

    def set_limits(self, limits: DeviceLimits) -> DeviceLimits:
        """Set the device's registers; returns them as read back. DeviceRefusedError for more than it can do."""
        wanted = protocol.Limits(
            limits.current_ua, limits.width_us, limits.compliance_v, limits.interval_us, limits.mean_ua
        )
        echo = self._unpack(protocol.Limits, self._ask(Kind.SET_LIMITS, wanted.pack()))
        kept = self._read_limits()
        for said in (echo, kept):
            if said != wanted:
                raise StimulatorError(f"{self} has other limits than set: {said}, not {wanted}; switch it off")
        return DeviceLimits(*protocol.values(kept))

    def measure_load(self) -> int:
        """Resistance between the electrodes in ohm, 0 when open."""
        return self._number(protocol.OHM, Kind.MEASURE_LOAD, extra_s=LOAD_S)

    def feed(self, timeout_ms: int) -> None:
        """Feed its watchdog, see that it is still what it was, and probe its clock."""
        before_ns = self._wire.now_ns()
        fed = self._unpack(protocol.Fed, self._ask(Kind.FEED, protocol.FEED_MS.pack(timeout_ms)))
        if fed.timeout_ms != timeout_ms:
            raise StimulatorError(f"{self} took a time-out of {fed.timeout_ms} ms, not {timeout_ms} ms; stop it")
        self._check_state(fed.state, fed.cause, fed.boot)
        self._observe(before_ns, fed.tick)

    def arm(self) -> None:
        """Enable its output."""
        for _ in range(ARM_PROBES):
            self._probe()
        status = self._unpack(protocol.Status, self._ask(Kind.ARM))
        self._armed = True
        self._check_state(status.state, status.cause, status.boot)
        if status.flags != Flag.RELAY | Flag.HIGH_VOLTAGE | Flag.WATCHDOG:
            raise StimulatorError(f"{self} is armed by halves: {_shown(status)}; stop it")

    def disarm(self) -> None:
        """Disable its output, and see that its relay has opened."""
        self._armed = False
        status = self._unpack(protocol.Status, self._ask(Kind.DISARM))
        if status.state == State.ARMED or status.queued or status.flags & (Flag.RELAY | Flag.HIGH_VOLTAGE):
            raise StimulatorError(f"{self} is not off after a disarm: {_shown(status)}; pull its electrodes")
        if status.boot != self._device.boot:
            self._restarted(status.boot)

    def pulse(self, seq: int, at_ns: int, current_ua: int, width_us: int) -> None:
        """One pulse. It always carries its tick: what is held up on the way is refused instead of given late."""
        if not 0 <= seq <= MOST_SEQ:
            raise DeviceRefusedError(f"{self}: a pulse cannot have number {seq}; choose 0 to {MOST_SEQ}")
        if not self._clock.known:
            raise DeviceRefusedError(f"{self} was never reset; reset it first")
        tick = self._clock.tick(max(at_ns, self._wire.now_ns()))
        wanted = protocol.Pulse(seq, tick, current_ua, width_us)
        echo = self._unpack(protocol.Pulse, self._ask(Kind.PULSE, wanted.pack()))
        same = (echo.seq, echo.current_ua, echo.width_us) == (seq, current_ua, width_us)
        late_us = (echo.tick - tick) // TICKS_PER_US
        if not same or not 0 <= late_us <= protocol.MAX_PAST_US:
            raise StimulatorError(f"{self} echoed another pulse: {echo}, not {wanted}; stop it")

    def poll(self) -> list[News]:
        """What the device said since."""
        for _ in range(MAX_READS):
            data = self._wire.receive(self._wire.now_ns(), "listening")
            if not data:
                break
            self._hear(data)
        news, self._news = self._news, []
        return news

    def stop(self) -> None:
        """STOP on the data line, and DTR low on another one; no answer is waited for."""
        self._armed = False
        self._stopped = True
        self._wire.abort(protocol.STOP)

    def close(self) -> None:
        """Let go of the device, its output disabled."""
        self._wire.abort(protocol.STOP)
        self._wire.close()

    # Asking.

    def _hello(self) -> protocol.Info:
        """INFO, asked again while the device starts. DeviceError when it is no ncs1 of this protocol."""
        give_up_ns = self._wire.now_ns() + round(BOOT_S * NS_PER_S)
        while True:
            try:
                self._wire.send(protocol.END, give_up_ns, "hello")
                info = self._unpack(protocol.Info, self._ask(Kind.INFO))
                break
            except StimulatorError as error:
                if self._wire.now_ns() >= give_up_ns:
                    raise StimulatorError(f"{error}; is it an ncs1?") from None
        if info.protocol != protocol.PROTOCOL:
            raise DeviceError(
                f"{self}: the device speaks protocol 0x{info.protocol:04x}, emgd speaks 0x{protocol.PROTOCOL:04x}; "
                "update the one that is older"
            )
        if info.tick_hz != protocol.TICK_HZ:
            raise DeviceError(f"{self}: its clock has {info.tick_hz} Hz, not {protocol.TICK_HZ}; update its firmware")
        return info

    def _ask(self, kind: Kind, payload: bytes = b"", *, extra_s: float = 0.0) -> bytes:
        """A request and its answer without the result. DeviceRefusedError when the device says no."""
        self._seq = (self._seq + 1) & 0xFFFF
        until_ns = self._wire.now_ns() + self._answer_ns + round(extra_s * NS_PER_S)
        self._wire.send(protocol.encode(Message(kind, self._seq, payload)), until_ns, kind.name)
        answer: Message | None = None
        while answer is None:
            if self._wire.now_ns() > until_ns:
                raise StimulatorError(f"{self} gave no answer to {kind.name} in time; stop it")
            answer = self._hear(self._wire.receive(until_ns, kind.name), kind)
        if not answer.payload or answer.payload[0] not in RESULTS:
            raise StimulatorError(f"{self} gave an answer to {kind.name} without meaning; stop it")
        result = Result(answer.payload[0])
        if result is not Result.OK:
            raise DeviceRefusedError(f"{self} refused {kind.name}: {protocol.RESULT_TEXTS[result]}")
        return answer.payload[1:]

    def _hear(self, data: bytes, kind: Kind | None = None) -> Message | None:
        """Take in bytes; the answer to the last request, which was of this kind, when it is among them."""
        answer = None
        for message in self._decoder.feed(data):
            if message.kind in protocol.EVENTS:
                self._note(message)
            elif kind is not None and (message.kind, message.seq) == (kind | protocol.ANSWER, self._seq):
                answer = message
            # Else a late answer: whoever asked has given up.
        return answer

    def _read_limits(self) -> protocol.Limits:
        return self._unpack(protocol.Limits, self._ask(Kind.GET_LIMITS))

    def _number(self, layout: Any, kind: Kind, *, extra_s: float = 0.0) -> int:
        """An answer that is one number."""
        payload = self._ask(kind, extra_s=extra_s)
        if len(payload) != layout.size:
            raise StimulatorError(f"{self} gave an answer to {kind.name} of {len(payload)} bytes; stop it")
        (number,) = layout.unpack(payload)
        return int(number)

    def _unpack(self, kind: type[_Kind], payload: bytes) -> _Kind:
        try:
            return kind.unpack(payload)
        except protocol.ProtocolError as error:
            raise StimulatorError(f"{self} says what cannot be: {error}; stop it") from None

    # What it says by itself.

    def _note(self, message: Message) -> None:
        """An event becomes news. Before the first reset it would be news of what another host did."""
        if not self._clock.known:
            return
        expected, self._event_seq = self._event_seq, (message.seq + 1) & 0xFFFF
        if expected is not None and message.seq != expected and message.kind != Kind.STARTED:
            self._news.append(Trouble("lost_report", f"{self}: a report was lost on the way"))
        if message.kind == Kind.DELIVERED:
            self._news.append(self._delivered(self._unpack(protocol.Delivered, message.payload)))
            return
        self._armed = False
        if message.kind == Kind.STARTED:
            started = self._unpack(protocol.Started, message.payload)
            why = protocol.CAUSE_TEXTS[Cause(started.cause)]
            self._news.append(Trouble("restart", f"{self} has restarted, its limits are gone: {why}"))
            return
        cause = Cause(self._unpack(protocol.Trouble, message.payload).cause)
        if not (self._stopped and cause in (Cause.STOP, Cause.HOST_GONE)):
            self._news.append(Trouble(cause.name.lower(), f"{self} has disabled its output: {_why(cause)}"))

    def _delivered(self, said: protocol.Delivered) -> Delivered:
        at_ns = self._clock.host_ns(said.tick)
        return Delivered(
            seq=said.seq,
            at_ns=at_ns,
            sigma_ns=self._clock.sigma_ns(at_ns),
            current_ua=said.current_ua,
            width_us=said.width_us,
            load_ohm=said.load_ohm,
            dc_ua=said.dc_ua,
            limited=bool(said.limited),
        )

    def _check_state(self, state: int, cause: int, boot: int) -> None:
        """Is it still what it was? StimulatorError."""
        if boot != self._device.boot:
            self._restarted(boot)
        if (state == State.ARMED) != self._armed:
            was = "armed" if self._armed else "disarmed"
            self._armed = False
            raise StimulatorError(
                f"{self} was {was} and says that it is {State(state).name.lower()}: {_why(Cause(cause))}; stop it"
            )

    def _restarted(self, boot: int) -> None:
        raise StimulatorError(f"{self} has restarted (start {boot}, was {self._device.boot}); reset it")

    # Its clock.

    def _probe(self) -> None:
        """LATCH_CLOCK once."""
        before_ns = self._wire.now_ns()
        self._observe(before_ns, self._number(protocol.TICK, Kind.LATCH_CLOCK))

    def _observe(self, before_ns: int, tick: int) -> None:
        try:
            self._clock.probe(before_ns, tick, self._wire.now_ns())
        except ContradictionError as error:
            raise StimulatorError(f"{self}: {error}; reset it") from None


def open_stimulator(options: Mapping[str, Any]) -> Stimulator:
    """Open the stimulator that the options name; DeviceError in one line when that cannot be."""
    path, serial = options["port"], options["serial"]
    if path is None:
        path, found = find_port(protocol.VENDOR, protocol.PRODUCT, serial, "ncs1")
        serial = serial or found or None
    port = PromptPort(str(path), protocol.BAUD, f"ncs1 {serial or path}")
    try:
        return Ncs1Stimulator(port, serial=serial)
    except BaseException:
        port.close()
        raise


def _why(cause: Cause) -> str:
    return protocol.CAUSE_TEXTS[cause]


def _shown(status: protocol.Status) -> str:
    """A status for people."""
    flags = [flag.name.lower().replace("_", " ") for flag in Flag if status.flags & flag and flag.name]
    return f"{State(status.state).name.lower()}, {', '.join(flags) or 'all off'}, {status.queued} pulses wait"
