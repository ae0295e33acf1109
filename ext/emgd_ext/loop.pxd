from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from emgd_ext.cascade cimport Cascade, emgd_cascade
from emgd_ext.clock cimport ClockModel
from emgd_ext.decoder cimport Decoder, emgd_frame, emgd_mark
from emgd_ext.ring cimport Ring, emgd_block
from emgd_ext.source cimport Source

cdef extern from "sequence.h" nogil:
    ctypedef struct emgd_gap:
        uint64_t seq
        uint64_t count
        uint32_t causes

    ctypedef struct emgd_sequence:
        uint64_t expected

    ctypedef struct emgd_verdict:
        emgd_gap gaps[2]
        int gap_count
        uint32_t skip
        int unreadable
        int repeated
        int restarted
        int ended

    emgd_verdict emgd_sequence_accept(emgd_sequence* sequence, const emgd_frame* frame)
    emgd_verdict emgd_sequence_finish(emgd_sequence* sequence, uint64_t total)
    void emgd_sequence_resume(emgd_sequence* sequence, uint64_t expected)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_trylock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)


cdef struct Counters:
    # what came over the wire, and what was missing
    uint64_t transfers
    uint64_t bytes
    uint64_t frames
    uint64_t repeated
    uint64_t corrupt
    uint64_t truncated
    uint64_t restarts
    uint64_t stray_marks
    uint64_t gaps
    uint64_t missing
    uint64_t marks
    uint64_t returns


cdef struct Probe:
    int64_t before_ns
    uint64_t tick
    int64_t after_ns


cdef class SampleLoop:
    cdef readonly Ring ring
    cdef readonly ClockModel clock
    cdef readonly str outcome
    cdef readonly int notify_fd
    cdef Decoder decoder
    cdef emgd_cascade* cascade          # in use by the loop
    cdef emgd_cascade* cascade_wanted   # replaces it at the next block
    cdef list cascades                  # owners of the two
    cdef readonly uint64_t filter_from_seq
    cdef double ticks_per_sample
    cdef int channels
    cdef int block_samples
    cdef emgd_sequence sequence
    cdef emgd_block block           # under construction
    cdef uint64_t edge_seq          # a sample and its tick, from the newest sound frame
    cdef uint64_t edge_tick
    cdef uint64_t base              # our number of the device's sample 0: it counts from 0 at each START
    cdef bint returning             # a device that was away is back, and its first frame is not here yet
    cdef int64_t away_from_ns       # when the first sample would have been taken that we lack
    cdef int64_t slept_ns           # how long CLOCK_MONOTONIC stood still meanwhile
    cdef uint64_t pending_gap
    cdef bint unprimed
    cdef bint ended
    cdef bint news
    cdef int stopping
    cdef int64_t last_arrival_ns
    cdef int32_t[::1] limits
    cdef uint32_t[::1] hit
    cdef uint8_t[::1] electrode_off
    cdef uint8_t[::1] electrode_seen
    cdef uint8_t[::1] impedance_on      # by the device's marks
    cdef uint8_t[::1] impedance_told    # by the host, for a device that sends no marks
    cdef uint8_t[::1] impedance_seen
    cdef uint8_t[::1] channel_flags
    cdef uint64_t[::1] settle_until
    cdef uint64_t[::1] cause_samples
    cdef uint8_t[::1] buffer
    cdef Counters counters
    cdef pthread_mutex_t mailbox
    cdef Probe probes[16]
    cdef int probe_count

    cdef void take_transfer(self, const uint8_t* data, size_t size, int64_t host_ns) noexcept nogil
    cdef void take_idle(self, int64_t host_ns) noexcept nogil
    cdef void take_probes(self) noexcept nogil
    cdef void take_frame(self, emgd_frame* frame, int64_t host_ns) noexcept nogil
    cdef void place(self, const emgd_frame* frame, int64_t host_ns) noexcept nogil
    cdef void read_mark(self, const emgd_frame* frame, uint32_t index, emgd_mark* mark) noexcept nogil
    cdef void add_gap(self, const emgd_gap* gap) noexcept nogil
    cdef uint64_t tick_of(self, uint64_t seq) noexcept nogil
    cdef void take_marks(self, const emgd_frame* frame, uint32_t skip) noexcept nogil
    cdef void take_rows(self, const emgd_frame* frame, uint32_t skip) noexcept nogil
    cdef void apply_electrodes(self, const emgd_frame* frame, uint64_t seq, uint32_t rows) noexcept nogil
    cdef void apply_impedance(self, const emgd_mark* mark) noexcept nogil
    cdef void open_block(self, uint64_t seq) noexcept nogil
    cdef void swap_filter(self, uint64_t seq) noexcept nogil
    cdef void prime(self, const int32_t* row, uint64_t seq) noexcept nogil
    cdef void close_block(self) noexcept nogil
    cdef void conclude(self, const emgd_verdict* verdict) noexcept nogil
    cdef void notify(self) noexcept nogil
    cdef void read_on(self, Source source) noexcept nogil
