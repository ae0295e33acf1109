"""The `replay` driver of the configuration: an emg8 that plays a recording."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from emgd_drivers.api import Amplifier
from emgd_drivers.fields import Field
from emgd_drivers.sim.driver import FAULTS_FIELD, SPEED_FIELD, open_with_faults

MAX_SERIAL: Final = 32

FIELDS: Final = (
    Field("recording", Path, "the file (docs/replay.md)"),
    Field("sidecar", Path, "rate, unit and labels that the file does not tell", None),
    Field("loop", bool, "begin again at the end", False),
    SPEED_FIELD,
    FAULTS_FIELD,
)


def open_amplifier(options: Mapping[str, Any]) -> Amplifier:
    """Open the recording as an amplifier; DeviceNotFoundError says in one line why it cannot be played."""
    path = Path(options["recording"])
    sidecar = options["sidecar"]
    return open_with_faults(
        signal="recording",
        path=str(path),
        sidecar=None if sidecar is None else str(sidecar),
        loop=options["loop"],
        speed=options["speed"],
        faults=options["faults"],
        serial=serial_of(path),
    )


def serial_of(path: Path) -> str:
    """A serial number that tells one recording from another: printable ASCII, at most 32 characters."""
    name = "".join(letter if letter.isascii() and letter.isprintable() else "-" for letter in path.stem)
    return f"REPLAY-{name}"[:MAX_SERIAL]
