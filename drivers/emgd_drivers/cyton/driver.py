"""The `cyton` driver of the configuration: an OpenBCI Cyton behind its dongle, not isolated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from emgd_drivers.api import Amplifier, ChannelInfo, DeviceRefusedError, Mode
from emgd_drivers.cyton import protocol
from emgd_drivers.fields import Field
from emgd_drivers.serial_amplifier import SerialAmplifier, SerialKind, open_serial
from emgd_drivers.serial_port import SerialPort

FIELDS: Final = (
    Field("port", Path, "serial port; default: the only dongle that is connected", None),
    Field("serial", str, "serial number of the dongle; default: the only one that is connected", None, 1, 64),
    Field("gain", int, "amplification of all channels", protocol.DEFAULT_GAIN, choices=protocol.GAINS),
)

HOTPLUG: Final = ("tty",)

RESET_S: Final = 4.0
"""The firmware waits half a second before it answers, and the radio may repeat."""

SETTING_S: Final = 2.0

KIND: Final = SerialKind(
    driver="cyton",
    usb=(protocol.VENDOR, protocol.PRODUCT),
    called="Cyton dongle",
    baud=protocol.BAUD,
    layout=protocol.LAYOUT,
    start=protocol.START,
    stop=protocol.STOP,
    max_read_bytes=2048,  # sixty frames: what a kernel hands over after a quarter of a second
    notes=(
        "not isolated and not a medical device: no stimulator may be used beside it, and no mains-powered computer",
        "250 samples a second show that a muscle is active, not the shape of its potentials",
    ),
)


class CytonAmplifier(SerialAmplifier):
    """An opened Cyton, reset and silent."""

    def __init__(self, port: SerialPort, serial: str, gain: int) -> None:
        super().__init__(KIND, port, serial, protocol.RATE_HZ)
        self._gain = gain
        self.silence()
        port.write(protocol.RESET, "reset")
        self.firmware = protocol.firmware_of(port.read_until(protocol.ANSWER_END, RESET_S, "reset"))
        if gain != protocol.DEFAULT_GAIN:
            for channel in range(protocol.CHANNELS):
                self._set_gain(channel, gain)

    def _set_gain(self, channel: int, gain: int) -> None:
        doing = f"gain {gain} of channel {channel}"
        self.port.write(protocol.gain_command(channel, gain), doing)
        answer = self.port.read_until(protocol.ANSWER_END, SETTING_S, doing)
        if not answer.startswith(b"Success"):
            raise DeviceRefusedError(f"{self.serial} refused {doing}: {answer.decode('ascii', 'replace')}")

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """Its channels, N1P to N8P."""
        scale = protocol.uv_per_count(self._gain)
        return tuple(
            ChannelInfo(f"N{number}P", scale, self._gain, Mode.NORMAL, protocol.MAX_COUNT)
            for number in range(1, protocol.CHANNELS + 1)
        )


def open_amplifier(options: Mapping[str, Any]) -> Amplifier:
    """Open the Cyton that the options name; DeviceError in one line when that cannot be."""
    return open_serial(KIND, options, lambda port, serial: CytonAmplifier(port, serial, options["gain"]))
