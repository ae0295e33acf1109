"""From the frames on the wire to messages. No I/O, no state.

Every byte is treated as hostile: a message that does not keep to docs/protocol.md ends in WireError. A kind that is not
known here is not an error, since kinds may be added within a protocol version: `decode` gives None for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np

from emgd_client.messages import (
    Block,
    Channel,
    Clock,
    Delivered,
    Description,
    Electrode,
    ElectrodePair,
    Gap,
    HistoryReply,
    Impedance,
    Mark,
    Message,
    Origin,
    Pulse,
    Samples,
    Site,
    State,
    StimulatorState,
)
from emgd_wire.codec import WireError, unpack_map
from emgd_wire.kinds import DATA_KINDS, DTYPE_EVENT, ErrorCode, Kind
from emgd_wire.version import PROTOCOL

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {"<i4": np.dtype("<i4"), "<f4": np.dtype("<f4")}
"""Sample types of protocol version 1, by their name on the wire."""


Check: TypeAlias = Callable[[Any, str], Any]
"""Hands a field's value back, or raises WireError with the field's name."""


def _wrong(what: str, value: object, allowed: str) -> WireError:
    return WireError(ErrorCode.BAD_VALUE, f"{what} is {value!r:.60}", field=what, allowed=allowed)


def _unsigned(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(what, value, "unsigned integer")
    return value


def _integer(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(what, value, "integer")
    return value


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(what, value, "number")
    return float(value)


def _rate(value: Any, what: str) -> float:
    rate = _number(value, what)
    if not 0 < rate < float("inf"):
        raise _wrong(what, value, "number above 0")
    return rate


def _instance_of(wanted: type, name: str) -> Check:
    def check(value: Any, what: str) -> Any:
        if not isinstance(value, wanted):
            raise _wrong(what, value, name)
        return value

    return check


_string = _instance_of(str, "string")
_boolean = _instance_of(bool, "boolean")
_list = _instance_of(list, "list")
_map = _instance_of(dict, "map")
_binary = _instance_of(bytes, "binary")


def _or_none(check: Check) -> Check:
    def check_unless_none(value: Any, what: str) -> Any:
        return None if value is None else check(value, what)

    return check_unless_none


def _strings(value: Any, what: str) -> tuple[str, ...]:
    return tuple(_string(item, what) for item in _list(value, what))


def _numbers(value: Any, what: str) -> tuple[int, ...]:
    return tuple(_unsigned(item, what) for item in _list(value, what))


def _windows(value: Any, what: str) -> tuple[tuple[str, int, int], ...]:
    names = (("side", _string), ("seq", _unsigned), ("count", _unsigned))
    rows = (_row(row, names) for row in _list(value, what))
    return tuple((row["side"], row["seq"], row["count"]) for row in rows)


_HEADER: Final[Mapping[str, Check]] = {
    "kind": _string,
    "session": _string,
    "stream": _string,
    "seq": _unsigned,
    "count": _unsigned,
    "channels": _unsigned,
    "dtype": _string,
    "host_time_ns": _unsigned,
    "flags": _unsigned,
}
_BLOCK_HEADER: Final[Mapping[str, Check]] = {"gap_before": _unsigned, "channel_flags": _binary}
_GAP: Final[Mapping[str, Check]] = {"seq": _unsigned, "count": _unsigned, "causes": _strings}
_MARK: Final[Mapping[str, Check]] = {"seq": _unsigned, "code": _string, "value": _integer, "channel": _unsigned}
_CLOCK: Final[Mapping[str, Check]] = {
    "state": _string,
    "offset_ns": _number,
    "drift_ppm": _number,
    "sigma_ns": _number,
    "age_ns": _unsigned,
    "observations": _unsigned,
    "rejected": _unsigned,
}
_STATE: Final[Mapping[str, Check]] = {"device": _string, "state": _string, "text": _string}
_SITE: Final[Mapping[str, Check]] = {
    "id": _string,
    "side": _string,
    "limb": _string,
    "nerve": _string,
    "electrodes": _string,
}
_STIMULATOR_STATE: Final[Mapping[str, Check]] = {
    **_STATE,
    "reasons": _strings,
    "holder": _or_none(_string),
    "profile": _or_none(_string),
    "site": _or_none(_map),
    "operator": _or_none(_string),
    "limits": _or_none(_string),
}
_DELIVERED: Final[Mapping[str, Check]] = {
    "at_ns": _unsigned,
    "sigma_ns": _unsigned,
    "current_ua": _unsigned,
    "width_us": _unsigned,
    "load_ohm": _unsigned,
    "dc_ua": _integer,
    "limited": _boolean,
}
_PULSE: Final[Mapping[str, Check]] = {
    "pulse": _unsigned,
    "shot": _unsigned,
    "number": _unsigned,
    "of": _unsigned,
    "site": _or_none(_map),
    "profile": _or_none(_string),
    "operator": _or_none(_string),
    "at_ns": _unsigned,
    "current_ua": _unsigned,
    "width_us": _unsigned,
    "delivered": _or_none(_map),
    "reasons": _strings,
    "mark_seq": _or_none(_unsigned),
    "mark_ns": _or_none(_unsigned),
}
_IMPEDANCE: Final[Mapping[str, Check]] = {
    "check": _unsigned,
    "state": _string,
    "side": _or_none(_string),
    "step": _unsigned,
    "steps": _unsigned,
    "attempt": _unsigned,
    "channels": _numbers,
    "ready_ns": _or_none(_unsigned),
    "reason": _or_none(_string),
    "text": _string,
    "frequency_hz": _number,
    "current_na": _number,
    "windows": _windows,
}
_ELECTRODE: Final[Mapping[str, Check]] = {
    "ohm": _or_none(_number),
    "sigma_ohm": _or_none(_number),
    "state": _string,
}
_PAIR: Final[Mapping[str, Check]] = {
    "channel": _unsigned,
    "label": _string,
    "e1": _map,
    "e2": _map,
    "between_ohm": _or_none(_number),
    "between_sigma_ohm": _or_none(_number),
    "bridge": _boolean,
}
_CHANNEL: Final[Mapping[str, Check]] = {
    "label": _string,
    "uv_per_count": _number,
    "saturation_count": _unsigned,
    "gain": _unsigned,
    "mode": _string,
}
_DESCRIPTION: Final[Mapping[str, Check]] = {
    "stream": _string,
    "kind": _string,
    "device": _string,
    "driver": _string,
    "serial": _string,
    "firmware": _string,
    "simulated": _boolean,
    "isolated": _boolean,
    "rate_hz": _rate,
    "speed": _number,
    "dtype": _string,
    "unit": _string,
    "block_samples": _unsigned,
    "history_samples": _unsigned,
    "realtime_offset_ns": _integer,
    "notes": _strings,
}
_HISTORY: Final[Mapping[str, Check]] = {
    "dtype": _string,
    "channels": _unsigned,
    "session": _string,
    "seq": _unsigned,
    "count": _unsigned,
    "next_seq": _unsigned,
    "oldest": _unsigned,
    "newest": _unsigned,
    "expired": _unsigned,
    "blocks": _list,
    "gaps": _list,
}
_HISTORY_BLOCK: Final = (
    ("seq", _unsigned),
    ("count", _unsigned),
    ("gap_before", _unsigned),
    ("host_time_ns", _unsigned),
    ("flags", _unsigned),
    ("channel_flags", _binary),
)
_HISTORY_GAP: Final = tuple(_GAP.items())

_EVENT_KINDS: Final = frozenset(Kind) - frozenset(DATA_KINDS)


def _fields(source: Mapping[str, Any], table: Mapping[str, Check]) -> dict[str, Any]:
    """The fields of `table`, each checked; others, which a newer service may send, are left out."""
    for name in table:
        if name not in source:
            raise WireError(ErrorCode.MISSING_FIELD, f"field {name} is missing", field=name)
    return {name: check(source[name], name) for name, check in table.items()}


def _row(row: Any, table: Sequence[tuple[str, Check]]) -> dict[str, Any]:
    """A list of the history as a map; items behind the known ones, which a newer service may send, are left out."""
    names = ", ".join(name for name, _ in table)
    if len(_list(row, names)) < len(table):
        raise _wrong(names, row, f"list of {len(table)}")
    return {name: check(value, name) for (name, check), value in zip(table, row, strict=False)}


def _samples(payload: bytes, dtype: str, count: int, channels: int) -> Samples:
    """A read-only view of `payload` with shape (count, channels); nothing is copied."""
    if dtype not in DTYPES:
        raise _wrong("dtype", dtype, ", ".join(DTYPES))
    if channels == 0:
        raise _wrong("channels", channels, "at least 1 in a data block")
    due = count * channels * DTYPES[dtype].itemsize
    if len(payload) != due:
        raise _wrong("payload", f"{len(payload)} bytes", f"{due} bytes for {count} samples of {channels} channels")
    samples: Samples = np.frombuffer(payload, DTYPES[dtype]).reshape(count, channels)
    return samples


def _decode_block(header: dict[str, Any], more: Mapping[str, Any], payload: bytes) -> Block:
    extra = _fields(more, _BLOCK_HEADER)
    samples = _samples(payload, header["dtype"], header["count"], header["channels"])
    return _block(header["stream"], header["session"], {**header, **extra}, samples, "live")


def _block(stream: str, session: str, fields: Mapping[str, Any], samples: Samples, origin: Origin) -> Block:
    """A block whose figures agree with each other."""
    seq, gap_before, channel_flags = fields["seq"], fields["gap_before"], fields["channel_flags"]
    if len(samples) == 0:
        raise _wrong("count", 0, "at least 1 in a data block")
    if gap_before > seq:
        raise _wrong("gap_before", gap_before, f"at most seq ({seq})")
    if len(channel_flags) != samples.shape[1]:
        raise _wrong("channel_flags", f"{len(channel_flags)} bytes", f"one byte per channel ({samples.shape[1]})")
    return Block(
        stream, session, seq, samples, fields["host_time_ns"], fields["flags"], channel_flags, gap_before, origin=origin
    )


def _decode_event(header: dict[str, Any], payload: bytes) -> Message | None:
    """An event by its kind; None for a kind that is not known here."""
    kind, stream, session = header["kind"], header["stream"], header["session"]
    seq, host_time_ns = header["seq"], header["host_time_ns"]
    if kind not in _EVENT_KINDS:
        return None
    if header["dtype"] != DTYPE_EVENT:
        raise _wrong("dtype", header["dtype"], DTYPE_EVENT)
    body = unpack_map(payload, f"payload of {stream}")
    match kind:
        case Kind.GAP:
            event: Message = Gap(stream, session, **_fields(body, _GAP))
        case Kind.MARK:
            event = Mark(stream, session, host_time_ns=host_time_ns, **_fields(body, _MARK))
        case Kind.CLOCK:
            event = Clock(stream, session, host_time_ns=host_time_ns, **_fields(body, _CLOCK))
        case Kind.STATE:
            event = _decode_state(stream, session, seq, body)
        case Kind.IMPEDANCE:
            span = {"seq": seq, "count": header["count"], "host_time_ns": host_time_ns}
            event = Impedance(stream, session, **span, **_fields(body, _IMPEDANCE), results=_pairs(body))
        case Kind.PULSE:
            found = _with_site(_fields(body, _PULSE))
            if (delivered := found.pop("delivered")) is not None:
                delivered = Delivered(**_fields(delivered, _DELIVERED))
            event = Pulse(stream, session, **found, delivered=delivered)
        case _:
            event = replace(decode_description(body), session=session, oldest=seq)
    return event


def _decode_state(stream: str, session: str, seq: int, body: Mapping[str, Any]) -> State:
    """A device's state; a stimulator says more than an amplifier."""
    if "reasons" not in body:
        return State(stream, session, seq, **_fields(body, _STATE))
    return StimulatorState(stream, session, seq, **_with_site(_fields(body, _STIMULATOR_STATE)))


def _with_site(found: dict[str, Any]) -> dict[str, Any]:
    """The same, its site a Site."""
    site = found["site"]
    return {**found, "site": None if site is None else Site(**_fields(site, _SITE))}


def _pairs(body: Mapping[str, Any]) -> tuple[ElectrodePair, ...]:
    """The results of an impedance check."""
    if "results" not in body:
        raise WireError(ErrorCode.MISSING_FIELD, "field results is missing", field="results")
    found = []
    for result in _list(body["results"], "results"):
        pair = _fields(_map(result, "results"), _PAIR)
        for name in ("e1", "e2"):
            pair[name] = Electrode(**_fields(pair[name], _ELECTRODE))
        found.append(ElectrodePair(**pair))
    return tuple(found)


def _decode_channel(body: Mapping[str, Any]) -> Channel:
    chosen = body.get("filter")
    return Channel(**_fields(body, _CHANNEL), filter=None if chosen is None else _map(chosen, "filter"))


def decode_description(body: Mapping[str, Any]) -> Description:
    """A description payload, as it stands on the description topic and in the reply of `streams`; raises WireError."""
    if "channels" not in body:
        raise WireError(ErrorCode.MISSING_FIELD, "field channels is missing", field="channels")
    channels = tuple(_decode_channel(_map(channel, "channels")) for channel in _list(body["channels"], "channels"))
    return Description(**_fields(body, _DESCRIPTION), channels=channels)


def decode(frames: Sequence[bytes]) -> Message | None:
    """One message of the stream socket from its frames (topic, header, payload).

    None for a kind that is not known here; WireError for whatever the protocol does not allow. Samples are not copied.
    """
    if len(frames) != 3:
        raise WireError(ErrorCode.BAD_MESSAGE, f"a message of {len(frames)} frames", allowed="topic, header, payload")
    topic, header_bytes, payload = frames
    found = unpack_map(header_bytes, f"header of {topic[:64]!r}")
    version = found.get("v")
    if isinstance(version, bool) or version != PROTOCOL:
        raise WireError(ErrorCode.BAD_VERSION, f"message of version {version!r:.20}", field="v", allowed=str(PROTOCOL))
    header = _fields(found, _HEADER)
    if header["kind"] in DATA_KINDS:
        return _decode_block(header, found, payload)
    return _decode_event(header, payload)


def decode_history(stream: str, result: Mapping[str, Any], payload: bytes) -> HistoryReply:
    """The reply of `history` from its result map and its frame of samples; raises WireError."""
    reply = _fields(result, _HISTORY)
    rows = [_row(row, _HISTORY_BLOCK) for row in reply["blocks"]]
    samples = _samples(payload, reply["dtype"], sum(row["count"] for row in rows), reply["channels"])
    blocks, start = [], 0
    for row in rows:
        part = samples[start : start + row["count"]]
        blocks.append(_block(stream, reply["session"], row, part, "history"))
        start += row["count"]
    gaps = tuple(Gap(stream, reply["session"], **_row(row, _HISTORY_GAP)) for row in reply["gaps"])
    figures = {name: reply[name] for name in ("session", "seq", "count", "next_seq", "oldest", "newest", "expired")}
    return HistoryReply(**figures, blocks=tuple(blocks), gaps=gaps)
