"""A HackEEG shield on an Arduino Due, at byte level: 8 channels at 250 to 16000 Hz, commands as text or JSON lines.

Written after its firmware (starcat-io/hackeeg-driver-arduino 0216037). Not modelled: boot time (it is ready at once),
stacked boards, standby, limits of the SPI link, what the chip says to a register read while it streams: here 0.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, Unpack

from emgd_drivers.fields import Field
from emgd_drivers.sim.ads1299 import CHANNELS, MUX_BITS, MUX_SHORTED, RATES_HZ, Ads1299, Register
from emgd_drivers.sim.serial_amplifier import COMMON_FIELDS, TICK_HZ, Conditions, SerialAmplifierModel, conditions_of
from emgd_drivers.sim.signal import Signal, SyntheticEmg

DRIVER_VERSION: Final = "v0.3.0"
BOARD: Final = {
    "driver_version": DRIVER_VERSION,
    "board_name": "HackEEG",
    "maker_name": "Starcat LLC",
    "hardware_type": "ADS1299",
    "max_channels": CHANNELS,
}

BUFFER_BYTES: Final = 64 * 1024
"""What waits between the board and a host that reads late. The board has two packets; the kernel's tty has this."""

RESET_NS: Final = 1_110_000_000
"""The firmware waits 1.1 s for the chip, then sets it up."""

LINE_BYTES: Final = 1024
"""Longest command; the firmware forgets what is beyond."""

SAMPLE_BYTES: Final = 35
SAMPLE_HEAD: Final = bytes.fromhex("82 a1 43 cc c8 a1 44 c4 23")
"""MessagePack of {"C": 200, "D": 35 bytes}, as far as the bytes."""

TICKS_PER_US: Final = TICK_HZ // 1_000_000

OK: Final = "Ok"
LED_BITS: Final = 0x88
"""GPIO 4 of the chip: direction and level."""

REFERENCE_ON: Final = 0xE0
"""CONFIG3 as the firmware sets it: reference buffer on."""

FIELDS: Final = (
    Field("serial", str, "serial number", "HACKEEG-000001", 1, 32),
    Field("rate_hz", int, "samples per second until the host sets a rate", 250, choices=RATES_HZ),
    *COMMON_FIELDS,
)


class Mode(Enum):
    """How answers and samples are written; in MESSAGEPACK only samples are, answers stay JSON lines."""

    TEXT = auto()
    JSONLINES = auto()
    MESSAGEPACK = auto()


class HackEegModel(SerialAmplifierModel):
    """The board, powered up at `now_ns`. `signal` has 8 channels; a tunable one follows the rate that the host sets.

    A sample that finds no room is lost. With `lost_are_numbered` the sample number goes on nevertheless. The firmware
    of today counts only what it sends: there the number has no gap and `micros` alone tells, as with False.
    """

    def __init__(
        self,
        signal: Signal,
        *,
        serial: str = "HACKEEG-000001",
        buffer_bytes: int = BUFFER_BYTES,
        **conditions: Unpack[Conditions],
    ) -> None:
        super().__init__(Ads1299(signal), serial, buffer_bytes, **conditions)
        self.lost_are_numbered = True
        self.mode = Mode.TEXT
        self.led_on = False
        self._line = bytearray()
        self._base64 = True
        self._converting = True  # The firmware holds the chip's START pin high.
        self._continuous = False
        self._number = 0
        self._commands = self._table()
        self._power_up_rate_hz = RATES_HZ[-1]
        self._set_up_chip()
        self._answer("Ready\r\n", self._busy_until_ns)

    def set_power_up_rate(self, rate_hz: int) -> None:
        """The rate until the host sets one, and after a reset; the chip itself has 250 Hz."""
        self._power_up_rate_hz = rate_hz
        self._set_up_chip()

    def _table(self) -> dict[str, Callable[[Sequence[int], int], None]]:
        """What each command does, given its numbers and the time."""
        return {
            "nop": self._ok,
            "micros": self._micros,
            "version": lambda _numbers, now_ns: self._status(200, DRIVER_VERSION, now_ns),
            "status": self._report,
            "serialnumber": lambda _numbers, now_ns: self._status(501, "Not Implemented", now_ns),
            "text": lambda _numbers, now_ns: self._set_mode(Mode.TEXT, now_ns),
            "jsonlines": lambda _numbers, now_ns: self._set_mode(Mode.JSONLINES, now_ns),
            "messagepack": lambda _numbers, now_ns: self._set_mode(Mode.MESSAGEPACK, now_ns),
            "ledon": lambda _numbers, now_ns: self._led(now_ns, on=True),
            "ledoff": lambda _numbers, now_ns: self._led(now_ns, on=False),
            "boardledon": lambda _numbers, now_ns: self._board_led(now_ns, on=True),
            "boardledoff": lambda _numbers, now_ns: self._board_led(now_ns, on=False),
            "reset": self._reset,
            "start": self._start_command,
            "stop": self._stop_command,
            "rdatac": self._rdatac,
            "sdatac": self._sdatac,
            "rdata": self._rdata,
            "rreg": self._rreg,
            "wreg": self._wreg,
        }

    def _take(self, byte: int, now_ns: int) -> None:
        if byte != ord("\n"):
            if len(self._line) < LINE_BYTES:
                self._line.append(byte)
            return
        line = self._line.decode("latin-1").strip("\r")
        self._line.clear()
        if self.mode is Mode.TEXT:
            self._text_line(line.split(), now_ns)
        else:
            self._json_line(line, now_ns)

    def _text_line(self, words: list[str], now_ns: int) -> None:
        if not words:
            return
        name, *arguments = words
        if name in {"base64", "hex"}:
            self._base64 = name == "base64"
            self._status(
                200, f"{name.capitalize()} mode on - rdata command will respond with {name} encoded data", now_ns
            )
        elif name in {"rreg", "wreg"}:
            self._text_register(name, arguments, now_ns)
        elif name in {"wakeup", "standby", "help"}:
            self._ok((), now_ns)
        elif name in self._commands:
            self._commands[name]((), now_ns)
        else:
            self._answer("406 Error: Unrecognized command.\r\n\r\n", now_ns)

    def _text_register(self, name: str, arguments: list[str], now_ns: int) -> None:
        """`rreg` and `wreg` in text mode; numbers are hexadecimal."""
        wanted = 1 if name == "rreg" else 2
        try:
            numbers = [int(argument, 16) & 0xFF for argument in arguments[:wanted]]
        except ValueError:
            self._answer("402 Error: expected hexidecimal digits.\r\n\r\n", now_ns)  # codespell:ignore
            return
        if len(numbers) < wanted:
            missing = ("403 Error: register", "404 Error: value")[len(numbers)]
            self._answer(f"{missing} argument missing.\r\n\r\n", now_ns)
        elif name == "rreg":
            value = self._read(numbers[0])
            self._answer(f"200 Ok (Read Register {numbers[0]:02X}) \r\n{value:02X}\r\n\r\n", now_ns)
        else:
            self._write(*numbers)
            self._answer(f"200 Ok (Write Register {numbers[0]:02X} {numbers[1]:02X}) \r\n\r\n", now_ns)

    def _json_line(self, line: str, now_ns: int) -> None:
        try:
            command = json.loads(line)
        except ValueError:
            self._status(400, "Bad Request", now_ns)
            return
        name = command.get("COMMAND") if isinstance(command, dict) else None
        action = self._commands.get(name) if isinstance(name, str) else None
        if action is None:
            self._status(406, "Unrecognized command", now_ns)
            return
        parameters = command.get("PARAMETERS")
        given = parameters if isinstance(parameters, list) else []
        numbers = [number & 0xFF if isinstance(number, int) else 0 for number in given]
        action([*numbers, 0, 0][: max(2, len(numbers))], now_ns)

    def _frame(self, _index: int, tick: int, sample: bytes) -> bytes:
        return self._written(self._payload(tick, sample))

    def _sent(self, *, had_room: bool) -> None:
        if had_room or self.lost_are_numbered:
            self._number = (self._number + 1) & 0xFFFFFFFF

    def _payload(self, tick: int, sample: bytes) -> bytes:
        """The 35 bytes of a sample: µs and number little endian, status and channels big endian."""
        micros = (tick // TICKS_PER_US) & 0xFFFFFFFF
        return micros.to_bytes(4, "little") + self._number.to_bytes(4, "little") + self._status_bytes() + sample

    def _status_bytes(self) -> bytes:
        return self.chip.status.to_bytes(3, "big")

    def _written(self, payload: bytes) -> bytes:
        """A sample as the mode has it."""
        if self.mode is Mode.MESSAGEPACK:
            return SAMPLE_HEAD + payload
        if self.mode is Mode.JSONLINES:
            return b'{"C":200,"D":"' + base64.b64encode(payload) + b'"}\n'
        return (base64.b64encode(payload) if self._base64 else payload.hex().upper().encode()) + b"\r\n"

    def _status(self, code: int, text: str, now_ns: int) -> None:
        if self.mode is Mode.TEXT:
            self._answer(f"{code} {text}\r\n", now_ns)
        else:
            self._answer_json({"STATUS_CODE": code, "STATUS_TEXT": text}, now_ns)

    def _answer_json(self, values: Mapping[str, Any], now_ns: int) -> None:
        self._answer(json.dumps(values, separators=(",", ":")) + "\r\n", now_ns)

    def _answer_data(self, data: object, now_ns: int) -> None:
        self._answer_json({"STATUS_CODE": 200, "STATUS_TEXT": OK, "DATA": data}, now_ns)

    def _ok(self, _numbers: Sequence[int], now_ns: int) -> None:
        self._status(200, OK, now_ns)

    def _micros(self, _numbers: Sequence[int], now_ns: int) -> None:
        micros = (self._clock.tick(now_ns) // TICKS_PER_US) & 0xFFFFFFFF
        if self.mode is Mode.TEXT:
            self._answer(f"200 Ok\r\n{micros}\r\n", now_ns)
        else:
            self._answer_data(micros, now_ns)

    def _report(self, _numbers: Sequence[int], now_ns: int) -> None:
        if self.mode is not Mode.TEXT:
            self._answer_data(BOARD | {"active_channels": self._active_channels()}, now_ns)
            return
        names = ("Driver version", "Board name", "Board maker", "Hardware type", "Max channels")
        lines = [f"{name}: {value}" for name, value in zip(names, BOARD.values(), strict=True)]
        lines = ["200 Ok", *lines, f"Number of active channels: {self._active_channels()}", "", ""]
        self._answer("\r\n".join(lines), now_ns)

    def _set_mode(self, mode: Mode, now_ns: int) -> None:
        self.mode = mode
        self._status(200, OK, now_ns)

    def _led(self, now_ns: int, *, on: bool) -> None:
        self.led_on = on
        self._status(200, OK, now_ns)

    def _board_led(self, now_ns: int, *, on: bool) -> None:
        rest = self._read(Register.GPIO) & ~LED_BITS
        self._write(Register.GPIO, rest | (0x80 if on else 0))
        self._status(200, OK, now_ns)

    def _reset(self, _numbers: Sequence[int], now_ns: int) -> None:
        self._continuous = False
        self._stop()
        self._converting = True
        self._set_up_chip()
        self._busy_until_ns = now_ns + RESET_NS
        self._status(200, OK, self._busy_until_ns)

    def _start_command(self, _numbers: Sequence[int], now_ns: int) -> None:
        self._number = 0
        self._converting = True
        self._status(200, OK, now_ns)
        self._stream(now_ns)

    def _stop_command(self, _numbers: Sequence[int], now_ns: int) -> None:
        self._converting = False
        self._stop()
        self._status(200, OK, now_ns)

    def _rdatac(self, _numbers: Sequence[int], now_ns: int) -> None:
        if not self._active_channels():
            self._status(502, "No Active Channels", now_ns)
            return
        self._continuous = True
        self._status(200, OK, now_ns)
        if not self.streaming:
            self._stream(now_ns)

    def _sdatac(self, _numbers: Sequence[int], now_ns: int) -> None:
        self._continuous = False
        self._stop()
        self._status(200, OK, now_ns)

    def _stream(self, now_ns: int) -> None:
        if self._converting and self._continuous:
            self._start(now_ns)

    def _rdata(self, _numbers: Sequence[int], now_ns: int) -> None:
        """One conversion. As in the firmware its time and number are those of the last sample that was streamed: 0."""
        if self.mode is Mode.TEXT:
            self._ok((), now_ns)
        payload = bytes(8) + self._status_bytes() + self.chip.packed(0, 1)[0]
        self._output.answer(self._written(payload), now_ns)

    def _rreg(self, numbers: Sequence[int], now_ns: int) -> None:
        self._answer_data(self._read(numbers[0]), now_ns)

    def _wreg(self, numbers: Sequence[int], now_ns: int) -> None:
        self._write(numbers[0], numbers[1])
        self._status(200, OK, now_ns)

    def _read(self, address: int) -> int:
        return 0 if self._continuous else self.chip.read(address)

    def _write(self, address: int, value: int) -> None:
        """The chip takes no register while it streams; the firmware says Ok all the same."""
        if not self._continuous:
            self.chip.write(address, value)

    def _active_channels(self) -> int:
        """A channel counts as active when its inputs are not shorted, whether powered or not."""
        settings = self.chip.registers[Register.CH1SET : Register.CH1SET + CHANNELS]
        return sum(setting & MUX_BITS != MUX_SHORTED for setting in settings)

    def _set_up_chip(self) -> None:
        self.chip.reset()
        self.chip.write(Register.GPIO, 0)
        self.chip.write(Register.CONFIG3, REFERENCE_ON)
        self.chip.write(Register.CONFIG1, 0x90 | RATES_HZ.index(self._power_up_rate_hz))


def make_model(options: Mapping[str, Any], now_ns: int) -> HackEegModel:
    """The model that the options of FIELDS describe; ValueError in one line."""
    rate_hz = options["rate_hz"]
    model = HackEegModel(
        SyntheticEmg(CHANNELS, rate_hz, seed=options["seed"], rate_bounds_hz=(min(RATES_HZ), max(RATES_HZ))),
        serial=options["serial"],
        **conditions_of(options, now_ns),
    )
    model.set_power_up_rate(rate_hz)
    return model
