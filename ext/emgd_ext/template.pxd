from libc.stdint cimport uint32_t, uint64_t, uint8_t


cdef struct Bytes:
    uint8_t* data
    size_t size


cdef struct Template:
    # MessagePack bytes, and where in them the fixed-width fields lie (-1: not there)
    Bytes bytes
    int seq
    int count
    int count_bytes
    int host_time_ns
    int flags
    int gap_before
    int channel_flags
    int value
    int channel


cdef Bytes copy_bytes(bytes data) except *
cdef void free_bytes(Bytes* data) noexcept nogil
cdef bint same_bytes(const Bytes* a, const Bytes* b) noexcept nogil
cdef Template as_template(template) except *
cdef void put64(Template* template, int at, uint64_t value) noexcept nogil
cdef void put32(Template* template, int at, uint32_t value) noexcept nogil
cdef void put_count(Template* template, uint64_t value) noexcept nogil
