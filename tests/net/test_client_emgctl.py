"""emgctl against the small service: what is printed, and how it ends."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_service import STREAM, FakeService, sample_values

import emgd_client
from emgd_client.emgctl import main


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    monkeypatch.setenv("EMGD_RUNTIME_DIR", str(tmp_path))
    fake = FakeService(tmp_path)
    fake.drop_blocks(5)
    fake.gap(20)
    fake.drop_blocks(5)
    with fake:
        yield fake


@pytest.fixture
def run(service: FakeService, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command that succeeds prints."""

    def run_command(*arguments: str) -> str:
        code = main(arguments)
        printed = capsys.readouterr()
        assert (code, printed.err) == (0, "")
        return printed.out

    return run_command


def start(*arguments: str, **options) -> subprocess.Popen[str]:
    """The command in a process of its own, with the library that this process uses."""
    library = str(Path(emgd_client.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": library}
    command = [sys.executable, "-W", "error", "-m", "emgd_client.emgctl", *arguments]
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE, **options)


def play_to_the_end(fake: FakeService) -> None:
    fake.send_blocks(3)
    fake.drop_blocks(2)
    fake.send_blocks(2)
    fake.say_state("ended")


@pytest.mark.parametrize("command", [["status"], ["streams"], ["filter", "amp0/raw", "--preset", "emg"]])
def test_tables_fit_into_80_columns(run, command):
    lines = run(*command).splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80


def test_status_says_how_device_samples_and_clients_are(run):
    text = run("status")
    assert "device     amp0: fake F-1, firmware 1.0, simulated" in text
    assert "gaps       1, missing 20 samples (lost 20)" in text
    assert "clock      locked, drift +12.50 ppm, sigma 0.9 µs, age 10 ms" in text
    assert "up 1 min 2 s" in text
    assert text.splitlines()[-1].split() == ["scope", "42", "0.2", "amp0/raw", "96", "192", "192"]


def test_status_for_programs_is_what_the_service_said(run):
    assert json.loads(run("status", "--json"))["samples"]["missing"] == 20


def test_streams_lists_streams_and_channels(run):
    lines = [line.split() for line in run("streams").splitlines()]
    assert lines[1] == ["amp0/raw", "48000", "2", "count", "96", "10.0", "fake", "F-1"]
    assert lines[-1] == ["1", "EMG", "2", "0.5", "1", "normal"]
    assert json.loads(run("streams", "--json"))[0]["channels"][1]["label"] == "EMG 2"


def test_ping_says_how_long_it_took(run):
    assert run("ping").startswith("the service answered in ")
    assert json.loads(run("ping", "--json"))["round_trip_ns"] > 0


def test_filter_sends_what_was_given_and_shows_what_is_set(run, service):
    text = run("filter", STREAM, "--channels", "0,1", "--high-pass-hz", "20", "--notch-hz", "off")
    arguments = {"stream": STREAM, "channels": [0, 1], "high_pass_hz": 20.0, "notch_hz": 0.0}
    assert ("filter", arguments) in service.requests
    assert text.splitlines()[-1].split() == ["1", "emg", "20", "Hz,", "order", "2", "off", "50", "Hz"]


def test_history_writes_the_samples_and_says_where_they_have_gaps(run, tmp_path):
    out = tmp_path / "x.npy"
    lines = run("history", STREAM, "--seq", "400", "--count", "200", "--out", str(out)).splitlines()
    assert lines[0] == "amp0/raw: 180 of 200 samples from 400 on"
    assert [line.split()[:3] for line in lines[2:4]] == [["400", "80", "0"], ["500", "100", "20"]]
    assert lines[-1] == f"written to {out}"
    np.testing.assert_array_equal(np.load(out), np.concatenate([sample_values(400, 80, 2), sample_values(500, 100, 2)]))


def test_history_for_programs_lists_the_runs(run):
    told = json.loads(run("history", STREAM, "--seq", "0", "--count", "500", "--json"))
    assert (told["samples"], told["runs"][0]["count"], told["out"]) == (480, 480, None)


def test_impedance_shows_progress_and_a_table_and_ends_with_0_when_all_is_good(run):
    text = run("impedance")
    assert text.splitlines() == [
        "24 nA at 31.25 Hz through 2 channels",
        "1 of 3: measuring E1",
        "",
        "no  label  E1             E2         between        state",
        "0   EMG 1  2.50 ±0.15 kΩ  640 ±12 Ω  1.23 ±0.01 MΩ  good",
        "1   EMG 2  2.50 ±0.15 kΩ  640 ±12 Ω  1.23 ±0.01 MΩ  good",
    ]


@pytest.mark.parametrize(
    ("state", "words"), [("dry", "E1 is dry"), ("off", "E1 is off"), ("unknown", "E1 was not to be measured")]
)
def test_impedance_says_what_is_not_good_and_ends_with_1(service, capsys, state, words):
    service.electrodes[1] = state
    assert main(["impedance"]) == 1
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines()[-1].endswith(words)
    assert ("41.2 ±0.1 kΩ" if state == "dry" else " -  ") in printed.out.splitlines()[-1]
    assert main(["impedance", "--channels", "0"]) == 0


def test_impedance_for_programs_is_the_last_message(run, service):
    service.electrodes[0] = "dry"
    told = json.loads(run("impedance", "--channels", "1", "--json"))
    assert ("impedance", {"channels": [1]}) in service.requests
    assert (told["state"], told["check"], told["channels"]) == ("done", 1, [1])
    assert told["results"][0]["e1"] == {"ohm": 2500.0, "sigma_ohm": 150.0, "state": "good"}
    assert told["windows"][0] == ["e1", 0, 100]


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_an_impedance_check_that_is_aborted_is_exit_code_1(service, capsys, as_json):
    service.check_ends = "aborted"
    assert main(["impedance", *as_json]) == 1
    printed = capsys.readouterr()
    if as_json:
        assert json.loads(printed.out)["reason"] == "stimulus"
    else:
        assert printed.err == "emgctl: impedance check aborted (stimulus): a stimulus at sample 9\n"


def test_an_impedance_check_beside_another_is_refused_in_one_line(service, capsys):
    service.run(lambda: service.say_check("measuring"))
    assert main(["impedance"]) == 1
    assert capsys.readouterr().err == "emgctl: impedance refused: impedance check 1 runs already; allowed: wait\n"


def test_ctrl_c_ends_the_impedance_check_too(service):
    service.check_ends = "never"
    process = start("impedance", stdout=subprocess.PIPE)
    assert process.stdout is not None
    while "measuring" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "")
    assert ("impedance", {"action": "stop"}) in service.requests


def test_tail_prints_a_line_per_message(run, service):
    service.on_subscribe = play_to_the_end
    lines = run("tail", "amp0/", "--count", "3").splitlines()
    assert lines[0] == "amp0/raw       described: raw 48000 Hz, 2 channels of amp0"
    assert lines[1] == "amp0/state     state  streaming: amp0 is streaming"
    assert lines[2].startswith("amp0/raw       block  seq 960 count 96 flags - [1920 1921]")


def test_tail_for_programs_has_one_document_per_line(run, service):
    service.on_subscribe = play_to_the_end
    told = [json.loads(line) for line in run("tail", STREAM, "--json", "--count", "2").splitlines()]
    assert [one["type"] for one in told] == ["description", "block"]
    assert (told[1]["samples"], len(told[1]["first_sample"])) == (96, 2)


def test_watch_ends_with_the_recording_and_counts_what_came(run, service):
    service.on_subscribe = play_to_the_end
    (line,) = run("watch", STREAM, "--json").splitlines()
    told = json.loads(line)
    assert (told["stream"], told["dropped"], told["backfilled"], told["gaps"]) == (STREAM, 192, 192, 0)
    assert told["samples"] == 7 * 96
    assert told["p50_ms"] <= told["p95_ms"] <= told["p99_ms"]


def test_watch_prints_one_header_and_a_line_per_update(run):
    lines = run("watch", "--interval", "0.02", "--count", "3").splitlines()
    assert [line.split()[0] for line in lines] == ["stream", STREAM, STREAM, STREAM]
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 80


def test_watch_ends_after_the_seconds_that_were_asked_for(run):
    assert len(run("watch", "--interval", "0.02", "--seconds", "0.04").splitlines()) == 1 + 2


@pytest.mark.usefixtures("service")
def test_watch_redraws_in_place_on_a_terminal():
    leader, follower = pty.openpty()
    process = start("watch", "--interval", "0.02", "--count", "2", stdout=follower)
    _, errors = process.communicate(timeout=20)
    os.close(follower)
    text = os.read(leader, 65536).decode()
    os.close(leader)
    assert (process.returncode, errors) == (0, "")
    assert text.count("\x1b[2F\x1b[J") == 1
    assert text.count("rate_hz") == 2


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_prints_a_script(run, shell):
    pytest.importorskip("shtab", reason="completion needs shtab")
    assert "emgctl" in run("completion", shell)


def test_completion_without_shtab_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert capsys.readouterr().err == "emgctl: completion scripts are made by shtab: pip install shtab\n"


def test_a_refusal_is_one_line_and_exit_code_1(service, capsys):
    assert main(["filter", STREAM, "--preset", "ecg"]) == 1
    assert capsys.readouterr().err == "emgctl: filter refused (args.preset): no such preset; allowed: emg\n"


def test_a_stream_that_is_not_there_ends_watch_with_exit_code_1(service, capsys):
    assert main(["watch", "amp7/raw"]) == 1
    assert "there is no stream 'amp7/raw'; allowed: amp0/raw" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_one_line_and_exit_code_1(service, tmp_path, capsys):
    out = tmp_path / "missing" / "x.npy"
    assert main(["history", STREAM, "--seq", "0", "--count", "5", "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(out) in line


def test_no_service_is_exit_code_3_and_names_the_socket(tmp_path, capsys):
    assert main(["status", "--runtime-dir", str(tmp_path)]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "control.sock") in line


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["filter", STREAM],
        ["filter", STREAM, "--channels", "a"],
        ["history", STREAM],
        ["history", STREAM, "--seq", "-1", "--count", "1"],
        ["tail", "--count", "0"],
        ["watch", "--seconds", "0"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "emgctl" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["status", "streams", "watch", "tail", "ping", "filter", "history", "impedance", "completion"]
)
def test_help_of_each_command_has_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"examples:\n  emgctl {command}" in capsys.readouterr().out


def test_version_names_software_and_protocol(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == "emgctl 0.1.0, protocol 1\n"


@pytest.mark.parametrize("command", ["tail", "watch"])
def test_ctrl_c_is_exit_code_130_and_silent(service, command):
    process = start(command, stdout=subprocess.PIPE)
    service.on_subscribe = lambda _: process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "")


def test_a_reader_that_goes_away_ends_the_command_silently(service):
    process = start("tail", stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    service.run(lambda: service.send_blocks(5))
    assert process.wait(timeout=20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
