"""What subscribers want: the set of topic prefixes that are subscribed to.

Not Python because the publish thread asks it before it sends, without the GIL. libzmq keeps such a set too but does
not show it; with this one, what nobody wants is not even built.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy


cdef class Prefixes:
    """Bounded; when it overflows it answers that everything is wanted, which is slower and never wrong."""

    def __cinit__(self):
        self.memory = <uint8_t*> calloc(MAX_PREFIXES, PREFIX_BYTES)
        if self.memory is NULL:
            raise MemoryError("no memory for subscriptions")

    def __dealloc__(self):
        free(self.memory)

    cdef int find(self, const uint8_t* prefix, int size) noexcept nogil:
        cdef int i
        for i in range(self.count):
            if self.sizes[i] == size and memcmp(self.memory + i * PREFIX_BYTES, prefix, size) == 0:
                return i
        return -1

    cdef void add(self, const uint8_t* prefix, int size) noexcept nogil:
        if self.find(prefix, size) >= 0:
            return
        if self.count == MAX_PREFIXES or size > PREFIX_BYTES:
            self.too_many = True
            return
        memcpy(self.memory + self.count * PREFIX_BYTES, prefix, size)
        self.sizes[self.count] = size
        self.count += 1

    cdef void remove(self, const uint8_t* prefix, int size) noexcept nogil:
        cdef int found = self.find(prefix, size)
        if found < 0:
            return
        self.count -= 1
        memcpy(self.memory + found * PREFIX_BYTES, self.memory + self.count * PREFIX_BYTES, PREFIX_BYTES)
        self.sizes[found] = self.sizes[self.count]

    cdef bint match(self, const Bytes* topic) noexcept nogil:
        cdef int i
        if self.too_many:
            return True
        for i in range(self.count):
            if (
                <size_t> self.sizes[i] <= topic.size
                and memcmp(self.memory + i * PREFIX_BYTES, topic.data, self.sizes[i]) == 0
            ):
                return True
        return False

    def as_list(self):
        """The prefixes, for `status`."""
        return [
            (<bytes> self.memory[i * PREFIX_BYTES:i * PREFIX_BYTES + self.sizes[i]]).decode("latin-1")
            for i in range(self.count)
        ]
