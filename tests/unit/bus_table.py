"""An emulated bus on virtual time, for conversations about it whatever their protocol."""

from bus_rig import Clock

from emgd_drivers.sim.bus.cdc_device import CdcAcmDevice, UsbIdentity
from emgd_drivers.sim.bus.emg8_device import Emg8UsbDevice
from emgd_drivers.sim.bus.loopback import Loopback
from emgd_drivers.sim.bus.port import Bus
from emgd_drivers.sim.model import Emg8Model
from emgd_drivers.sim.signal import SyntheticEmg

MS = 1_000_000
EMG = SyntheticEmg(1, 4000)
START = 3


class BusTable:
    """A bus with an amplifier at 1-1 and a serial port at 1-2, and a clock."""

    IDENTITY = UsbIdentity(0x2341, 0x003E, "maker", "port", bcd_device=0x0203)

    def __init__(self):
        self.clock = Clock()
        self.bus = Bus()
        self.bus.add("amp", "emg8", lambda now_ns: Emg8UsbDevice(Emg8Model(EMG, serial="A1", now_ns=now_ns)), 0)
        self.bus.add("port", "cdc", lambda _: CdcAcmDevice(Loopback(), self.IDENTITY, "P1"), 0)

    def to(self, now_ns):
        self.clock.now_ns = now_ns
        for port in self.bus.ports:
            port.run(now_ns)
