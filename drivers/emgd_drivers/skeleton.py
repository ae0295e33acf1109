"""A driver to copy: the least that a serial device needs. docs/drivers.md is the text to it.

It works: what it talks to is an OpenBCI Cyton as it is after power-up, and the contract suite holds it against that
board's model. `cyton/` is the same with everything that a user would miss here: reset and gains. Go through the
numbered places from top to bottom and put your device in.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from emgd_drivers.api import Amplifier, ChannelInfo, Mode
from emgd_drivers.fields import Field
from emgd_drivers.serial_amplifier import SerialAmplifier, SerialKind, open_serial
from emgd_drivers.serial_port import SerialPort
from emgd_ext.fixed import Layout, Place

# 1. Which keys does [device] have? Each is checked, explained and defaulted from this table. A key that has to be given
#    has no default. A serial device has these two.
FIELDS: Final = (
    Field("port", Path, "serial port, such as /dev/ttyUSB0; default: the only one of its kind", None),
    Field("serial", str, "serial number; default: the only one that is connected", None, 1, 64),
)

# 2. Can it be plugged in and out? Then name the udev subsystems in which it appears; the service waits for it and takes
#    it back. Leave HOTPLUG out for a device that is always there.
HOTPLUG: Final = ("tty",)

# 3. What does it send? Constants stand together, with unit and reason. A Layout describes frames of one length;
#    docs/drivers.md says what to do for other formats.
RATE_HZ: Final = 250.0
CHANNELS: Final = 8
UV_PER_COUNT: Final = 4.5e6 / 24 / (2**23 - 1)
"""From the data sheet: reference 4.5 V, gain 24, 24 bits. E1 minus E2; negative for a device that inverts."""

LAYOUT: Final = Layout(
    length=33,
    channels=CHANNELS,
    header=b"\xa0",
    counter=Place(offset=1, bytes=1),
    samples=Place(offset=2, bytes=3, big_endian=True),
    ends=bytes(range(0xC0, 0xC7)),
)

# 4. What is it, and how does it begin and end? `isolated` is not among these lines: claim it only where the maker does.
KIND: Final = SerialKind(
    driver="skeleton",
    usb=(0x0403, 0x6015),
    called="board of the skeleton driver",
    baud=115_200,
    layout=LAYOUT,
    start=b"b",
    stop=b"s",
    max_read_bytes=2048,  # half of what the sample loop reads at once
)


class SkeletonAmplifier(SerialAmplifier):
    """An opened device, silent. All calls come from one thread; the sample loop only has source and decoder."""

    def __init__(self, port: SerialPort, serial: str) -> None:
        super().__init__(KIND, port, serial, RATE_HZ)
        # 5. The device may stream for a host that died. Silence it before anything else; then set it up, with
        #    `port.write` and `port.read_until`, and ask for its `self.firmware`.
        self.silence()

    @property
    def channels(self) -> tuple[ChannelInfo, ...]:
        """6. What are its channels called, and what is a count worth?"""
        return tuple(
            ChannelInfo(f"CH{number + 1}", UV_PER_COUNT, 24, Mode.NORMAL, 2**23 - 1) for number in range(CHANNELS)
        )


def open_amplifier(options: Mapping[str, Any]) -> Amplifier:
    """7. Open it: `options` are the values of FIELDS."""
    return open_serial(KIND, options, SkeletonAmplifier)
