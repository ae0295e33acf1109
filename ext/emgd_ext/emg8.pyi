"""Decoder of emg8 frames (docs/devices/emg8.md)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emgd_ext.decoder import Decoder

class Frame(NamedTuple):
    """A decoded frame as tests see it; `status` is 0 good, 1 corrupt, 2 truncated; `known` tells whether the header
    was sound.
    """

    status: int
    known: bool
    type: int
    flags: int
    frame_seq: int
    first: int
    count: int  # type: ignore[assignment]  # the glossary's word; it hides tuple.count, which nobody calls
    tick: int
    samples: npt.NDArray[np.int32] | None
    marks: list[tuple[int, int, int, int]]

class Emg8Decoder(Decoder):
    """Frames of `channels` channels."""

    def __init__(self, channels: int) -> None: ...
    def decode(self, data: bytes) -> list[Frame]:
        """Frames in one transfer, for tests and tools; the sample loop calls the C side."""
