"""Bytes to messages and back, for both sockets. No I/O, no clock.

Decoding treats every byte as hostile: sizes and nesting are bounded, and whatever is wrong ends in WireError with
the code, field and allowed values that docs/protocol.md section 7 promises.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from emgd_wire.kinds import MAX_REQUEST_BYTES, ErrorCode
from emgd_wire.version import PROTOCOL

_LIMITS: Final = {"max_str_len": 65536, "max_bin_len": 65536, "max_array_len": 65536, "max_map_len": 4096}
"""Bounds for what a peer may make us allocate while unpacking a request or a header."""

_REQUEST_FIELDS: Final = ("v", "id", "verb", "args")


class WireError(Exception):
    """A message that is refused, with all that the sender needs to mend it."""

    def __init__(
        self,
        code: ErrorCode,
        text: str,
        *,
        field: str | None = None,
        allowed: str | None = None,
        refusals: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.field = field
        self.allowed = allowed
        self.refusals = tuple(refusals)

    def as_map(self) -> dict[str, Any]:
        """The `error` map of a reply; `refusals` only where a stimulus was refused."""
        found = {"code": self.code.value, "text": self.text, "field": self.field, "allowed": self.allowed}
        return {**found, "refusals": [dict(refusal) for refusal in self.refusals]} if self.refusals else found


@dataclass(frozen=True, slots=True)
class Request:
    """A request on the control socket that has passed all checks which need no knowledge of verbs."""

    verb: str
    args: dict[str, Any] = field(default_factory=dict)
    id: str | int | float | bool | bytes | None = None


def pack(value: Any) -> bytes:
    """One MessagePack value as bytes."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack_map(data: bytes, what: str) -> dict[str, Any]:
    """Bytes that must hold one MessagePack map with string keys; WireError(bad_message) names `what` otherwise."""
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, **_LIMITS)
    except Exception as error:  # noqa: BLE001 - msgpack raises a dozen types for hostile bytes; all mean the same here
        detail = str(error) or type(error).__name__
        raise WireError(ErrorCode.BAD_MESSAGE, f"{what} is not one MessagePack map: {detail}") from None
    if not isinstance(value, dict):
        raise WireError(ErrorCode.BAD_MESSAGE, f"{what} is a {type(value).__name__}, not a map")
    if not all(isinstance(key, str) for key in value):
        raise WireError(ErrorCode.BAD_MESSAGE, f"{what} has a key that is not a string")
    return value


def encode_request(verb: str, args: dict[str, Any] | None = None, request_id: int | None = None) -> bytes:
    """A request for the control socket."""
    return pack({"v": PROTOCOL, "id": request_id, "verb": verb, "args": args or {}})


def request_id(data: bytes) -> Any:
    """The `id` of a request that may be malformed, so that even its refusal can be matched; None if there is none."""
    try:
        found = unpack_map(data[:MAX_REQUEST_BYTES], "request").get("id")
    except WireError:
        return None
    return found if found is None or isinstance(found, str | int | float | bytes) else None


def decode_request(data: bytes) -> Request:
    """Check a request as far as one can without knowing its verb; raises WireError."""
    if len(data) > MAX_REQUEST_BYTES:
        raise WireError(
            ErrorCode.BAD_MESSAGE,
            f"request of {len(data)} bytes is too long",
            allowed=f"at most {MAX_REQUEST_BYTES} bytes",
        )
    message = unpack_map(data, "request")
    version = message.get("v")
    if isinstance(version, bool) or version != PROTOCOL:
        said = "is missing" if "v" not in message else f"{version!r} is not spoken here"
        raise WireError(ErrorCode.BAD_VERSION, f"protocol version {said}", field="v", allowed=str(PROTOCOL))
    for key in message:
        if key not in _REQUEST_FIELDS:
            raise WireError(
                ErrorCode.UNKNOWN_FIELD,
                f"a request has no field {key!r}",
                field=key,
                allowed=", ".join(_REQUEST_FIELDS),
            )
    if "verb" not in message:
        raise WireError(ErrorCode.MISSING_FIELD, "a request needs a verb", field="verb", allowed="see verb help")
    verb, args, ident = message["verb"], message.get("args"), message.get("id")
    if not isinstance(verb, str):
        raise WireError(ErrorCode.BAD_VALUE, "verb must be a string", field="verb", allowed="see verb help")
    if args is not None and not (isinstance(args, dict) and all(isinstance(key, str) for key in args)):
        raise WireError(ErrorCode.BAD_VALUE, "args must be a map with string keys", field="args", allowed="map")
    if ident is not None and not isinstance(ident, str | int | float | bytes):
        raise WireError(ErrorCode.BAD_VALUE, "id must be a scalar", field="id", allowed="string, number or binary")
    return Request(verb=verb, args=args or {}, id=ident)


def encode_result(request_id: Any, result: dict[str, Any]) -> bytes:
    """A reply that grants."""
    return pack({"v": PROTOCOL, "id": request_id, "ok": True, "result": result})


def encode_error(request_id: Any, error: WireError) -> bytes:
    """A reply that refuses."""
    return pack({"v": PROTOCOL, "id": request_id, "ok": False, "error": error.as_map()})


def decode_reply(data: bytes) -> tuple[Any, dict[str, Any]]:
    """(id, result) of a reply; raises WireError with the service's own code when the service refused."""
    reply = unpack_reply(data)
    if reply.get("ok") is True and isinstance(reply.get("result"), dict):
        return reply.get("id"), reply["result"]
    error = reply.get("error")
    if not isinstance(error, dict):
        raise WireError(ErrorCode.BAD_MESSAGE, "reply has neither result nor error")
    try:
        code = ErrorCode(str(error.get("code")))
    except ValueError:
        code = ErrorCode.INTERNAL
    refusals = error.get("refusals")
    raise WireError(
        code,
        str(error.get("text")),
        field=error.get("field"),
        allowed=error.get("allowed"),
        refusals=[one for one in refusals if isinstance(one, dict)] if isinstance(refusals, list) else (),
    )


def unpack_reply(data: bytes) -> dict[str, Any]:
    """A reply as a map; its lists may be long (history of many short blocks), so only its type is checked."""
    try:
        reply = msgpack.unpackb(data, raw=False, strict_map_key=False)
    except Exception as error:  # noqa: BLE001 - see unpack_map
        raise WireError(ErrorCode.BAD_MESSAGE, f"reply is not MessagePack: {error}") from None
    if not isinstance(reply, dict):
        raise WireError(ErrorCode.BAD_MESSAGE, "reply is not a map")
    return reply
