from libc.stdint cimport uint8_t

from emgd_ext.template cimport Bytes

cdef enum:
    MAX_PREFIXES = 256
    PREFIX_BYTES = 256


cdef class Prefixes:
    cdef uint8_t* memory    # MAX_PREFIXES x PREFIX_BYTES
    cdef int sizes[MAX_PREFIXES]
    cdef int count
    cdef bint too_many      # from then on every topic counts as wanted

    cdef int find(self, const uint8_t* prefix, int size) noexcept nogil
    cdef void add(self, const uint8_t* prefix, int size) noexcept nogil
    cdef void remove(self, const uint8_t* prefix, int size) noexcept nogil
    cdef bint match(self, const Bytes* topic) noexcept nogil
