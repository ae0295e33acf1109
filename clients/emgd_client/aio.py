"""The asyncio client: `async with connect(name="scope") as client: async for block in client.blocks("amp0/raw"): ...`.

The methods of `emgd_client.client.Client`, to be awaited; the logic is the same `session`. There is no background task:
reports are sent while an iterator is advanced. Several tasks may share one client. A task that ends before its iterator
did should close it (`contextlib.aclosing`), as with every asynchronous generator.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import zmq
import zmq.asyncio

from emgd_client.assembler import Tally
from emgd_client.commands import Command, Connect, Deliver, Door, Exclusive, Operation, Outcome, Receive, Send
from emgd_client.errors import ClientError
from emgd_client.messages import Block, Description, Impedance, Message
from emgd_client.session import TIMEOUT_S, FilterSettings, Pong, Session, topics_of
from emgd_client.sockets import Doors, poll_ms
from emgd_client.stimulator import AsyncStimulator

T = TypeVar("T")


class AsyncClient:
    """A conversation with the service; made by `connect`. What a method does stands at Client's method of its name."""

    def __init__(self, name: str, runtime_dir: Path | str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self._doors: Doors[zmq.asyncio.Socket] = Doors(zmq.asyncio.Context(), runtime_dir)
        self._session = Session(name, os.getpid(), self._doors.directory, timeout_s)
        self._control_lock = asyncio.Lock()
        self.stimulator = AsyncStimulator(self._session, self._run)
        self._greeted = False
        self._closed = False

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Give our name to the service; entering the client's `async with` does so."""
        await self._run(self._session.hello())
        self._greeted = True

    async def close(self) -> None:
        """Take leave of the service and close all sockets; harmless when called again."""
        if self._closed:
            return
        try:
            if self._greeted:
                await self._run(self._session.bye())
        finally:
            self._closed = True
            self._doors.close()

    async def status(self) -> dict[str, Any]:
        """The service's figures."""
        return await self._run(self._session.call("status"))

    async def version(self) -> dict[str, Any]:
        """Version of the software and of the protocol."""
        return await self._run(self._session.call("version"))

    async def help(self) -> list[dict[str, Any]]:
        """The verbs of the control socket."""
        return await self._run(self._session.verbs())

    async def ping(self) -> Pong:
        """Ask for a sign of life."""
        return await self._run(self._session.ping())

    async def streams(self) -> list[Description]:
        """Every data stream."""
        return await self._run(self._session.streams())

    async def describe(self, stream: str) -> Description:
        """One data stream."""
        return await self._run(self._session.describe(stream))

    async def history(self, stream: str, seq: int, count: int) -> list[Block]:
        """Samples of the past."""
        return await self._run(self._session.history(stream, seq, count))

    async def set_filter(
        self, stream: str, channels: list[int] | None = None, **settings: Unpack[FilterSettings]
    ) -> dict[str, Any]:
        """Set the filter of some channels or of all."""
        return await self._run(self._session.set_filter(stream, channels, settings))

    async def start_impedance(self, channels: list[int] | None = None) -> dict[str, Any]:
        """Begin an impedance check of some channels or of all."""
        return await self._run(self._session.start_impedance(channels))

    async def stop_impedance(self) -> bool:
        """Give a running impedance check up; False if none ran."""
        return await self._run(self._session.stop_impedance())

    def check_impedance(
        self, channels: list[int] | None = None, *, device: str = "amp0"
    ) -> AsyncGenerator[Impedance, None]:
        """Begin an impedance check and follow it to its end."""
        return self._items(self._session.check_impedance(channels), (f"{device}/impedance",))

    def blocks(self, stream: str, *, backfill: bool = True, from_seq: int | None = None) -> AsyncGenerator[Block, None]:
        """The blocks of a stream, in order and none twice, until a recording has ended."""
        operation = self._session.follow(stream, backfill=backfill, from_seq=from_seq)
        return self._items(operation, topics_of(stream))

    def messages(self, *topics: str) -> AsyncGenerator[Message, None]:
        """Every message whose topic begins with one of `topics`, as it comes."""
        return self._items(self._session.listen(), topics or ("",))

    def tally(self, stream: str) -> Tally:
        """What `blocks(stream)` brought so far."""
        return replace(self._session.tallies.get(stream, Tally()))

    async def _items(self, operation: Operation[None], topics: tuple[str, ...]) -> AsyncGenerator[Any, None]:
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
                    answer = await self._perform(command, subscriber)

    async def _run(self, operation: Operation[T]) -> T:
        """Perform an operation that delivers nothing; what it returns."""
        answer: Any = None
        while True:
            try:
                command = operation.send(answer)
            except StopIteration as finish:
                result: T = finish.value
                return result
            answer = await self._perform(command, self._doors.control)

    async def _perform(self, command: Command, subscriber: zmq.asyncio.Socket) -> Any:
        """Do what a command says; its answer."""
        if self._closed:
            raise ClientError("this client is closed: connect again")
        match command:
            case Connect():
                return self._doors.connect()
            case Exclusive(operation):
                async with self._control_lock:
                    return await self._run(operation)
            case Send(frame, timeout_s):
                control = self._doors.control
                ready = await control.poll(poll_ms(timeout_s), zmq.POLLOUT)  # type: ignore[call-arg]  # pyzmq's stub lacks flags
                if ready:
                    await control.send(frame)
                return Outcome(bool(ready), time.monotonic_ns())
            case Receive(door, timeout_s):
                socket = self._doors.control if door is Door.CONTROL else subscriber
                frames = await socket.recv_multipart() if await socket.poll(poll_ms(timeout_s)) else []
                return Outcome(bool(frames), time.monotonic_ns(), tuple(frames))


def connect(name: str, runtime_dir: Path | str | None = None, timeout_s: float = TIMEOUT_S) -> AsyncClient:
    """A client that connects when its `async with` is entered; see `emgd_client.connect` for the arguments."""
    return AsyncClient(name, runtime_dir, timeout_s)
