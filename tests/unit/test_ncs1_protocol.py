"""ncs1 on the wire: golden bytes, every message there and back, and no message ever out of noise."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgd_drivers.ncs1 import protocol
from emgd_drivers.ncs1.protocol import Decoder, Kind, Message, encode
from paths import ROOT

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
MESSAGES = st.builds(Message, st.integers(1, 255), U16, st.binary(max_size=80))

FEED = bytes.fromhex("04 01 08 01 07 f4 01 1b 7a 43 58 00")
FED = bytes.fromhex("04 01 88 01 01 03 f4 01 01 02 01 01 01 03 e8 03 01 01 01 01 01 05 db 55 f4 81 00")


def decoded(data):
    return list(Decoder().feed(data))


def test_golden_feed():
    message = Message(Kind.FEED, 1, protocol.FEED_MS.pack(500))
    assert encode(message) == FEED
    assert decoded(FEED) == [message]


def test_golden_answer():
    message = Message(Kind.FEED | protocol.ANSWER, 1, b"\0" + protocol.Fed(500, 0, 0, 1, 1000).pack())
    assert encode(message) == FED
    assert decoded(FED) == [message]


def test_the_document_shows_the_golden_bytes():
    text = re.sub(r"\s+", " ", (ROOT / "docs" / "devices" / "ncs1.md").read_text())
    for golden in (FEED, FED, protocol.STOP):
        assert golden.hex(" ") in text


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (protocol.Info, 76),
        (protocol.Status, 20),
        (protocol.Limits, 20),
        (protocol.Fed, 16),
        (protocol.Pulse, 20),
        (protocol.Delivered, 29),
        (protocol.Trouble, 10),
        (protocol.Started, 5),
    ],
)
def test_payloads_have_the_lengths_of_the_document(kind, size):
    assert kind.LAYOUT.size == size
    for wrong in (size - 1, size + 1):
        with pytest.raises(protocol.ProtocolError):
            kind.unpack(bytes(wrong))


def test_a_pulse_to_the_byte():
    packed = protocol.Pulse(7, 0x0102030405060708, 5000, 200).pack()
    assert packed.hex() == "07000000" + "0807060504030201" + "88130000" + "c8000000"


@given(MESSAGES)
def test_every_message_there_and_back(message):
    encoded = encode(message)
    assert encoded.count(0) == 1
    assert encoded.endswith(b"\0")
    assert len(encoded) <= protocol.MAX_ENCODED_BYTES
    assert decoded(encoded) == [message]


@given(st.builds(protocol.Delivered, U32, U64, U32, U32, U32, st.integers(-(2**31), 2**31 - 1), U8))
def test_every_readback_there_and_back(delivered):
    assert protocol.Delivered.unpack(delivered.pack()) == delivered


@given(st.lists(MESSAGES, max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_bytes_may_be_cut_anywhere(messages, cuts):
    data = b"\0" + b"".join(map(encode, messages))
    decoder = Decoder()
    heard = []
    at = 0
    for cut in cuts:
        heard += decoder.feed(data[at : at + cut])
        at += cut
    heard += decoder.feed(data[at:])
    assert heard == messages
    assert decoder.damaged == 0


@settings(max_examples=300)
@given(st.binary(max_size=400), MESSAGES)
def test_noise_is_never_a_message_and_the_next_one_is_in_step(noise, message):
    heard = decoded(noise + b"\0" + encode(message))
    assert [one for one in heard if one.kind != Kind.STOP] == [message]


def test_much_noise_is_never_a_message():
    chance = random.Random(7)  # noqa: S311 - the same noise each time
    decoder = Decoder()
    # Short stretches between zeros, as COBS has them: about 30 000 that look like frames.
    noise = bytes(chance.choice((0, 1, 2, 3, 4, 5, 6, 8, 9, chance.randrange(256))) for _ in range(200_000))
    assert all(message.kind == Kind.STOP for message in decoder.feed(noise))
    assert decoder.damaged > 10_000


@given(MESSAGES, st.data())
def test_one_changed_byte_is_never_another_message(message, data):
    encoded = bytearray(encode(message))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    assert decoded(bytes(encoded) + b"\0") in ([], [message])


@given(st.lists(MESSAGES, max_size=5))
def test_messages_never_look_like_stop(messages):
    data = b"\0" + b"".join(map(encode, messages)) + b"\0"
    assert all(message.kind != Kind.STOP for message in decoded(data))


@given(st.binary(max_size=200), st.integers(0, 12))
def test_stop_is_seen_behind_anything_and_with_twelve_bytes_gone(before, lost):
    heard = decoded(before + protocol.STOP[lost:])
    assert heard[-1].kind == Kind.STOP or any(message.kind == Kind.STOP for message in heard)


def test_stop_is_seen_once_in_a_run_and_again_in_the_next():
    assert [message.kind for message in decoded(bytes(40) + b"\1" + bytes(4))] == [Kind.STOP, Kind.STOP]
    assert decoded(b"\1" + bytes(3)) == []


def test_another_version_and_an_overlong_stretch_are_dropped():
    plain = b"\2" + bytes([Kind.INFO]) + b"\1\0"
    packed = plain + protocol.CHECK.pack(protocol.crc32c(plain))
    decoder = Decoder()
    assert list(decoder.feed(protocol._cobs(packed) + b"\0")) == []
    assert list(decoder.feed(b"\1" * 5000 + b"\0" + FEED)) == decoded(FEED)
    assert decoder.damaged == 2


def test_kinds_have_names_for_people():
    assert protocol.name_of(Kind.ARM) == "ARM"
    assert protocol.name_of(Kind.ARM | protocol.ANSWER) == "ARM"
    assert protocol.name_of(0x7F) == "kind 0x7f"
