"""Frames to messages: what the protocol allows arrives whole, and everything else ends in WireError."""

import contextlib
import dataclasses

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_client.decoding import decode, decode_description, decode_history
from emgd_client.messages import (
    Block,
    Clock,
    Delivered,
    Description,
    Gap,
    Impedance,
    Mark,
    Pulse,
    Site,
    State,
    StimulatorState,
)
from emgd_wire.codec import WireError
from emgd_wire.kinds import ErrorCode

BLOCK = {
    "v": 1,
    "kind": "raw",
    "session": "00000000000000aa",
    "stream": "amp0/raw",
    "seq": 192,
    "count": 3,
    "channels": 2,
    "dtype": "<i4",
    "host_time_ns": 5_000_000,
    "flags": 9,
    "gap_before": 96,
    "channel_flags": b"\x01\x00",
}
SAMPLES = np.array([[1, -2], [3, -4], [5, -6]], "<i4")

PAIR = {
    "channel": 0,
    "label": "EMG 1",
    "e1": {"ohm": 2500.5, "sigma_ohm": 2, "state": "good"},
    "e2": {"ohm": None, "sigma_ohm": None, "state": "off"},
    "between_ohm": None,
    "between_sigma_ohm": None,
    "bridge": False,
}

EVENTS = {
    "gap": ({"seq": 7, "count": 9, "causes": ["lost", "corrupt"]}, Gap),
    "mark": ({"seq": 7, "code": "trigger", "value": -1, "channel": 0}, Mark),
    "clock": (
        {"state": "locked", "offset_ns": 1.5, "drift_ppm": -2.0, "sigma_ns": 80.0, "age_ns": 4}
        | {"observations": 10, "rejected": 1},
        Clock,
    ),
    "state": ({"device": "amp0", "state": "streaming", "text": "all is well"}, State),
    "impedance": (
        {"check": 3, "state": "done", "side": None, "step": 0, "steps": 3, "attempt": 0, "channels": [0]}
        | {"ready_ns": None, "reason": None, "text": "", "frequency_hz": 31.25, "current_na": 24}
        | {"windows": [["e1", 10, 20]], "results": [PAIR]},
        Impedance,
    ),
}

SITE = {"id": "00aa", "side": "right", "limb": "", "nerve": "median", "electrodes": "wrist"}
REPORT = {"at_ns": 5, "sigma_ns": 1, "current_ua": 3000, "width_us": 200, "load_ohm": 0, "dc_ua": -2, "limited": False}
STIMULATOR = {"device": "stim0", "state": "idle", "text": "all is well", "reasons": ["lease_ms"], "holder": None} | {
    "profile": "motor",
    "site": SITE,
    "operator": "mw",
    "limits": "d1",
}
EVENTS["pulse"] = (
    {"pulse": 3, "shot": 2, "number": 1, "of": 1, "site": SITE, "profile": "motor", "operator": "mw", "at_ns": 4}
    | {"current_ua": 3000, "width_us": 200, "delivered": REPORT, "reasons": [], "mark_seq": 7, "mark_ns": 6},
    Pulse,
)

DESCRIPTION = {
    "stream": "amp0/raw",
    "kind": "raw",
    "device": "amp0",
    "driver": "emg8",
    "serial": "S1",
    "firmware": "1.0",
    "simulated": False,
    "isolated": True,
    "rate_hz": 48000.0,
    "speed": 1,
    "dtype": "<i4",
    "unit": "count",
    "block_samples": 96,
    "history_samples": 480000,
    "notes": ["rounded"],
    "realtime_offset_ns": -5,
    "channels": [{"label": "L", "uv_per_count": 0.25, "saturation_count": 99, "gain": 2, "mode": "normal"}],
}

HISTORY = {
    "stream": "amp0/raw",
    "dtype": "<i4",
    "channels": 2,
    "session": "aa",
    "seq": 90,
    "count": 20,
    "next_seq": 110,
    "oldest": 95,
    "newest": 110,
    "expired": 5,
    "blocks": [[95, 1, 0, 100, 0, b"\0\0"], [104, 2, 8, 200, 8, b"\0\1"]],
    "gaps": [[96, 8, ["lost"]]],
}


def block_frames(payload=None, **changed):
    header = msgpack.packb({**BLOCK, **changed})
    return [b"amp0/raw", header, SAMPLES.tobytes() if payload is None else payload]


def event_frames(kind, body, **changed):
    header = BLOCK | {"kind": kind, "stream": f"amp0/{kind}", "dtype": "msgpack", "channels": 0} | changed
    return [f"amp0/{kind}".encode(), msgpack.packb(header), msgpack.packb(body)]


def test_a_block_arrives_with_all_its_figures_and_without_a_copy():
    frames = block_frames()
    block = decode(frames)
    np.testing.assert_array_equal(block.samples, SAMPLES)
    assert np.shares_memory(block.samples, np.frombuffer(frames[2], np.uint8))
    assert not block.samples.flags.writeable
    figures = (block.seq, block.end, block.host_time_ns, block.flags, block.channel_flags, block.gap_before)
    assert figures == (192, 195, 5_000_000, 9, b"\x01\x00", 96)
    assert (block.stream, block.session, block.origin) == ("amp0/raw", "00000000000000aa", "live")


def test_filtered_samples_are_float32():
    assert decode(block_frames(kind="filtered", dtype="<f4")).samples.dtype == np.float32


def test_latency_counts_from_the_last_sample():
    assert decode(block_frames()).latency_ns(received_ns=9_000_000, rate_hz=1000.0) == 2_000_000


def as_lists(value):
    """Tuples as the lists that they were on the wire."""
    return [as_lists(item) for item in value] if isinstance(value, tuple | list) else value


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_carries_every_field_of_its_payload(kind):
    body, expected_type = EVENTS[kind]
    message = decode(event_frames(kind, body))
    assert isinstance(message, expected_type)
    arrived = dataclasses.asdict(message)
    assert {name: as_lists(arrived[name]) for name in body} == body
    assert (message.stream, message.session) == (f"amp0/{kind}", BLOCK["session"])


def test_a_stimulators_state_says_more_than_an_amplifiers():
    message = decode(event_frames("state", STIMULATOR, stream="stim0/state"))
    assert isinstance(message, StimulatorState)
    assert isinstance(message, State)  # for who does not care
    assert (message.site, message.reasons, message.armed) == (Site(**SITE), ("lease_ms",), False)
    assert decode(event_frames("state", STIMULATOR | {"state": "cooldown", "site": None})).armed
    for spoilt in ({"site": {"id": "1"}}, {"site": 3}, {"reasons": "x"}, {"holder": 1}):
        with pytest.raises(WireError):
            decode(event_frames("state", STIMULATOR | spoilt))


def test_a_pulse_carries_its_report_or_none():
    body = EVENTS["pulse"][0]
    assert decode(event_frames("pulse", body)).delivered == Delivered(**REPORT)
    nothing = decode(event_frames("pulse", body | {"delivered": None, "mark_seq": None, "mark_ns": None}))
    assert (nothing.delivered, nothing.mark_seq) == (None, None)
    with pytest.raises(WireError):
        decode(event_frames("pulse", body | {"delivered": {**REPORT, "current_ua": -1}}))


def test_a_description_knows_its_channels_and_the_oldest_sample():
    description = decode(event_frames("description", DESCRIPTION, stream="amp0/raw"))
    assert isinstance(description, Description)
    assert (description.rate_hz, description.oldest, description.channels[0].label) == (48000.0, 192, "L")
    assert description.notes == ("rounded",)
    np.testing.assert_array_equal(description.uv_per_count, [0.25])


@pytest.mark.parametrize(
    "spoilt",
    [
        {"results": [PAIR | {"e1": {"ohm": "much", "sigma_ohm": 1.0, "state": "good"}}]},
        {"results": [PAIR | {"e2": 5}]},
        {"results": [{name: PAIR[name] for name in PAIR if name != "bridge"}]},
        {"results": None},
        {"windows": [["e1", -1, 5]]},
        {"windows": [["e1", 1]]},
        {"channels": [1.5]},
        {"ready_ns": "soon"},
    ],
)
def test_an_impedance_message_that_makes_no_sense_is_refused(spoilt):
    with pytest.raises(WireError):
        decode(event_frames("impedance", EVENTS["impedance"][0] | spoilt))


def test_an_impedance_check_is_good_only_when_all_its_electrodes_are():
    good = {"ohm": 2500.0, "sigma_ohm": 2.0, "state": "good"}
    cases = {
        True: [({"e2": good}, "done")],
        False: [({}, "done"), ({"e2": good, "bridge": True}, "done"), ({"e2": good}, "aborted")],
    }
    for expected, variants in cases.items():
        for change, state in variants:
            body = EVENTS["impedance"][0] | {"results": [PAIR | change], "state": state}
            message = decode(event_frames("impedance", body))
            assert isinstance(message, Impedance)
            assert message.all_good is expected
            assert message.over


def test_unknown_kinds_are_passed_over_and_unknown_fields_too():
    assert decode(event_frames("weather", {"rain": True})) is None
    assert isinstance(decode(block_frames(novelty=[1, 2])), Block)
    assert isinstance(decode(event_frames("state", EVENTS["state"][0] | {"novelty": 1})), State)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"v": 2}, "v"),
        ({"v": True}, "v"),
        ({"seq": -1}, "seq"),
        ({"seq": 1.0}, "seq"),
        ({"seq": True}, "seq"),
        ({"count": 4}, "payload"),
        ({"channels": 0}, "channels"),
        ({"channels": 3}, "payload"),
        ({"dtype": ">i4"}, "dtype"),
        ({"stream": b"amp0/raw"}, "stream"),
        ({"gap_before": 193}, "gap_before"),
        ({"channel_flags": b"\0"}, "channel_flags"),
        ({"channel_flags": "ab"}, "channel_flags"),
    ],
)
def test_a_block_against_the_protocol_names_the_field(changed, field):
    with pytest.raises(WireError) as refusal:
        decode(block_frames(**changed))
    assert refusal.value.field == field


def test_a_block_of_no_samples_is_refused():
    with pytest.raises(WireError, match="count is 0"):
        decode(block_frames(b"", count=0))


@pytest.mark.parametrize("missing", [name for name in BLOCK if name != "v"])
def test_a_header_field_that_is_missing_is_named(missing):
    header = msgpack.packb({name: value for name, value in BLOCK.items() if name != missing})
    with pytest.raises(WireError) as refusal:
        decode([b"amp0/raw", header, SAMPLES.tobytes()])
    assert (refusal.value.code, refusal.value.field) == (ErrorCode.MISSING_FIELD, missing)


@pytest.mark.parametrize(
    "changed",
    [
        {"rate_hz": 0},
        {"rate_hz": float("inf")},
        {"channels": [1]},
        {"channels": {}},
        {"simulated": 1},
        {"channels": [DESCRIPTION["channels"][0] | {"filter": 5}]},
    ],
)
def test_a_description_against_the_protocol_is_refused(changed):
    with pytest.raises(WireError) as refusal:
        decode_description(DESCRIPTION | changed)
    assert refusal.value.field in {next(iter(changed)), "filter"}


def test_a_description_without_channels_is_refused():
    with pytest.raises(WireError, match="channels is missing"):
        decode_description({name: value for name, value in DESCRIPTION.items() if name != "channels"})


def test_an_event_with_samples_for_a_payload_is_refused():
    with pytest.raises(WireError, match="dtype"):
        decode(event_frames("mark", EVENTS["mark"][0], dtype="<i4"))


def test_history_is_cut_into_its_blocks():
    reply = decode_history("amp0/raw", HISTORY, SAMPLES.tobytes())
    assert [(block.seq, block.samples.tolist(), block.gap_before, block.origin) for block in reply.blocks] == [
        (95, [[1, -2]], 0, "history"),
        (104, [[3, -4], [5, -6]], 8, "history"),
    ]
    assert reply.gaps == (Gap("amp0/raw", "aa", 96, 8, ("lost",)),)
    assert (reply.expired, reply.next_seq, reply.newest) == (5, 110, 110)


@pytest.mark.parametrize(
    "changed",
    [
        {"blocks": [[95, 1, 0, 100, 0, b"\0\0"]]},
        {"blocks": [[95, 3, 0, 100, 0]]},
        {"blocks": [[95, 0, 0, 100, 0, b"\0\0"], [104, 3, 0, 100, 0, b"\0\0"]]},
        {"blocks": 5},
        {"blocks": ["abcdef"]},
        {"gaps": [[96, 8, "lost"]]},
        {"channels": 0},
        {"expired": None},
    ],
)
def test_history_against_the_protocol_is_refused(changed):
    with pytest.raises(WireError):
        decode_history("amp0/raw", HISTORY | changed, SAMPLES.tobytes())


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def decode_or_refuse(decoder, *arguments):
    """Any other exception, and any warning, fails the test."""
    with contextlib.suppress(WireError):
        decoder(*arguments)


@given(st.lists(st.binary(max_size=64), max_size=4))
def test_any_bytes_are_decoded_or_refused(frames):
    decode_or_refuse(decode, frames)


@given(name=st.sampled_from(sorted(BLOCK)), value=ANYTHING, payload=st.binary(max_size=32))
def test_any_header_is_decoded_or_refused(name, value, payload):
    decode_or_refuse(decode, block_frames(payload, **{name: value}))


@given(kind=st.sampled_from([*EVENTS, "description"]), name=st.integers(0, 20), value=ANYTHING)
def test_any_event_is_decoded_or_refused(kind, name, value):
    body = EVENTS[kind][0] if kind in EVENTS else DESCRIPTION
    decode_or_refuse(decode, event_frames(kind, {**body, list(body)[name % len(body)]: value}))


@given(name=st.sampled_from(sorted(HISTORY)), value=ANYTHING, payload=st.binary(max_size=32))
def test_any_history_is_decoded_or_refused(name, value, payload):
    decode_or_refuse(decode_history, "amp0/raw", {**HISTORY, name: value}, payload)
