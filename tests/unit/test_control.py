"""The control socket's manners: whatever comes, exactly one reply, the right error, and nobody else disturbed."""

from dataclasses import dataclass, field

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd import control
from emgd.clients import MAX_CLIENTS, Clients, Progress, TooManyClientsError
from emgd.control import Control
from emgd.deferred import Replies
from emgd.verbs import Answer, Verb
from emgd_drivers.fields import Field
from emgd_wire import codec
from emgd_wire.codec import WireError
from emgd_wire.kinds import MAX_REQUEST_BYTES, ErrorCode


@dataclass
class FakeSocket:
    sent: list = field(default_factory=list)

    def send_multipart(self, frames, _flags=0):
        self.sent.append(frames)


def echo(_caller, args):
    return Answer({"args": {key: value for key, value in args.items() if value is not None}})


def fails(_caller, _args):
    raise RuntimeError("the verb broke")


VERBS = {
    "echo": Verb(
        "say it again",
        (
            Field("text", str, "what", least=1, most=10),
            Field("times", int, "how often", 1, 1, 9),
            Field("loud", bool, "shout", None),
            Field("list", list, "numbers", None, 1, 3, items=int),
        ),
        echo,
    ),
    "fails": Verb("never works", (), fails),
}


class Elsewhere:
    """A verb that another thread answers, some time."""

    def __init__(self):
        self.replies = Replies()
        self.asked = []

    def __call__(self, caller, _args):
        self.asked.append(self.replies.defer("somebody else", caller.now_ns))
        return self.asked[-1]


@pytest.fixture
def door():
    made = Control.__new__(Control)
    made._verbs = VERBS
    made.requests = 0
    made.errors = control.Counter()
    made.socket = FakeSocket()
    return made


def ask(door, *frames):
    """The one reply to a request, as a map."""
    before = len(door.socket.sent)
    door.answer([b"me", *frames], 0)
    assert len(door.socket.sent) == before + 1, "exactly one reply"
    routing_id, *rest = door.socket.sent[-1]
    assert routing_id == b"me"
    return msgpack.unpackb(rest[-1])


def ask_elsewhere(door, number, now_ns=0):
    elsewhere = Elsewhere() if not isinstance(door._verbs.get("later"), Verb) else door._verbs["later"].call
    door._verbs = {**VERBS, "later": Verb("later", (), elsewhere)}
    door.replies, door._waiting = elsewhere.replies, getattr(door, "_waiting", {})
    door.answer([b"me", b"", request(verb="later", id=number)], now_ns)
    return elsewhere


def replies(door):
    return [(frames[:2], msgpack.unpackb(frames[-1])) for frames in door.socket.sent]


def test_a_reply_that_comes_later_goes_to_who_asked_with_its_id(door):
    elsewhere = ask_elsewhere(door, 7)
    ask_elsewhere(door, 8)
    assert door.socket.sent == []
    elsewhere.asked[1].answer(WireError(ErrorCode.REFUSED, "no", refusals=[{"name": "old"}]))
    elsewhere.asked[0].answer({"done": True})
    door._send_deferred(1)
    (_, refused), (envelope, granted) = replies(door)
    assert (refused["id"], refused["error"]["refusals"], granted["id"], granted["result"]) == (
        8,
        [{"name": "old"}],
        7,
        {"done": True},
    )
    assert envelope == [b"me", b""]
    assert door.errors["refused"] == 1
    door._send_deferred(10**12)
    assert len(door.socket.sent) == 2


def test_who_is_not_answered_in_time_gets_an_error_and_nothing_afterwards(door):
    elsewhere = ask_elsewhere(door, 7, now_ns=5)
    door._send_deferred(10**9 + 4)
    assert door.socket.sent == []
    door._send_deferred(10**9 + 5)
    ((_, late),) = replies(door)
    assert (late["id"], late["error"]["code"]) == (7, "no_answer")
    elsewhere.asked[0].answer({"done": True})
    door._send_deferred(10**9 + 6)
    assert len(door.socket.sent) == 1


def request(**fields):
    return msgpack.packb({"v": 1, "id": 5, **fields})


def test_a_good_request_gets_its_result_and_its_id(door):
    reply = ask(door, request(verb="echo", args={"text": "hi"}))
    assert reply == {"v": 1, "id": 5, "ok": True, "result": {"args": {"text": "hi", "times": 1}}}


def test_an_empty_delimiter_as_req_sends_it_comes_back(door):
    ask(door, b"", request(verb="echo", args={"text": "hi"}))
    assert door.socket.sent[-1][1] == b""


DEEP = b"\x91" * 5000 + b"\xc0"

REFUSED = {
    "nothing": ([], "bad_message", None),
    "an empty frame": ([b""], "bad_message", None),
    "rubbish": ([b"\xc1\xff"], "bad_message", None),
    "a number": ([msgpack.packb(7)], "bad_message", None),
    "a list": ([msgpack.packb([1, 2])], "bad_message", None),
    "two values": ([request(verb="echo") * 2], "bad_message", None),
    "cut short": ([request(verb="echo")[:-3]], "bad_message", None),
    "nested without end": ([DEEP], "bad_message", None),
    "two frames": ([request(verb="echo"), b"x"], "bad_message", None),
    "too long": ([request(verb="echo", args={"text": "x" * MAX_REQUEST_BYTES})], "bad_message", None),
    "keys that are numbers": ([msgpack.packb({1: 2})], "bad_message", None),
    "no version": ([msgpack.packb({"verb": "echo"})], "bad_version", "v"),
    "another version": ([msgpack.packb({"v": 2, "verb": "echo"})], "bad_version", "v"),
    "true for a version": ([msgpack.packb({"v": True, "verb": "echo"})], "bad_version", "v"),
    "no verb": ([msgpack.packb({"v": 1})], "missing_field", "verb"),
    "a verb that is no string": ([request(verb=3)], "bad_value", "verb"),
    "an unknown verb": ([request(verb="ehco")], "unknown_verb", "verb"),
    "args that are no map": ([request(verb="echo", args=[1])], "bad_value", "args"),
    "an id that is a map": ([msgpack.packb({"v": 1, "verb": "echo", "id": {}})], "bad_value", "id"),
    "a field of a request that is not there": ([request(verb="echo", arg={})], "unknown_field", "arg"),
    "a missing argument": ([request(verb="echo", args={})], "missing_field", "args.text"),
    "an unknown argument": ([request(verb="echo", args={"text": "a", "x": 1})], "unknown_field", "args.x"),
    "a wrong type": ([request(verb="echo", args={"text": 1})], "bad_value", "args.text"),
    "too long a text": ([request(verb="echo", args={"text": "x" * 11})], "bad_value", "args.text"),
    "too small": ([request(verb="echo", args={"text": "x", "times": 0})], "bad_value", "args.times"),
    "true for a number": ([request(verb="echo", args={"text": "x", "times": True})], "bad_value", "args.times"),
    "a number for true": ([request(verb="echo", args={"text": "x", "loud": 1})], "bad_value", "args.loud"),
    "a list of the wrong things": ([request(verb="echo", args={"text": "x", "list": ["a"]})], "bad_value", "args.list"),
    "our own mistake": ([request(verb="fails")], "internal", None),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_request_gets_one_clear_error(door, case):
    frames, code, named = REFUSED[case]
    reply = ask(door, *frames)
    assert reply["ok"] is False
    assert (reply["error"]["code"], reply["error"]["field"]) == (code, named)
    assert reply["error"]["text"]
    assert reply["error"]["allowed"] or code in ("bad_message", "internal")
    assert door.errors[code] == 1


def test_a_refusal_still_carries_the_id(door):
    assert ask(door, request(verb="nonsense"))["id"] == 5


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(frames=st.lists(st.binary(max_size=60), max_size=4))
def test_no_bytes_whatever_get_anything_but_one_reply(frames):
    door = Control.__new__(Control)
    door._verbs, door.requests, door.errors, door.socket = VERBS, 0, control.Counter(), FakeSocket()
    reply = ask(door, *frames)
    assert reply["ok"] is False
    assert reply["error"]["code"] in {code.value for code in ErrorCode} - {"internal"}


@given(value=VALUES, args=VALUES)
def test_no_messagepack_whatever_ends_in_our_own_mistake(value, args):
    door = Control.__new__(Control)
    door._verbs, door.requests, door.errors, door.socket = VERBS, 0, control.Counter(), FakeSocket()
    for message in (value, {"v": 1, "verb": "echo", "args": args}, {"v": 1, "verb": value, "id": args}):
        reply = ask(door, codec.pack(message))
        assert reply["ok"] or reply["error"]["code"] != "internal"


class TestClients:
    def test_lag_and_drops_are_shown_by_name(self):
        clients = Clients()
        clients.hello(b"a", "scope", 42, 0)
        assert clients.report(b"a", "amp0/raw", Progress(900, 96, 48))
        shown = clients.as_list(2_000_000_000, {"amp0/raw": 1000})
        assert shown == [
            {
                "client": 1,
                "name": "scope",
                "pid": 42,
                "age_s": 2.0,
                "streams": {"amp0/raw": {"next_seq": 900, "lag_samples": 100, "dropped": 96, "backfilled": 48}},
            }
        ]

    def test_who_never_said_a_name_is_not_known(self):
        assert not Clients().report(b"a", "amp0/raw", Progress(0, 0, 0))

    def test_the_silent_are_forgotten_and_the_heard_are_not(self):
        clients = Clients()
        clients.hello(b"a", "a", None, 0)
        clients.hello(b"b", "b", None, 0)
        clients.heard(b"b", 20_000_000_000)
        clients.forget_silent(31_000_000_000)
        assert [client["name"] for client in clients.as_list(0, {})] == ["b"]

    def test_there_is_an_end_to_names(self):
        clients = Clients()
        for number in range(MAX_CLIENTS):
            clients.hello(str(number).encode(), "x", None, 0)
        with pytest.raises(TooManyClientsError):
            clients.hello(b"one more", "x", None, 0)
        clients.hello(b"7", "known again", None, 0)
        clients.bye(b"8")
        clients.hello(b"one more", "x", None, 0)
