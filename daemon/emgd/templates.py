"""MessagePack bytes with fixed-width holes: packed once here, patched in place per message by emgd_ext.publish.

A hole is an unsigned 32- or 64-bit integer in its full width (0xce, 0xcf), a signed 32-bit one (0xd2), or a binary of
fixed length.
"""

from typing import Any, Final

import msgpack

from emgd_wire.kinds import CAUSES, DTYPE_EVENT, MARK_CODES, Kind
from emgd_wire.version import PROTOCOL

Template = tuple[bytes, dict[str, int]]
"""MessagePack bytes, and where in them the holes lie."""

_UINT32: Final = b"\xce"
_UINT64: Final = b"\xcf"
_INT32: Final = b"\xd2"


class _Map:
    """A MessagePack map under construction, with the places of its holes."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(msgpack.Packer().pack_map_header(size))
        self.places: dict[str, int] = {}

    def fixed(self, key: str, value: Any) -> None:
        self.data += msgpack.packb(key) + msgpack.packb(value, use_bin_type=True)

    def hole(self, key: str, marker: bytes, size: int) -> None:
        self.data += msgpack.packb(key) + marker
        self.places[key] = len(self.data)
        self.data += bytes(size)

    def count(self, size: int) -> None:
        self.hole("count", _UINT64 if size == 8 else _UINT32, size)
        self.places["count_bytes"] = size

    def template(self) -> Template:
        return bytes(self.data), self.places


def block_header(kind: Kind, session: str, stream: str, channels: int, dtype: str) -> Template:
    """Header of a data block, all twelve fields."""
    header = _Map(12)
    _start(header, kind, session, stream)
    header.count(4)
    header.fixed("channels", channels)
    header.fixed("dtype", dtype)
    header.hole("host_time_ns", _UINT64, 8)
    header.hole("flags", _UINT32, 4)
    header.hole("gap_before", _UINT64, 8)
    marker = b"\xc4" + channels.to_bytes(1, "big") if channels < 256 else b"\xc5" + channels.to_bytes(2, "big")
    header.hole("channel_flags", marker, channels)
    return header.template()


def event_header(kind: Kind, session: str, stream: str) -> Template:
    """Header of a gap or a mark."""
    header = _Map(10)
    _start(header, kind, session, stream)
    header.count(8 if kind is Kind.GAP else 4)
    header.fixed("channels", 0)
    header.fixed("dtype", DTYPE_EVENT)
    header.hole("host_time_ns", _UINT64, 8)
    header.fixed("flags", 0)
    return header.template()


def _start(header: _Map, kind: Kind, session: str, stream: str) -> None:
    header.fixed("v", PROTOCOL)
    header.fixed("kind", kind.value)
    header.fixed("session", session)
    header.fixed("stream", stream)
    header.hole("seq", _UINT64, 8)


def causes_in(causes: int) -> list[str]:
    """Names of the causes in a set."""
    return [name for bit, name in enumerate(CAUSES) if causes >> bit & 1]


def gap_payloads() -> list[Template]:
    """Payload of a gap for every set of causes."""
    payloads = []
    for causes in range(1 << len(CAUSES)):
        payload = _Map(3)
        payload.hole("seq", _UINT64, 8)
        payload.count(8)
        payload.fixed("causes", causes_in(causes))
        payloads.append(payload.template())
    return payloads


def mark_payloads() -> list[Template]:
    """Payload of a mark for every code."""
    payloads = []
    for code in MARK_CODES:
        payload = _Map(4)
        payload.hole("seq", _UINT64, 8)
        payload.fixed("code", code)
        payload.hole("value", _INT32, 4)
        payload.hole("channel", _UINT32, 4)
        payloads.append(payload.template())
    return payloads


def posted_header(kind: Kind, session: str, stream: str, seq: int, host_time_ns: int, count: int = 0) -> bytes:
    """Header of a message that Python packs whole: clock, state, impedance, description."""
    header: bytes = msgpack.packb(
        {
            "v": PROTOCOL,
            "kind": kind.value,
            "session": session,
            "stream": stream,
            "seq": seq,
            "count": count,
            "channels": 0,
            "dtype": DTYPE_EVENT,
            "host_time_ns": host_time_ns,
            "flags": 0,
        }
    )
    return header
