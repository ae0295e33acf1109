"""The sidecar: where it is found, what it may say, and how each mistake is answered."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_drivers.replay import FORMATS, RecordingError
from emgd_drivers.replay.sidecar import EVERY_FORMAT, Sidecar, beside, load_sidecar

ALL_KEYS = frozenset().union(*(form.keys for form in FORMATS.values()))


def load(folder: Path, text: str, keys=ALL_KEYS):
    path = folder / "rec.json"
    path.write_text(text, encoding="utf-8")
    return load_sidecar(path, keys)


def refusal(folder: Path, text: str, keys=ALL_KEYS) -> str:
    with pytest.raises(RecordingError) as caught:
        load(folder, text, keys)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{folder / 'rec.json'}: ")
    return line


def test_every_key_arrives(tmp_path):
    said = {
        "rate_hz": 4000,
        "uv_per_count": [0.5, -1],
        "labels": ["RF", "BF"],
        "columns": [1, "BF"],
        "trigger": "TRIG",
        "key": "emg",
        "axis": 1,
        "skip_rows": 7,
        "rows": 10,
    }
    assert load(tmp_path, json.dumps(said)) == Sidecar(
        4000.0, None, (0.5, -1.0), ("RF", "BF"), (1, "BF"), "TRIG", "emg", 1, 7, 10
    )
    assert load(tmp_path, '{"unit": "mV"}').unit == "mV"
    assert load(tmp_path, '{"uv_per_count": 0.5}').uv_per_count == 0.5


def test_without_a_sidecar_nothing_is_said():
    assert load_sidecar(None, EVERY_FORMAT) == Sidecar()


BAD_VALUES = {
    "rate_hz": ([0, 0.5, -1, True, "1000", [1000], None], "a number of Hz, at least 1"),
    "unit": (["volt", "UV", 1, None], '"nV", "uV", "mV", "V", "count"'),
    "uv_per_count": (
        [0, "1", [], [1, 0], [1, None], True],
        "a number of µV other than 0, or a list of one per channel",
    ),
    "labels": ([[], "RF", [1], [""]], "a list of texts, one per channel"),
    "columns": ([[], 1, [-1], [1.5], [True], [""]], "a list of numbers counted from 0, or labels"),
    "trigger": ([-1, "", 1.5, False], "a number counted from 0, or a label"),
    "key": (["", 1], "the name of an array"),
    "axis": ([2, -1, "0", True], "0 (time runs down the rows) or 1 (along them)"),
    "skip_rows": ([-1, 1.5, "7", False], "a whole number of lines, 0 or more"),
    "rows": ([0, -1, 1.5], "a whole number of rows, 1 or more"),
}


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [(key, value, allowed) for key, (values, allowed) in BAD_VALUES.items() for value in values],
)
def test_a_bad_value_is_named_with_what_is_allowed(tmp_path, key, value, allowed):
    line = refusal(tmp_path, json.dumps({key: value}))
    assert line.endswith(f"{key} is {json.dumps(value)}; allowed: {allowed}")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_a_rate_without_measure_is_refused(tmp_path, number):
    assert "rate_hz is " in refusal(tmp_path, f'{{"rate_hz": {number}}}')


def test_an_unknown_key_is_named_with_the_known(tmp_path):
    line = refusal(tmp_path, '{"rate": 1000}', EVERY_FORMAT)
    assert line.endswith("key 'rate' is unknown; allowed: columns, labels, rate_hz, trigger, unit, uv_per_count")


def test_a_key_of_another_format_is_refused(tmp_path):
    assert "key 'skip_rows' means nothing for this format; allowed: " in refusal(
        tmp_path, '{"skip_rows": 1}', EVERY_FORMAT
    )


def test_unit_and_uv_per_count_contradict_each_other(tmp_path):
    line = refusal(tmp_path, '{"unit": "mV", "uv_per_count": 1}')
    assert line.endswith("unit and uv_per_count both say what a count is; leave one of them out")


def test_what_is_not_json_is_answered_with_line_and_column(tmp_path):
    line = refusal(tmp_path, '{\n"rate_hz": 1000,\n}')
    assert (
        ": line 2, column 16: the sidecar is not JSON: " in line
        or ": line 3, column 1: the sidecar is not JSON: " in line
    )
    assert line.endswith("; mend it there")


@pytest.mark.parametrize(("text", "kind"), [("[1]", "list"), ("null", "NoneType"), ('"a"', "str")])
def test_what_is_no_object_is_refused(tmp_path, text, kind):
    assert f'the sidecar is a JSON {kind}; write an object: {{"rate_hz": ...}}' in refusal(tmp_path, text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"rate_hz": ' + "9" * 5000 + "}"])
def test_monstrous_json_is_refused(tmp_path, text):
    assert "the sidecar cannot be read: " in refusal(tmp_path, text)


def test_a_sidecar_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "rec.json"
    path.write_bytes(b'{"unit": "\xb5V"}')
    with pytest.raises(RecordingError, match=r"the sidecar is not UTF-8 at byte 10; save it as UTF-8"):
        load_sidecar(path, ALL_KEYS)


def test_a_named_sidecar_must_be_there(tmp_path):
    with pytest.raises(RecordingError, match=r"gone\.json: the sidecar cannot be read: No such file or directory"):
        load_sidecar(tmp_path / "gone.json", ALL_KEYS)


def test_the_sidecar_of_the_whole_name_comes_before_that_of_the_stem(tmp_path):
    recording = tmp_path / "rec.csv"
    assert beside(recording) is None
    (tmp_path / "rec.json").touch()
    assert beside(recording) == tmp_path / "rec.json"
    (tmp_path / "rec.csv.json").touch()
    assert beside(recording) == tmp_path / "rec.csv.json"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(sorted(ALL_KEYS)) | st.text(), json_values, max_size=3))
def test_any_object_is_either_taken_or_refused_in_one_line(tmp_path_factory, said):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(said), encoding="utf-8")
    try:
        sidecar = load_sidecar(path, ALL_KEYS)
    except RecordingError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - both outcomes are right; the text is what counts
    else:
        assert set(said) <= ALL_KEYS
        assert sidecar.rate_hz is None or 1 <= sidecar.rate_hz < float("inf")
