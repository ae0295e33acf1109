from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "ring.h" nogil:
    enum:
        EMGD_PLANE_RAW
        EMGD_PLANE_FILTERED
    enum:
        EMGD_EVENT_GAP
        EMGD_EVENT_MARK

    ctypedef struct emgd_block:
        uint64_t seq
        uint64_t gap_before
        uint64_t host_time_ns
        uint32_t count
        uint32_t flags

    ctypedef struct emgd_event:
        uint64_t seq
        uint64_t count
        uint64_t host_time_ns
        uint64_t before_block
        int32_t value
        uint16_t kind
        uint16_t channel
        uint32_t code

    ctypedef struct emgd_ring:
        uint32_t channels
        uint32_t block_samples
        uint64_t capacity
        uint64_t block_slots
        uint64_t event_slots
        uint64_t total_bytes
        uint64_t block_head

    uint64_t emgd_ring_format(emgd_ring* ring, uint32_t channels, uint32_t block_samples, uint64_t capacity,
                              uint64_t block_slots, uint64_t event_slots)
    int32_t* emgd_ring_reserve(emgd_ring* ring, uint64_t seq, uint64_t rows, float** filtered)
    void emgd_ring_commit(emgd_ring* ring, uint64_t head)
    void emgd_ring_add_block(emgd_ring* ring, const emgd_block* block, const uint8_t* channel_flags)
    void emgd_ring_add_event(emgd_ring* ring, const emgd_event* event)
    uint64_t emgd_ring_head(const emgd_ring* ring)
    uint64_t emgd_ring_block_head(const emgd_ring* ring)
    uint64_t emgd_ring_event_head(const emgd_ring* ring)
    uint64_t emgd_ring_floor(const emgd_ring* ring)
    uint64_t emgd_ring_block_floor(const emgd_ring* ring)
    uint64_t emgd_ring_event_floor(const emgd_ring* ring)
    int emgd_ring_get_block(const emgd_ring* ring, uint64_t index, emgd_block* block, uint8_t* channel_flags)
    int emgd_ring_get_event(const emgd_ring* ring, uint64_t index, emgd_event* event)
    int emgd_ring_copy(const emgd_ring* ring, int plane, uint64_t seq, uint64_t rows, void* out)
    const void* emgd_ring_rows(const emgd_ring* ring, int plane, uint64_t seq)


cdef class Ring:
    cdef emgd_ring* handle
    cdef readonly int fd
    cdef uint64_t size
