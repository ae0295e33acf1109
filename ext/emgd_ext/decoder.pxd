from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "frame.h" nogil:
    enum:
        EMGD_FRAME_GOOD
        EMGD_FRAME_CORRUPT
        EMGD_FRAME_TRUNCATED
    enum:
        EMGD_FLAG_START
        EMGD_FLAG_OVERFLOW
        EMGD_FLAG_END
    enum:
        EMGD_CAUSE_DEVICE_LOST
        EMGD_CAUSE_SETS
    enum:
        EMGD_MARK_UNKNOWN
        EMGD_MARK_ELECTRODE
        EMGD_MARK_IMPEDANCE
        EMGD_MARK_CODES
    enum:
        EMGD_MARK_ALL_CHANNELS

    ctypedef struct emgd_mark:
        uint64_t seq
        int32_t value
        unsigned short channel
        uint8_t code

    ctypedef struct emgd_frame:
        int status
        int known
        uint32_t type
        uint32_t flags
        uint32_t frame_seq
        uint32_t count
        uint64_t first
        uint64_t tick
        int64_t host_ns
        uint32_t mark_count
        const uint8_t* samples
        const uint8_t* marks


cdef class Decoder:
    cdef readonly int channels
    cdef void begin(self, const uint8_t* data, size_t size, int64_t host_ns) noexcept nogil
    cdef bint next(self, emgd_frame* frame) noexcept nogil
    cdef bint idle(self, emgd_frame* frame, int64_t host_ns) noexcept nogil
    cdef void unpack(self, const emgd_frame* frame, uint32_t row, uint32_t rows, int32_t* out) noexcept nogil
    cdef void mark(self, const emgd_frame* frame, uint32_t index, emgd_mark* out) noexcept nogil
