from libc.stdint cimport uint8_t

# What Source.read returns when it brings no bytes.
cdef enum:
    SOURCE_IDLE = 0     # nothing came within the time-out
    SOURCE_GONE = -1    # the device is not there any more
    SOURCE_TOO_LONG = -2    # a transfer did not fit: part of it is lost


cdef class Source:
    cdef int read(self, uint8_t* buffer, size_t room, int timeout_ms) noexcept nogil
    cdef int take(self, uint8_t* buffer, size_t room, const uint8_t** data, int timeout_ms) noexcept nogil


cdef class FdSource(Source):
    cdef int fd


cdef class SerialSource(Source):
    cdef int fd
    cdef int gather_us
