"""Reader of WFDB records (PhysioNet): a header, and the signal files that it names."""

import math
import warnings
from pathlib import Path
from typing import Any, Final

from emgd_drivers.replay.contents import MAX_COUNT, Contents, FileChannel, saturation_count
from emgd_drivers.replay.errors import RecordingError
from emgd_drivers.replay.sidecar import Sidecar

with warnings.catch_warnings():
    # wfdb 4.3 builds two tables at import in a way that pandas 3 warns of; it concerns neither us nor the user.
    warnings.filterwarnings("ignore", message="The inplace keyword in DataFrame.set_index", module=r"wfdb\.")
    import wfdb

_STORED_BITS: Final = {
    **dict.fromkeys(("80", "508"), 8),
    **dict.fromkeys(("310", "311"), 10),
    "212": 12,
    **dict.fromkeys(("16", "61", "160", "516"), 16),
    **dict.fromkeys(("24", "524"), 24),
}
"""Bits of a sample in each storage format, for headers that do not tell the converter's resolution."""


def read(path: Path, sidecar: Sidecar) -> Contents:  # noqa: ARG001 - all readers are called alike
    """Digital values as stored: no baseline taken out, no frames averaged, no skew corrected."""
    header = path.with_suffix(".hea")
    if not header.is_file():
        raise RecordingError(path, f"its header {header.name} is not beside it", "keep the files of a record together")
    name = str(header.with_suffix("").absolute())
    segments = getattr(wfdb.rdheader(name), "n_seg", 1)
    if segments > 1:
        # Joining the segments would fill what lies between them without a word.
        raise RecordingError(path, f"is a record of {segments} segments", "play its segments one by one")
    record = wfdb.rdrecord(name, physical=False, smooth_frames=False, ignore_skew=True, return_res=32)
    channels = tuple(_channel(record, number) for number in range(record.n_sig))
    return Contents(channels, tuple(note for channel in channels for note in _notes(record, channel)))


def _channel(record: Any, number: int) -> FileChannel:
    """One signal of the record."""
    zero, bits = record.adc_zero[number] or 0, record.adc_res[number] or _STORED_BITS.get(record.fmt[number])
    gain = record.adc_gain[number]
    return FileChannel(
        number=number,
        label=record.sig_name[number] or "",
        samples=record.e_d_signal[number],
        rate_hz=record.fs * record.samps_per_frame[number],
        unit=record.units[number],
        scale=1.0 / gain if gain else math.nan,
        zero_count=record.baseline[number] or 0,
        saturation_count=saturation_count(zero - 2 ** (bits - 1), zero + 2 ** (bits - 1) - 1) if bits else MAX_COUNT,
    )


def _notes(record: Any, channel: FileChannel) -> list[str]:
    """What is odd about one signal."""
    notes = []
    told = record.checksum[channel.number]
    if told is not None and (int(channel.samples.sum(dtype="int64")) - told) % 2**16 != 0:
        notes.append(f"{channel.name}: its samples do not match the header's checksum; the file was changed or damaged")
    if skew := record.skew[channel.number]:
        notes.append(f"{channel.name}: the header calls it {skew} samples late; it is not shifted back")
    return notes
