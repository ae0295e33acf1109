from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from emgd_ext.decoder cimport Decoder, emgd_frame

cdef extern from "layout.h" nogil:
    enum:
        EMGD_LAYOUT_MAX_BYTES
        EMGD_LAYOUT_HEADER_BYTES
        EMGD_LAYOUT_CONSTANTS
        EMGD_LAYOUT_REMARK_BYTES

    ctypedef struct emgd_field:
        uint32_t offset
        uint32_t bytes
        int big_endian

    ctypedef struct emgd_constant:
        uint32_t offset
        uint8_t mask
        uint8_t value

    ctypedef struct emgd_layout:
        uint32_t length
        uint32_t channels
        uint32_t header_bytes
        uint8_t header[16]
        uint32_t constant_count
        emgd_constant constants[4]
        uint8_t ends[256]
        emgd_field counter
        emgd_field tick
        emgd_field samples
        uint32_t remark_bytes
        uint8_t remark[64]

cdef extern from "count.h" nogil:
    enum:
        EMGD_COUNT_BACK
        EMGD_COUNT_BY_TIME

    ctypedef struct emgd_count:
        int started
        uint64_t raw
        int64_t last

    ctypedef struct emgd_counted:
        int64_t value
        int kind

    ctypedef struct emgd_grid:
        pass

cdef enum:
    WORK_BYTES = 4096   # above what can be undecided: three frames, and eight remarks behind each of two
    ARRIVALS = 64       # deliveries that an undecided stretch may consist of


cdef class Layout:
    cdef emgd_layout layout
    cdef readonly double tick_hz


cdef class FixedDecoder(Decoder):
    cdef emgd_layout layout
    cdef size_t head_bytes          # of a frame, to the end of its counter
    cdef bint header_is_long
    cdef uint64_t counter_mask
    cdef uint64_t tick_mask
    cdef double ticks_per_sample
    cdef double split_ns            # a frame whose bytes came further apart is none
    # bytes
    cdef const uint8_t* data        # of the newest transfer, not looked at yet
    cdef size_t left
    cdef uint8_t work[WORK_BYTES]   # undecided: [at, end)
    cdef size_t at
    cdef size_t end
    cdef uint64_t base              # how many bytes of the stream lie before work[0]
    cdef uint64_t arrival_end[ARRIVALS]
    cdef int64_t arrival_ns[ARRIVALS]
    cdef int arrival_first
    cdef int arrival_count
    cdef int64_t newest_ns
    cdef size_t skipped             # bytes that belong to no frame, not reported yet
    cdef size_t skipped_since       # ... since the last good frame
    cdef uint64_t found_again       # byte at which, behind a hole, a frame stands that may be believed
    # numbers
    cdef emgd_count count
    cdef emgd_grid grid
    cdef uint64_t raw
    cdef int64_t last_seq
    cdef int64_t last_number
    cdef uint64_t last_tick
    cdef uint64_t next_tick         # of the frame behind one that stands behind a hole
    cdef uint64_t start_tick
    cdef bint next_tick_known
    cdef int back_run
    cdef uint64_t steady
    cdef int64_t start_ns
    cdef uint64_t restarts_asked
    cdef uint64_t restarts_seen
    cdef int64_t end_asked_ns
    cdef bint end_sent
    # for the outside
    cdef readonly uint64_t frames
    cdef readonly uint64_t answers
    cdef readonly uint64_t left_out

    cdef void refill(self) noexcept nogil
    cdef int look(self, emgd_frame* frame, bint silence) noexcept nogil
    cdef int judge(self) noexcept nogil
    cdef bint doubtful(self) noexcept nogil
    cdef int followed(self) noexcept nogil
    cdef int next_header(self, uint64_t number, size_t* at) noexcept nogil
    cdef bint fits_next_tick(self, size_t following) noexcept nogil
    cdef int arrival_of(self, uint64_t byte) noexcept nogil
    cdef void forget_arrivals(self) noexcept nogil
    cdef void corrupt(self, emgd_frame* frame) noexcept nogil
    cdef void hand_on(self, emgd_frame* frame) noexcept nogil
    cdef void number_by_counter(self, emgd_frame* frame, uint64_t raw, uint32_t behind) noexcept nogil
    cdef void number_by_ticks(self, emgd_frame* frame, uint64_t raw, uint32_t behind) noexcept nogil
    cdef void advance(self, emgd_frame* frame, int64_t seq, int64_t frames, uint64_t tick) noexcept nogil
    cdef void repeat(self, emgd_frame* frame, int64_t seq) noexcept nogil
    cdef bint finish(self, emgd_frame* frame) noexcept nogil
    cdef object as_tuple(self, emgd_frame* frame)
