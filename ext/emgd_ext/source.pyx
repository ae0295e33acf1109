"""Where a device's bytes come from: one read is one transfer.

Not Python because the sample loop reads without the GIL.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t
from posix.unistd cimport close, read as read_fd

from emgd_ext.poll cimport POLLIN, poll, pollfd


cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int nanosleep(const timespec* wanted, timespec* left)

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void* buffer, size_t size, int flags)
    enum: MSG_TRUNC
    enum: MSG_DONTWAIT


cdef class Source:
    """Base of all sources. `read` returns the length of one transfer or a SOURCE_* sentinel.

    The sample loop calls `take`: a source that has the bytes in memory of its own overrides it and points `data` at
    them, which saves copying them into the loop's buffer. They stay as they are until the next call.
    """

    def close(self):
        """Let go of the device's bytes; harmless when called again. Only after the loop that reads has ended."""

    def stats(self):
        """Counters of this way to the device; empty where it has none of its own."""
        return {}

    cdef int read(self, uint8_t* buffer, size_t room, int timeout_ms) noexcept nogil:
        return SOURCE_GONE

    cdef int take(self, uint8_t* buffer, size_t room, const uint8_t** data, int timeout_ms) noexcept nogil:
        data[0] = buffer
        return self.read(buffer, room, timeout_ms)


cdef class FdSource(Source):
    """Transfers from a socket that keeps their bounds (SOCK_SEQPACKET). Owns `fd` from here on."""

    def __cinit__(self, int fd):
        self.fd = fd

    def __dealloc__(self):
        self.close()

    def close(self):
        """Close the descriptor; harmless when called again. Only after the loop that reads it has ended."""
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1

    cdef int read(self, uint8_t* buffer, size_t room, int timeout_ms) noexcept nogil:
        cdef pollfd waiting
        # Try first: while transfers queue there is no need to ask whether there are any.
        cdef ssize_t size = recv(self.fd, buffer, room, MSG_DONTWAIT | MSG_TRUNC)
        if size < 0 and errno == EAGAIN:
            waiting.fd = self.fd
            waiting.events = POLLIN
            waiting.revents = 0
            if poll(&waiting, 1, timeout_ms) <= 0:
                return SOURCE_IDLE
            size = recv(self.fd, buffer, room, MSG_DONTWAIT | MSG_TRUNC)
        if size > 0:
            return <int> size if <size_t> size <= room else SOURCE_TOO_LONG
        if size < 0 and (errno == EAGAIN or errno == EINTR):
            return SOURCE_IDLE
        return SOURCE_GONE


cdef class SerialSource(Source):
    """All bytes that a terminal has. Owns `fd` from here on: hand it a duplicate where another owner stays.

    `gather_us`: how long to let bytes gather once there are some. A fast device on a cable without packets would wake
    the loop for every sample.
    """

    def __cinit__(self, int fd, *, int gather_us=0):
        self.fd = fd
        self.gather_us = gather_us

    def __dealloc__(self):
        self.close()

    def close(self):
        """Close the descriptor; harmless when called again. Only after the loop that reads it has ended."""
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1

    cdef int read(self, uint8_t* buffer, size_t room, int timeout_ms) noexcept nogil:
        cdef pollfd waiting
        cdef timespec gather
        cdef size_t total = 0
        cdef ssize_t size
        cdef int ready
        waiting.fd = self.fd
        waiting.events = POLLIN
        while total < room:
            waiting.revents = 0
            ready = poll(&waiting, 1, 0 if total else timeout_ms)
            if ready == 0 or (ready < 0 and errno == EINTR):
                break
            if total == 0 and self.gather_us and waiting.revents == POLLIN:
                gather.tv_sec = 0
                gather.tv_nsec = 1000 * <long> self.gather_us
                nanosleep(&gather, NULL)
            # A terminal that has hung up is always ready, and then has nothing or an error to give.
            size = read_fd(self.fd, buffer + total, room - total) if waiting.revents & POLLIN else 0
            if size > 0:
                total += size
            elif size < 0 and (errno == EAGAIN or errno == EINTR):
                break
            else:
                return <int> total if total else SOURCE_GONE
        return <int> total if total else SOURCE_IDLE
