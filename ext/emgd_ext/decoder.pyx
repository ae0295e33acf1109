"""What a device's bytes mean: the border between a device family's format and the sample loop.

Not Python because a decoder runs in the sample loop, without the GIL. A decoder of another family derives from
Decoder and keeps two rules: it never reads outside the transfer, and what it calls a good frame has passed the
device's own check.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t


cdef class Decoder:
    """Base of all decoders: `begin` a transfer, take frames with `next` until it says no, `unpack` rows and `mark`s
    of each.

    A device that sends a plain stream of bytes has no transfers to speak of: its decoder keeps what is incomplete for
    the next `begin`. `host_ns` (CLOCK_MONOTONIC) is when the bytes were here. `idle` is asked when nothing has come,
    for a while as a rule: it may hand over frames that were held back, such as the last one before the device stopped.
    """

    cdef void begin(self, const uint8_t* data, size_t size, int64_t host_ns) noexcept nogil:
        pass

    cdef bint next(self, emgd_frame* frame) noexcept nogil:
        return False

    cdef bint idle(self, emgd_frame* frame, int64_t host_ns) noexcept nogil:
        return False

    cdef void unpack(self, const emgd_frame* frame, uint32_t row, uint32_t rows, int32_t* out) noexcept nogil:
        pass

    cdef void mark(self, const emgd_frame* frame, uint32_t index, emgd_mark* out) noexcept nogil:
        pass
