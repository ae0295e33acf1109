"""Checks and packing of samples, callable from Python: for device models, tools and tests.

Not Python because they wrap the C kernels that the data plane itself runs.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t

import numpy as np


cdef extern from "crc.h" nogil:
    uint32_t emgd_crc32c(const uint8_t* data, size_t size, uint32_t crc)
    uint32_t emgd_crc32c_portable(const uint8_t* data, size_t size, uint32_t crc)

cdef extern from "unpack.h" nogil:
    void emgd_unpack24le(const uint8_t* source, int32_t* out, size_t n)
    void emgd_unpack24le_portable(const uint8_t* source, int32_t* out, size_t n)
    void emgd_pack24le(const int32_t* source, uint8_t* out, size_t n)
    void emgd_saturation(const int32_t* samples, size_t rows, size_t channels, const int32_t* limit, uint32_t* hit)

cdef int HIGHEST = 2**23 - 1
cdef int LOWEST = -2**23


def crc32c(const uint8_t[::1] data, uint32_t crc=0, *, bint portable=False):
    """CRC-32C (Castagnoli, RFC 3720) of `data`, going on from `crc`. `portable`: without the CPU's instruction."""
    cdef size_t size = data.shape[0]
    if size == 0:
        return crc
    return emgd_crc32c_portable(&data[0], size, crc) if portable else emgd_crc32c(&data[0], size, crc)


def unpack24(const uint8_t[::1] data, *, bint portable=False):
    """Packed 24-bit little-endian two's complement to int32, shape (n,)."""
    cdef size_t size = data.shape[0]
    if size % 3:
        raise ValueError(f"{size} bytes are not a whole number of 24-bit samples")
    out = np.empty(size // 3, np.int32)
    cdef int32_t[::1] view = out
    if size:
        if portable:
            emgd_unpack24le_portable(&data[0], &view[0], size // 3)
        else:
            emgd_unpack24le(&data[0], &view[0], size // 3)
    return out


def pack24(counts):
    """int32 counts of any shape, C order, to packed 24-bit little endian."""
    flat = np.ascontiguousarray(counts, np.int32).reshape(-1)
    if flat.size == 0:
        return b""
    if int(flat.max()) > HIGHEST or int(flat.min()) < LOWEST:
        raise ValueError(f"counts {flat.min()}..{flat.max()} do not fit into 24 bits ({LOWEST}..{HIGHEST})")
    cdef const int32_t[::1] view = flat
    packed = bytearray(3 * flat.size)
    cdef uint8_t[::1] out = packed
    emgd_pack24le(&view[0], &out[0], view.shape[0])
    return bytes(packed)


def saturated(const int32_t[:, ::1] samples, const int32_t[::1] limit):
    """Which channels of `samples` (rows, channels) have a sample with |count| >= limit: bool, shape (channels,)."""
    if samples.shape[1] != limit.shape[0]:
        raise ValueError(f"{samples.shape[1]} channels but {limit.shape[0]} limits")
    hit = np.zeros(samples.shape[1], np.uint32)
    cdef uint32_t[::1] view = hit
    if samples.shape[0] and samples.shape[1]:
        emgd_saturation(&samples[0, 0], samples.shape[0], samples.shape[1], &limit[0], &view[0])
    return hit.astype(bool)
