"""`emgctl stim` without a service: what is typed, and what is printed."""

import argparse

import pytest

from emgd_client.emgctl import stim
from emgd_client.emgctl.parser import build_parser
from emgd_client.emgctl.stim_session import _Session, interval_of, microamperes
from emgd_client.messages import Delivered, Pulse
from emgd_client.stimulator import Shot

WHERE = ["--site", "right,median,wrist", "--operator", "mw"]


@pytest.mark.parametrize(("text", "current_ua"), [("5", 5_000), ("0.1", 100), ("12.34", 12_340), ("0.001", 1)])
def test_milliamperes_become_microamperes(text, current_ua):
    assert microamperes(text) == current_ua


@pytest.mark.parametrize("text", ["0", "-1", "0.0005", "1000", "5 mA", "nan", "inf", ""])
def test_what_is_no_current_is_none(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the texts are float's own, or ours
        microamperes(text)


@pytest.mark.parametrize("rate_hz", [0.14, 0.5, 1, 3, 7, 10, 30])
def test_a_rate_is_never_exceeded_by_rounding(rate_hz):
    assert 1e6 / interval_of(rate_hz) <= rate_hz
    assert 1e6 / (interval_of(rate_hz) - 1) > rate_hz


@pytest.mark.parametrize(
    ("arguments", "shot"),
    [
        (["pulse", *WHERE, "--current-ma", "5"], Shot(5_000, 200)),
        (["pulse", *WHERE, "--current-ma", "5", "--width-us", "100"], Shot(5_000, 100)),
        (["pair", *WHERE, "--current-ma", "5", "--apart-ms", "2.5"], Shot(5_000, 200, "pair", 2, 2_500)),
        (
            ["train", *WHERE, "--current-ma", "5", "--count", "10", "--rate-hz", "3"],
            Shot(5_000, 200, "train", 10, 333_334),
        ),
    ],
)
def test_a_command_line_becomes_a_shot(arguments, shot):
    args = build_parser().parse_args(["stim", *arguments])
    assert args.shot(args) == shot
    assert args.site == ("right", "median", "wrist", "")


@pytest.mark.parametrize(
    "wrong",
    [
        ["--site", "right,median"],
        ["--site", "right,,wrist"],
        ["--limit", "current_ua"],
        ["--limit", "current_ua=x"],
        ["--current-ma", "0"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_wrong_usage(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["stim", "pulse", *WHERE, "--current-ma", "5", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_what_is_typed_while_armed_becomes_shots():
    session = _Session(argparse.Namespace(width_us=200))
    with pytest.raises(ValueError, match="how many mA"):
        session._shot([])
    assert session._shot(["3"]) == Shot(3_000, 200)
    assert session._shot([]) == Shot(3_000, 200)
    assert session._shot(["pair", "20"]) == Shot(3_000, 200, "pair", 2, 20_000)
    assert session._shot(["train", "10", "3"]) == Shot(3_000, 200, "train", 10, 333_334)
    for words in (["3", "mA"], ["trains", "1", "2"], ["x"], ["train", "a", "1"]):
        with pytest.raises(ValueError):  # noqa: PT011 - see above
            session._shot(words)
    assert session._shot([]) == Shot(3_000, 200)


def test_a_refusal_names_limit_layer_asked_and_allowed():
    lines = stim.refusal_lines(
        [
            {"name": "current_ua", "layer": "profile", "asked": 60_000, "allowed": 0, "unit": "µA", "text": "too much"},
            {"name": "fault", "layer": None, "asked": None, "allowed": None, "unit": "", "text": "latched"},
        ]
    )
    assert lines == [
        "  current_ua (profile): asked 60000 µA, allowed 0 µA",
        "    too much",
        "  fault",
        "    latched",
    ]


def pulse(**changes):
    given = Delivered(5, 1, 4_950, 200, 2_100, 0, limited=False)
    values = {"pulse": 7, "shot": 2, "number": 1, "of": 3, "site": None, "profile": None, "operator": None, "at_ns": 4}
    values |= {"current_ua": 5_000, "width_us": 200, "delivered": given, "reasons": (), "mark_seq": 99, "mark_ns": 6}
    return Pulse("stim0/pulse", "aa", **(values | changes))


def test_a_pulse_is_told_in_a_line():
    assert stim.pulse_line(pulse()) == ("pulse 7 (1 of 3): 5 mA, 200 µs; delivered 4.95 mA, 200 µs, 2.1 kΩ, sample 99")
    assert stim.pulse_line(pulse(delivered=None, mark_seq=None)).endswith("nobody knows whether it was given")
    assert stim.pulse_line(pulse(delivered=None, reasons=("dropped",))).endswith("not given (dropped)")
    assert "NOT AS ASKED: headroom" in stim.pulse_line(pulse(reasons=("headroom",)))
