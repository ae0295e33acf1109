"""From tones in a channel to what is said of its electrodes: ohms, how sure they are, and a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emgd.lockin import Tone
from emgd_drivers.api import ChannelInfo, Side

GOOD_BELOW_OHM: Final = 5_000.0
"""Clinical practice prepares the skin anew where a surface electrode has more: mains grows with the difference between
the two, and 5 kOhm against an input of 300 MOhm at 50 Hz make 8 µV of half a volt of common mode."""

OFF_FROM_OHM: Final = 1_000_000.0
"""No electrode on skin has so much at some ten hertz: skin left as it is has 5 to 50 kOhm."""

BRIDGE_BELOW_OHM: Final = 1_000.0
"""Two good electrodes in series have several kOhm: less than this goes through gel or sweat from one to the other, and
the signal is shorted by as much."""

OPEN_SHARE: Final = 0.05
"""A channel that is at the end of its range in more of the window than this is driven there by the test current. A
sine of twice the range is there for two thirds of the time, one that only just reaches it for less than this."""

KILO: Final = 1e3
"""Ohm per µV/nA."""


class Contact(StrEnum):
    """What is said of an electrode."""

    GOOD = "good"
    DRY = "dry"
    OFF = "off"
    BRIDGE = "bridge"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Window:
    """One measurement: the sides the current went through, the samples, what they say, and which share of each
    channel's samples was saturated.
    """

    sides: Side
    seq: int
    count: int
    tone: Tone
    saturated: npt.NDArray[np.float64]

    @property
    def disturbed(self) -> npt.NDArray[np.bool_]:
        """Channels that were saturated for moments: something moved, and the figures are worth nothing."""
        disturbed: npt.NDArray[np.bool_] = (self.saturated > 0) & (self.saturated <= OPEN_SHARE)
        return disturbed


@dataclass(frozen=True, slots=True)
class Reading:
    """Ohms with their standard uncertainty; None where the channel was saturated. `is_open`: by the test current."""

    ohm: float | None
    sigma_ohm: float | None
    is_open: bool

    @property
    def contact(self) -> Contact:
        """What an electrode of this impedance is, if it is not bridged."""
        if self.is_open:
            return Contact.OFF
        if self.ohm is None:
            return Contact.UNKNOWN
        if self.ohm < GOOD_BELOW_OHM:
            return Contact.GOOD
        return Contact.DRY if self.ohm < OFF_FROM_OHM else Contact.OFF


def read(window: Window, channel: int, uv_per_count: float, current_na: float) -> Reading:
    """What a window says of a channel."""
    share = float(window.saturated[channel])
    if share > 0:
        return Reading(None, None, is_open=share > OPEN_SHARE)
    scale = abs(uv_per_count) / current_na * KILO
    return Reading(float(window.tone.peak[channel]) * scale, float(window.tone.sigma[channel]) * scale, is_open=False)


def describe(
    windows: Sequence[Window], channels: Sequence[int], infos: Sequence[ChannelInfo], current_na: float
) -> list[dict[str, Any]]:
    """The `results` of the stream `impedance` (docs/protocol.md): a map per channel, from a window per side."""
    by_side = {window.sides: window for window in windows}
    results = []
    for channel in channels:
        info = infos[channel]
        e1, e2, between = (
            read(by_side[sides], channel, info.uv_per_count, current_na)
            for sides in (Side.POSITIVE, Side.NEGATIVE, Side.BOTH)
        )
        bridge = between.ohm is not None and between.ohm < BRIDGE_BELOW_OHM
        results.append(
            {
                "channel": channel,
                "label": info.label,
                "e1": _electrode(e1, bridge=bridge),
                "e2": _electrode(e2, bridge=bridge),
                "between_ohm": between.ohm,
                "between_sigma_ohm": between.sigma_ohm,
                "bridge": bridge,
            }
        )
    return results


def _electrode(reading: Reading, *, bridge: bool) -> dict[str, Any]:
    # What goes through a bridge does not go through the electrode: the ohms are then those of both in parallel.
    contact = Contact.BRIDGE if bridge else reading.contact
    return {"ohm": reading.ohm, "sigma_ohm": reading.sigma_ohm, "state": contact.value}
