"""What all tests share."""

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


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
