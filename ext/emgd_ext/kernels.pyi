"""Checks and packing of samples."""

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

def crc32c(data: Buffer, crc: int = 0, *, portable: bool = False) -> int:
    """CRC-32C (Castagnoli, RFC 3720) of `data`, going on from `crc`."""

def unpack24(data: Buffer, *, portable: bool = False) -> npt.NDArray[np.int32]:
    """Packed 24-bit little-endian two's complement to int32, shape (n,). ValueError unless len(data) is a multiple of
    3.
    """

def pack24(counts: npt.NDArray[np.int32]) -> bytes:
    """int32 counts, any shape, C order, to packed 24-bit little endian. ValueError when a count needs more than 24
    bits.
    """

def saturated(samples: npt.NDArray[np.int32], limit: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Which channels of `samples` (rows, channels) have a sample with |count| >= limit: shape (channels,)."""
