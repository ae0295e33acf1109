"""The `hackeeg` driver of the configuration: a HackEEG shield on an Arduino Due, not isolated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from emgd_drivers.api import Amplifier, ChannelInfo, DeviceRefusedError, Mode
from emgd_drivers.fields import Field
from emgd_drivers.hackeeg import protocol
from emgd_drivers.serial_amplifier import SerialAmplifier, SerialKind, open_serial
from emgd_drivers.serial_port import SerialPort

FIELDS: Final = (
    Field("port", Path, "serial port; default: the only Arduino Due that is connected", None),
    Field("serial", str, "serial number; default: the only one that is connected", None, 1, 64),
    Field("rate_hz", int, "samples per second and channel", 16_000, choices=protocol.RATES_HZ),
    Field("gain", int, "amplification of all channels", 24, choices=protocol.GAINS),
)

HOTPLUG: Final = ("tty",)

ANSWER_S: Final = 3.0
"""A reset takes a little over a second, everything else milliseconds."""

KIND: Final = SerialKind(
    driver="hackeeg",
    usb=(protocol.VENDOR, protocol.PRODUCT),
    called="Arduino Due",
    baud=protocol.BAUD,
    layout=protocol.LAYOUT,
    start=protocol.command("start") + protocol.command("rdatac"),
    stop=protocol.command("stop") + protocol.command("sdatac"),
    max_read_bytes=32_768,  # forty-six milliseconds at the highest rate
    gather_us=1000,  # a sample every 62 µs would wake the loop for each
    notes=(
        "not isolated and not a medical device: no stimulator may be used beside it, and no mains-powered computer",
        "the converter passes a quarter of the sample rate (4.2 kHz at 16 kHz)",
    ),
)


class HackEegAmplifier(SerialAmplifier):
    """An opened HackEEG, set and silent."""

    def __init__(self, port: SerialPort, serial: str, rate_hz: int, gain: int) -> None:
        super().__init__(KIND, port, serial, float(rate_hz))
        self._gain = gain
        # It may be in any of its modes.
        modes = (b"\n", protocol.command("stop"), protocol.command("sdatac"), b"stop\nsdatac\n", protocol.TO_JSON)
        self.silence(*modes, protocol.command("nop"))
        self.firmware = str(self._ask("version")["STATUS_TEXT"])
        for register, value in protocol.settings(rate_hz, gain):
            self._ask("wreg", register, value)
            if self._ask("rreg", register).get("DATA") != value:
                raise DeviceRefusedError(f"{serial}: register {register} did not take the value {value:#04x}")
        self._ask("messagepack")

    def _ask(self, name: str, *numbers: int) -> dict[str, Any]:
        self.port.write(protocol.command(name, *numbers), name)
        return protocol.answer_of(self.port.read_until(protocol.LINE_END, ANSWER_S, name), name)

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """Its channels, CH1 to CH8."""
        scale = protocol.uv_per_count(self._gain)
        return tuple(
            ChannelInfo(f"CH{number}", scale, self._gain, Mode.NORMAL, protocol.MAX_COUNT)
            for number in range(1, protocol.CHANNELS + 1)
        )


def open_amplifier(options: Mapping[str, Any]) -> Amplifier:
    """Open the HackEEG that the options name; DeviceError in one line when that cannot be."""
    rate_hz, gain = options["rate_hz"], options["gain"]
    return open_serial(KIND, options, lambda port, serial: HackEegAmplifier(port, serial, rate_hz, gain))
