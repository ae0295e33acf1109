"""The blocking client: `with connect(name="scope") as client: for block in client.blocks("amp0/raw"): ...`.

There is no background thread. Replies, reports (once a second while an iterator is advanced) and the greeting of a
restarted service all happen in the caller's thread, inside the call that the caller made. A client belongs to one
thread. Ctrl-C ends any call with KeyboardInterrupt and leaves the client usable. A service that is started anew is
followed without a word: its blocks have another `session` and count from 0.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import zmq

from emgd_client.assembler import Tally
from emgd_client.commands import Command, Connect, Deliver, Door, Exclusive, Operation, Outcome, Receive, Send
from emgd_client.errors import ClientError
from emgd_client.messages import Block, Description, Impedance, Message
from emgd_client.session import TIMEOUT_S, FilterSettings, Pong, Session, topics_of
from emgd_client.sockets import Doors, poll_ms
from emgd_client.stimulator import Stimulator

T = TypeVar("T")


class Client:
    """A conversation with the service; made by `connect`. Every method may raise a ClientError."""

    def __init__(self, name: str, runtime_dir: Path | str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._doors: Doors[zmq.Socket[bytes]] = Doors(zmq.Context(), runtime_dir)
        self._session = Session(name, os.getpid(), self._doors.directory, timeout_s)
        self.stimulator = Stimulator(self._session, self._run)
        self._greeted = False
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> None:
        """Give our name to the service; `connect` has done so."""
        self._run(self._session.hello())
        self._greeted = True

    def close(self) -> None:
        """Take leave of the service and close all sockets; harmless when called again."""
        if self._closed:
            return
        try:
            if self._greeted:
                self._run(self._session.bye())
        finally:
            self._closed = True
            self._doors.close()

    def status(self) -> dict[str, Any]:
        """The service's figures, as docs/protocol.md section 6 lists them."""
        return self._run(self._session.call("status"))

    def version(self) -> dict[str, Any]:
        """`version` of the service's software and `protocol` that it speaks."""
        return self._run(self._session.call("version"))

    def help(self) -> list[dict[str, Any]]:
        """The verbs of the control socket: `verb`, `text`, `args` each."""
        return self._run(self._session.verbs())

    def ping(self) -> Pong:
        """Ask for a sign of life."""
        return self._run(self._session.ping())

    def streams(self) -> list[Description]:
        """Every data stream."""
        return self._run(self._session.streams())

    def describe(self, stream: str) -> Description:
        """One data stream, `amp0/raw` for example; raises RefusedError for one that is not there."""
        return self._run(self._session.describe(stream))

    def history(self, stream: str, seq: int, count: int) -> list[Block]:
        """Samples `seq … seq + count - 1` as far as they are in the history; RefusedError if nothing of them is."""
        return self._run(self._session.history(stream, seq, count))

    def set_filter(
        self, stream: str, channels: list[int] | None = None, **settings: Unpack[FilterSettings]
    ) -> dict[str, Any]:
        """Set the filter of some channels (None: of all); returns `from_seq` and the new maps of `channels`."""
        return self._run(self._session.set_filter(stream, channels, settings))

    def start_impedance(self, channels: list[int] | None = None) -> dict[str, Any]:
        """Begin an impedance check of some channels (None: of all): `check`, its number, `channels`, `ready_ns`.

        What it finds comes as Impedance messages. RefusedError: not_offered, not_streaming, busy, interlock, bad_value.
        """
        return self._run(self._session.start_impedance(channels))

    def stop_impedance(self) -> bool:
        """Give a running impedance check up, whoever began it; False if none ran."""
        return self._run(self._session.stop_impedance())

    def check_impedance(self, channels: list[int] | None = None, *, device: str = "amp0") -> Iterator[Impedance]:
        """Begin an impedance check and follow it to its end, some six seconds later.

        The last Impedance has the results, or says why there are none. To leave the iteration does not end the check:
        `stop_impedance` does.
        """
        return self._items(self._session.check_impedance(channels), (f"{device}/impedance",))

    def blocks(self, stream: str, *, backfill: bool = True, from_seq: int | None = None) -> Iterator[Block]:
        """The blocks of a stream, in order and none twice, until a recording has ended.

        What ZeroMQ drops because we are slow is fetched from the history, unless `backfill` is false. `from_seq` begins
        in the past: 0 is the first sample, and what the history no longer has of it stands in `dropped_before`. The
        stream is subscribed to when the first block is asked for.
        """
        operation = self._session.follow(stream, backfill=backfill, from_seq=from_seq)
        return self._items(operation, topics_of(stream))

    def messages(self, *topics: str) -> Iterator[Message]:
        """Every message whose topic begins with one of `topics` (none: all), as it comes; drops are not mended."""
        return self._items(self._session.listen(), topics or ("",))

    def tally(self, stream: str) -> Tally:
        """What `blocks(stream)` brought so far."""
        return replace(self._session.tallies.get(stream, Tally()))

    def _items(self, operation: Operation[None], topics: tuple[str, ...]) -> Iterator[Any]:
        """Subscribe, and hand out what an operation delivers."""
        answer: Any = None
        with self._doors.subscribe(topics) as subscriber:
            while True:
                try:
                    command = operation.send(answer)
                except StopIteration:
                    return
                answer = None
                if isinstance(command, Deliver):
                    yield command.item
                else:
                    answer = self._perform(command, subscriber)

    def _run(self, operation: Operation[T]) -> T:
        """Perform an operation that delivers nothing; what it returns."""
        answer: Any = None
        while True:
            try:
                command = operation.send(answer)
            except StopIteration as finish:
                result: T = finish.value
                return result
            answer = self._perform(command, self._doors.control)

    def _perform(self, command: Command, subscriber: zmq.Socket[bytes]) -> Any:
        """Do what a command says; its answer."""
        if self._closed:
            raise ClientError("this client is closed: connect again")
        match command:
            case Connect():
                return self._doors.connect()
            case Exclusive(operation):
                return self._run(operation)
            case Send(frame, timeout_s):
                ready = self._doors.control.poll(poll_ms(timeout_s), zmq.POLLOUT)
                if ready:
                    self._doors.control.send(frame)
                return Outcome(bool(ready), time.monotonic_ns())
            case Receive(door, timeout_s):
                socket = self._doors.control if door is Door.CONTROL else subscriber
                frames = socket.recv_multipart() if socket.poll(poll_ms(timeout_s)) else []
                return Outcome(bool(frames), time.monotonic_ns(), tuple(frames))


def connect(name: str, runtime_dir: Path | str | None = None, timeout_s: float = TIMEOUT_S) -> Client:
    """Connect to the service under `name` (1 to 64 printable characters), by which it shows our lag and drops.

    Without `runtime_dir` the rule of the protocol finds it. No reply is waited for longer than `timeout_s`.
    Raises ServiceNotRunningError, NoAnswerError or RefusedError.
    """
    client = Client(name, runtime_dir, timeout_s)
    try:
        client.open()
    except BaseException:
        client.close()
        raise
    return client
