"""A USB device opened: control transfers with pyusb, bulk IN with a source of its own for the sample loop."""

import errno
import time
from pathlib import Path
from typing import Any, Final

import usb.core
import usb.util

from emgd_drivers.api import DeviceError, DeviceLostError
from emgd_drivers.emg8.exchange import Emg8Exchange, Stall
from emgd_drivers.emg8.protocol import Direction, Setup, request_name
from emgd_drivers.usb.errors import device_error
from emgd_drivers.usb.finder import FoundDevice
from emgd_drivers.usb.libusb import Libusb
from emgd_drivers.usb.plan import USBFS_MEMORY_MB, TransferPlan, plan_transfers
from emgd_ext.usb import BulkSource

INTERFACE: Final = 0
FRAMES_IN: Final = 0x81

CONTROL_TIMEOUT_MS: Final = 1000
"""A device answers within a few milliseconds; USB 2.0 (9.2.6.4) allows it 500 ms for data."""

QUIET_MS: Final = 50
"""A device that was stopped and has sent nothing for so long has nothing left to send."""

DRAIN_S: Final = 2.0
"""Longest time to throw away what a stopped device still has: its memory holds a quarter of a second as a rule."""

DRAIN_PLAN: Final = TransferPlan(16, 65536)
"""Longer than any frame, and many short ones at once."""

USBFS_MEMORY_FILE: Final = Path("/sys/module/usbcore/parameters/usbfs_memory_mb")


class UsbTransport(Emg8Exchange):
    """Opens `found` without resetting it; it is configured only where nobody has done so. DeviceError says why not."""

    def __init__(self, found: FoundDevice, libusb: Libusb) -> None:
        self._found = found
        self._libusb = libusb
        self._device: Any = found.handle
        self._source: BulkSource | None = None
        self._closed = False
        try:
            self._packet_bytes = self._configured()
        except BaseException:
            self.close()
            raise

    def source(self, transfers_per_s: float, transfer_bytes: int, /) -> BulkSource:
        """Bulk IN with 100 ms worth of transfers in flight from now on. DeviceError when it was handed over before."""
        if self._source is not None:
            raise DeviceError(f"{self._found}: its bulk endpoint was handed over before; open the device again")
        plan = plan_transfers(
            transfers_per_s, transfer_bytes, packet_bytes=self._packet_bytes, usbfs_memory_mb=usbfs_memory_mb()
        )
        self._source = self._open_source(plan)
        return self._source

    def drain(self) -> int:
        """Throw away what the device, stopped before, still has to send. Returns how many bytes that was."""
        give_up_s = time.monotonic() + DRAIN_S
        source = self._open_source(DRAIN_PLAN)
        discarded = 0
        try:
            while (transfer := source.receive(QUIET_MS)) is not None:
                discarded += len(transfer)
                if time.monotonic() > give_up_s:
                    raise DeviceError(
                        f"{self._found} goes on sending after it was stopped; unplug it, plug it in again"
                    )
        except EOFError:
            raise DeviceLostError(f"{self._found} is gone; plug it in again") from None
        finally:
            source.close()
        return discarded

    def close(self) -> None:
        """Let go of the device, and of its bulk endpoint too; harmless when called again."""
        if self._closed:
            return
        self._closed = True
        if self._source is not None:
            self._source.close()
        usb.util.dispose_resources(self._device)

    def _exchange(self, setup: Setup, data: bytes) -> bytes:
        what = request_name(setup.request)
        if self._closed:
            raise DeviceLostError(f"{self._found} was closed (at {what}); open it again")
        fields = (setup.direction, setup.request, setup.value, setup.index)
        payload = setup.length if setup.direction == Direction.IN else data
        # A machine that stood still may find the time-out and the answer at once. Asking again does no harm, telling
        # again might: START twice begins anew.
        tries = 2 if setup.direction == Direction.IN else 1
        while True:
            tries -= 1
            try:
                answer = self._device.ctrl_transfer(*fields, payload, CONTROL_TIMEOUT_MS)
            except usb.core.USBError as error:
                if error.errno == errno.EPIPE:
                    raise Stall from None
                if error.errno != errno.ETIMEDOUT or not tries:
                    raise self._error(error, what) from None
            else:
                return bytes(answer) if setup.direction == Direction.IN else b""

    def _configured(self) -> int:
        """See that the device has a configuration. Returns the packet size of its bulk endpoint in bytes."""
        try:
            try:
                configuration = self._device.get_active_configuration()
            except usb.core.USBError as error:
                if error.backend_error_code is not None:
                    raise
                self._device.set_configuration()  # pyusb itself says that there is none
                configuration = self._device.get_active_configuration()
        except usb.core.USBError as error:
            raise self._error(error, "opening it") from None
        endpoint = usb.util.find_descriptor(configuration[(INTERFACE, 0)], bEndpointAddress=FRAMES_IN)
        if endpoint is None:
            raise DeviceError(f"{self._found} has no endpoint 0x{FRAMES_IN:02x}; is it the device that it says it is?")
        return int(endpoint.wMaxPacketSize)

    def _open_source(self, plan: TransferPlan) -> BulkSource:
        place = (self._found.bus, self._found.address, INTERFACE, FRAMES_IN)
        try:
            return BulkSource(self._libusb.path, *place, plan.transfers, plan.transfer_bytes)
        except OSError as error:
            raise self._error(error, "opening its bulk endpoint") from None

    def _error(self, error: OSError, doing: str) -> DeviceError:
        return device_error(error, str(self._found), self._found.node, doing)


def usbfs_memory_mb() -> int:
    """The kernel's bound on the memory of USB transfers in MiB, 0 = none."""
    try:
        return int(USBFS_MEMORY_FILE.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return USBFS_MEMORY_MB
