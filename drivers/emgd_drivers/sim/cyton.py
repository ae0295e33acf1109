"""An OpenBCI Cyton behind its dongle, at byte level: 8 channels at 250 Hz, 33 bytes a frame, commands of one letter.

Written after the makers' data format and command pages and after firmware 3.1 (OpenBCI_Cyton_Library). The Daisy
module, the SD card, Wi-Fi, time stamps, markers and the other board modes are not modelled; their letters are ignored.
"""

from collections.abc import Mapping
from typing import Any, Final, Unpack

from emgd_drivers.fields import Field
from emgd_drivers.sim.ads1299 import CHANNELS, POWER_DOWN, RATES_HZ, Ads1299, Register
from emgd_drivers.sim.serial_amplifier import COMMON_FIELDS, Conditions, SerialAmplifierModel, conditions_of
from emgd_drivers.sim.signal import Signal, SyntheticEmg

RATE_HZ: Final = 250
HEADER: Final = 0xA0
FOOTER: Final = 0xC0
"""The last byte of a frame: the six bytes before it are acceleration."""

ACCELERATION_EVERY: Final = 10
"""The sensor has a new value in each tenth frame, 25 a second; the others carry zeros."""

ACCELERATION: Final = bytes.fromhex("0000 0000 1f40")
"""At rest on a table: 1 g along z; 8000 counts of 0.002/16 g."""

BUFFER_BYTES: Final = 31 * 33
"""What board, radio and dongle hold: about an eighth of a second."""

RESET_NS: Final = 500_000_000
"""The firmware waits this long before it says who it is."""

END: Final = "$$$"

START_TEXT: Final = (
    f"OpenBCI V3 8-16 channel\nOn Board ADS1299 Device ID: 0x3E\nLIS3DH Device ID: 0x33\nFirmware: v3.1.2\n{END}"
)

VERSION_TEXT: Final = f"v3.1.5{END}"

OFF_LETTERS: Final = b"12345678"
ON_LETTERS: Final = b"!@#$%^&*"

CHANNEL_DEFAULT: Final = 0x68
"""Gain 24, normal input, SRB2 joined."""

SRB2: Final = 0x08

LEAD_OFF_6_NA_31_HZ: Final = 0x02
"""LOFF as the firmware sets it."""

LENGTHS: Final = {ord("x"): 9, ord("z"): 5, ord("~"): 2}
"""Commands of more than one byte, with their first one."""

FIELDS: Final = (
    Field("serial", str, "serial number", "CYTON-000001", 1, 32),
    Field("rate_hz", float, "samples per second; this device has one rate", float(RATE_HZ), RATE_HZ, RATE_HZ),
    *COMMON_FIELDS,
)


class CytonModel(SerialAmplifierModel):
    """The board, powered up at `now_ns` and silent, as when a host opens the dongle's port later.

    `signal` has 8 channels at 250 Hz. `chip.electrode_ohm` is what the test current of `z` meets on each side.
    """

    def __init__(
        self,
        signal: Signal,
        *,
        serial: str = "CYTON-000001",
        buffer_bytes: int = BUFFER_BYTES,
        **conditions: Unpack[Conditions],
    ) -> None:
        if signal.rate_hz != RATE_HZ:
            raise ValueError(f"the signal has {signal.rate_hz:g} samples/s; the Cyton has {RATE_HZ}")
        super().__init__(Ads1299(signal), serial, buffer_bytes, **conditions)
        self._command = bytearray()
        self._wanted_rate_hz = RATE_HZ
        self._set_defaults()

    def _take(self, byte: int, now_ns: int) -> None:
        if not self._command and byte not in LENGTHS:
            self._letter(byte, now_ns)
            return
        self._command.append(byte)
        head = self._command[0]
        length = LENGTHS[head]
        last = {ord("x"): ord("X"), ord("z"): ord("Z")}.get(head)
        if len(self._command) == length or byte == last:
            command = bytes(self._command)
            self._command.clear()
            if last is None:
                self._ask_rate(command[1], now_ns)
            elif len(command) < length:
                self._say("Failure: too few chars", now_ns)
            elif byte != last:
                self._say(f"Failure: Err: {length}th char not {chr(last)}", now_ns)
            else:
                self._set(command, now_ns)

    def _letter(self, byte: int, now_ns: int) -> None:
        """A command of one byte; those not known are ignored."""
        if byte in OFF_LETTERS:
            self.chip.registers[Register.CH1SET + OFF_LETTERS.index(byte)] |= POWER_DOWN
        elif byte in ON_LETTERS:
            self.chip.registers[Register.CH1SET + ON_LETTERS.index(byte)] &= ~POWER_DOWN
        elif byte == ord("b") and not self.streaming:
            self._wanted_rate_hz = RATE_HZ  # The radio carries no more, so the firmware goes back to it.
            self._start(now_ns)
        elif byte == ord("s"):
            self._stop()
        elif byte == ord("v"):
            self._reset(now_ns)
        elif byte == ord("d"):
            self._say("updating channel settings to default", now_ns)
            self._set_channel_defaults()
        else:
            self._question(byte, now_ns)

    def _question(self, byte: int, now_ns: int) -> None:
        """A command of one byte that only asks. Without a Daisy module `c` has nothing to say."""
        if byte == ord("V"):
            self._answer(VERSION_TEXT, now_ns)
        elif byte == ord("?"):
            self._say(self._registers_text(), now_ns)
        elif byte == ord("C"):
            self._answer(f"{'' if self.streaming else 'no daisy to attach!'}8{END}", now_ns)

    def _frame(self, index: int, _tick: int, sample: bytes) -> bytes:
        aux = bytes(6) if index % ACCELERATION_EVERY else ACCELERATION
        return bytes([HEADER, index & 0xFF]) + sample + aux + bytes([FOOTER])

    def _say(self, text: str, now_ns: int) -> None:
        """An answer that the firmware keeps to itself while it streams."""
        if not self.streaming:
            self._answer(text + END, now_ns)

    def _reset(self, now_ns: int) -> None:
        self._stop()
        self._set_defaults()
        self._busy_until_ns = now_ns + RESET_NS
        self._answer(START_TEXT, self._busy_until_ns)

    def _set_defaults(self) -> None:
        self.chip.reset()
        self.chip.registers[Register.CONFIG3] = 0xEC
        self.chip.registers[Register.LOFF] = LEAD_OFF_6_NA_31_HZ
        self._set_channel_defaults()

    def _set_channel_defaults(self) -> None:
        for channel in range(CHANNELS):
            self.chip.registers[Register.CH1SET + channel] = CHANNEL_DEFAULT
        self.chip.registers[Register.LOFF_SENSP] = self.chip.registers[Register.LOFF_SENSN] = 0

    def _set(self, command: bytes, now_ns: int) -> None:
        """`x` or `z`, complete. As in the firmware, a digit that is none counts as 0."""
        what, channel = command[:1], max(0, OFF_LETTERS.find(command[1:2]))
        digits = [byte - ord("0") if ord("0") <= byte <= ord("9") else 0 for byte in command[2:-1]]
        if what == b"x":
            power_down, gain, mux, _bias, srb2, _srb1 = digits
            setting = (POWER_DOWN if power_down else 0) | (gain & 7) << 4 | (SRB2 if srb2 else 0) | mux & 7
            self.chip.registers[Register.CH1SET + channel] = setting
            self._say(f"Success: Channel set for {channel + 1}", now_ns)
            return
        for address, is_on in zip((Register.LOFF_SENSP, Register.LOFF_SENSN), digits, strict=True):
            rest = self.chip.registers[address] & ~(1 << channel)
            self.chip.registers[address] = rest | bool(is_on) << channel
        self._say(f"Success: Lead off set for {channel + 1}", now_ns)

    def _ask_rate(self, byte: int, now_ns: int) -> None:
        if ord("0") <= byte < ord("0") + len(RATES_HZ):
            self._wanted_rate_hz = RATES_HZ[byte - ord("0")]
        elif byte != ord("~"):
            self._say("Failure: sample value out of bounds", now_ns)
            return
        self._say(f"Success: Sample rate is {self._wanted_rate_hz}Hz", now_ns)

    def _registers_text(self) -> str:
        """The answer to `?`: address, value and bits of each register of the converter."""
        lines = [
            f"{_register_name(address)}, {address:02X}, {value:02X}, {', '.join(f'{value:08b}')}"
            for address, value in enumerate(self.chip.registers)
        ]
        return "\n".join(["", "Board ADS Registers", *lines, "", "LIS3DH Registers", "0x0F\t33", ""])


def _register_name(address: int) -> str:
    if Register.CH1SET <= address < Register.CH1SET + CHANNELS:
        return f"CH{address - Register.CH1SET + 1}SET"
    names = {Register.ID: "ADS_ID", 0x0D: "BIAS_SENSP", 0x0E: "BIAS_SENSN", 0x11: "LOFF_FLIP", 0x12: "LOFF_STATP"}
    names |= {0x13: "LOFF_STATN", 0x15: "MISC1", 0x16: "MISC2"}
    return names.get(address) or Register(address).name


def make_model(options: Mapping[str, Any], now_ns: int) -> CytonModel:
    """The model that the options of FIELDS describe; ValueError in one line."""
    signal = SyntheticEmg(CHANNELS, RATE_HZ, seed=options["seed"], rate_bounds_hz=(RATE_HZ, RATE_HZ))
    return CytonModel(signal, serial=options["serial"], **conditions_of(options, now_ns))
