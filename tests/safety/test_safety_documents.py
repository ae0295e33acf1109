"""docs/safety/ says what the code does: limits, reasons, software of others, and the chain from hazard to test."""

import importlib.util
import re
import tomllib
from importlib.machinery import SourceFileLoader

import pytest

from emgd import profiles
from emgd.limits import PROFILES
from emgd.refusals import _RULES
from emgd.units import UNITS, is_most
from emgd_ext import gate
from paths import ROOT

FOLDER = ROOT / "docs/safety"
LIMITS = (FOLDER / "limits.md").read_text(encoding="utf-8")


def section(title):
    return LIMITS.split(f"\n## {title}\n")[1].split("\n## ")[0]


def table(text):
    """First cell, without quotes -> the other cells."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip("`"): row[1:] for row in rows if not set(row[0]) <= set("- ")}


# --- limits.md


@pytest.mark.requirement("REQ-037")
def test_the_documented_limits_are_those_of_the_gate():
    documented = table(section("Limits"))
    del documented["limit"]
    assert list(documented) == list(gate.LIMIT_NAMES)
    for name, (ceiling, end) in gate.ranges().items():
        of, unit, bound, default, *ends, why = documented[name]
        assert of
        assert why
        assert (unit, bound) == (UNITS[name], "most" if is_most(name) else "least")
        assert default == str(profiles._DEFAULT[name])
        assert ends == [str(ceiling), str(end)]


@pytest.mark.requirement("REQ-037")
def test_the_documented_profiles_are_those_there_are():
    first, second = section("Profiles").split("`extended` is off")
    documented = table(first)
    del documented["profile"]
    assert list(documented) == list(PROFILES)
    for name, (text, changes) in documented.items():
        stated = {limit: int(value) for limit, value in re.findall(r"`(\w+)` (\d+)", changes)}
        assert profiles._DEFAULT | stated == PROFILES[name].limits
        assert text == PROFILES[name].text
    statements = {name: cells[0] for name, cells in table(second).items() if name != "profile"}
    assert statements == {name: profile.acknowledge for name, profile in PROFILES.items() if profile.acknowledge}


@pytest.mark.requirement("REQ-037")
def test_the_documented_reasons_are_those_of_the_gate():
    documented = table(section("Reasons"))
    del documented["reason"]
    assert list(documented) == list(gate.REASON_NAMES[len(gate.LIMIT_NAMES) :])
    assert {name: cells[0] for name, cells in documented.items()} == {name: _RULES[name].what for name in documented}


@pytest.mark.requirement("REQ-037")
def test_the_documented_fixed_rules_are_those_of_the_gate():
    header = (ROOT / "ext/emgd_ext/c/gate_state.h").read_text(encoding="utf-8")
    rules = header.split("/* Fixed rules")[1].split("typedef")[0]
    defined = re.findall(r"^#define (EMGD_\w+) \(?(\d+)( \* EMGD_MS)?\)?", rules, re.MULTILINE)
    compiled = {name: f"{value} ms" if scale else value for name, value, scale in defined if name != "EMGD_MS"}
    assert len(compiled) == rules.count("#define") - (1 if "EMGD_MS ((" in rules else 0)
    documented = table(section("Fixed rules"))
    del documented["constant"]
    units = {"EMGD_FREE_STEP_UA": " µA", "EMGD_HEADROOM_PERCENT": " %", "EMGD_FAR_PERCENT": " %"}
    assert {name: cells[0] for name, cells in documented.items()} == {
        name: value + units.get(name, "") for name, value in compiled.items()
    }


# --- soup.md


def test_the_software_of_others_is_what_the_package_asks_for():
    text = (FOLDER / "soup.md").read_text(encoding="utf-8").split("## Python packages")[1].split("## Below them")[0]
    documented = table(text)
    del documented["name"]
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {name + cells[0] for name, cells in documented.items()} == set(asked)
    assert all(cells[3].startswith("https://") for cells in documented.values())


# --- scripts/trace

GOOD = {
    "hazards.md": "| HAZ-01 | shock | pain | 3 | yes |\n| HAZ-02 | silence | missed | 3 | no |\n",
    "risk-controls.md": "| RC-01 | a limit | HAZ-01 | REQ-001, REQ-002 |\n",
    "requirements.md": "| REQ-001 | It shall not. | test |\n| REQ-002 | It shall be proven. | scripts/prove |\n",
}
TESTS = {"REQ-001": ["tests/test_a.py::test_b"]}


@pytest.fixture(scope="module")
def trace():
    loader = SourceFileLoader("trace_script", str(ROOT / "scripts/trace"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("trace_script", loader))
    loader.exec_module(module)
    return module


def checked(trace, tmp_path, files, tests):
    (tmp_path / "scripts").mkdir(exist_ok=True)
    (tmp_path / "scripts/prove").touch()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    documents = trace.read_documents(tmp_path)
    return documents, trace.faults(documents, tests, tmp_path)


def test_a_chain_without_open_ends_is_printed_from_hazard_to_test(trace, tmp_path):
    documents, faults = checked(trace, tmp_path, GOOD, TESTS)
    assert faults == []
    assert list(trace.matrix(documents, TESTS)) == [
        "HAZ-01  shock",
        "  RC-01  a limit",
        "    REQ-001  1 test",
        "      tests/test_a.py::test_b",
        "    REQ-002  1 script",
        "      scripts/prove",
        "HAZ-02  silence",
    ]


@pytest.mark.parametrize(
    ("name", "old", "new", "fault"),
    [
        ("requirements.md", "REQ-001 |", "REQ-003 |", "REQ-003 has no test: It shall not."),
        ("requirements.md", "REQ-001 |", "REQ-003 |", "tests/test_a.py::test_b names REQ-001, which is not in"),
        ("requirements.md", "REQ-001 |", "REQ-003 |", "REQ-003 belongs to no measure"),
        ("requirements.md", "scripts/prove", "scripts/gone", "REQ-002 is to be shown by scripts/gone, which does not"),
        ("risk-controls.md", "HAZ-01", "HAZ-09", "RC-01 names HAZ-09, which is not in hazards.md"),
        ("risk-controls.md", "HAZ-01", "HAZ-02", "HAZ-01 can be prevented by software and has no measure"),
        ("risk-controls.md", "REQ-002", "REQ-009", "RC-01 names REQ-009, which is not in requirements.md"),
        ("risk-controls.md", "REQ-001, REQ-002", "", "RC-01 has no requirement, or is against nothing"),
    ],
)
def test_an_open_end_is_named(trace, tmp_path, name, old, new, fault):
    _, faults = checked(trace, tmp_path, GOOD | {name: GOOD[name].replace(old, new)}, TESTS)
    assert [one for one in faults if one.startswith(fault)]


def test_an_id_that_is_used_twice_is_refused(trace, tmp_path):
    with pytest.raises(SystemExit, match="HAZ-01"):
        checked(trace, tmp_path, GOOD | {"hazards.md": GOOD["hazards.md"] * 2}, TESTS)


def test_marks_are_found_on_functions_parameters_classes_and_files(trace, tmp_path):
    path = tmp_path / "test_x.py"
    path.write_text(
        "import pytest\n"
        "pytestmark = [pytest.mark.requirement('REQ-001')]\n"
        "@pytest.mark.requirement('REQ-002', 'REQ-003')\n"
        "def test_a(): ...\n"
        "@pytest.mark.parametrize('n', [pytest.param(1, marks=pytest.mark.requirement('REQ-004'))])\n"
        "async def test_b(n): ...\n"
        "@pytest.mark.requirement('REQ-005')\n"
        "class TestC:\n"
        "    @pytest.mark.requirement('REQ-006')\n"
        "    def test_d(self): ...\n"
        "# pytest.mark.requirement('REQ-007')\n",
        encoding="utf-8",
    )
    found = {(name, test.rpartition("/")[2]) for name, test in trace.tests_in(path)}
    assert found == {
        ("REQ-001", "test_x.py"),
        ("REQ-002", "test_x.py::test_a"),
        ("REQ-003", "test_x.py::test_a"),
        ("REQ-004", "test_x.py::test_b"),
        ("REQ-005", "test_x.py::TestC"),
        ("REQ-006", "test_x.py::test_d"),
    }


def test_every_mark_in_our_tests_names_a_requirement_there_is_and_every_requirement_belongs_somewhere(trace):
    """What `make trace` also says; that each requirement has its test is left to it."""
    documents = trace.read_documents(FOLDER)
    tests = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, test in trace.tests_in(path):
            tests.setdefault(name, []).append(test)
    assert tests
    faults = trace.faults(documents, tests, ROOT)
    allowed = ("has no test", "is to be shown by")
    assert [fault for fault in faults if not any(words in fault for words in allowed)] == []
