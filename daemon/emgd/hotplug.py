"""News of udev: a device was plugged in, so look for it now instead of at the next try.

Nothing hangs on it: without libudev (a container, a stripped system) the connection looks every few seconds all the
same.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

log = logging.getLogger("emgd.hotplug")

ARRIVALS: Final = frozenset({"add", "bind", "change"})
"""udev's words for a device that is there, has its driver, or has new rights."""


class Hotplug:
    """Listens for devices of some udev subsystems. `fileno` is None where there is no udev to listen to."""

    def __init__(self, subsystems: Sequence[str]) -> None:
        self._monitor: Any = None
        if not subsystems:
            return
        try:
            import pyudev  # noqa: PLC0415 - needs libudev, and only hardware needs it

            self._monitor = pyudev.Monitor.from_netlink(pyudev.Context())
            for subsystem in subsystems:
                self._monitor.filter_by(subsystem)
            self._monitor.start()
        except (ImportError, OSError) as error:
            log.info("no news of udev (%s): a device that is plugged in is found within seconds", error)

    @property
    def fileno(self) -> int | None:
        """Descriptor that is readable when there is news."""
        return None if self._monitor is None else int(self._monitor.fileno())

    def arrived(self) -> bool:
        """Take the news; has something come that could be our device?"""
        found = False
        while self._monitor is not None and (device := self._monitor.poll(timeout=0)) is not None:
            found = found or device.action in ARRIVALS
        return found
