"""The emg8 amplifier as a USB device: docs/devices/emg8.md, section 1, around the byte-level model."""

from functools import partial
from typing import Final

from emgd_drivers.api import DeviceLostError
from emgd_drivers.emg8.exchange import Stall
from emgd_drivers.emg8.protocol import STATUS, Direction, Request, Setup, Status
from emgd_drivers.sim.bus.descriptors import DeviceDescription, Endpoint, Interface
from emgd_drivers.sim.bus.usb_device import RequestRefused, SetupPacket, UsbDevice
from emgd_drivers.sim.model import Emg8Model

VENDOR: Final = 0x1209
PRODUCT: Final = 0x0001
MANUFACTURER: Final = "emgd project"
PRODUCT_NAME: Final = "emg8"
VENDOR_SPECIFIC: Final = 0xFF
FRAMES_IN: Final = 0x81

_REQUEST_TYPES: Final = frozenset(Direction)


def emg8_description(serial: str) -> DeviceDescription:
    """What an emg8 with this serial number says of itself."""
    return DeviceDescription(
        vendor=VENDOR,
        product=PRODUCT,
        class_code=VENDOR_SPECIFIC,
        strings=(MANUFACTURER, PRODUCT_NAME, serial),
        interfaces=(Interface(0, VENDOR_SPECIFIC, endpoints=(Endpoint(FRAMES_IN),)),),
    )


class Emg8UsbDevice(UsbDevice):
    """An emg8 on a bus. One frame is one transfer; what the host does not ask for waits in the device's FIFO."""

    stream_in = FRAMES_IN

    def __init__(self, model: Emg8Model) -> None:
        super().__init__(emg8_description(model.serial))
        self._model = model
        model.connect(partial(self._send, FRAMES_IN))

    @property
    def unplugged(self) -> bool:
        """Did the model's fault plan pull the cable?"""
        return self._model.unplugged

    def report(self, now_ns: int) -> dict[str, int | str]:
        """State, samples and losses as the device itself counts them since START."""
        if self.unplugged:
            return {}
        setup = Setup(Direction.IN, Request.GET_STATUS, 0, 0, STATUS.size)
        status = Status.unpack(self._model.control(setup.pack(), b"", now_ns))
        return {
            "state": status.state.name.lower(),
            "frames": status.frames,
            "samples": status.samples,
            "fifo_lost_frames": self._model.discarded_frames,
            "fifo_lost_samples": status.overflowed_samples,
        }

    def _run(self, now_ns: int) -> None:
        self._model.run(now_ns)

    def _next_ns(self) -> int | None:
        return self._model.next_event_ns()

    def _answer(self, setup: SetupPacket, data: bytes, now_ns: int) -> bytes:
        if setup.request_type not in _REQUEST_TYPES:
            raise RequestRefused
        try:
            return self._model.control(setup.pack(), data, now_ns)
        except (Stall, DeviceLostError):
            raise RequestRefused from None

    def _on_reset(self, now_ns: int) -> None:
        self._model.reset(now_ns)
