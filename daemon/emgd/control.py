"""The control socket: requests in, exactly one reply each, whatever came.

Owner of the ROUTER socket. What the verbs do is in verbs.py; here is only how requests arrive, are refused and are
answered.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import zmq

from emgd.deferred import ANSWER_S, Deferred, Replies
from emgd.verb import Answer, Caller, Verb
from emgd_drivers.fields import FieldError, Problem, check_fields
from emgd_wire import codec
from emgd_wire.codec import WireError
from emgd_wire.kinds import MAX_REQUEST_BYTES, ErrorCode
from emgd_wire.paths import control_endpoint

log = logging.getLogger("emgd.control")

PER_TURN: Final = 64
"""Requests answered before the supervisor's timers get their turn: a flood must not starve them."""

QUEUE_REPLIES: Final = 1000
"""Replies waiting for one client that does not read; further ones are dropped for it alone."""

_CODES: Final = {
    Problem.MISSING: ErrorCode.MISSING_FIELD,
    Problem.UNKNOWN: ErrorCode.UNKNOWN_FIELD,
    Problem.BAD: ErrorCode.BAD_VALUE,
}


@dataclass(slots=True)
class _Waiting:
    """A request that another thread answers."""

    deferred: Deferred
    request_id: Any
    envelope: list[bytes] = field(default_factory=list)


class Control:
    """The control socket and its figures. One thread calls it."""

    def __init__(self, context: zmq.Context[Any], directory: Path, verbs: Mapping[str, Verb]) -> None:
        self._verbs = verbs
        self.replies = Replies()
        self._waiting: dict[Deferred, _Waiting] = {}
        self.requests = 0
        self.errors: Counter[str] = Counter()
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 200)
        self.socket.setsockopt(zmq.SNDHWM, QUEUE_REPLIES)
        # One frame may be longer than a request may be, so that a long one gets an answer; a mad one ends the
        # connection.
        self.socket.setsockopt(zmq.MAXMSGSIZE, 16 * MAX_REQUEST_BYTES)
        self.socket.bind(control_endpoint(directory))

    def close(self) -> None:
        """Close the socket; replies that wait get 200 ms."""
        self.socket.close()
        self.replies.close()

    def serve(self, now_ns: int) -> None:
        """Answer what has come, at most PER_TURN requests, and what other threads have answered."""
        self._send_deferred(now_ns)
        for _ in range(PER_TURN):
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self.answer(frames, now_ns)

    def answer(self, frames: list[bytes], now_ns: int) -> None:
        """Answer one request, given as routing id and what followed it."""
        self.requests += 1
        routing_id, *rest = frames
        envelope = [routing_id]
        if len(rest) > 1 and rest[0] == b"":
            envelope.append(rest.pop(0))
        try:
            reply = self._reply(routing_id, rest, now_ns)
        except WireError as error:
            reply = self._refusal(codec.request_id(rest[0]) if rest else None, error)
        if isinstance(reply, _Waiting):
            reply.envelope = envelope
            self._waiting[reply.deferred] = reply
        else:
            self._send(envelope, reply)

    def _refusal(self, request_id: Any, error: WireError) -> list[bytes]:
        self.errors[error.code.value] += 1
        return [codec.encode_error(request_id, error)]

    def _send(self, envelope: list[bytes], reply: list[bytes]) -> None:
        try:
            self.socket.send_multipart([*envelope, *reply], zmq.DONTWAIT)
        except zmq.ZMQError as error:
            log.debug("reply dropped: %s", error)

    def _send_deferred(self, now_ns: int) -> None:
        """Send what was answered elsewhere, and an error where that has not come in time."""
        for deferred in self.replies.take():
            if (waiting := self._waiting.pop(deferred, None)) is None:
                continue  # nobody waits for it any more
            result = deferred.result
            if isinstance(result, dict):
                self._send(waiting.envelope, [codec.encode_result(waiting.request_id, result)])
            elif result is not None:
                self._send(waiting.envelope, self._refusal(waiting.request_id, result))
        for deferred, waiting in list(self._waiting.items()):
            if now_ns >= deferred.deadline_ns:
                del self._waiting[deferred]
                error = WireError(ErrorCode.NO_ANSWER, f"{deferred.what} did not answer within {ANSWER_S:g} s")
                self._send(waiting.envelope, self._refusal(waiting.request_id, error))

    def _reply(self, routing_id: bytes, rest: list[bytes], now_ns: int) -> "list[bytes] | _Waiting":
        if len(rest) != 1:
            raise WireError(
                ErrorCode.BAD_MESSAGE, f"a request of {len(rest)} frames", allowed="one frame, or an empty one and one"
            )
        request = codec.decode_request(rest[0])
        verb = self._verbs.get(request.verb)
        if verb is None:
            shown = request.verb[:64]
            raise WireError(
                ErrorCode.UNKNOWN_VERB, f"there is no verb {shown!r}", field="verb", allowed=", ".join(self._verbs)
            )
        try:
            args = check_fields(verb.fields, request.args)
            answer = verb.call(Caller(routing_id, now_ns), args)
        except FieldError as error:
            raise WireError(
                _CODES[error.problem], error.text, field=f"args.{error.field}", allowed=error.allowed
            ) from None
        except WireError:
            raise
        except Exception as error:
            log.exception("verb %s failed", request.verb)
            raise WireError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}") from error
        return _Waiting(answer, request.id) if isinstance(answer, Deferred) else _pack(request.id, answer)


def _pack(request_id: Any, answer: Answer) -> list[bytes]:
    reply = [codec.encode_result(request_id, answer.result)]
    if answer.payload is not None:
        reply.append(answer.payload)
    return reply
