"""A serial adapter with a loop-back plug: what is written comes back. The simplest serial model there is.

It stands for a device where only the way to it is of interest: enumeration, plugging, two devices at once.
"""

from collections.abc import Mapping
from typing import Any, Final

from emgd_drivers.fields import Field
from emgd_drivers.sim.serial_model import SendBytes

MEMORY_BYTES: Final = 65536
"""What does not fit is lost, as in an adapter whose host does not read."""

FIELDS: Final = (Field("serial", str, "serial number", "LOOP-000001", 1, 32),)


class Loopback:
    """Sends back what it receives."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._send: SendBytes = _nobody

    @property
    def blocked(self) -> bool:
        """Does something wait only for the host to take it?"""
        return bool(self._waiting)

    def connect(self, send: SendBytes) -> None:
        """Hand bytes to `send` from now on."""
        self._send = send

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the host."""
        self._waiting += data[: MEMORY_BYTES - len(self._waiting)]
        self.run(now_ns)

    def run(self, _now_ns: int) -> None:
        """Hand over what the host takes."""
        while self._waiting and (taken := self._send(bytes(self._waiting))):
            del self._waiting[:taken]

    def next_event_ns(self) -> int | None:
        """Nothing happens by itself."""
        return None


def make_model(_options: Mapping[str, Any], _now_ns: int) -> Loopback:
    """The model for a device of the bus."""
    return Loopback()


def _nobody(_data: bytes) -> int:
    return 0
