"""The emg8 driver: an `Amplifier` over any transport that carries control requests and bulk transfers."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from emgd_drivers.api import (
    Amplifier,
    AmplifierInfo,
    ChannelInfo,
    ClockProbe,
    DeviceError,
    DeviceRefusedError,
    DeviceStatus,
    ImpedanceTest,
    Mode,
    Side,
    Transport,
)
from emgd_drivers.emg8.protocol import (
    ALL_CHANNELS,
    CHANNEL,
    CHANNEL_SETTING,
    GAINS,
    IMPEDANCE_TEST,
    INFO,
    LATCH,
    MAX_COUNT,
    MAX_SERIAL_CHARACTERS,
    PROTOCOL_VERSION,
    RATE,
    STATUS,
    Capability,
    Channel,
    Info,
    LastError,
    Request,
    Status,
    frame_samples,
    unpack_impedance_test,
)
from emgd_ext.emg8 import Emg8Decoder
from emgd_ext.source import Source

MAX_TIMEOUT_MS: Final = 0xFFFF
"""The keep-alive time-out travels in 16 bits."""


class Emg8Amplifier(Amplifier):
    """An opened emg8. It is idle or streaming as it was found; nothing is changed by opening.

    `simulated`, `speed` and `notes` go into `info`. `saturation_counts`, one per channel, is for a simulated device
    whose samples saturate earlier than a 24-bit converter; None = at 2^23 - 1. `clock_ns` tells host time
    (CLOCK_MONOTONIC, ns).
    """

    def __init__(
        self,
        transport: Transport,
        *,
        simulated: bool = False,
        speed: float = 1.0,
        saturation_counts: Sequence[int] | None = None,
        notes: Sequence[str] = (),
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._transport = transport
        self._simulated = simulated
        self._speed = speed
        self._notes = tuple(notes)
        self._clock_ns = clock_ns
        self._device = self._read_info()
        self._serial = transport.control_in(Request.GET_SERIAL, 0, 0, MAX_SERIAL_CHARACTERS).decode("ascii", "replace")
        self._saturation_counts = tuple(saturation_counts or [MAX_COUNT] * self._device.channels)
        if len(self._saturation_counts) != self._device.channels:
            counts = len(self._saturation_counts)
            raise DeviceError(f"{self}: {counts} saturation counts for {self._device.channels} channels; give one each")
        self._channels = self._read_channels()
        self._impedance = self._read_impedance()

    def __str__(self) -> str:
        return f"emg8 {self._serial}"

    @property
    def info(self) -> AmplifierInfo:
        """What it is, with the rate that is set now."""
        return AmplifierInfo(
            driver="emg8",
            serial=self._serial,
            firmware=self._device.firmware,
            channel_count=self._device.channels,
            rate_hz=self._device.rate_hz,
            tick_hz=self._device.tick_hz,
            max_frame_bytes=self._device.max_frame_bytes,
            has_clock=Capability.CLOCK_LATCH in self._device.capabilities,
            can_probe=Capability.CLOCK_LATCH in self._device.capabilities,
            has_keep_alive=Capability.KEEP_ALIVE in self._device.capabilities,
            isolated=True,
            simulated=self._simulated,
            speed=self._speed,
            impedance=self._impedance,
            notes=self._notes,
        )

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """Its channels, in the order of the samples."""
        return self._channels

    def source(self) -> Source:
        """The bulk endpoint, ready for the rate that is set now; one owner, so it can be had once."""
        device = self._device
        frames_per_s = device.rate_hz / frame_samples(device.rate_hz, device.channels)
        return self._transport.source(frames_per_s, device.max_frame_bytes)

    def decoder(self) -> Emg8Decoder:
        """A fresh decoder of its frames."""
        return Emg8Decoder(self._device.channels)

    def set_rate(self, rate_hz: float) -> None:
        """Sample rate in Hz. DeviceRefusedError outside the device's bounds, or while it is streaming."""
        try:
            self._transport.control_out(Request.SET_RATE, 0, 0, RATE.pack(rate_hz))
        except DeviceRefusedError as error:
            bounds = f"{self._device.lowest_rate_hz:g} to {self._device.highest_rate_hz:g} Hz"
            raise DeviceRefusedError(f"{self}: no rate of {rate_hz:g} Hz: {error} (it can do {bounds})") from error
        self._device = self._read_info()

    def set_channel(self, channel: int | None, gain: int, mode: Mode = Mode.NORMAL) -> None:
        """Gain and mode of one channel, None = all. DeviceRefusedError when it cannot, or while it is streaming."""
        if channel is not None and not 0 <= channel < self._device.channels:
            raise DeviceRefusedError(f"{self}: no channel {channel}; choose 0 to {self._device.channels - 1}")
        if gain not in GAINS:
            raise DeviceRefusedError(f"{self}: no gain of {gain}; choose one of {', '.join(map(str, GAINS))}")
        index = ALL_CHANNELS if channel is None else channel
        try:
            self._transport.control_out(Request.SET_CHANNEL, 0, index, CHANNEL_SETTING.pack(gain, mode, 0))
        except DeviceRefusedError as error:
            where = "all channels" if channel is None else f"channel {channel}"
            raise DeviceRefusedError(f"{self}: no gain {gain}, mode {mode.name} for {where}: {error}") from error
        self._channels = self._read_channels()

    def start(self) -> None:
        """Begin to stream: sample number 0 is the next sample."""
        self._transport.control_out(Request.START, 0, 0)

    def stop(self) -> None:
        """End the stream; an END frame follows the last data frame."""
        self._transport.control_out(Request.STOP, 0, 0)

    def probe_clock(self) -> ClockProbe:
        """Latch the device's clock once; DeviceRefusedError when it has none (see `info.has_clock`)."""
        before_ns = self._clock_ns()
        latched = self._transport.control_in(Request.LATCH_CLOCK, 0, 0, LATCH.size)
        after_ns = self._clock_ns()
        if len(latched) != LATCH.size:
            raise DeviceError(f"{self}: LATCH_CLOCK has {len(latched)} bytes, not {LATCH.size}")
        tick, _ = LATCH.unpack(latched)
        return ClockProbe(before_ns, tick, after_ns)

    def keep_alive(self, timeout_ms: int) -> None:
        """Tell the device that the host lives; unheard for `timeout_ms` (to 65535, 0 = for ever) it stops."""
        if not 0 <= timeout_ms <= MAX_TIMEOUT_MS:
            raise DeviceRefusedError(f"{self}: no keep-alive of {timeout_ms} ms; choose 0 (off) to {MAX_TIMEOUT_MS} ms")
        self._transport.control_out(Request.KEEP_ALIVE, timeout_ms, 0)

    def status(self) -> DeviceStatus:
        """What the device counted since START."""
        status = Status.unpack(self._transport.control_in(Request.GET_STATUS, 0, 0, STATUS.size))
        silent = status.last_error is LastError.KEEP_ALIVE_EXPIRED
        return DeviceStatus(status.state, status.frames, status.samples, status.overflowed_samples, silent)

    def set_impedance_test(self, channel: int | None, sides: Side) -> None:
        """Send the test current through electrodes of one channel (None: all), also while streaming; NONE ends it.

        A mark of code 5 tells the first sample with it. DeviceRefusedError where `info.impedance` is None, or for a
        channel that is not there.
        """
        index = ALL_CHANNELS if channel is None else channel
        try:
            self._transport.control_out(Request.IMPEDANCE_TEST, sides, index)
        except DeviceRefusedError as error:
            where = "all channels" if channel is None else f"channel {channel}"
            raise DeviceRefusedError(f"{self}: no test current through {sides.name} of {where}: {error}") from error

    def close(self) -> None:
        """Let go of the device."""
        self._transport.close()

    def _read_info(self) -> Info:
        info = Info.unpack(self._transport.control_in(Request.GET_INFO, 0, 0, INFO.size))
        if info.version != PROTOCOL_VERSION:
            raise DeviceError(
                f"emg8: the device speaks protocol version 0x{info.version:04x}, emgd speaks 0x{PROTOCOL_VERSION:04x}; "
                "update the one that is older"
            )
        return info

    def _read_impedance(self) -> ImpedanceTest | None:
        if Capability.IMPEDANCE not in self._device.capabilities:
            return None
        return unpack_impedance_test(self._transport.control_in(Request.GET_IMPEDANCE_TEST, 0, 0, IMPEDANCE_TEST.size))

    def _read_channels(self) -> tuple[ChannelInfo, ...]:
        found = []
        for index, saturation_count in enumerate(self._saturation_counts):
            answer = self._transport.control_in(Request.GET_CHANNEL, 0, index, CHANNEL.size)
            channel = Channel.unpack(answer)
            found.append(ChannelInfo(channel.label, channel.uv_per_count, channel.gain, channel.mode, saturation_count))
        return tuple(found)
