"""Which devices are on the bus: found by vendor, product and serial number."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import usb.core
import usb.util

from emgd_drivers.api import DeviceError, DeviceNotFoundError
from emgd_drivers.usb.errors import LOST, device_error


@dataclass(frozen=True, slots=True)
class UsbKind:
    """A family of devices: its name, idVendor and idProduct."""

    name: str
    vendor: int
    product: int

    def __str__(self) -> str:
        return f"{self.name} (USB {self.vendor:04x}:{self.product:04x})"


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device on the bus. `problem` is why its serial number could not be read; then `serial` is empty.

    `handle` is pyusb's; nothing is open yet.
    """

    kind: UsbKind
    serial: str
    bus: int
    address: int
    handle: Any = field(repr=False, compare=False)
    problem: OSError | None = None

    def __str__(self) -> str:
        return f"{self.kind.name} {self.serial or '(serial number unknown)'}"

    @property
    def node(self) -> str:
        """Its file."""
        return f"/dev/bus/usb/{self.bus:03}/{self.address:03}"


def find_device(kind: UsbKind, serial: str | None, backend: Any) -> FoundDevice:
    """The device with this serial number, or the only one there is (None).

    DeviceNotFoundError says what was looked for and what is there; DevicePermissionError that it may be one which
    this user may not open; DeviceError that there are several to choose from.
    """
    present = find_devices(kind, backend)
    known = [device for device in present if device.serial]
    unknown = [device for device in present if device.problem is not None]
    matching = present if serial is None else [device for device in known if device.serial == serial]
    if len(matching) > 1:
        what = f"{len(matching)} devices {kind} are connected" if serial is None else f"{kind} {serial} is there twice"
        remedy = "say which one with its serial number" if serial is None else "give each a serial number of its own"
        raise DeviceError(f"{what}: {_listed(matching)}; {remedy}")
    if matching and matching[0].problem is None:
        return matching[0]
    if unknown and unknown[0].problem is not None:
        raise device_error(unknown[0].problem, str(unknown[0]), unknown[0].node, "reading its serial number")
    wanted = f"no {kind}" + (f" with serial number {serial}" if serial else "") + " is connected"
    there = f"; connected: {_listed(known)}" if known else ""
    raise DeviceNotFoundError(f"{wanted}{there}; look at cable and power, and at: lsusb -d {kind.vendor:04x}:")


def find_devices(kind: UsbKind, backend: Any) -> list[FoundDevice]:
    """All devices of a kind, in the order of their serial numbers."""
    handles = usb.core.find(find_all=True, idVendor=kind.vendor, idProduct=kind.product, backend=backend)
    found = [device for handle in handles if (device := _found(kind, handle))]
    return sorted(found, key=lambda device: (device.serial, device.bus, device.address))


def _found(kind: UsbKind, handle: Any) -> FoundDevice | None:
    """A device and its serial number; None when it has just left."""
    place = (handle.bus, handle.address, handle)
    try:
        serial = _serial(handle)
    except usb.core.USBError as error:
        return None if error.errno in LOST else FoundDevice(kind, "", *place, error)
    finally:
        usb.util.dispose_resources(handle)
    return FoundDevice(kind, serial, *place)


def _serial(handle: Any) -> str:
    """The serial number, "" for a device without one. pyusb's own property hides why it cannot be read."""
    languages = usb.util.get_langids(handle) if handle.iSerialNumber else ()
    if not languages:
        return ""
    return str(usb.util.get_string(handle, handle.iSerialNumber, languages[0]))


def _listed(devices: Iterable[FoundDevice]) -> str:
    return ", ".join(f"{device.serial or 'without serial number'} at {device.node}" for device in devices)
