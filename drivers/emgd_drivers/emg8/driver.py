"""The `emg8` driver of the configuration: a real amplifier on USB."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from emgd_drivers.api import Amplifier, Mode, RunState, Transport
from emgd_drivers.emg8.api import Emg8Amplifier
from emgd_drivers.emg8.protocol import GAINS, MAX_SERIAL_CHARACTERS
from emgd_drivers.fields import Field
from emgd_drivers.usb.finder import UsbKind, find_device
from emgd_drivers.usb.libusb import find_libusb
from emgd_drivers.usb.transport import UsbTransport

KIND: Final = UsbKind("emg8", 0x1209, 0x0001)

FIELDS: Final = (
    Field("serial", str, "serial number; default: the only one that is connected", None, 1, MAX_SERIAL_CHARACTERS),
    Field("rate_hz", float, "samples per second and channel", 48_000.0, 1000, 100_000),
    Field("gain", int, "amplification of all channels", 1, choices=GAINS),
)

HOTPLUG: Final = ("usb",)


class DrainableTransport(Transport, Protocol):
    """A way to a device that may have been left streaming by a host that died."""

    def drain(self) -> int:
        """Throw away what the device, stopped before, still has to send."""


def open_amplifier(options: Mapping[str, Any]) -> Amplifier:
    """Open the amplifier that the options name; DeviceError in one line when that cannot be."""
    libusb = find_libusb()
    transport = UsbTransport(find_device(KIND, options["serial"], libusb.backend()), libusb)
    return set_up(transport, options["rate_hz"], options["gain"])


def set_up(transport: DrainableTransport, rate_hz: float, gain: int) -> Emg8Amplifier:
    """Silence the device, set it, and hand it over; what is as wanted already is left alone."""
    try:
        amplifier = Emg8Amplifier(transport)
        state = amplifier.status().state
        if state is RunState.STREAMING:
            amplifier.stop()
        if state is not RunState.IDLE:
            # Frames of the stream before would be taken for the beginning of the next one.
            transport.drain()
        if amplifier.info.rate_hz != rate_hz:
            amplifier.set_rate(rate_hz)
        if any((channel.gain, channel.mode) != (gain, Mode.NORMAL) for channel in amplifier.channels):
            amplifier.set_channel(None, gain)
    except BaseException:
        transport.close()
        raise
    return amplifier
