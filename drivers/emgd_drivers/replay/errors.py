"""The one way in which a recording can fail to open."""

from pathlib import Path

from emgd_drivers.api import DeviceNotFoundError


class RecordingError(DeviceNotFoundError):
    """A recording that cannot be played: one line with the file, what is wrong where, and what to do."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        # Texts of libraries may run over several lines; a user and a log want one.
        super().__init__(" ".join(f"{path}: {problem}; {remedy}".split()))
