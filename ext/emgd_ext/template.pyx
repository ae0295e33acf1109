"""MessagePack bytes with holes, filled without Python: what the publish thread sends as headers.

Not Python because a header is filled for every block, without the GIL.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy


cdef extern from "<endian.h>" nogil:
    uint32_t htobe32(uint32_t value)
    uint64_t htobe64(uint64_t value)


cdef Bytes copy_bytes(bytes data) except *:
    """A copy that no Python object owns; give it to `free_bytes`."""
    cdef Bytes copy
    copy.size = len(data)
    copy.data = <uint8_t*> malloc(max(1, len(data)))
    if copy.data is NULL:
        raise MemoryError
    memcpy(copy.data, <const uint8_t*> data, len(data))
    return copy


cdef void free_bytes(Bytes* data) noexcept nogil:
    free(data.data)
    data.data = NULL


cdef bint same_bytes(const Bytes* a, const Bytes* b) noexcept nogil:
    return a.size == b.size and memcmp(a.data, b.data, a.size) == 0


cdef Template as_template(template) except *:
    """From (bytes, {field: offset}). `count` is 4 bytes wide unless "count_bytes" says 8."""
    cdef Template made
    data, at = template
    made.bytes = copy_bytes(data)
    made.seq = at.get("seq", -1)
    made.count = at.get("count", -1)
    made.count_bytes = at.get("count_bytes", 4)
    made.host_time_ns = at.get("host_time_ns", -1)
    made.flags = at.get("flags", -1)
    made.gap_before = at.get("gap_before", -1)
    made.channel_flags = at.get("channel_flags", -1)
    made.value = at.get("value", -1)
    made.channel = at.get("channel", -1)
    return made


cdef void put64(Template* template, int at, uint64_t value) noexcept nogil:
    cdef uint64_t big = htobe64(value)
    if at >= 0:
        memcpy(template.bytes.data + at, &big, 8)


cdef void put32(Template* template, int at, uint32_t value) noexcept nogil:
    cdef uint32_t big = htobe32(value)
    if at >= 0:
        memcpy(template.bytes.data + at, &big, 4)


cdef void put_count(Template* template, uint64_t value) noexcept nogil:
    if template.count_bytes == 8:
        put64(template, template.count, value)
    else:
        put32(template, template.count, <uint32_t> value)
