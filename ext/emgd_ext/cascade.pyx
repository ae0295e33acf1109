"""A cascade of biquads per channel: counts in, microvolts out, state kept from block to block.

Not Python because the sample loop runs it without the GIL; here is only what sets it up, and calls for tests and tools.
"""

from libc.stdint cimport int32_t

import numpy as np

MAX_SECTIONS = EMGD_MAX_SECTIONS


cdef class Cascade:
    """Filter of all channels.

    `scale` (channels,) is µV per count; `sections` has for each channel an array (n, 6) of second-order sections as
    SciPy writes them (b0 b1 b2 a0 a1 a2), n up to MAX_SECTIONS, 0 = off; `zi` the matching (n, 2) states after an
    endless input of 1; `settle_samples` (channels,) how long to call the output settling after priming.
    """

    def __cinit__(self, scale, sections, zi, settle_samples):
        cdef int channels = len(scale)
        cdef int depth = max((len(channel) for channel in sections), default=1) or 1
        if depth > EMGD_MAX_SECTIONS:
            raise ValueError(f"a filter of {depth} sections is too long; at most {EMGD_MAX_SECTIONS}")
        if not len(sections) == len(zi) == len(settle_samples) == channels:
            raise ValueError("scale, sections, zi and settle_samples must have one entry per channel")
        self.handle = emgd_cascade_new(channels, depth)
        if self.handle is NULL:
            raise MemoryError("no memory for the filter")
        for channel in range(channels):
            self.handle.scale[channel] = scale[channel]
            self.handle.settle[channel] = settle_samples[channel]
            for number, (section, state) in enumerate(zip(sections[channel], zi[channel], strict=True)):
                self.put(channel, number, section, state)

    cdef void put(self, int channel, int number, section, state) except *:
        cdef int width = self.handle.width
        b0, b1, b2, a0, a1, a2 = section
        if a0 != 1:
            raise ValueError(f"channel {channel}, section {number}: a0 is {a0}; sections must be normalised to 1")
        for index, value in enumerate((b0, b1, b2, a1, a2)):
            self.handle.coef[(number * 5 + index) * width + channel] = value
        for index, value in enumerate(state):
            self.handle.zi[(number * 2 + index) * width + channel] = value

    def __dealloc__(self):
        emgd_cascade_free(self.handle)

    def prime(self, const int32_t[::1] counts):
        """State as if `counts` (channels,) had been there for ever."""
        if counts.shape[0] != self.handle.channels:
            raise ValueError(f"{counts.shape[0]} counts for {self.handle.channels} channels")
        emgd_cascade_prime(self.handle, &counts[0])

    def process(self, const int32_t[:, ::1] counts, *, bint single=False):
        """Next rows (n, channels) of counts to µV: float64, or float32 as published when `single`."""
        if counts.shape[1] != self.handle.channels:
            raise ValueError(f"{counts.shape[1]} columns for {self.handle.channels} channels")
        out = np.empty((counts.shape[0], counts.shape[1]), np.float32 if single else np.float64)
        if counts.shape[0] == 0:
            return out
        if single:
            emgd_cascade_f32(self.handle, &counts[0, 0], <float*> <size_t> out.ctypes.data, counts.shape[0])
        else:
            emgd_cascade_f64(self.handle, &counts[0, 0], <double*> <size_t> out.ctypes.data, counts.shape[0])
        return out
