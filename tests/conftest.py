"""What all tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def recordings_dir() -> Path:
    return Path(os.environ.get("EMGD_RECORDINGS", ROOT.parent / "shared" / "recordings"))


@pytest.fixture
def recordings():
    """Folder of the real recordings; the test is skipped where it is absent."""
    folder = recordings_dir()
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not here ({folder}); set EMGD_RECORDINGS")
    return folder
