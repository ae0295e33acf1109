"""Architecture rule 3, read from the sources: only emgd.stimulate calls a Stimulator, when the gate has said yes."""

import ast

import pytest

from emgd_drivers.stimulator import Stimulator
from paths import ROOT

DAEMON = ROOT / "daemon/emgd"
OWNER = "stimulate.py"
HANDS_IT_ON = {"stim_hands.py", "stimulus.py"}
"""Modules that name the type to hand the device from its opener to its owner, and call nothing."""

METHODS = {name for name, value in vars(Stimulator).items() if callable(value) and not name.startswith("_")}
OURS = {"pulse", "measure_load", "feed", "set_limits", "reset"}
"""Methods whose names nobody else in the service uses for anything of his own."""


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def modules():
    return sorted(path for path in DAEMON.glob("*.py"))


def imported(path):
    return {
        alias.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("emgd_drivers")
        for alias in node.names
    }


def calls(node, name):
    return [
        call
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == name
    ]


def test_the_names_that_are_looked_for_are_methods_of_a_stimulator():
    assert OURS <= METHODS


@pytest.mark.requirement("REQ-040")
def test_nobody_else_gets_hold_of_a_stimulator():
    holders = {path.name for path in modules() if {"Stimulator", "open_stimulator"} & imported(path)}
    assert holders == {OWNER, *HANDS_IT_ON}


@pytest.mark.requirement("REQ-040")
@pytest.mark.parametrize("path", [path for path in modules() if path.name != OWNER], ids=lambda path: path.name)
def test_no_other_module_calls_one(path):
    if path.name == "stim_desk.py":  # the gate has a set_limits of its own
        assert [ast.unparse(call.func.value) for call in calls(tree(path), "set_limits")] == ["gate"]
    found = [
        name for name in OURS - ({"set_limits"} if path.name == "stim_desk.py" else set()) if calls(tree(path), name)
    ]
    assert found == []


def test_what_the_desk_is_shown_of_the_device_is_its_info_alone():
    for path in modules():
        text = path.read_text(encoding="utf-8")
        if path.name != OWNER:
            assert text.count(".present()") == text.count(".present().info")


@pytest.mark.requirement("REQ-040")
def test_there_is_one_place_that_makes_a_pulse_and_the_gate_is_asked_before_it():
    (owner,) = [path for path in modules() if path.name == OWNER]
    (pulse,) = calls(tree(owner), "pulse")
    (shoot,) = [node for node in ast.walk(tree(owner)) if isinstance(node, ast.FunctionDef) and calls(node, "pulse")]
    (fire,) = calls(shoot, "fire")
    assert ast.unparse(fire.func) == "self.gate.fire"
    assert fire.lineno < pulse.lineno
    # Between the two: no pulse from the gate, no pulse from the device.
    (guard,) = [
        node for node in ast.walk(shoot) if isinstance(node, ast.If) and ast.unparse(node.test) == "pulse is None"
    ]
    assert fire.lineno < guard.lineno < pulse.lineno
    assert isinstance(guard.body[-1], ast.Return)
    assert [ast.unparse(argument) for argument in pulse.args] == [
        f"pulse.{name}" for name in ("seq", "at_ns", "current_ua", "width_us")
    ]


def test_drivers_do_not_know_the_gate():
    for path in (ROOT / "drivers").rglob("*.py"):
        assert "emgd_ext.gate" not in path.read_text(encoding="utf-8"), path


@pytest.mark.requirement("REQ-042")
def test_the_client_library_starts_nothing_that_could_renew_a_lease_behind_its_callers_back():
    library = list((ROOT / "clients/emgd_client").glob("*.py"))
    for path in library:
        modules = {
            name.split(".")[0]
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        }
        assert not modules & {"threading", "_thread", "concurrent", "multiprocessing", "sched"}, path.name
        starters = (
            "create_task",
            "ensure_future",
            "call_later",
            "call_at",
            "call_soon",
            "run_in_executor",
            "to_thread",
        )
        assert [name for name in starters if calls(tree(path), name)] == [], path.name
        # Nobody in the library renews: the word stands where it is offered, and nowhere else.
        assert calls(tree(path), "renew") == [], path.name
    assert len(library) > 10
