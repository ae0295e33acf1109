"""Which libusb is used: the system's, else the one that PyPI's `libusb-package` brings.

The system's comes first because it hears of plugging through udev. EMGD_LIBUSB names another one, to try it out.
"""

import os
from dataclasses import dataclass
from typing import Any, Final

import usb.backend.libusb1

from emgd_drivers.api import DeviceError
from emgd_ext.usb import libusb_version

SYSTEM_LIBRARY: Final = "libusb-1.0.so.0"
OVERRIDE: Final = "EMGD_LIBUSB"


@dataclass(frozen=True, slots=True)
class Libusb:
    """A libusb that can be loaded. `origin` tells in words where it is from."""

    path: str
    version: str
    origin: str

    def backend(self) -> Any:
        """Pyusb's backend on this library. It is made once in a process: a second library comes too late."""
        backend = usb.backend.libusb1.get_backend(find_library=lambda _name: self.path)
        if backend is None:
            raise DeviceError(f"libusb {self.version} ({self.path}) cannot be used by pyusb; install another one")
        return backend


def find_libusb() -> Libusb:
    """The libusb to use. DeviceError, one line, when there is none."""
    override = os.environ.get(OVERRIDE)
    if override:
        try:
            return Libusb(override, libusb_version(override), OVERRIDE)
        except OSError as error:
            raise DeviceError(f"{OVERRIDE}: {error.strerror}; name another file or unset it") from None
    problems = []
    for path, origin in ((SYSTEM_LIBRARY, "the system"), (packaged_library(), "libusb-package")):
        if path is not None:
            try:
                return Libusb(path, libusb_version(path), origin)
            except OSError as error:
                problems.append(str(error.strerror))
    raise DeviceError(
        f"no libusb: {'; '.join(problems)}; run: sudo apt install libusb-1.0-0, or: pip install libusb-package"
    )


def packaged_library() -> str | None:
    """The file that libusb-package brings, None where that is not installed."""
    try:
        import libusb_package  # noqa: PLC0415 - looked for only where the system has no libusb
    except ImportError:
        return None
    path = libusb_package.get_library_path()
    return None if path is None else str(path)
