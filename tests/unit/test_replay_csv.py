"""Tables in text: delimiters, labels, time columns, wanted columns, and which line is to blame."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_drivers.replay import RecordingError, open_recording


def write(folder, text, suffix=".csv", **sidecar):
    path = folder / f"rec{suffix}"
    path.write_text(text, encoding="utf-8")
    (folder / "rec.json").write_text(json.dumps(sidecar))
    return path


def refusal(path) -> str:
    with pytest.raises(RecordingError) as caught:
        open_recording(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text


tables = st.integers(1, 5).flatmap(
    lambda width: st.lists(
        st.lists(st.integers(-(2**23), 2**23 - 1), min_size=width, max_size=width), min_size=1, max_size=20
    )
)


@given(
    tables, st.sampled_from([",", ";", "\t", " ", " ; ", "  ", ", "]), st.booleans(), st.sampled_from(["\n", "\r\n"])
)
def test_whole_numbers_arrive_exactly(tmp_path_factory, table, delimiter, labelled, newline):
    labels = [f"S{number}" for number in range(len(table[0]))]
    lines = [delimiter.join(map(str, row)) for row in ([labels] if labelled else []) + table]
    path = write(tmp_path_factory.getbasetemp(), newline.join(lines), rate_hz=1000, uv_per_count=0.5)
    signal = open_recording(path)
    assert signal.read(0, len(table)).tolist() == table
    assert not signal.quantised
    assert signal.labels == tuple(labels if labelled else (f"ch{number}" for number in range(len(labels))))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20).filter(lambda row: any(value % 1 for value in row)))
def test_broken_numbers_arrive_within_half_a_step(tmp_path_factory, values):
    path = write(tmp_path_factory.getbasetemp(), "\n".join(map(repr, values)), ".txt", rate_hz=1000, unit="uV")
    signal = open_recording(path)
    lsb_uv = signal.uv_per_count[0]
    assert signal.quantised
    assert np.abs(signal.read(0, len(values))[:, 0] * lsb_uv - values).max() <= lsb_uv * 0.5000001


def test_whole_numbers_written_with_a_point_are_counts(tmp_path):
    signal = open_recording(write(tmp_path, "1.0\n-2e3\n", rate_hz=10, unit="mV"))
    assert (signal.counts.tolist(), signal.uv_per_count, signal.quantised) == ([[1], [-2000]], (1000.0,), False)


def test_whole_numbers_beyond_24_bits_are_quantised(tmp_path):
    assert open_recording(write(tmp_path, "1\n100000000\n", rate_hz=10, unit="uV")).quantised


def test_comments_empty_lines_and_a_byte_order_mark_are_skipped(tmp_path):
    signal = open_recording(
        write(tmp_path, "\ufeff# made by\n%x\n\n  \na,b\n1,2\n # note\n3,4\n\n", rate_hz=10, unit="uV")
    )
    assert (signal.labels, signal.counts.tolist()) == (("a", "b"), [[1, 2], [3, 4]])


def test_labels_and_numbers_may_stand_in_quotes(tmp_path):
    signal = open_recording(write(tmp_path, '"RF";"BF, left"\n"1";"2"\n', rate_hz=10, unit="uV"))
    assert (signal.labels, signal.counts.tolist()) == (("RF", "BF, left"), [[1, 2]])


def test_a_quoted_label_may_hold_the_delimiter(tmp_path):
    signal = open_recording(write(tmp_path, '"RF, left", BF\n1, 2\n', rate_hz=10, unit="uV"))
    assert (signal.labels, signal.counts.tolist()) == (("RF, left", "BF"), [[1, 2]])


def test_a_row_whose_quotes_hide_a_delimiter_is_refused(tmp_path):
    path = write(tmp_path, '1,2\n"3,4"\n', rate_hz=10, unit="uV")
    assert "line 2, column 0: '3,4' is not a number" in refusal(path)


def test_a_channel_whose_label_begins_like_time_is_played(tmp_path):
    signal = open_recording(write(tmp_path, "T7,Time 2,Fz\n1,2,3\n", rate_hz=10, unit="uV"))
    assert signal.labels == ("T7", "Time 2", "Fz")


def test_a_file_in_an_old_encoding_keeps_its_numbers(tmp_path):
    path = write(tmp_path, "", rate_hz=10, unit="uV")
    path.write_bytes(b"Quadrizeps \xfcber,b\n1,2\n")
    assert open_recording(path).counts.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("label", "step"), [("time", "0.001"), ("Time (s)", "0.001"), ("T", "0.001"), ("seconds", "0.001"), ("ms", "1")]
)
def test_a_time_column_gives_the_rate_and_is_not_played(tmp_path, label, step):
    rows = "".join(f"{number * float(step):.4f},{number}\n" for number in range(2000))
    signal = open_recording(write(tmp_path, f"{label},EMG\n{rows}", unit="uV"))
    assert (signal.rate_hz, signal.labels, signal.length) == (1000.0, ("EMG",), 2000)
    assert signal.counts[:, 0].tolist() == list(range(2000))


def test_a_rate_is_whole_although_times_have_few_digits(tmp_path):
    rows = "".join(f"{number / 4096:.7f},{number}\n" for number in range(2000))
    assert open_recording(write(tmp_path, f"time,EMG\n{rows}", unit="uV")).rate_hz == 4096.0


def test_a_rate_that_is_not_whole_stays_so(tmp_path):
    rows = "".join(f"{number / 1925.93:.9f},{number}\n" for number in range(100))
    assert open_recording(write(tmp_path, f"time,EMG\n{rows}", unit="uV")).rate_hz == pytest.approx(1925.93, rel=1e-6)


def test_the_sidecars_rate_wins_over_a_time_column(tmp_path):
    signal = open_recording(write(tmp_path, "time,EMG\n0,1\n9,2\n10,3\n", rate_hz=500, unit="uV"))
    assert (signal.rate_hz, signal.labels) == (500.0, ("EMG",))


def test_a_time_column_may_be_played_when_asked_for(tmp_path):
    signal = open_recording(write(tmp_path, "time,EMG\n0,1\n1,2\n", rate_hz=10, unit="uV", columns=["time"]))
    assert signal.counts.tolist() == [[0], [1]]


@pytest.mark.parametrize("times", ["0 1 2 4 5 6", "0 1 2 2.4 3 4", "0 1 2 1 2 3"])
def test_a_time_that_jumps_is_refused_at_its_sample(tmp_path, times):
    path = write(tmp_path, "time,EMG\n" + "".join(f"{time},1\n" for time in times.split()), unit="uV")
    step = float(times.split()[3]) - 2
    assert f"time is uneven: sample 3 comes {step:g} s after the one before, usual are 1 s; give rate_hz" in refusal(
        path
    )


@pytest.mark.parametrize("times", ["0", "0 0 0", "3 2 1", "0 nan 2"])
def test_a_time_that_does_not_run_is_refused(tmp_path, times):
    path = write(tmp_path, "time,EMG\n" + "".join(f"{time},1\n" for time in times.split()), unit="uV")
    assert "its time column does not count upwards; give rate_hz" in refusal(path)


def test_wanted_columns_leave_text_in_others_alone(tmp_path):
    text = "nr, EMG 1, EMG 2, clock\n1, 0.5, 0.25, 12:02:03\n2, 1.5, 0.75, 12:02:04\n"
    signal = open_recording(write(tmp_path, text, rate_hz=250, unit="uV", columns=["EMG 2", 1]))
    assert signal.labels == ("EMG 2", "EMG 1")
    assert (signal.counts * signal.uv_per_count).tolist() == [pytest.approx([0.25, 0.5]), pytest.approx([0.75, 1.5])]


def test_a_trigger_column_need_not_be_among_the_columns(tmp_path):
    text = "EMG,note,TRIG\n1,a,0\n2,b,1\n3,c,0\n"
    signal = open_recording(write(tmp_path, text, rate_hz=10, unit="uV", columns=["EMG"], trigger="TRIG"))
    assert (signal.labels, signal.marks(0, 3)) == (("EMG",), [(1, 1, 0, 1), (2, 1, 0, 0)])


def test_lines_before_and_after_the_table_are_left_out(tmp_path):
    text = "Patient: none\nvalues, in mV: 2\n1\t2\n3\t4\n\t\nend of file\n"
    signal = open_recording(write(tmp_path, text, ".txt", rate_hz=10, unit="uV", skip_rows=2, rows=2))
    assert signal.counts.tolist() == [[1, 2], [3, 4]]


def test_skipped_lines_are_counted_as_an_editor_counts(tmp_path):
    path = write(tmp_path, "junk\n\n# c\n1\nx\n", rate_hz=10, unit="uV", skip_rows=1)
    assert "line 5, column 0: 'x' is not a number" in refusal(path)


def test_rows_may_be_channels(tmp_path):
    signal = open_recording(write(tmp_path, "1,2,3\n4,5,6\n", rate_hz=10, unit="uV", axis=1))
    assert signal.counts.tolist() == [[1, 4], [2, 5], [3, 6]]


def test_rows_as_channels_have_no_header(tmp_path):
    path = write(tmp_path, "a,b,c\n4,5,6\n", rate_hz=10, unit="uV", axis=1)
    assert "a header row does not fit channels in rows; leave it out with skip_rows" in refusal(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,b\n1,2\n3,x4\n", "line 3, column 1 (b): 'x4' is not a number"),
        ("1,2\n,4\n", "line 2, column 0: '' is not a number"),
        ("1\t2\n\t\n", "line 2, column 0: '' is not a number"),
        ("1;2\n3;4,5\n", "line 2, column 1: '4,5' is not a number"),
        ("1,2\n3\n", "line 2 has 1 fields, the first has 2"),
        ("1 2\n3 4 5\n", "line 2 has 3 fields, the first has 2"),
        ("a,b\n1,2,3\n", "line 2 has 3 fields, the first has 2"),
        ("1,a\n", "line 1, column 1: 'a' is not a number"),
        ("1\n1_000\n", "line 2: could not convert string '1_000'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, problem):
    line = refusal(write(tmp_path, text, rate_hz=10, unit="uV"))
    assert problem in line
    assert line.endswith("; mend it, or leave it out with columns, skip_rows or rows in a sidecar")


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "holds no rows; look at the file"), ("# only a comment\n", "holds no rows"), ("a,b\n", "holds no samples")],
)
def test_a_table_without_rows_is_refused(tmp_path, text, problem):
    assert problem in refusal(write(tmp_path, text, rate_hz=10, unit="uV"))


def test_a_number_that_is_none_is_named_by_channel_and_sample(tmp_path):
    text = refusal(write(tmp_path, "RF,BF\n1,2\n3,nan\n", rate_hz=10, unit="uV"))
    assert "channel 1 (BF), sample 1 is nan, no number of µV" in text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=60))
def test_any_text_is_either_played_or_refused_in_one_line(tmp_path_factory, text):
    path = write(tmp_path_factory.getbasetemp(), text, ".txt", rate_hz=10, unit="uV")
    try:
        signal = open_recording(path)
    except RecordingError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - both outcomes are right; the text is what counts
    else:
        assert signal.length
        assert all(map(math.isfinite, signal.uv_per_count))
