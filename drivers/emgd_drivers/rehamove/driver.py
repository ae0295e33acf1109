"""The `rehamove3` driver of the configuration: a RehaMove3 or P24, single pulses of its low level.

It has no watchdog, no limits, no readback and no emergency stop: docs/devices/rehamove3.md says what that means.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from emgd_drivers.api import DeviceError, DeviceRefusedError
from emgd_drivers.fields import Field
from emgd_drivers.prompt_port import PromptPort, Wire
from emgd_drivers.rehamove import protocol
from emgd_drivers.rehamove.protocol import Command, Packet, StimStatus
from emgd_drivers.stimulator import (
    MOST_BLOCKING_S,
    DeviceLimits,
    News,
    Stimulator,
    StimulatorError,
    StimulatorInfo,
    Trouble,
)

FIELDS: Final = (
    Field("port", Path, "serial port; it is never looked for"),
    Field("serial", str, "device number, checked if given", None, 1, protocol.ID_BYTES),
    Field("channel", str, "output channel", "red", choices=protocol.CHANNELS),
    Field("connector", str, "output connector", "yellow", choices=protocol.CONNECTORS),
)

HOTPLUG: Final = ("tty",)

NS_PER_S: Final = 1_000_000_000

AHEAD_NS: Final = 1_000_000
"""The driver itself waits for a pulse's time as long as this; the device knows no time."""

HV_S: Final = 1.0
"""Switching the high voltage takes a while; nobody publishes how long."""

MAX_READS: Final = 64

NOTES: Final = (
    "no emergency stop: `stop` is a message like any other; keep a hand on the electrode plug",
    "no watchdog: when the host dies no pulse follows, but the high voltage stays on",
    "no limits of its own for current and width: the driver holds them",
    "no readback of what was delivered, no trigger line, no measurement of the load",
    "each pulse is followed by its mirror image, so that no charge remains",
    "written from the published protocol and tried on a model, not on a real device",
    "isolation is not known to emgd: not for use on a person",
)


class RehaMoveStimulator(Stimulator):
    """An opened RehaMove3. Opening asks what it is and changes nothing.

    `answer_s` is how long an answer is waited for; more than MOST_BLOCKING_S is for tests on machines that stall.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        serial: str | None = None,
        channel: int = 0,
        connector: int = 0,
        simulated: bool = False,
        answer_s: float = MOST_BLOCKING_S,
    ) -> None:
        self._wire = wire
        self._channel = channel
        self._connector = connector
        self._simulated = simulated
        self._answer_ns = round(answer_s * NS_PER_S)
        self._name = f"rehamove3 {serial or ''}".strip()
        self._number = 0
        self._begin_anew()
        self._line_up()
        self._firmware = ".".join(map(str, self._ask(Command.GET_VERSION_MAIN, size=protocol.VERSION_BYTES)[:3]))
        said = self._ask(Command.GET_DEVICE_ID, size=protocol.ID_BYTES)
        self._serial = said.rstrip(b"\0 ").decode("ascii", "replace") or "unnamed"
        if serial is not None and serial != self._serial:
            raise DeviceError(f"{self._name}: the device there is {self._serial}; look at port and serial")
        self._name = f"rehamove3 {self._serial}"

    def _begin_anew(self) -> None:
        self._decoder = protocol.Decoder()
        self._news: list[News] = []
        self._limits = DeviceLimits(0, 0, 0)
        self._armed = False
        self._stopped = False

    def __str__(self) -> str:
        return self._name

    @property
    def info(self) -> StimulatorInfo:
        """What it is."""
        return StimulatorInfo(
            driver="rehamove3",
            serial=self._serial,
            firmware=self._firmware,
            most_current_ua=protocol.MOST_CURRENT_UA,
            most_width_us=protocol.MOST_WIDTH_US,
            most_compliance_v=max(protocol.VOLTAGES_V.values()),
            current_step_ua=protocol.STEP_UA,
            simulated=self._simulated,
            notes=NOTES,
        )

    def fileno(self) -> int:
        """Readable when `poll` may have news."""
        return self._wire.fileno()

    def reset(self) -> None:
        """High voltage off, limits at nothing, and its status says so."""
        self._wire.revive()
        for _ in range(MAX_READS):
            if not self._wire.receive(self._wire.now_ns(), "reset"):
                break
        self._begin_anew()
        self._line_up()
        self._off()

    def set_limits(self, limits: DeviceLimits) -> DeviceLimits:
        """Keep the limits here, for the device has none; its voltage comes in steps of 30 V."""
        most = self.info
        if limits.current_ua > most.most_current_ua or limits.width_us > most.most_width_us:
            raise DeviceRefusedError(
                f"{self}: no limits of {limits.current_ua} uA and {limits.width_us} us; "
                f"choose up to {most.most_current_ua} uA and {most.most_width_us} us"
            )
        if self._armed:
            raise DeviceRefusedError(f"{self}: no new limits while it is armed; disarm it first")
        volts = protocol.VOLTAGES_V[protocol.voltage_code(limits.compliance_v)]
        self._limits = DeviceLimits(limits.current_ua, limits.width_us, volts, limits.interval_us, limits.mean_ua)
        return self._limits

    def measure_load(self) -> int:
        """It cannot."""
        raise DeviceRefusedError(f"{self} cannot measure the load; say it from another measurement")

    def feed(self, timeout_ms: int) -> None:
        """It has no watchdog to feed; but is it still what it was?"""
        if timeout_ms <= 0:
            raise DeviceRefusedError(f"{self}: no time-out of {timeout_ms} ms; choose 1 or more")
        self._check_status(self._status())

    def arm(self) -> None:
        """High voltage on."""
        limits = self._limits
        if 0 in (limits.current_ua, limits.width_us, limits.compliance_v) or self._stopped:
            raise DeviceRefusedError(f"{self} has no limits; reset it and set them first")
        self._ask(Command.LL_INIT, protocol.init_data(protocol.voltage_code(limits.compliance_v)), extra_s=HV_S)
        self._armed = True
        self._check_status(self._status())

    def disarm(self) -> None:
        """High voltage off."""
        self._armed = False
        self._off()

    def pulse(self, seq: int, at_ns: int, current_ua: int, width_us: int) -> None:
        """One pulse and its mirror image, at once: a time more than AHEAD_NS ahead is refused."""
        self._check_pulse(current_ua, width_us)
        if at_ns > self._wire.now_ns() + AHEAD_NS:
            raise DeviceRefusedError(f"{self} knows no time: ask for pulse {seq} when it is due")
        while self._wire.now_ns() < at_ns:
            self._hear(self._wire.receive(at_ns, "waiting for a pulse's time"))
        where = self._connector << 4 | self._channel
        data = protocol.pulse_data(self._channel, self._connector, protocol.balanced(current_ua, width_us))
        answer = self._ask(Command.LL_CHANNEL_CONFIG, data, number=seq % protocol.NUMBERS, size=2)
        if answer[0] != where:
            raise StimulatorError(f"{self} echoed another channel ({answer[0]:#04x}, not {where:#04x}); stop it")

    def poll(self) -> list[News]:
        """What the device said since: troubles only."""
        for _ in range(MAX_READS):
            data = self._wire.receive(self._wire.now_ns(), "listening")
            if not data:
                break
            self._hear(data)
        news, self._news = self._news, []
        return news

    def stop(self) -> None:
        """Ll_Stop, without waiting for an answer; there is no better stop."""
        self._armed = False
        self._stopped = True
        self._wire.abort(protocol.STOP)

    def close(self) -> None:
        """Let go of the device, its high voltage off."""
        self._wire.abort(protocol.STOP)
        self._wire.close()

    def _check_pulse(self, current_ua: int, width_us: int) -> None:
        """The limits that the device lacks."""
        if not self._armed:
            raise DeviceRefusedError(f"{self} is not armed")
        limits = self._limits
        if not 0 < current_ua <= limits.current_ua or current_ua % protocol.STEP_UA:
            allowed = f"up to {limits.current_ua} uA in steps of {protocol.STEP_UA} uA"
            raise DeviceRefusedError(f"{self}: no current of {current_ua} uA; choose {allowed}")
        if not protocol.LEAST_WIDTH_US <= width_us <= limits.width_us:
            allowed = f"{protocol.LEAST_WIDTH_US} to {limits.width_us} us"
            raise DeviceRefusedError(f"{self}: no width of {width_us} us; choose {allowed}")

    def _line_up(self) -> None:
        """End what another host left unfinished on the line."""
        self._wire.send(bytes([protocol.END] * 2), self._wire.now_ns() + self._answer_ns, "hello")

    def _off(self) -> None:
        self._ask(Command.LL_STOP, extra_s=HV_S)
        status, _ = self._status()
        if status != StimStatus.UNINITIALIZED:
            raise StimulatorError(f"{self} is not off: its status is {status}; pull its electrodes")

    def _status(self) -> tuple[int, int]:
        """Status and code of the high voltage."""
        answer = self._ask(Command.GET_STIM_STATUS, size=2)
        return answer[0], answer[1]

    def _check_status(self, said: tuple[int, int]) -> None:
        """Is it still what it was? StimulatorError."""
        status, voltage = said
        wanted = StimStatus.LOW_LEVEL if self._armed else StimStatus.UNINITIALIZED
        code = protocol.voltage_code(self._limits.compliance_v)
        if status != wanted or (self._armed and voltage != code):
            volts = protocol.VOLTAGES_V.get(voltage, 0)
            was = "armed" if self._armed else "disarmed"
            self._armed = False
            raise StimulatorError(f"{self} was {was} and says status {status}, high voltage {volts} V; stop it")

    def _ask(
        self, command: Command, data: bytes = b"", *, size: int = 0, number: int | None = None, extra_s: float = 0.0
    ) -> bytes:
        """A command and its answer without the result, of `size` bytes at least. DeviceRefusedError for a no."""
        self._number = (self._number + 1) % protocol.NUMBERS if number is None else number
        until_ns = self._wire.now_ns() + self._answer_ns + round(extra_s * NS_PER_S)
        self._wire.send(protocol.encode(Packet(command, self._number, data)), until_ns, command.name)
        answer: Packet | None = None
        while answer is None:
            if self._wire.now_ns() > until_ns:
                raise StimulatorError(f"{self} gave no answer to {command.name} in time; stop it")
            answer = self._hear(self._wire.receive(until_ns, command.name), command)
        if not answer.data:
            raise StimulatorError(f"{self} gave an answer to {command.name} without a result; stop it")
        result = answer.data[0]
        if result in protocol.REFUSALS:
            raise DeviceRefusedError(f"{self} refused {command.name}: {protocol.REFUSALS[result]}")
        if result != protocol.OK:
            why = protocol.FAILURES.get(result, f"result {result}")
            raise StimulatorError(f"{self} failed at {command.name}: {why}; stop it")
        if len(answer.data) < 1 + size:
            raise StimulatorError(f"{self} gave an answer to {command.name} of {len(answer.data)} bytes; stop it")
        return answer.data[1:]

    def _hear(self, data: bytes, command: Command | None = None) -> Packet | None:
        """Take in bytes; the answer to the last command, when it is among them."""
        answer = None
        for packet in self._decoder.feed(data):
            if packet.command in (Command.GENERAL_ERROR, Command.UNKNOWN_COMMAND):
                self._armed = False
                name = protocol.command_name(packet.command)
                self._news.append(Trouble(name.lower(), f"{self} says {name}; stop it"))
            elif command is not None and (packet.command, packet.number) == (command + 1, self._number):
                answer = packet
            # Else a late answer: whoever asked has given up.
        return answer


def open_stimulator(options: Mapping[str, Any]) -> Stimulator:
    """Open the stimulator at the port that the options name; DeviceError in one line when that cannot be."""
    serial = options["serial"]
    name = f"rehamove3 {serial or options['port']}"
    port = PromptPort(str(options["port"]), protocol.BAUD, name, stopbits=2, rtscts=True)
    try:
        return RehaMoveStimulator(
            port,
            serial=serial,
            channel=protocol.CHANNELS.index(options["channel"]),
            connector=protocol.CONNECTORS.index(options["connector"]),
        )
    except BaseException:
        port.close()
        raise
