"""Clients that gave their name: where each of them is, so that lag and drops are known on both sides.

libzmq hides what a slow subscriber loses; the subscriber knows, and reports it here.
"""

from dataclasses import dataclass, field
from typing import Any, Final

MAX_CLIENTS: Final = 256
"""Bound of memory and of the status table; a cart has a handful."""

FORGET_AFTER_S: Final = 30.0
"""Silence after which a name is dropped: a client reports once a second."""


class TooManyClientsError(RuntimeError):
    """No room for another name."""


@dataclass(slots=True)
class Progress:
    """How far a client is with one stream."""

    next_seq: int
    dropped: int
    backfilled: int


@dataclass(slots=True)
class Client:
    """One named client."""

    number: int
    name: str
    pid: int | None
    heard_ns: int
    streams: dict[str, Progress] = field(default_factory=dict)


class Clients:
    """Registry by ZeroMQ routing id. Time comes in as an argument."""

    def __init__(self) -> None:
        self._clients: dict[bytes, Client] = {}
        self._named = 0

    def hello(self, routing_id: bytes, name: str, pid: int | None, now_ns: int) -> Client:
        """Note a name (again); TooManyClientsError when the table is full."""
        self.forget_silent(now_ns)
        known = self._clients.get(routing_id)
        if known is None and len(self._clients) >= MAX_CLIENTS:
            raise TooManyClientsError(f"{MAX_CLIENTS} clients are known already")
        if known is None:
            self._named += 1
        client = Client(known.number if known else self._named, name, pid, now_ns)
        self._clients[routing_id] = client
        return client

    def heard(self, routing_id: bytes, now_ns: int) -> None:
        """Any request keeps a name."""
        if client := self._clients.get(routing_id):
            client.heard_ns = now_ns

    def name_of(self, routing_id: bytes) -> str:
        """Its name, for people."""
        client = self._clients.get(routing_id)
        return client.name if client else "a client without a name"

    def report(self, routing_id: bytes, stream: str, progress: Progress) -> bool:
        """Note where a client is; False when it never said its name."""
        client = self._clients.get(routing_id)
        if client is None:
            return False
        client.streams[stream] = progress
        return True

    def bye(self, routing_id: bytes) -> None:
        """Forget a client."""
        self._clients.pop(routing_id, None)

    def forget_silent(self, now_ns: int) -> None:
        """Forget who was not heard for FORGET_AFTER_S."""
        for routing_id, client in list(self._clients.items()):
            if now_ns - client.heard_ns > FORGET_AFTER_S * 1e9:
                del self._clients[routing_id]

    def as_list(self, now_ns: int, heads: dict[str, int]) -> list[dict[str, Any]]:
        """The `clients` list of `status`; `heads` maps stream ids to the next sample number."""
        return [
            {
                "client": client.number,
                "name": client.name,
                "pid": client.pid,
                "age_s": (now_ns - client.heard_ns) / 1e9,
                "streams": {
                    stream: {
                        "next_seq": progress.next_seq,
                        "lag_samples": max(0, heads[stream] - progress.next_seq),
                        "dropped": progress.dropped,
                        "backfilled": progress.backfilled,
                    }
                    for stream, progress in client.streams.items()
                },
            }
            for client in self._clients.values()
        ]
