"""What all tests share."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from paths import ROOT

# How long an example takes is the machine's affair: it may stall for tens of milliseconds.
settings.register_profile("emgd", deadline=None)
# A million steps of the gate's machine, for `make safety-long`.
settings.register_profile("long", deadline=None, database=None, max_examples=20_000, stateful_step_count=50)
settings.load_profile(os.environ.get("EMGD_HYPOTHESIS", "emgd"))


def pytest_configure():
    """Whoever starts the tests in the background lets them ignore SIGINT, and all their children: undo that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def recordings_dir() -> Path:
    return Path(os.environ.get("EMGD_RECORDINGS", ROOT.parent / "shared" / "recordings"))


@pytest.fixture
def recordings():
    """Folder of the real recordings; the test is skipped where it is absent."""
    folder = recordings_dir()
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not here ({folder}); set EMGD_RECORDINGS")
    return folder
