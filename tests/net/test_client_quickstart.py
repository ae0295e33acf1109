"""Every block of Python in docs/quickstart.md is run, as it stands, against the small service."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_service import FakeService

import emgd_client

TEXT = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text(encoding="utf-8")
PROGRAMS = [part.split("```", maxsplit=1)[0] for part in TEXT.split("```python\n")[1:]]
PRINTED = {
    "quick start": ["48000 Hz: EMG 1, EMG 2", "96 [146.2 146.6]", "before sample 202: 10 in a gap, 0 dropped"],
    "from the start": ["history 0 96", "live 96 96"],
    "asyncio": ["Pong(host_time_ns=", "amp0/raw 96"],
    "electrodes": ["settling e1", "measuring e1", "EMG 1 good 2500.0 good 640.0"],
    "events": ["mark trigger at sample 192", "10 samples missing from 192 ('lost',)", "amp0 is ended"],
}


def name_of(program: str) -> str:
    return program.split('name="', maxsplit=1)[1].split('"', maxsplit=1)[0]


def play_to_the_end(fake: FakeService) -> None:
    fake.send_blocks()
    fake.mark()
    fake.gap(10)
    fake.send_blocks()
    fake.say_state("ended")


@pytest.mark.parametrize("program", PROGRAMS, ids=name_of)
def test_program_runs_and_prints_what_the_page_promises(program: str, tmp_path: Path) -> None:
    service = FakeService(tmp_path)
    service.drop_blocks()
    # Every program subscribes to the states last, so it has all its subscriptions by then.
    service.on_topic, service.on_subscribe = "amp0/state", play_to_the_end
    with service:
        library = str(Path(emgd_client.__file__).parents[1])
        environment = os.environ | {"PYTHONPATH": library, "EMGD_RUNTIME_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    for line in PRINTED[name_of(program)]:
        assert line in done.stdout


def test_the_subscriber_is_as_short_as_promised() -> None:
    assert len([line for line in PROGRAMS[0].splitlines() if line.strip()]) <= 15
