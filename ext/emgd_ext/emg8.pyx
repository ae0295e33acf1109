"""Decoder of emg8 frames (docs/devices/emg8.md, section 3).

Not Python because it looks at every byte of a thousand frames a second, in the sample loop.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memset

from emgd_ext.decoder cimport (
    EMGD_FRAME_CORRUPT,
    EMGD_FRAME_GOOD,
    EMGD_FRAME_TRUNCATED,
    EMGD_MARK_CODES,
    EMGD_MARK_UNKNOWN,
    Decoder,
    emgd_frame,
    emgd_mark,
)

from collections import namedtuple

import numpy as np


cdef extern from "crc.h" nogil:
    uint32_t emgd_crc32c(const uint8_t* data, size_t size, uint32_t crc)

cdef extern from "unpack.h" nogil:
    void emgd_unpack24le(const uint8_t* source, int32_t* out, size_t n)

cdef extern from *:
    """
    /* Fields are little endian at any offset. The compiler turns these into single loads. */
    static inline uint16_t le16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
    static inline uint32_t le32(const uint8_t *p) { return le16(p) | (uint32_t)le16(p + 2) << 16; }
    static inline uint64_t le64(const uint8_t *p) { return le32(p) | (uint64_t)le32(p + 4) << 32; }
    """
    uint16_t le16(const uint8_t* p) nogil
    uint32_t le32(const uint8_t* p) nogil
    uint64_t le64(const uint8_t* p) nogil

cdef enum:
    HEADER_BYTES = 48
    HEADER_CHECKED_BYTES = 44   # the header's own CRC covers what is before it
    CRC_BYTES = 4
    MARK_BYTES = 16
    MAGIC_BYTES = 4
    VERSION = 1
    TYPE_DATA = 1
    TYPE_END = 2

cdef const uint8_t* MAGIC = b"EMG8"

Frame = namedtuple("Frame", "status known type flags frame_seq first count tick samples marks")


cdef class Emg8Decoder(Decoder):
    """Frames of `channels` channels."""

    cdef const uint8_t* data
    cdef size_t size
    cdef size_t at

    def __cinit__(self, int channels):
        if not 1 <= channels <= 1024:
            raise ValueError(f"channels is {channels}; emg8 has 1 to 1024")
        self.channels = channels
        self.data = NULL
        self.size = self.at = 0

    cdef void begin(self, const uint8_t* data, size_t size, int64_t host_ns) noexcept nogil:
        self.data = data
        self.size = size
        self.at = 0

    cdef bint sound_header(self, size_t at) noexcept nogil:
        cdef const uint8_t* p = self.data + at
        return (
            memcmp(p, MAGIC, MAGIC_BYTES) == 0
            and emgd_crc32c(p, HEADER_CHECKED_BYTES, 0) == le32(p + HEADER_CHECKED_BYTES)
            and p[4] == VERSION
            and (p[5] == TYPE_DATA or p[5] == TYPE_END)
            and le16(p + 14) == self.channels
            and le32(p + 36) == 3 * <uint32_t> le16(p + 12) * le16(p + 14) + MARK_BYTES * <uint32_t> le16(p + 32)
        )

    cdef void skip_to_next_header(self) noexcept nogil:
        self.at += 1
        while self.at + HEADER_BYTES <= self.size:
            if self.data[self.at] == MAGIC[0] and self.sound_header(self.at):
                return
            self.at += 1
        self.at = self.size

    cdef bint next(self, emgd_frame* frame) noexcept nogil:
        if self.at >= self.size:
            return False
        memset(frame, 0, sizeof(emgd_frame))
        cdef size_t left = self.size - self.at
        cdef const uint8_t* p = self.data + self.at
        if left < HEADER_BYTES:
            frame.status = EMGD_FRAME_TRUNCATED
            self.at = self.size
            return True
        if not self.sound_header(self.at):
            frame.status = EMGD_FRAME_CORRUPT
            self.skip_to_next_header()
            return True
        frame.known = True
        frame.type = p[5]
        frame.flags = le16(p + 6)
        frame.frame_seq = le32(p + 8)
        frame.count = le16(p + 12)
        frame.first = le64(p + 16)
        frame.tick = le64(p + 24)
        cdef size_t body = le32(p + 36)
        cdef size_t length = HEADER_BYTES + body + CRC_BYTES
        if left < length:
            frame.status = EMGD_FRAME_TRUNCATED
            self.at = self.size
        elif emgd_crc32c(p, length - CRC_BYTES, 0) != le32(p + length - CRC_BYTES):
            frame.status = EMGD_FRAME_CORRUPT
            self.at += length
        else:
            frame.status = EMGD_FRAME_GOOD
            frame.mark_count = le16(p + 32)
            frame.samples = p + HEADER_BYTES
            frame.marks = p + length - CRC_BYTES - MARK_BYTES * frame.mark_count
            self.at += length
        return True

    cdef void unpack(self, const emgd_frame* frame, uint32_t row, uint32_t rows, int32_t* out) noexcept nogil:
        emgd_unpack24le(frame.samples + <size_t> 3 * row * self.channels, out, <size_t> rows * self.channels)

    cdef void mark(self, const emgd_frame* frame, uint32_t index, emgd_mark* out) noexcept nogil:
        cdef const uint8_t* p = frame.marks + MARK_BYTES * <size_t> index
        out.seq = le64(p)
        out.code = p[8] if p[8] < EMGD_MARK_CODES else <uint8_t> EMGD_MARK_UNKNOWN
        out.channel = le16(p + 10)
        out.value = <int32_t> le32(p + 12)

    def decode(self, const uint8_t[::1] data):
        """Frames in one transfer, for tests and tools; the sample loop calls the C side."""
        cdef emgd_frame frame
        frames = []
        if data.shape[0] == 0:
            return frames
        self.begin(&data[0], data.shape[0], 0)
        while self.next(&frame):
            frames.append(self.as_tuple(&frame))
        self.begin(NULL, 0, 0)
        return frames

    cdef object as_tuple(self, emgd_frame* frame):
        cdef emgd_mark mark
        cdef uint32_t i
        samples = None
        marks = []
        if frame.status == EMGD_FRAME_GOOD:
            samples = np.empty((frame.count, self.channels), np.int32)
            if frame.count:
                self.unpack(frame, 0, frame.count, <int32_t*> <size_t> samples.ctypes.data)
            for i in range(frame.mark_count):
                self.mark(frame, i, &mark)
                marks.append((mark.seq, mark.code, mark.channel, mark.value))
        return Frame(
            frame.status, bool(frame.known), frame.type, frame.flags, frame.frame_seq, frame.first, frame.count,
            frame.tick, samples, marks,
        )
