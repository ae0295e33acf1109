"""The `hackeeg` driver of the configuration: a HackEEG shield on an Arduino Due, not isolated."""

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
from emgd_drivers.fields import Field
from emgd_drivers.hackeeg import protocol
from emgd_drivers.serial_port import SerialPort, find_port
from emgd_ext.fixed import FixedDecoder
from emgd_ext.source import SerialSource

FIELDS: Final = (
    Field("port", Path, "serial port; default: the only Arduino Due that is connected", None),
    Field("serial", str, "serial number; default: the only one that is connected", None, 1, 64),
    Field("rate_hz", int, "samples per second and channel", 16_000, choices=protocol.RATES_HZ),
    Field("gain", int, "amplification of all channels", 24, choices=protocol.GAINS),
)

HOTPLUG: Final = ("tty",)

ANSWER_S: Final = 3.0
"""A reset takes a little over a second, everything else milliseconds."""

QUIET_S: Final = 0.1
DRAIN_S: Final = 3.0
GATHER_US: Final = 1000
"""A sample every 62 µs would wake the loop for each: let them gather for a millisecond."""

MAX_READ_BYTES: Final = 32_768
"""Forty-six milliseconds at the highest rate."""

NOTES: Final = (
    "not isolated and not a medical device: no stimulator may be used beside it, and no mains-powered computer",
    "the converter passes a quarter of the sample rate (4.2 kHz at 16 kHz)",
)


class HackEegAmplifier(Amplifier):
    """An opened HackEEG, set and silent."""

    def __init__(self, port: SerialPort, serial: str, rate_hz: int, gain: int) -> None:
        self._port = port
        self._serial = serial
        self._rate_hz = rate_hz
        self._gain = gain
        self._state = RunState.IDLE
        self._decoder = FixedDecoder(protocol.LAYOUT, float(rate_hz))
        self._silence()
        self._firmware = str(self._ask("version")["STATUS_TEXT"])
        for register, value in protocol.settings(rate_hz, gain):
            self._ask("wreg", register, value)
            if self._ask("rreg", register).get("DATA") != value:
                raise DeviceRefusedError(f"{serial}: register {register} did not take the value {value:#04x}")
        self._ask("messagepack")

    def _silence(self) -> None:
        """It may stream for a host that died, and be in any of its modes."""
        for line in (b"\n", protocol.command("stop"), protocol.command("sdatac"), b"stop\nsdatac\n", protocol.TO_JSON):
            self._port.write(line, "stop")
        self._port.write(protocol.command("nop"), "stop")
        self._port.drain(QUIET_S, DRAIN_S, "stop")

    def _ask(self, name: str, *numbers: int) -> dict[str, Any]:
        self._port.write(protocol.command(name, *numbers), name)
        return protocol.answer_of(self._port.read_until(protocol.LINE_END, ANSWER_S, name), name)

    @property
    def info(self) -> AmplifierInfo:
        """What it is."""
        return AmplifierInfo(
            driver="hackeeg",
            serial=self._serial,
            firmware=self._firmware,
            channel_count=protocol.CHANNELS,
            rate_hz=float(self._rate_hz),
            tick_hz=protocol.TICK_HZ,
            max_frame_bytes=MAX_READ_BYTES,
            can_probe=False,
            has_keep_alive=False,
            counts_samples=False,
            isolated=False,
            notes=NOTES,
        )

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """Its channels, CH1 to CH8."""
        scale = protocol.uv_per_count(self._gain)
        return tuple(
            ChannelInfo(f"CH{number}", scale, self._gain, Mode.NORMAL, protocol.MAX_COUNT)
            for number in range(1, protocol.CHANNELS + 1)
        )

    def source(self) -> SerialSource:
        """Its bytes."""
        return self._port.source(GATHER_US)

    def decoder(self) -> FixedDecoder:
        """The decoder of its bytes; it counts for a device that does not, so there is one."""
        return self._decoder

    def start(self) -> None:
        """Begin to stream. Its answers come with the samples, so a refusal shows as silence."""
        self._decoder.expect_start(time.monotonic_ns())
        self._port.write(protocol.command("start") + protocol.command("rdatac"), "start")
        self._state = RunState.STREAMING

    def stop(self) -> None:
        """End the stream; END follows once no more bytes come."""
        self._port.write(protocol.command("stop") + protocol.command("sdatac"), "stop")
        self._decoder.expect_end(time.monotonic_ns())
        self._state = RunState.ENDED

    def probe_clock(self) -> ClockProbe:
        """Its clock can be asked only while it is silent."""
        raise DeviceRefusedError(f"{self._serial} has no clock that can be read while it streams")

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
    """Open the HackEEG that the options name; DeviceError in one line when that cannot be."""
    path, serial = options["port"], options["serial"]
    if path is None:
        path, found = find_port(protocol.VENDOR, protocol.PRODUCT, serial, "Arduino Due")
        serial = found or serial
    # A port that was named has no number to tell it by; its name stands for it.
    serial = serial or f"HACKEEG-{Path(path).name}"
    port = SerialPort(str(path), protocol.BAUD, f"hackeeg {serial}")
    try:
        return HackEegAmplifier(port, serial, options["rate_hz"], options["gain"])
    except BaseException:
        port.close()
        raise
