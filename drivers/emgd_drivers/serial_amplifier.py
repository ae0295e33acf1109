"""What drivers of amplifiers on serial ports have in common: boards that send frames of one length, have no clock that
can be latched while they stream, and neither count their samples nor stop by themselves.

A driver says what kind of board it is (a SerialKind), how it is set up, and what its channels are.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emgd_drivers.api import Amplifier, AmplifierInfo, ClockProbe, DeviceRefusedError, DeviceStatus, RunState
from emgd_drivers.serial_port import SerialPort, find_port
from emgd_ext.fixed import FixedDecoder, Layout
from emgd_ext.source import SerialSource

QUIET_S: Final = 0.1
"""Nothing for so long, 25 sample times of the slowest board: it is silent."""

DRAIN_S: Final = 3.0
"""Longest time to throw away what a board that was stopped still has: several times what port and kernel hold."""


@dataclass(frozen=True, slots=True)
class SerialKind:
    """What all boards of one kind share.

    `driver` is the name in the configuration, `usb` (vendor, product) and `called` tell its port from others. `start`
    and `stop` are its commands. `max_read_bytes` is the most that one read of its stream brings, `gather_us` how long
    bytes may gather before they are read. `isolated` is claimed only for a device whose maker claims it (hazard H17).
    `notes` are sentences that a user of the samples should know.
    """

    driver: str
    usb: tuple[int, int]
    called: str
    baud: int
    layout: Layout
    start: bytes
    stop: bytes
    max_read_bytes: int
    gather_us: int = 0
    isolated: bool = False
    notes: tuple[str, ...] = ()


class SerialAmplifier(Amplifier):
    """An opened board. A subclass silences it and sets it up when made, and says what its channels are.

    `firmware` is its version, once it was asked.
    """

    firmware = "unknown"

    def __init__(self, kind: SerialKind, port: SerialPort, serial: str, rate_hz: float) -> None:
        self.kind: Final = kind
        self.port: Final = port
        self.serial: Final = serial
        self._rate_hz = rate_hz
        self._state = RunState.IDLE
        # One decoder for the life of this object: it counts for a device that does not.
        self._decoder = FixedDecoder(kind.layout, rate_hz)

    def silence(self, *commands: bytes) -> None:
        """Stop it: it may stream for a host that died. What it still sends is thrown away."""
        for command in commands or (self.kind.stop,):
            self.port.write(command, "stop")
        self.port.drain(QUIET_S, DRAIN_S, "stop")

    @property
    def info(self) -> AmplifierInfo:
        """What it is."""
        return AmplifierInfo(
            driver=self.kind.driver,
            serial=self.serial,
            firmware=self.firmware,
            channel_count=len(self.channels),
            rate_hz=self._rate_hz,
            tick_hz=self.kind.layout.tick_hz or self._rate_hz,  # without a clock the sample number is the tick
            max_frame_bytes=self.kind.max_read_bytes,
            can_probe=False,
            has_keep_alive=False,
            counts_samples=False,
            isolated=self.kind.isolated,
            notes=self.kind.notes,
        )

    def source(self) -> SerialSource:
        """Its bytes."""
        return self.port.source(self.kind.gather_us)

    def decoder(self) -> FixedDecoder:
        """The decoder of its bytes: always the same one."""
        return self._decoder

    def start(self) -> None:
        """Begin to stream. What it answers comes with the samples, so a refusal shows as silence."""
        self._decoder.expect_start(time.monotonic_ns())
        self.port.write(self.kind.start, "start")
        self._state = RunState.STREAMING

    def stop(self) -> None:
        """End the stream; END follows once no more bytes come."""
        self.port.write(self.kind.stop, "stop")
        self._decoder.expect_end(time.monotonic_ns())
        self._state = RunState.ENDED

    def probe_clock(self) -> ClockProbe:
        """Not promised in `info`, so nobody asks."""
        raise DeviceRefusedError(f"{self.serial} has no clock that can be read while it streams")

    def keep_alive(self, timeout_ms: int) -> None:
        """Not promised either: it streams on whatever becomes of the host."""
        raise DeviceRefusedError(f"{self.serial} has no keep-alive (asked for {timeout_ms} ms)")

    def status(self) -> DeviceStatus:
        """What was counted for it. DeviceLostError when the port is gone."""
        self.port.check()
        return DeviceStatus(self._state, self._decoder.frames, self._decoder.samples, 0)

    def close(self) -> None:
        """Let go of the port."""
        self.port.close()


def open_serial(
    kind: SerialKind, options: Mapping[str, Any], make: Callable[[SerialPort, str], SerialAmplifier]
) -> SerialAmplifier:
    """Open the board that the options `port` and `serial` name; `make` is given the port and the serial number.

    DeviceError in one line when that cannot be. A port that was opened is closed again when the rest fails.
    """
    path, serial = options["port"], options["serial"]
    if path is None:
        path, found = find_port(*kind.usb, serial, kind.called)
        serial = found or serial
    # A port that was named has no number to tell it by; its name stands for it.
    serial = serial or f"{kind.driver.upper()}-{Path(path).name}"
    port = SerialPort(str(path), kind.baud, f"{kind.driver} {serial}")
    try:
        return make(port, serial)
    except BaseException:
        port.close()
        raise
