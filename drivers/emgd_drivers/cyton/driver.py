"""The `cyton` driver of the configuration: an OpenBCI Cyton behind its dongle, not isolated."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from emgd_drivers.api import (
    Amplifier,
    AmplifierInfo,
    ChannelInfo,
    ClockProbe,
    DeviceRefusedError,
    DeviceStatus,
    Mode,
    RunState,
)
from emgd_drivers.cyton import protocol
from emgd_drivers.fields import Field
from emgd_drivers.serial_port import SerialPort, find_port
from emgd_ext.fixed import FixedDecoder
from emgd_ext.source import SerialSource

FIELDS: Final = (
    Field("port", Path, "serial port; default: the only dongle that is connected", None),
    Field("serial", str, "serial number of the dongle; default: the only one that is connected", None, 1, 64),
    Field("gain", int, "amplification of all channels", protocol.DEFAULT_GAIN, choices=protocol.GAINS),
)

HOTPLUG: Final = ("tty",)

RESET_S: Final = 4.0
"""The firmware waits half a second before it answers, and the radio may repeat."""

SETTING_S: Final = 2.0
QUIET_S: Final = 0.1
DRAIN_S: Final = 3.0
MAX_READ_BYTES: Final = 2048
"""Sixty frames: what a kernel hands over after a quarter of a second."""

NOTES: Final = (
    "not isolated and not a medical device: no stimulator may be used beside it, and no mains-powered computer",
    "250 samples a second show that a muscle is active, not the shape of its potentials",
)


class CytonAmplifier(Amplifier):
    """An opened Cyton, reset and silent."""

    def __init__(self, port: SerialPort, serial: str, gain: int) -> None:
        self._port = port
        self._serial = serial
        self._gain = gain
        self._state = RunState.IDLE
        self._decoder = FixedDecoder(protocol.LAYOUT, protocol.RATE_HZ)
        port.write(protocol.STOP, "stop")  # it may stream for a host that died
        port.drain(QUIET_S, DRAIN_S, "stop")
        port.write(protocol.RESET, "reset")
        self._firmware = protocol.firmware_of(port.read_until(protocol.ANSWER_END, RESET_S, "reset"))
        if gain != protocol.DEFAULT_GAIN:
            for channel in range(protocol.CHANNELS):
                self._set_gain(channel, gain)

    def _set_gain(self, channel: int, gain: int) -> None:
        doing = f"gain {gain} of channel {channel}"
        self._port.write(protocol.gain_command(channel, gain), doing)
        answer = self._port.read_until(protocol.ANSWER_END, SETTING_S, doing)
        if not answer.startswith(b"Success"):
            raise DeviceRefusedError(f"{self._serial} refused {doing}: {answer.decode('ascii', 'replace')}")

    @property
    def info(self) -> AmplifierInfo:
        """What it is."""
        return AmplifierInfo(
            driver="cyton",
            serial=self._serial,
            firmware=self._firmware,
            channel_count=protocol.CHANNELS,
            rate_hz=protocol.RATE_HZ,
            tick_hz=protocol.RATE_HZ,
            max_frame_bytes=MAX_READ_BYTES,
            can_probe=False,
            has_keep_alive=False,
            counts_samples=False,
            isolated=False,
            notes=NOTES,
        )

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """Its channels, N1P to N8P."""
        scale = protocol.uv_per_count(self._gain)
        return tuple(
            ChannelInfo(f"N{number}P", scale, self._gain, Mode.NORMAL, protocol.MAX_COUNT)
            for number in range(1, protocol.CHANNELS + 1)
        )

    def source(self) -> SerialSource:
        """Its bytes."""
        return self._port.source()

    def decoder(self) -> FixedDecoder:
        """The decoder of its bytes; it counts for a device that does not, so there is one."""
        return self._decoder

    def start(self) -> None:
        """Begin to stream."""
        self._decoder.expect_start(time.monotonic_ns())
        self._port.write(protocol.START, "start")
        self._state = RunState.STREAMING

    def stop(self) -> None:
        """End the stream; END follows once no more bytes come."""
        self._port.write(protocol.STOP, "stop")
        self._decoder.expect_end(time.monotonic_ns())
        self._state = RunState.ENDED

    def probe_clock(self) -> ClockProbe:
        """It has no clock that can be read."""
        raise DeviceRefusedError(f"{self._serial} has no clock that can be read")

    def keep_alive(self, timeout_ms: int) -> None:
        """It streams on whatever becomes of the host."""
        raise DeviceRefusedError(f"{self._serial} has no keep-alive (asked for {timeout_ms} ms)")

    def status(self) -> DeviceStatus:
        """What was counted for it. DeviceLostError when the port is gone."""
        self._port.check()
        return DeviceStatus(self._state, self._decoder.frames, self._decoder.samples, 0)

    def close(self) -> None:
        """Let go of the port."""
        self._port.close()


def open_amplifier(options: Mapping[str, Any]) -> Amplifier:
    """Open the Cyton that the options name; DeviceError in one line when that cannot be."""
    path, serial = options["port"], options["serial"]
    if path is None:
        path, found = find_port(protocol.VENDOR, protocol.PRODUCT, serial, "Cyton dongle")
        serial = found or serial
    # A port that was named has no number to tell it by; its name stands for it.
    serial = serial or f"CYTON-{Path(path).name}"
    port = SerialPort(str(path), protocol.BAUD, f"cyton {serial}")
    try:
        return CytonAmplifier(port, serial, options["gain"])
    except BaseException:
        port.close()
        raise
