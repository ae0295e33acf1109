"""docs/protocol.md against the code: its hex example, its tables of kinds, causes, verbs and errors."""

import re

import msgpack
import numpy as np
import pytest

from emgd import templates, verbs
from emgd.templates import causes_in
from emgd_wire import codec, kinds
from emgd_wire.kinds import ErrorCode, Flag, Kind
from paths import ROOT

TEXT = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
EXAMPLE = TEXT[TEXT.index("## 9. Worked example") :]


def hex_blocks():
    found = re.findall(r"(?:^    (?:[0-9a-f]{2} ?)+\n)+", EXAMPLE, re.MULTILINE)
    return [bytes.fromhex("".join(block.split())) for block in found]


def filled(template, **values):
    """A template with its holes filled as the publisher fills them."""
    data, at = bytearray(template[0]), template[1]
    for name, (value, size) in values.items():
        data[at[name] : at[name] + size] = value if isinstance(value, bytes) else value.to_bytes(size, "big")
    return bytes(data)


def test_the_header_in_the_document_is_the_one_that_is_sent():
    template = templates.block_header(Kind.RAW, "0123456789abcdef", "amp0/raw", 2, "<i4")
    sent = filled(
        template,
        seq=(96, 8),
        count=(3, 4),
        host_time_ns=(5_000_000_000, 8),
        flags=(int(Flag.SATURATED | Flag.GAP_BEFORE), 4),
        gap_before=(48, 8),
        channel_flags=(bytes([0, 1]), 2),
    )
    header, payload, request = hex_blocks()
    assert sent == header
    assert np.frombuffer(payload, "<i4").reshape(3, 2).tolist() == [[1, -2], [300, 4], [-70000, 8388607]]
    asked = codec.encode_request("history", {"stream": "amp0/raw", "seq": 0, "count": 96}, 7)
    assert asked == request


def test_every_header_has_the_first_ten_fields_and_blocks_have_all_twelve():
    table = TEXT[TEXT.index("### Header fields") : TEXT.index("| bit | flag |")]
    fields = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(fields) == 12
    block = msgpack.unpackb(templates.block_header(Kind.FILTERED, "s" * 16, "amp0/filtered", 300, "<f4")[0])
    gap = msgpack.unpackb(templates.event_header(Kind.GAP, "s" * 16, "amp0/gap")[0])
    posted = msgpack.unpackb(templates.posted_header(Kind.CLOCK, "s" * 16, "amp0/clock", 2**40, 2**60))
    assert set(block) == set(fields)
    assert set(gap) == set(posted) == set(fields[:10])
    assert len(block["channel_flags"]) == 300


def test_gap_payloads_name_their_causes_for_every_set():
    for causes, (data, _) in enumerate(templates.gap_payloads()):
        assert msgpack.unpackb(data)["causes"] == causes_in(causes)
    assert causes_in(0b10001) == ["lost", "device_lost"]


def test_mark_payloads_hold_negative_values():
    for code, template in enumerate(templates.mark_payloads()):
        mark = msgpack.unpackb(filled(template, seq=(2**33, 8), value=((-5) % 2**32, 4), channel=(1023, 4)))
        assert mark == {"seq": 2**33, "code": kinds.MARK_CODES[code], "value": -5, "channel": 1023}


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_is_in_the_document(code):
    assert f"| `{code}` |" in TEXT


def test_every_verb_and_argument_is_in_the_document():
    table = TEXT[TEXT.index("## 6. Verbs") : TEXT.index("### `status`")]
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| (.*)$", table, re.MULTILINE)}
    known = verbs.Verbs(None).table
    assert set(rows) == set(known)
    for name, verb in known.items():
        for field in verb.fields:
            assert f"`{field.name}`" in rows[name], (name, field.name)


@pytest.mark.parametrize("flag", Flag)
def test_every_flag_has_its_bit_in_the_document(flag):
    name = flag.name.lower().replace("_", " ")
    assert f"| {flag.bit_length() - 1} ({int(flag)}) | {name} |" in TEXT


def test_every_mark_code_is_told_where_marks_are_described():
    rows = TEXT[TEXT.index("### `mark`") : TEXT.index("### `clock`")]
    assert all(f"`{code}`" in rows for code in kinds.MARK_CODES)


@pytest.mark.parametrize("word", [*kinds.CAUSES, *kinds.MARK_CODES, *Kind])
def test_every_word_on_the_wire_is_in_the_document(word):
    assert f"`{word}`" in TEXT
