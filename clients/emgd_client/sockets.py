"""The two sockets of a client, set up alike for the blocking and the asyncio side."""

import math
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import zmq

from emgd_wire.paths import CONTROL_SOCKET, control_endpoint, runtime_dir, stream_endpoint

RECEIVE_QUEUE_MESSAGES: Final = 1000
"""Messages that may wait unread for one iterator: 2 s of 2 ms blocks. More are dropped and fetched from the history."""

PROBE_TIMEOUT_S: Final = 0.5
"""Longest wait for the kernel to connect a local socket; it takes microseconds unless the service's queue is full."""

S = TypeVar("S", bound=zmq.Socket[Any])


def poll_ms(timeout_s: float) -> int:
    """A timeout as ZeroMQ wants it, rounded up: half a millisecond is not "do not wait"."""
    return math.ceil(timeout_s * 1000)


class Doors(Generic[S]):
    """The service's doors in one runtime directory, from outside; `context` decides between blocking and asyncio."""

    def __init__(self, context: zmq.Context[S], directory: Path | str | None) -> None:
        self.directory = runtime_dir() if directory is None else Path(directory)
        self._context = context
        self.control: S = self._open_control()

    def connect(self) -> OSError | None:
        """Open the control socket anew, forgetting what is queued in it. Returns why nobody listens there, or None."""
        self.control.close(linger=0)
        self.control = self._open_control()
        return self._why_nobody_listens()

    def subscribe(self, topics: Iterable[str]) -> S:
        """A new stream socket that gets all topics beginning with one of `topics`; the caller closes it."""
        subscriber = self._context.socket(zmq.SUB)
        subscriber.set_hwm(RECEIVE_QUEUE_MESSAGES)
        subscriber.linger = 0
        for topic in topics:
            subscriber.subscribe(topic)
        subscriber.connect(stream_endpoint(self.directory))
        return subscriber

    def close(self) -> None:
        """Close every socket that was opened here, those of unfinished iterators too."""
        self._context.destroy(linger=0)

    def _open_control(self) -> S:
        control = self._context.socket(zmq.DEALER)
        control.linger = 0
        # Without a connection a request is refused at once instead of queued: it must not be obeyed by a later service.
        control.immediate = True
        control.connect(control_endpoint(self.directory))
        return control

    def _why_nobody_listens(self) -> OSError | None:
        """ZeroMQ connects in the background and keeps silent about failures, so the kernel is asked."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_TIMEOUT_S)
            try:
                probe.connect(str(self.directory / CONTROL_SOCKET))
            except OSError as error:
                return error
        return None
