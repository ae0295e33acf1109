"""A cascade of biquads per channel."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MAX_SECTIONS: int

class Cascade:
    """Filter of all channels: counts in, µV out, state kept from call to call."""

    def __init__(
        self,
        scale: Sequence[float] | npt.NDArray[np.float64],
        sections: Sequence[npt.NDArray[np.float64]],
        zi: Sequence[npt.NDArray[np.float64]],
        settle_samples: Sequence[int],
    ) -> None: ...
    def prime(self, counts: npt.NDArray[np.int32]) -> None:
        """State as if `counts` (channels,) had been there for ever."""

    def process(
        self, counts: npt.NDArray[np.int32], *, single: bool = False
    ) -> npt.NDArray[np.float64] | npt.NDArray[np.float32]:
        """Next rows (n, channels) of counts to µV: float64, or float32 as published when `single`."""
