"""Fault plans as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_drivers.sim.faults import Fault, FaultKind, FaultPlan


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop@100", Fault(FaultKind.DROP, 100)),
        ("drop@100+3", Fault(FaultKind.DROP, 100, frames=3)),
        ("repeat@50", Fault(FaultKind.REPEAT, 50)),
        ("truncate@70:30", Fault(FaultKind.TRUNCATE, 70, byte=30)),
        ("corrupt@80:5", Fault(FaultKind.CORRUPT, 80, byte=5)),
        ("stall@200:20ms", Fault(FaultKind.STALL, 200, stall_ns=20_000_000)),
        ("stall@200:1.5s", Fault(FaultKind.STALL, 200, stall_ns=1_500_000_000)),
        ("saturate@300+10:2", Fault(FaultKind.SATURATE, 300, frames=10, channel=2)),
        ("electrode@400:3", Fault(FaultKind.ELECTRODE, 400, channel=3)),
        ("electrode@450:3=on", Fault(FaultKind.ELECTRODE, 450, channel=3, electrode_on=True)),
        ("unplug@1000", Fault(FaultKind.UNPLUG, 1000)),
    ],
)
def test_fault_at_a_frame_is_understood(text, fault):
    assert FaultPlan.parse([text]) == FaultPlan(faults=(fault,))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("wrap", {"wrap": True}),
        ("drift=50ppm", {"drift_ppm": 50.0}),
        ("drift=-2.5ppm", {"drift_ppm": -2.5}),
        ("walk=1ppm/min", {"walk_ppm_per_min": 1.0}),
        ("jitter=0..2ms", {"jitter_max_ns": 2_000_000}),
        ("jitter=50..300us", {"jitter_min_ns": 50_000, "jitter_max_ns": 300_000}),
        ("seed=7", {"seed": 7}),
    ],
)
def test_what_holds_all_the_time_is_understood(text, fields):
    assert FaultPlan.parse([text]) == FaultPlan(**fields)


def test_several_strings_make_one_plan_in_their_order():
    plan = FaultPlan.parse(["drop@1", "drift=5ppm", "repeat@0+2", "seed=2"])
    assert [fault.kind for fault in plan.faults] == [FaultKind.DROP, FaultKind.REPEAT]
    assert (plan.drift_ppm, plan.seed) == (5.0, 2)
    assert [[fault.kind for fault in plan.at(frame)] for frame in range(3)] == [["repeat"], ["drop", "repeat"], []]


@pytest.mark.parametrize(
    "text",
    ["", "drop", "drop@", "drop@-1", "drop@1+0", "drop@x", "truncate@7", "truncate@7:0", "stall@1:20", "stall@1:20min",
     "electrode@4:3=off2", "drift=50", "jitter=2ms", "wrap@3", "seed=-1", "explode@3", "drop@1 drop@2", "drop@१"],
)  # fmt: skip
def test_bad_string_is_refused_with_its_name_and_the_allowed_forms(text):
    with pytest.raises(ValueError, match="is not understood; write one of drop@FRAME") as refusal:
        FaultPlan.parse(["drop@1", text])
    assert repr(text) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "said"), [("jitter=3..2ms", "the wrong way round"), ("drift=20000ppm", "write -10000 to 10000 ppm")]
)
def test_impossible_value_is_refused_with_the_remedy(text, said):
    with pytest.raises(ValueError, match=said):
        FaultPlan.parse([text])


@given(st.text(max_size=30) | st.from_regex(r"[a-z]{4,9}@?[0-9+:.=a-z]{0,12}", fullmatch=True))
def test_any_string_is_understood_or_refused(text):
    try:
        plan = FaultPlan.parse([text])
    except ValueError as error:
        assert repr(text) in str(error)  # noqa: PT017 - either outcome is right, each in its own way
    else:
        assert plan == FaultPlan.parse([text.strip()])
