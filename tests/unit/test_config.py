"""Configuration: every mistake gets one line with file, line, key, value and what is allowed."""

import dataclasses
import json
import re

import pytest

from emgd import config, filters, main
from emgd.acquisition import channel_specs
from emgd.config import ConfigError
from emgd_drivers import registry
from paths import ROOT

GOOD = """\
# a cart
[service]
log_level = "warning"

[device]
driver = "sim"
channels = 4

[stream]
block_ms = 1
history_s = 30.5

[[filters]]
preset = "needle_rest"

[[filters]]
channels = [1, 3]
preset = "motor"
notch_hz = 50
"""


def written(tmp_path, text):
    path = tmp_path / "emgd.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file_gives_its_values_and_defaults_for_the_rest(tmp_path):
    loaded = config.load(written(tmp_path, GOOD))
    assert loaded.service["log_level"] == "warning"
    assert (loaded.driver, loaded.device["channels"], loaded.device["rate_hz"]) == ("sim", 4, 48_000.0)
    assert (loaded.stream["block_ms"], loaded.stream["history_s"], loaded.stream["queue_s"]) == (1.0, 30.5, 2.0)


def test_the_last_filter_rule_that_names_a_channel_wins(tmp_path):
    specs = channel_specs(config.load(written(tmp_path, GOOD)).filters, 4)
    assert [spec.preset for spec in specs] == ["needle_rest", "motor", "needle_rest", "motor"]
    assert [spec.notch_hz for spec in specs] == [None, 50.0, None, 50.0]


def test_no_file_means_the_simulated_amplifier():
    assert config.load(None).driver == "sim"


BAD = {
    "unknown section": (
        "[servce]\n",
        1,
        "[servce]: there is no section 'servce'; allowed: service, device, stream, filters, stimulator, limits",
    ),
    "unknown key": (
        "[stream]\nblock_ms = 2\nblok = 3\n",
        3,
        "[stream] blok: there is no 'blok' here; allowed: block_ms, ",
    ),
    "key in the wrong section": (
        "[device]\n[service]\nblock_ms = 2\n",
        3,
        "[service] block_ms: there is no 'block_ms'",
    ),
    "wrong type": (
        '[stream]\n\nblock_ms = "2"\n',
        3,
        "[stream] block_ms: block_ms cannot be '2'; allowed: number, 0.1 to 100",
    ),
    "true is no number": ("[stream]\nblock_ms = true\n", 2, "block_ms cannot be True"),
    "out of range": ("[stream]\nhistory_s = 0\n", 2, "history_s cannot be 0; allowed: number, 1 to 3600"),
    "not a number": ("[stream]\nhistory_s = nan\n", 2, "history_s cannot be nan"),
    "unknown driver": ('[device]\ndriver = "foo"\n', 2, "driver cannot be 'foo'; allowed: sim, replay"),
    "option of another driver": ('[device]\ndriver = "sim"\nloop = true\n', 3, "there is no 'loop' here"),
    "a needed option": ('[device]\ndriver = "replay"\n', 0, "[device] recording: recording is missing; allowed: path"),
    "unknown preset": (
        '[[filters]]\npreset = "off"\n[[filters]]\npreset = "x"\n',
        4,
        "preset cannot be 'x'; allowed: off, ",
    ),
    "channels that are none": (
        '[[filters]]\nchannels = ["a"]\n',
        2,
        "channels cannot be ['a']; allowed: list of integers",
    ),
    "filters as a table": ("[filters]\n", 1, "[filters]: filters is not a table; allowed: [[filters]] tables"),
    "a section that is a number": ("stream = 3\n", 1, "[stream]: stream is not a table"),
    "milliamperes for microamperes": (
        "[limits]\n# 50 mA\ncurrent_ua = 50\n",
        3,
        "[limits] current_ua: current_ua 50 µA is tighter than makes sense; if you mean 50 mA, write 50000",
    ),
    "looser than the hard ceiling": (
        "[limits.motor]\ncurrent_ua = 40000\n[limits]\ncurrent_ua = 100001\n",
        4,
        "[limits] current_ua: current_ua 100001 µA is looser than the hard ceiling, 100000 µA; allowed: integer, 1000",
    ),
    "looser than the profile": (
        "[limits]\nstep_ua = 4000\n[limits.sensory]\nwidth_us = 200\ncurrent_ua = 40001\n",
        5,
        "[limits.sensory] current_ua: current_ua 40001 µA is looser than the profile sensory, 40000 µA",
    ),
    "a limit in a dotted key": (
        "[limits]\nstep_ua = 4000\nmotor.width_us = 201\n",
        3,
        "[limits.motor] width_us: width_us 201 µs is looser than the profile motor",
    ),
    "a limit in an inline table": (
        "[stream]\n[limits]\nmotor = { width_us = 201 }\n",
        3,
        "[limits.motor] width_us: width_us 201 µs is looser",
    ),
    "a limit in a key of dots alone": ("limits.motor.width_us = 201\n", 1, "[limits.motor] width_us: width_us 201 µs"),
    "no such limit": ("[limits]\ncurrent_ma = 50\n", 2, "[limits] current_ma: there is no limit 'current_ma'"),
    "no such profile": ("[limits.ncs]\nwidth_us = 100\n", 1, "[limits.ncs]: there is no profile 'ncs'; allowed: motor"),
    "a limit that is a fraction": (
        "[limits]\n\nlease_ms = 1.5\n",
        3,
        "lease_ms cannot be 1.5; allowed: integer, 100 to",
    ),
    "an enabled profile that is none": (
        '[stimulator]\nenabled_profiles = ["motor", "x"]\n',
        2,
        "[stimulator] enabled_profiles: there is no profile 'x'; allowed: motor, ",
    ),
    "unknown stimulator": (
        '[stimulator]\ndriver = "x"\n',
        2,
        "[stimulator] driver: driver cannot be 'x'; allowed: none",
    ),
    "an option of no stimulator": ('[stimulator]\nport = "x"\n', 2, "[stimulator] port: there is no 'port' here"),
    "bad level": ('[service]\nlog_level = "loud"\n', 2, "allowed: debug, info, warning, error"),
}


@pytest.mark.requirement("REQ-032")
@pytest.mark.parametrize("case", BAD)
def test_a_mistake_names_file_line_key_and_what_is_allowed(tmp_path, case):
    text, line, message = BAD[case]
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        config.load(path)
    where = f"{path}:{line}: " if line else f"{path}: "
    assert str(refused.value).startswith(where)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_not_toml_is_named_with_its_line(tmp_path):
    path = written(tmp_path, "[stream]\nblock_ms = \n")
    with pytest.raises(ConfigError, match=r"emgd.toml: not TOML: .*line 2"):
        config.load(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing.toml: cannot be read: No such file"):
        config.load(tmp_path / "missing.toml")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"binary.toml: cannot be read: .*utf-8"):
        config.load(binary)


def test_the_command_line_wins_and_is_named_when_it_is_wrong(tmp_path):
    path = written(tmp_path, GOOD)
    assert config.load(path, {"service": {"log_level": "debug"}}).service["log_level"] == "debug"
    with pytest.raises(ConfigError, match=r"^command line: \[device\] speed: speed cannot be -1"):
        config.load(path, {"device": {"speed": -1}})


def test_without_a_word_there_is_no_stimulator_and_extended_is_off():
    loaded = config.load(None)
    assert loaded.stimulator.driver is None
    assert "extended" not in loaded.stimulator.enabled_profiles
    assert set(loaded.limits.profiles) == set(loaded.stimulator.enabled_profiles)


def test_a_stimulator_has_its_drivers_options_beside_those_of_all(tmp_path, monkeypatch):
    monkeypatch.setitem(registry.STIMULATORS, "mine", "emgd_drivers.skeleton")
    text = '[stimulator]\ndriver = "mine"\nport = "/dev/ttyACM7"\nenabled_profiles = ["motor", "extended"]\n'
    loaded = config.load(written(tmp_path, text))
    assert (loaded.stimulator.driver, str(loaded.stimulator.options["port"])) == ("mine", "/dev/ttyACM7")
    assert set(loaded.limits.profiles) == {"motor", "extended"}
    assert loaded.stimulator.audit_file is None


@pytest.mark.requirement("REQ-033")
def test_a_profile_that_the_site_tightened_is_shown_and_not_hidden(tmp_path, capsys):
    path = written(tmp_path, "[limits]\ncurrent_ua = 60000\n[limits.rns]\ncurrent_ua = 70000\nwidth_us = 100\n")
    assert main.main(["config", "--config", str(path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [printed["limits"]["rns"][name] for name in ("current_ua", "width_us")] == [60_000, 100]
    assert printed["tightened"] == [
        "motor: current_ua is 60000 by [limits], not 80000",
        "rns: current_ua is 60000 by [limits], not 70000",
    ]


def test_config_prints_every_effective_value_as_json(tmp_path, capsys):
    assert main.main(["config", "--config", str(written(tmp_path, GOOD))]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["device"] == {
        "driver": "sim",
        "channels": 4,
        "rate_hz": 48_000.0,
        "triggers": True,
        "serial": "EMG8-SIM001",
        "speed": 1.0,
        "electrodes": [],
        "trigger": None,
        "trigger_hold_ms": 2.0,
        "faults": [],
    }
    assert printed["filters"][1]["channels"] == [1, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--config", "/nowhere.toml"], "emgd: /nowhere.toml: cannot be read"),
        (["replay", "/nowhere.hea"], "/nowhere.hea"),
        (["replay", "x.wav", "--fault", "explode@3"], "fault 'explode@3' is not understood"),
    ],
)
def test_a_service_that_cannot_start_says_why_in_one_line(tmp_path, capfd, arguments, message):
    assert main.main([*arguments, "--runtime-dir", str(tmp_path)]) == 1
    errors = capfd.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert message in errors[0]


@pytest.mark.requirement("REQ-032")
def test_a_service_with_milliamperes_for_microamperes_does_not_start(tmp_path, capfd):
    path = written(tmp_path, "[limits]\ncurrent_ua = 50\n")
    assert main.main(["run", "--config", str(path), "--runtime-dir", str(tmp_path / "run")]) == 1
    errors = capfd.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert errors[0].startswith(f"emgd: {path}:2: [limits] current_ua: current_ua 50 µA is tighter than makes sense")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "2000", "nan"])
def test_a_speed_that_cannot_be_is_a_usage_error(speed, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["replay", "x.hea", "--speed", speed])
    assert ended.value.code == 2
    assert "neither a number up to 1000 nor max" in capsys.readouterr().err


def test_a_filter_for_a_channel_that_is_not_there_is_refused(tmp_path):
    loaded = config.load(written(tmp_path, "[[filters]]\nchannels = [4]\n"))
    with pytest.raises(ValueError, match="there is no channel 4; the device has 0 to 3"):
        channel_specs(loaded.filters, 4)


def test_the_documented_configuration_is_one_that_loads_and_its_values_are_the_defaults(tmp_path):
    document = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    text = document.split("```toml\n")[1].split("```")[0]
    loaded = config.load(written(tmp_path, text))
    plain = config.load(None)
    assert {**loaded.device, "faults": (), "electrodes": ()} == plain.device
    assert loaded.stream == plain.stream
    assert {**loaded.service, "runtime_dir": None} == plain.service
    assert dataclasses.replace(loaded.stimulator, audit_file=None) == plain.stimulator
    fields = (*config.SERVICE_FIELDS, *config.STREAM_FIELDS, *config.STIMULATOR_FIELDS)
    names = {field.name for field in fields}
    assert all(f"{name} = " in text for name in names)


def test_the_documented_presets_are_the_ones_there_are():
    document = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+\|[^|]+) \|", document, re.MULTILINE))
    shown = {name: f"{edge(spec.high_pass_hz)} | {edge(spec.low_pass_hz)}" for name, spec in filters.PRESETS.items()}
    assert rows == shown


def edge(value_hz):
    if value_hz is None:
        return "–"  # noqa: RUF001 - the document's dash
    return f"{value_hz / 1000:g} kHz" if value_hz >= 1000 else f"{value_hz:g} Hz"


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_the_commands(shell, capsys):
    pytest.importorskip("shtab")
    assert main.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "replay" in script
    assert "--speed" in script


@pytest.mark.requirement("REQ-056")
def test_the_configuration_is_read_at_the_start_only():
    """Nothing but the program's start calls `load`, so nothing changes a limit while the service runs."""
    callers = [
        path.name
        for path in sorted((ROOT / "daemon").rglob("*.py"))
        if re.search(r"\bconfig\.load\(|from emgd\.config import .*\bload\b|\btomllib\.load", path.read_text("utf-8"))
    ]
    assert callers == ["config.py", "main.py"]
