"""Simulated emg8 amplifiers: a device model at byte level, and ways to be joined to it."""

from emgd_drivers.emg8.api import Emg8Amplifier
from emgd_drivers.sim.cable import Cable
from emgd_drivers.sim.spec import DeviceSpec

__all__ = ["DeviceSpec", "open_simulated"]


def open_simulated(spec: DeviceSpec) -> Emg8Amplifier:
    """Start a simulated device and open it. DeviceNotFoundError, one line, when it cannot be."""
    cable = Cable(spec)
    try:
        return Emg8Amplifier(
            cable, simulated=True, speed=spec.speed, saturation_counts=cable.saturation_counts, notes=cable.notes
        )
    except BaseException:
        cable.close()
        raise
