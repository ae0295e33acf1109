"""The emulated bus on sockets: asyncio around conversations, deadlines and the control socket. All in one thread.

Deadlines are absolute: a device's next event is asked for anew after each, so being late once makes nothing later.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from emgd_drivers.sim.bus.control import MAX_LINE_BYTES, answer
from emgd_drivers.sim.bus.conversation import Conversation, PeerError
from emgd_drivers.sim.bus.port import Bus, Port
from emgd_drivers.sim.bus.usbip import UsbIpConversation
from emgd_drivers.sim.bus.usbredir import UsbRedirConversation

NS_PER_S: Final = 1_000_000_000

LOOPBACK: Final = "127.0.0.1"
"""TCP is served to this machine only: whoever can connect can do what a cable can."""

SOCKET_BYTES: Final = 1024 * 1024
"""Wanted room on the way to the host, as for many transfers in flight; the kernel may grant less."""

_log = logging.getLogger(__name__)


class BusServer:
    """Serves a bus. `stopped` is set by the word quit on the control socket."""

    def __init__(self, bus: Bus) -> None:
        self.bus: Final = bus
        self.stopped: Final = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._timers: dict[Port, asyncio.TimerHandle] = {}
        self._servers: list[asyncio.Server] = []
        self._paths: list[Path] = []
        self.links: set[_Link] = set()
        for port in bus.ports:
            port.changed = partial(self.wake, port)
            self.wake(port)

    async def listen_usbip_unix(self, path: Path) -> str:
        """USB/IP on a unix socket; says where it listens."""
        return await self._listen_unix(path, self._new_usbip_link, "usbip")

    async def listen_usbip_tcp(self, port: int) -> str:
        """USB/IP on a TCP port of this machine, 0 = any free one; says where it listens."""
        server = await self._loop.create_server(self._new_usbip_link, LOOPBACK, port)
        self._servers.append(server)
        return f"usbip=tcp:{LOOPBACK}:{server.sockets[0].getsockname()[1]}"

    async def listen_usbredir(self, folder: Path) -> str:
        """usbredir, for each device a unix socket NAME.sock in `folder`; says where it listens."""
        for port in self.bus.ports:
            make = partial(self._new_usbredir_link, port)
            await self._listen_unix(folder / f"{port.name}.sock", make, "usbredir")
        return f"usbredir=unix:{folder}/NAME.sock"

    def _new_usbredir_link(self, port: Port) -> "_Link":
        return _Link(self, UsbRedirConversation(port))

    def _new_usbip_link(self) -> "_Link":
        return _Link(self, UsbIpConversation(self.bus))

    async def listen_control(self, path: Path) -> str:
        """The control socket; says where it listens."""
        return await self._listen_unix(path, lambda: _ControlLink(self), "control")

    async def close(self) -> None:
        """Let go of all hosts and sockets."""
        for server in self._servers:
            server.close()
        for link in list(self.links):
            link.close()
        for server in self._servers:
            await server.wait_closed()
        for timer in self._timers.values():
            timer.cancel()
        for path in self._paths:
            path.unlink(missing_ok=True)

    def wake(self, port: Port) -> None:
        """Let a device run until now, tell its host, and come back when it next wants to."""
        port.run(time.monotonic_ns())
        if port.host is not None:
            port.host.deliver()
        self.schedule(port)

    def schedule(self, port: Port) -> None:
        """Come back at the device's next event."""
        next_ns = port.next_event_ns()
        timer = self._timers.get(port)
        when_s = None if next_ns is None else next_ns / NS_PER_S
        if timer is not None:
            if not timer.cancelled() and timer.when() == when_s:
                return
            timer.cancel()
            del self._timers[port]
        if when_s is not None:
            self._timers[port] = self._loop.call_at(when_s, self._due, port)

    def _due(self, port: Port) -> None:
        del self._timers[port]
        self.wake(port)

    async def _listen_unix(self, path: Path, make: Callable[[], asyncio.Protocol], what: str) -> str:
        self._servers.append(await self._loop.create_unix_server(make, os.fspath(path)))
        self._paths.append(path)
        return f"{what}=unix:{path}"


class _Link(asyncio.Protocol):
    """A conversation on a socket."""

    def __init__(self, server: BusServer, conversation: Conversation) -> None:
        self._server = server
        self._conversation = conversation
        self._transport: asyncio.Transport | None = None
        conversation.wake = self._flush

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - told to the type checker
        self._transport = transport
        self._server.links.add(self)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            self._conversation.receive(data, time.monotonic_ns())
        except PeerError as error:
            _log.warning("a host was cut off: %s", error)
            self.close()
            return
        self._flush()
        if self._conversation.port is not None:
            self._server.schedule(self._conversation.port)

    def connection_lost(self, _error: Exception | None) -> None:
        self._server.links.discard(self)
        port = self._conversation.port
        self._conversation.leave(time.monotonic_ns())
        if port is not None:
            self._server.schedule(port)

    def close(self) -> None:
        """End the conversation."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        out = self._conversation.output(time.monotonic_ns())
        if out:
            self._transport.write(out)
        if self._conversation.ended:
            self._transport.close()


class _ControlLink(asyncio.Protocol):
    """Somebody at the control socket: one line in, one line out."""

    def __init__(self, server: BusServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - told to the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - told to the type checker
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            said = answer(self._server.bus, line.decode("utf-8", "replace"), time.monotonic_ns())
            for port in self._server.bus.ports:  # Whatever was done, even a look may have let time pass.
                self._server.wake(port)
            self._transport.write(f"{said.text}\n".encode())
            if said.quits:
                self._server.stopped.set()
        if len(self._unread) > MAX_LINE_BYTES:
            self._transport.write(b"error a line is too long\n")
            self._transport.close()
