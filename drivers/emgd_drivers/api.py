"""What every amplifier driver offers, and the few ways in which a device can fail.

The service knows amplifiers by this page alone. A driver is opened, asked what it has, set up, started; then its
`source` (where bytes come from) and its `decoder` (what they mean) go to the sample loop, which runs without Python,
while the slow calls here (probe, status, keep-alive) go on from the supervising thread.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, Protocol

from emgd_ext.decoder import Decoder
from emgd_ext.source import Source


class DeviceError(Exception):
    """Something about a device; the text names device, what was wrong and the next step."""


class DeviceNotFoundError(DeviceError):
    """No such device, file or driver: look at the name, the cable or the path."""


class DevicePermissionError(DeviceError):
    """The device is there, but this user may not open it: the text names the rule, the group and the command."""


class DeviceRefusedError(DeviceError):
    """The device answered, and said no (STALL): ask for something it can do."""


class DeviceLostError(DeviceError):
    """The device went away while it was in use: unplugged, or its process ended."""


class Mode(IntEnum):
    """What an amplifier channel is connected to; the numbers are emg8's."""

    NORMAL = 0
    SHORT = 1
    TEST = 2
    IMPEDANCE = 3


class RunState(IntEnum):
    """What a device says of itself; the numbers are emg8's."""

    IDLE = 0
    STREAMING = 1
    ENDED = 2


class Side(IntFlag):
    """Electrodes of a channel: it measures POSITIVE (E1) minus NEGATIVE (E2)."""

    NONE = 0
    POSITIVE = 1
    NEGATIVE = 2
    BOTH = 3


ALL_CHANNELS: Final = 0xFFFF
"""Channel of an impedance mark that holds for every channel."""


@dataclass(frozen=True, slots=True)
class ImpedanceTest:
    """What an amplifier sends through electrodes to measure them: a sine of `current_na` (peak) at `frequency_hz`.

    Through one side it returns by the reference; through both it goes in at E1 and out at E2. Frequency and sample rate
    come from one clock. `has_marks`: each `set_impedance_test` is answered in the stream by marks of code 5 (channel,
    or ALL_CHANNELS; value = sides) at the first sample to which it applies; otherwise the host can only wait a while.
    """

    frequency_hz: float
    current_na: float
    has_marks: bool = False


@dataclass(frozen=True, slots=True)
class AmplifierInfo:
    """What a device is and can do; fixed while it is open.

    `rate_hz` is the nominal sample rate, `tick_hz` the nominal frequency of the device clock as seen by the host.
    `speed` is 1 for hardware; a recording played N times as fast has N, one played as fast as possible has 0, and
    then `has_clock` is false: its ticks say nothing about real time. `can_probe`: its clock can be latched on request;
    otherwise time follows from arrivals alone. `has_keep_alive`: it stops by itself when the host falls silent.
    `counts_samples`: it tells how many samples it took, and says with an END frame that its stream is over.
    `isolated`: it may be connected to a person while a stimulator is (hazard H17); a driver that does not say so
    forbids stimulation beside its device.
    `impedance` is its impedance test, None where it has none.
    `notes` are sentences that a user of the samples should know.
    """

    driver: str
    serial: str
    firmware: str
    channel_count: int
    rate_hz: float
    tick_hz: float
    max_frame_bytes: int
    has_clock: bool = True
    can_probe: bool = True
    has_keep_alive: bool = True
    counts_samples: bool = True
    isolated: bool = False
    simulated: bool = False
    speed: float = 1.0
    impedance: ImpedanceTest | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelInfo:
    """One channel as the device has it now. `saturation_count` is the absolute raw count from which it is saturated."""

    label: str
    uv_per_count: float
    gain: int
    mode: Mode
    saturation_count: int


@dataclass(frozen=True, slots=True)
class ClockProbe:
    """The device's tick at some instant between two host times (CLOCK_MONOTONIC, ns)."""

    before_ns: int
    tick: int
    after_ns: int


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What the device counted since it was started. `host_was_silent`: it stopped for want of a keep-alive."""

    state: RunState
    frames: int
    samples: int
    overflowed_samples: int
    host_was_silent: bool = False


class Transport(Protocol):
    """A way to a USB device: control transfers by call, bulk IN as a source for the sample loop.

    Implemented by libusb for hardware and by the simulation's cable. Raises DeviceRefusedError on STALL and
    DeviceLostError when nobody is at the other end.
    """

    def control_in(self, request: int, value: int, index: int, length: int) -> bytes:
        """Vendor request, device to host: at most `length` bytes."""

    def control_out(self, request: int, value: int, index: int, data: bytes = b"") -> None:
        """Vendor request, host to device."""

    def source(self, transfers_per_s: float, transfer_bytes: int, /) -> Source:
        """Bulk IN: one read is one transfer. The device will send about so many a second, none longer than
        `transfer_bytes`. Belongs to the sample loop once handed over.
        """

    def close(self) -> None:
        """Let go of the device; harmless when called again."""


class Amplifier(ABC):
    """An opened amplifier. Not thread-safe: all calls come from the supervising thread."""

    @property
    @abstractmethod
    def info(self) -> AmplifierInfo:
        """What it is."""

    @property
    @abstractmethod
    def channels(self) -> tuple[ChannelInfo, ...]:
        """Its channels, in the order of the samples."""

    @abstractmethod
    def source(self) -> Source:
        """Where its bytes come from."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """A fresh decoder of its bytes."""

    @abstractmethod
    def start(self) -> None:
        """Begin to stream: sample number 0 is the next sample."""

    @abstractmethod
    def stop(self) -> None:
        """End the stream; the decoder hands over an END frame, from the device or when no more bytes come."""

    @abstractmethod
    def probe_clock(self) -> ClockProbe:
        """Latch the device's clock once; DeviceRefusedError where `info.can_probe` is false."""

    @abstractmethod
    def keep_alive(self, timeout_ms: int) -> None:
        """Tell the device that the host lives; unheard for `timeout_ms` it stops by itself.

        DeviceRefusedError where `info.has_keep_alive` is false.
        """

    @abstractmethod
    def status(self) -> DeviceStatus:
        """What the device counted; where `info.counts_samples` is false, what the host counted for it."""

    def set_impedance_test(self, channel: int | None, sides: Side) -> None:
        """Send the test current through electrodes of one channel (None: all), also while streaming; NONE ends it.

        It ends by itself with the stream. What other channels carry stays as it is.

        DeviceRefusedError where `info.impedance` is None.
        """
        raise DeviceRefusedError(f"{self.info.serial} has no impedance test (channel {channel}, {sides!r})")

    @abstractmethod
    def close(self) -> None:
        """Let go of the device."""
