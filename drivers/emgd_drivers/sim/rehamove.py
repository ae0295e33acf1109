"""The byte-level model of a RehaMove3, as far as emgd uses it: single pulses of the low level.

It does what the published protocol says, with its lacks: no watchdog, no limits, and a host that goes changes nothing.
What the protocol does not say is chosen so that a driver cannot lean on it: the high voltage takes a while, and the
answer to a pulse comes when the pulse is over.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

from emgd_drivers.fields import Field
from emgd_drivers.rehamove import protocol
from emgd_drivers.rehamove.protocol import Command, Packet, Point, StimStatus
from emgd_drivers.sim.serial_model import SendBytes
from emgd_drivers.sim.serial_output import SerialOutput
from emgd_drivers.sim.stimulator_faults import StimulatorFault, parse_stimulator_faults
from emgd_drivers.sim.stimulator_faults import StimulatorFaultKind as Fault
from emgd_drivers.sim.stimulator_model import Given, GivePulse, Trigger

SERIAL: Final = "RM3-SIM001"
LOAD_OHM: Final = 2000
OUTPUT_BYTES: Final = 4096
ANSWER_NS: Final = 300_000
HV_NS: Final = 20_000_000
BOOT_NS: Final = 500_000_000

ELECTRODE_UA: Final = 15_000
"""From this current on an electrode error is detected."""

RESULT_PARAMETER: Final = 2
RESULT_NOT_INITIALIZED: Final = 7
RESULT_ELECTRODE: Final = 10
RESULT_LOW_CURRENT: Final = 28
HV_OFF: Final = 1
MICROVOLTS: Final = 1_000_000

KNOWN_FAULTS: Final = (
    Fault.MUTE,
    Fault.DEAF,
    Fault.SLOW,
    Fault.CURRENT,
    Fault.WIDTH,
    Fault.STUCK_RELAY,
    Fault.OPEN,
    Fault.LOAD,
    Fault.RESTART,
    Fault.UNPLUG,
)
"""Of sim/stimulator_faults.py; a stuck relay is a high voltage that stays on."""

FIELDS: Final = (
    Field("serial", str, "device number", SERIAL, 1, protocol.ID_BYTES),
    Field("load_ohm", int, "between the electrodes", LOAD_OHM, 1, 10_000_000),
    Field("faults", list, f"may be given again; KIND[=NUMBER][@PULSES], one of {', '.join(KNOWN_FAULTS)}", (), 0, 100),
)


class RehaMoveModel:
    """A SerialModel: a RehaMove3 that is powered up at `now_ns`."""

    def __init__(
        self, *, serial: str = SERIAL, load_ohm: int = LOAD_OHM, faults: Iterable[str] = (), now_ns: int = 0
    ) -> None:
        self.unplugged = False
        self.on_pulse: GivePulse = _ignore
        self.on_trigger: Trigger = _ignore
        self._serial = serial.encode("ascii").ljust(protocol.ID_BYTES, b"\0")
        self._load_ohm = load_ohm
        self._faults = list(_parsed(faults))
        self._given = 0
        self._present = False
        self._status = StimStatus.UNINITIALIZED
        self._voltage = HV_OFF
        self._awake_ns = now_ns
        self._send: SendBytes = _take_none
        self._decoder = protocol.Decoder()
        self._output = SerialOutput(OUTPUT_BYTES)

    @property
    def blocked(self) -> bool:
        """Does something wait only for the host to take it?"""
        return self._output.blocked

    @property
    def busy(self) -> bool:
        """It never gives a pulse by itself."""
        return False

    def describe(self) -> dict[str, Any]:
        """What it is doing."""
        volts = protocol.VOLTAGES_V[self._voltage]
        return {"state": self._status.name.lower(), "volts": volts, "host": self._present, "delivered": self._given}

    def connect(self, send: SendBytes) -> None:
        """Hand bytes to `send` from now on."""
        self._send = send
        self._output.connect(send)

    def host(self, present: bool, now_ns: int) -> None:
        """A host that goes changes nothing but who listens."""
        self.run(now_ns)
        if self._present is not present:
            self._output = SerialOutput(OUTPUT_BYTES)
            self._output.connect(self._send)
        self._present = present

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the host, cut anywhere."""
        self.run(now_ns)
        if self.unplugged or self._fault(Fault.DEAF) is not None or now_ns < self._awake_ns:
            return
        for packet in self._decoder.feed(data):
            self._answer(packet, now_ns)
        self._output.drain(now_ns)

    def run(self, now_ns: int) -> None:
        """Let time pass."""
        if not self.unplugged:
            self._output.drain(now_ns)

    def next_event_ns(self) -> int | None:
        """When to call `run` next."""
        return None if self.unplugged else self._output.next_ns()

    def add_fault(self, text: str, now_ns: int) -> None:
        """One more thing is wrong from now on; ValueError for one that this device cannot have."""
        self.run(now_ns)
        self._faults += _parsed([text])
        self._happen(now_ns)

    def clear_faults(self, now_ns: int) -> None:
        """All is well again."""
        self.run(now_ns)
        self._faults.clear()

    def _fault(self, kind: Fault) -> StimulatorFault | None:
        begun = [fault for fault in self._faults if fault.kind is kind and fault.after <= self._given]
        return begun[-1] if begun else None

    def _happen(self, now_ns: int) -> None:
        for kind in (Fault.UNPLUG, Fault.RESTART):
            fault = self._fault(kind)
            if fault is not None:
                self._faults.remove(fault)
                self._switch_off()
                self.unplugged = kind is Fault.UNPLUG
                self._awake_ns = now_ns + BOOT_NS

    def _switch_off(self) -> None:
        if self._fault(Fault.STUCK_RELAY) is None:
            self._status = StimStatus.UNINITIALIZED
            self._voltage = HV_OFF

    def _answer(self, packet: Packet, now_ns: int) -> None:
        handler = self._HANDLERS.get(packet.command)
        if handler is None:
            self._say(Packet(Command.UNKNOWN_COMMAND, packet.number), now_ns)
            return
        data, took_ns = handler(self, packet, now_ns)
        slow = self._fault(Fault.SLOW)
        late_ns = slow.number * 1_000_000 if slow else 0
        self._say(Packet(packet.command + 1, packet.number, data), now_ns + took_ns + late_ns)
        self._happen(now_ns)

    def _say(self, packet: Packet, ready_ns: int) -> None:
        if self._present and self._fault(Fault.MUTE) is None:
            self._output.answer(protocol.encode(packet), ready_ns + ANSWER_NS)

    # What commands do: -> data of the answer and how long it took (ns).

    def _ll_init(self, packet: Packet, _now_ns: int) -> tuple[bytes, int]:
        code = packet.data[0] >> 1 & 7 if len(packet.data) == 1 else 0
        if code not in protocol.VOLTAGES_V:
            return bytes([RESULT_PARAMETER]), 0
        self._status = StimStatus.LOW_LEVEL
        self._voltage = code
        return bytes([protocol.OK]), HV_NS

    def _ll_stop(self, _packet: Packet, _now_ns: int) -> tuple[bytes, int]:
        self._switch_off()
        return bytes([protocol.OK]), HV_NS

    def _ll_channel_config(self, packet: Packet, now_ns: int) -> tuple[bytes, int]:
        found = protocol.points_of(packet.data)
        where = bytes([(found[1] << 4 | found[0]) if found else 0, 0])
        if found is None or any(abs(point.current_ua) > protocol.MOST_CURRENT_UA for point in found[2]):
            return bytes([RESULT_PARAMETER]) + where, 0
        if self._status is not StimStatus.LOW_LEVEL:
            return bytes([RESULT_NOT_INITIALIZED]) + where, 0
        if not found[2]:
            return bytes([protocol.OK]) + where, 0
        result = self._pulse(found[2], packet.number, now_ns)
        return bytes([result]) + where, sum(point.width_us for point in found[2]) * 1000

    def _pulse(self, points: list[Point], number: int, now_ns: int) -> int:
        """A pulse goes through the electrodes; its result. What is told of it is its first phase."""
        asked = points[0]
        load = self._fault(Fault.LOAD)
        load_ohm = 0 if self._fault(Fault.OPEN) else load.number if load else self._load_ohm
        most_ua = protocol.VOLTAGES_V[self._voltage] * MICROVOLTS // load_ohm if load_ohm else 0
        wanted_ua = asked.current_ua * _percent(self._fault(Fault.CURRENT)) // 100
        width_us = max(asked.width_us, protocol.LEAST_WIDTH_US) * _percent(self._fault(Fault.WIDTH)) // 100
        self.on_pulse(Given(now_ns, number, min(wanted_ua, most_ua), width_us, load_ohm))
        self._given += 1
        if load_ohm == 0 and asked.current_ua >= ELECTRODE_UA:
            return RESULT_ELECTRODE
        return RESULT_LOW_CURRENT if most_ua < wanted_ua else protocol.OK

    def _get_version(self, _packet: Packet, _now_ns: int) -> tuple[bytes, int]:
        return bytes([protocol.OK, 3, 2, 4, 3, 2, 0]), 0

    def _get_device_id(self, _packet: Packet, _now_ns: int) -> tuple[bytes, int]:
        return bytes([protocol.OK]) + self._serial, 0

    def _get_stim_status(self, _packet: Packet, _now_ns: int) -> tuple[bytes, int]:
        return bytes([protocol.OK, self._status, self._voltage]), 0

    _HANDLERS: ClassVar[dict[int, Callable[[Any, Packet, int], tuple[bytes, int]]]] = {
        Command.LL_INIT: _ll_init,
        Command.LL_CHANNEL_CONFIG: _ll_channel_config,
        Command.LL_STOP: _ll_stop,
        Command.GET_VERSION_MAIN: _get_version,
        Command.GET_DEVICE_ID: _get_device_id,
        Command.GET_STIM_STATUS: _get_stim_status,
    }


def make_model(options: Mapping[str, Any], now_ns: int, _boot: int = 1) -> RehaMoveModel:
    """The model for checked options; ValueError for a bad fault."""
    return RehaMoveModel(
        serial=options["serial"], load_ohm=options["load_ohm"], faults=options["faults"], now_ns=now_ns
    )


def _parsed(texts: Iterable[str]) -> tuple[StimulatorFault, ...]:
    faults = parse_stimulator_faults(texts)
    for fault in faults:
        if fault.kind not in KNOWN_FAULTS:
            allowed = ", ".join(KNOWN_FAULTS)
            raise ValueError(f"fault {fault.kind!s} is not one of a RehaMove3; choose one of {allowed}")
    return faults


def _percent(fault: StimulatorFault | None) -> int:
    return 100 if fault is None else fault.number


def _ignore(*_told: object) -> None:
    """Nobody wants to know."""


def _take_none(_data: bytes) -> int:
    return 0
