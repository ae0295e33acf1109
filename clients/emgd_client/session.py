"""What a client says to the service, and when: all logic of `client` and `aio`, without I/O (see `commands`).

Nothing here runs by itself. Requests, reports and greetings happen while the user calls a method or advances an
iterator, in the user's own thread: a client that hangs is seen to hang.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, TypedDict

from emgd_client.assembler import Assembler, Output, Tally
from emgd_client.commands import Connect, Deliver, Door, Exclusive, Operation, Outcome, Receive, Send
from emgd_client.decoding import decode, decode_description, decode_history
from emgd_client.errors import ClientError, NoAnswerError, RefusedError, ServiceNotRunningError
from emgd_client.messages import NS_PER_S, Block, Description, Gap, Impedance, Message, State
from emgd_wire.codec import WireError, decode_reply, encode_request, unpack_reply
from emgd_wire.kinds import REPORT_INTERVAL_S, ErrorCode
from emgd_wire.paths import CONTROL_SOCKET

TIMEOUT_S: Final = 2.0
"""Longest wait for a reply: far above what a working service needs, short enough that a person waits for it."""

BYE_TIMEOUT_S: Final = 0.2
"""Longest wait when leaving: a service that is gone already must not hold up the end of the program."""

CHECK_SILENCE_S: Final = 30.0
"""Longest time without a word of a running impedance check: far more than any of its steps takes."""

_QUIET_STATES: Final = frozenset({"silent", "lost", "stopped"})
"""States after which no block may come for long: what is missing is fetched at once."""


class FilterSettings(TypedDict, total=False):
    """What `set_filter` takes: `preset`, and numbers that replace the preset's; 0 Hz switches a part off."""

    preset: str
    high_pass_hz: float
    high_pass_order: int
    low_pass_hz: float
    low_pass_order: int
    notch_hz: float
    notch_q: float


@dataclass(frozen=True, slots=True)
class Pong:
    """The service's CLOCK_MONOTONIC time when it answered, and how long question and answer took together."""

    host_time_ns: int
    round_trip_ns: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request brought: a result with its frame of samples (history only), or an error."""

    result: dict[str, Any]
    payload: bytes
    round_trip_ns: int
    error: ClientError | None = None

    def granted(self) -> dict[str, Any]:
        """The result; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.result


class Session:
    """One client's conversation with the service in `directory`, under `name`."""

    def __init__(self, name: str, pid: int, directory: Path, timeout_s: float) -> None:
        self.tallies: dict[str, Tally] = {}
        self._introduction = {"name": name, "pid": pid}
        self._control_path = directory / CONTROL_SOCKET
        self._timeout_s = timeout_s
        self._ids: Iterator[int] = count(1)
        self._greeted: set[str] = set()

    def hello(self) -> Operation[None]:
        """Connect and give our name; raises ServiceNotRunningError at once if nobody listens."""
        cause: OSError | None = yield Connect()
        if cause is not None:
            raise ServiceNotRunningError(self._control_path, cause)
        result = yield from self.call("hello", self._introduction)
        self._greeted.add(str(result.get("session")))

    def bye(self) -> Operation[None]:
        """Take leave; a service that does not answer any more has nothing to forget."""
        yield from self._ask("bye", {}, BYE_TIMEOUT_S)

    def call(self, verb: str, args: Mapping[str, Any] | None = None) -> Operation[dict[str, Any]]:
        """The result of any verb."""
        reply = yield from self._ask(verb, args or {}, self._timeout_s)
        return reply.granted()

    def ping(self) -> Operation[Pong]:
        """Ask for a sign of life."""
        reply = yield from self._ask("ping", {}, self._timeout_s)
        return Pong(int(reply.granted()["host_time_ns"]), reply.round_trip_ns)

    def verbs(self) -> Operation[list[dict[str, Any]]]:
        """What the service can be asked."""
        result = yield from self.call("help")
        return list(result["verbs"])

    def streams(self) -> Operation[list[Description]]:
        """Every data stream."""
        result = yield from self.call("streams")
        return [decode_description(body) for body in result["streams"]]

    def describe(self, stream: str) -> Operation[Description]:
        """One data stream; raises RefusedError(unknown_stream)."""
        known = yield from self.streams()
        for description in known:
            if description.stream == stream:
                return description
        allowed = ", ".join(description.stream for description in known)
        error = WireError(ErrorCode.UNKNOWN_STREAM, f"there is no stream {stream!r}", field="stream", allowed=allowed)
        raise RefusedError("streams", error)

    def history(self, stream: str, seq: int, sample_count: int) -> Operation[list[Block]]:
        """What is in the history of a range, in as many requests as it takes."""
        blocks: list[Block] = []
        end = seq + sample_count
        while seq < end:
            reply = yield from self._ask_history(stream, seq, end - seq)
            found = decode_history(stream, reply.granted(), reply.payload)
            blocks += found.blocks
            if not seq < found.next_seq < found.newest:
                break
            seq = found.next_seq
        return blocks

    def set_filter(
        self, stream: str, channels: list[int] | None, settings: FilterSettings
    ) -> Operation[dict[str, Any]]:
        """Change the filter of some channels, or of all."""
        chosen = {} if channels is None else {"channels": channels}
        return (yield from self.call("filter", {"stream": stream, **chosen, **settings}))

    def follow(self, stream: str, *, backfill: bool, from_seq: int | None) -> Operation[None]:
        """Deliver the blocks of a stream in order and complete, until a recording has ended."""
        description = yield from self.describe(stream)
        assembler = Assembler(stream, description.rate_hz, backfill=backfill, from_seq=from_seq)
        self.tallies[stream] = assembler.tally
        report_due_ns = 0
        while not assembler.finished:
            outcome: Outcome = yield Receive(Door.STREAM, REPORT_INTERVAL_S)
            message = decode(outcome.frames) if outcome.done else None
            if message is not None:
                yield from self._greet_again(message)
                yield from _deliver_blocks(_feed(assembler, message))
            while assembler.request is not None:
                yield from _deliver_blocks((yield from self._fetch(assembler)))
            if outcome.now_ns >= report_due_ns:
                yield from self._report(stream, assembler.tally)
                report_due_ns = outcome.now_ns + round(REPORT_INTERVAL_S * NS_PER_S)

    def listen(self) -> Operation[None]:
        """Deliver every message as it comes, for ever."""
        sign_due_ns = 0
        while True:
            outcome: Outcome = yield Receive(Door.STREAM, REPORT_INTERVAL_S)
            message = decode(outcome.frames) if outcome.done else None
            if message is not None:
                yield from self._greet_again(message)
                yield Deliver(message)
            if outcome.now_ns >= sign_due_ns:
                yield from self._post("ping", {})
                sign_due_ns = outcome.now_ns + round(REPORT_INTERVAL_S * NS_PER_S)

    def start_impedance(self, channels: list[int] | None) -> Operation[dict[str, Any]]:
        """Begin an impedance check."""
        return (yield from self.call("impedance", {} if channels is None else {"channels": channels}))

    def stop_impedance(self) -> Operation[bool]:
        """Give a running impedance check up; whether there was one."""
        result = yield from self.call("impedance", {"action": "stop"})
        return bool(result["accepted"])

    def check_impedance(self, channels: list[int] | None) -> Operation[None]:
        """Begin an impedance check and deliver what is told of it, to its end."""
        # The greeting shows that the subscription is in force, so that nothing is missed. Where there is none, the
        # request is refused.
        outcome: Outcome = yield Receive(Door.STREAM, self._timeout_s)
        begun = yield from self.start_impedance(channels)
        deadline_ns = outcome.now_ns + round(CHECK_SILENCE_S * NS_PER_S)
        last: Impedance | None = None
        while outcome.now_ns < deadline_ns:
            outcome = yield Receive(Door.STREAM, REPORT_INTERVAL_S)
            message = decode(outcome.frames) if outcome.done else None
            if not isinstance(message, Impedance):
                continue
            if message.session not in self._greeted:
                raise ClientError("the service was started anew during the impedance check: ask for another one")
            # Whoever subscribes makes the service say its last word again, to all.
            if message.check != begun["check"] or message == last:
                continue
            last = message
            yield Deliver(message)
            deadline_ns = outcome.now_ns + round(CHECK_SILENCE_S * NS_PER_S)
            if message.over:
                return
        raise ClientError(f"nothing was heard of impedance check {begun['check']} any more: see `journalctl -u emgd`")

    def _fetch(self, assembler: Assembler) -> Operation[list[Output]]:
        """Answer the assembler's history request.

        A range that is gone, or a service that does not answer, costs the samples (they are told as dropped) and not
        the stream; any other refusal is a mistake of ours that must be seen.
        """
        request = assembler.request
        if request is None:
            return []
        reply = yield from self._ask_history(request.stream, request.seq, request.count)
        if reply.error is None:
            return assembler.replied(decode_history(request.stream, reply.result, reply.payload))
        if isinstance(reply.error, RefusedError) and reply.error.code != ErrorCode.NOT_IN_HISTORY:
            raise reply.error
        return assembler.refused()

    def _ask_history(self, stream: str, seq: int, sample_count: int) -> Operation[Reply]:
        args = {"stream": stream, "seq": seq, "count": sample_count}
        return (yield from self._ask("history", args, self._timeout_s))

    def _report(self, stream: str, tally: Tally) -> Operation[None]:
        """Say where we are; before the first block there is only a sign of life to give."""
        if tally.next_seq is None:
            yield from self._post("ping", {})
        else:
            figures = {"next_seq": tally.next_seq, "dropped": tally.dropped, "backfilled": tally.backfilled}
            yield from self._post("report", {"stream": stream, **figures})

    def _greet_again(self, message: Message) -> Operation[None]:
        """A service that was started anew, or has forgotten us, does not know our name."""
        if message.session is not None and message.session not in self._greeted:
            sent = yield from self._post("hello", self._introduction)
            if sent:
                self._greeted.add(message.session)

    def _ask(self, verb: str, args: Mapping[str, Any], timeout_s: float) -> Operation[Reply]:
        reply: Reply = yield Exclusive(self._exchange(verb, args, timeout_s))
        return reply

    def _post(self, verb: str, args: Mapping[str, Any]) -> Operation[bool]:
        """Send a request without waiting for its reply; whether it left."""
        sent: bool = yield Exclusive(self._drop_into_box(verb, args))
        return sent

    def _drop_into_box(self, verb: str, args: Mapping[str, Any]) -> Operation[bool]:
        """Read the replies to what was posted before, then post."""
        reply: Outcome = yield Receive(Door.CONTROL, 0)
        while reply.done:
            self._overhear(unpack_reply(reply.frames[0]))
            reply = yield Receive(Door.CONTROL, 0)
        outcome: Outcome = yield Send(encode_request(verb, dict(args), next(self._ids)), 0)
        return outcome.done

    def _overhear(self, reply: Mapping[str, Any]) -> None:
        """A reply that nobody waits for; one to `report` may say that our name must be given again."""
        result = reply.get("result")
        if isinstance(result, dict) and result.get("known") is False:
            self._greeted.clear()

    def _exchange(self, verb: str, args: Mapping[str, Any], timeout_s: float) -> Operation[Reply]:
        """Question and answer; replies to other questions, posted or given up before, are overheard."""
        request_id = next(self._ids)
        sent: Outcome = yield Send(encode_request(verb, dict(args), request_id), timeout_s)
        now_ns, deadline_ns = sent.now_ns, sent.now_ns + round(timeout_s * NS_PER_S)
        while sent.done and now_ns < deadline_ns:
            outcome: Outcome = yield Receive(Door.CONTROL, (deadline_ns - now_ns) / NS_PER_S)
            now_ns = outcome.now_ns
            if outcome.done:
                reply = unpack_reply(outcome.frames[0])
                if reply.get("id") == request_id:
                    return _read_reply(verb, outcome.frames, now_ns - sent.now_ns)
                self._overhear(reply)
        # A question that was given up must not be obeyed later: the socket goes, with what is queued in it, and our
        # name with it, since the service knows a name by its connection.
        cause: OSError | None = yield Connect()
        self._greeted.clear()
        error = (
            NoAnswerError(verb, self._control_path, timeout_s)
            if cause is None
            else ServiceNotRunningError(self._control_path, cause)
        )
        return Reply({}, b"", now_ns - sent.now_ns, error)


def topics_of(stream: str) -> tuple[str, str, str]:
    """What must be subscribed to for following a stream: itself, and its device's gaps and states."""
    device = stream.split("/", maxsplit=1)[0]
    return stream, f"{device}/gap", f"{device}/state"


def _read_reply(verb: str, frames: tuple[bytes, ...], round_trip_ns: int) -> Reply:
    try:
        _, result = decode_reply(frames[0])
    except WireError as error:
        return Reply({}, b"", round_trip_ns, RefusedError(verb, error))
    return Reply(result, frames[1] if len(frames) > 1 else b"", round_trip_ns)


def _deliver_blocks(outputs: list[Output]) -> Operation[None]:
    """Hand out the blocks; gaps and drops stand in the block that follows them and in the tally."""
    for output in outputs:
        if isinstance(output, Block):
            yield Deliver(output)


def _feed(assembler: Assembler, message: Message) -> list[Output]:
    """Tell an assembler what a message means to it; messages of other streams mean nothing."""
    if message.stream not in topics_of(assembler.stream):
        return []
    match message:
        case Block():
            return assembler.live(message)
        case Gap():
            return assembler.announced(message)
        case Description():
            assembler.rate_hz = message.rate_hz
        case State(state="ended"):
            return assembler.end(message.session, message.seq)
        case State() if message.state in _QUIET_STATES:
            return assembler.reached(message.session, message.seq)
    return []
