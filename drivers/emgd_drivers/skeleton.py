"""A driver to copy: the least that a serial device needs. docs/drivers.md is the text to it.

It works: what it talks to is an OpenBCI Cyton as it is after power-up, and the contract suite holds it against that
board's model. `cyton/` is the same with everything that a user would miss here: reset, gains, finding the port. Go
through the numbered places from top to bottom and put your device in.
"""

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
from emgd_drivers.serial_port import SerialPort
from emgd_ext.fixed import FixedDecoder, Layout, Place
from emgd_ext.source import SerialSource

# 1. Which keys does [device] have? Each is checked, explained and defaulted from this table. A key that has to be given
#    has no default.
FIELDS: Final = (
    Field("port", Path, "serial port, such as /dev/ttyUSB0"),
    Field("serial", str, "what to call the device", "SKELETON-1", 1, 64),
)

# 2. Can it be plugged in and out? Then name the udev subsystems in which it appears; the service waits for it and takes
#    it back. Leave HOTPLUG out for a device that is always there.
HOTPLUG: Final = ("tty",)

# 3. What does it send? Constants stand together, with unit and reason. This describes frames of one length;
#    docs/drivers.md says what to do for other formats.
BAUD: Final = 115_200
RATE_HZ: Final = 250.0
CHANNELS: Final = 8
UV_PER_COUNT: Final = 4.5e6 / 24 / (2**23 - 1)
"""From the data sheet: reference 4.5 V, gain 24, 24 bits."""

LAYOUT: Final = Layout(
    length=33,
    channels=CHANNELS,
    header=b"\xa0",
    counter=Place(offset=1, bytes=1),
    samples=Place(offset=2, bytes=3, big_endian=True),
    ends=bytes(range(0xC0, 0xC7)),
)

QUIET_S: Final = 0.1
"""Nothing for so long, 25 sample times: it is silent."""

DRAIN_S: Final = 3.0


class SkeletonAmplifier(Amplifier):
    """An opened device, silent. All calls come from one thread; the sample loop only has source and decoder."""

    def __init__(self, port: SerialPort, serial: str) -> None:
        self._port = port
        self._serial = serial
        self._state = RunState.IDLE
        # One decoder for the life of this object: it counts for a device that does not.
        self._decoder = FixedDecoder(LAYOUT, RATE_HZ)
        # 4. The device may stream for a host that died. Silence it before anything else.
        port.write(b"s", "stop")
        port.drain(QUIET_S, DRAIN_S, "stop")

    @property
    def info(self) -> AmplifierInfo:
        """5. What is it, and what can it not do? Everything that you leave out is promised, but isolation."""
        return AmplifierInfo(
            driver="skeleton",
            serial=self._serial,
            firmware="unknown",
            channel_count=CHANNELS,
            rate_hz=RATE_HZ,
            tick_hz=RATE_HZ,  # no clock on the wire: the sample number is the tick
            max_frame_bytes=2048,  # half of what the sample loop reads at once
            can_probe=False,
            has_keep_alive=False,
            counts_samples=False,
        )

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """6. What is a count worth? E1 minus E2 in µV; negative for a device that inverts."""
        return tuple(
            ChannelInfo(f"CH{number + 1}", UV_PER_COUNT, 24, Mode.NORMAL, 2**23 - 1) for number in range(CHANNELS)
        )

    def source(self) -> SerialSource:
        """Where the bytes come from."""
        return self._port.source()

    def decoder(self) -> FixedDecoder:
        """What they mean."""
        return self._decoder

    def start(self) -> None:
        """7. How does it begin?"""
        self._decoder.expect_start(time.monotonic_ns())
        self._port.write(b"b", "start")
        self._state = RunState.STREAMING

    def stop(self) -> None:
        """8. How does it end? A device that does not say so has ended when nothing more comes."""
        self._port.write(b"s", "stop")
        self._decoder.expect_end(time.monotonic_ns())
        self._state = RunState.ENDED

    def probe_clock(self) -> ClockProbe:
        """Not promised in `info`, so nobody asks."""
        raise DeviceRefusedError(f"{self._serial} has no clock that can be read")

    def keep_alive(self, timeout_ms: int) -> None:
        """Not promised either."""
        raise DeviceRefusedError(f"{self._serial} has no keep-alive (asked for {timeout_ms} ms)")

    def status(self) -> DeviceStatus:
        """9. Is it there? Asked twice a second; raise DeviceLostError when it is not."""
        self._port.check()
        return DeviceStatus(self._state, self._decoder.frames, self._decoder.samples, 0)

    def close(self) -> None:
        """Let go of it; this may be called twice."""
        self._port.close()


def open_amplifier(options: Mapping[str, Any]) -> Amplifier:
    """10. Open it: `options` are the values of FIELDS. A port that was opened is closed again when the rest fails."""
    port = SerialPort(str(options["port"]), BAUD, f"skeleton {options['serial']}")
    try:
        return SkeletonAmplifier(port, options["serial"])
    except BaseException:
        port.close()
        raise
