"""Every reason of the gate has words, and a limit's words name what was asked, what is allowed and by whom."""

import pytest

from emgd import refusals
from emgd.limits import build, site_limits
from emgd.refusals import explain
from emgd_ext import gate
from emgd_ext.gate import REASON_NAMES, bit

DEVICE = {"current_ua": 90_000, "width_us": 1_000, "compliance_v": 400}


@pytest.fixture
def table():
    return build("motor", site_limits({"site_pulses": 20}), DEVICE, {"step_ua": 4_000})


@pytest.mark.requirement("REQ-036")
@pytest.mark.parametrize("name", REASON_NAMES)
def test_every_reason_has_words_with_and_without_figures(name, table):
    for figures, limits in ((None, None), ({}, table), ({name: 7}, table)):
        (only,) = explain(bit(name), figures, limits)
        assert only.name == name
        what, _, remedy = only.text.partition("; ")
        assert len(what) > 10
        assert remedy
        assert "{" not in only.text
        assert "None" not in only.text
        assert only.as_map()["text"] == only.text


def test_no_words_are_left_over_and_none_are_shared():
    assert set(refusals._LIMITS) == set(gate.LIMIT_NAMES)
    assert set(refusals._RULES) == set(REASON_NAMES) - set(gate.LIMIT_NAMES)
    assert len({words.what for words in refusals._RULES.values()}) == len(refusals._RULES)


def test_nothing_stands_against_a_yes_and_a_reason_without_a_name_is_not_dropped():
    assert explain(0, None, None) == []
    (only,) = explain(1 << 63, None, None)
    assert (only.name, only.layer) == ("unknown", None)


@pytest.mark.requirement("REQ-031", "REQ-036")
@pytest.mark.parametrize(
    ("name", "figures", "text"),
    [
        ("current_ua", {"current_ua": 90_000}, "the current of 90 mA is above the 80 mA that the profile motor allows"),
        ("width_us", {"width_us": 250}, "the pulse width of 250 µs is above the 200 µs that the profile motor allows"),
        (
            "site_pulses",
            {"site_pulses": 21},
            "of 21 pulses is above the 20 pulses that the profile motor in this site's configuration allows",
        ),
        (
            "step_ua",
            {"step_ua": 4_500},
            "the step up of 4.5 mA from the last current is above the 4 mA that was set for",
        ),
        (
            "step_ua",
            {"step_ua": 900, "step_allowed_ua": 500},
            "the step up of 900 µA from the last current is above the 500 µA (a quarter of the last current)",
        ),
        (
            "interval_us",
            {"interval_us": 50_000},
            "the time of 50 ms between pulses is below the 100 ms that the profile motor allows",
        ),
        ("readback_width_us", {}, "is above the 10 µs that emgd allows at most; check the stimulator"),
        ("headroom", {"compliance_v": 340, "compliance_set_v": 300}, "(asked: 340 V, at most: 300 V)"),
        ("retry", {"current_ua": 9_000, "retry_ua": 7_500}, "(asked: 9 mA, at most: 7.5 mA)"),
    ],
)
def test_the_words_name_asked_allowed_and_who_says_so(name, figures, text, table):
    (only,) = explain(bit(name), figures, table)
    assert text in only.text


def test_a_limit_of_the_device_is_named_so():
    table = build("motor", site_limits({}), {**DEVICE, "current_ua": 20_000}, {})
    (only,) = explain(bit("current_ua"), {"current_ua": 30_000}, table)
    assert (only.layer, only.asked, only.allowed, only.unit) == ("device", 30_000, 20_000, "µA")
    assert only.text == "the current of 30 mA is above the 20 mA that this stimulator allows; lower the current"


@pytest.mark.requirement("REQ-002", "REQ-004", "REQ-008")
def test_the_gates_own_verdict_and_figures_are_explained(table):
    """A shot that is too strong in several ways: each is named, with the gate's own figures."""
    one = gate.Gate(0)
    assert one.set_limits(table.limits) == 0
    shot = {
        "holder": 7,
        "site": 5,
        "kind": 3,
        "current_ua": 85_000,
        "width_us": 300,
        "count": 20,
        "interval_us": 10_000,
    }
    verdict = one.request(1, **shot)
    told = {refusal.name: refusal for refusal in explain(verdict, one.figures(**shot), table)}
    assert set(told) == set(gate.names_in(verdict))
    assert (told["charge_nc"].asked, told["charge_nc"].allowed) == (25_500, 20_000)
    assert (told["train_pulses"].asked, told["train_pulses"].allowed) == (20, 10)
    assert (told["rate_mhz"].asked, told["rate_mhz"].allowed) == (100_000, 1_000)
    assert told["off"].layer is None
