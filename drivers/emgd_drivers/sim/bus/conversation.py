"""What all ways to carry a device to a host have in common: one conversation with one host, bytes in, bytes out.

A conversation does no I/O and reads no clock; `server.py` joins it to a socket.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from emgd_drivers.sim.bus.pipe import Completion
from emgd_drivers.sim.bus.port import Port
from emgd_drivers.sim.bus.usb_device import UsbDevice

MAX_TRANSFER_BYTES: Final = 1024 * 1024
"""No host asks for more at once; whoever does speaks something else, or wants our memory."""

MAX_IN_FLIGHT: Final = 4096
"""Most requests of one host that may wait: seconds of any stream."""


Wake = Callable[[], None]
"""Called when there may be something to send."""


class PeerError(Exception):
    """What the peer sent cannot be understood, or breaks the rules; the conversation is over."""


class Conversation(ABC):
    """One host at the other end of a connection. `ended` tells that nothing more will be said.

    `wake` is called when there may be output although nothing was received.
    """

    def __init__(self) -> None:
        self.ended = False
        self.wake: Wake = _nobody_listens
        self._unread = bytearray()
        self._out: list[bytes] = []
        self._port: Port | None = None
        self._device: UsbDevice | None = None

    def receive(self, data: bytes, now_ns: int) -> None:
        """Bytes from the peer, cut anywhere. PeerError when they make no sense."""
        self._unread += data
        at = 0
        while not self.ended and (taken := self._take(self._unread, at, now_ns)):
            at += taken
        del self._unread[:at]

    def output(self, now_ns: int) -> bytes:
        """What is to be sent now. `ended` is up to date afterwards."""
        self._fetch(now_ns)
        if self._device is not None and self._port is not None and self._port.device is not self._device:
            self.ended = True
        out, self._out = self._out, []
        return b"".join(out)

    def leave(self, now_ns: int) -> None:
        """The connection is gone."""
        self.ended = True
        if self._port is not None:
            self._port.detach(self, now_ns)

    def deliver(self) -> None:
        """Called by the port."""
        self.wake()

    @property
    def port(self) -> Port | None:
        """Where the host's device is plugged in; None before it has chosen one."""
        return self._port

    @abstractmethod
    def _take(self, data: bytearray, at: int, now_ns: int) -> int:
        """Do what the message at `at` says; its length, or 0 when it is not complete."""

    @abstractmethod
    def _say(self, done: Completion) -> None:
        """Tell the peer how a request ended."""

    def _attach(self, port: Port) -> UsbDevice:
        """Take a port's device; BusError when it cannot be had."""
        device = port.attach(self)
        self._port, self._device = port, device
        return device

    def _fetch(self, now_ns: int) -> None:
        """Put into words what ended by now."""
        # What is said may end further requests at once, so ask again.
        while self._device is not None and (ended := self._device.drain(now_ns)):
            for done in ended:
                self._say(done)


def _nobody_listens() -> None:
    """Of a conversation without a socket."""
