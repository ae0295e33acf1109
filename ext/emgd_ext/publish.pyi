"""The publish thread: blocks and events from the ring to the XPUB socket."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from emgd_ext.ring import Ring

Template: TypeAlias = tuple[bytes, dict[str, int]]
"""MessagePack bytes and where in them the fixed-width fields lie."""

class Publisher:
    """Publisher of one ring on one XPUB socket."""

    def __init__(self, socket: int, functions: Mapping[str, int]) -> None: ...
    def add_stream(self, topic: bytes, header: Template, plane: int, flag_mask: int) -> None:
        """Publish a plane of the ring; only flags in `flag_mask` concern it."""
    def set_gaps(self, topic: bytes, header: Template, payloads: Sequence[Template]) -> None:
        """Publish gaps; one payload template per set of causes, in the order of the sets' numbers."""
    def set_marks(self, topic: bytes, header: Template, payloads: Sequence[Template]) -> None:
        """Publish marks; one payload template per mark code."""
    def attach(self, ring: Ring, notify_fd: int, queue_blocks: int) -> None:
        """Publish this ring from now on, once; also while the thread runs."""
    def post(self, topic: bytes, header: bytes, payload: bytes, keep: bool = False) -> None:
        """Send a message that was packed elsewhere; a kept one greets new subscribers. From any thread."""
    def stop(self) -> None:
        """Ask `run` to return once everything in the ring and the outbox is sent."""
    def run(self) -> None:
        """Publish until `stop`."""
    def stats(self) -> dict[str, Any]:
        """Figures since start."""
