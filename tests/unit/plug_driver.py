"""A driver of a device that the test plugs in and out: the simulated amplifier, present while a file is there."""

import os
import signal
from pathlib import Path

from emgd_drivers.api import DeviceNotFoundError, DevicePermissionError
from emgd_drivers.emg8.api import Emg8Amplifier
from emgd_drivers.fields import Field
from emgd_drivers.sim.cable import Cable
from emgd_drivers.sim.spec import DeviceSpec

HOTPLUG = ("usb",)
FIELDS = (Field("socket", Path, "the file"), Field("serial", str, "which", None))

processes = []


def open_amplifier(options):
    socket = Path(options["socket"])
    if not socket.exists():
        raise DeviceNotFoundError("nothing is plugged in; plug it in")
    rate_hz, serial = socket.read_text().split()
    if serial == "forbidden":
        raise DevicePermissionError("may not be opened; join the group emgd")
    cable = Cable(DeviceSpec(channels=2, rate_hz=float(rate_hz), serial=serial))
    processes.append(cable.pid)
    return Emg8Amplifier(cable, simulated=True, saturation_counts=cable.saturation_counts)


class Plug:
    """The hand that plugs."""

    def __init__(self, socket):
        self.socket = socket

    def in_(self, serial="EMG8-A", rate_hz=8000):
        new = self.socket.with_suffix(".new")
        new.write_text(f"{rate_hz} {serial}")
        new.rename(self.socket)

    def out(self):
        self.socket.unlink()
        os.kill(processes[-1], signal.SIGKILL)
