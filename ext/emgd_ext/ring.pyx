"""The ring as Python sees it: made in a memfd, read by block and by sample number. Layout and rules: ring.h.

Not Python because it wraps memory that the sample loop writes without the GIL.
"""

from libc.stdint cimport uint8_t, uint64_t
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap

import os
from collections import namedtuple

import numpy as np

RAW = EMGD_PLANE_RAW
FILTERED = EMGD_PLANE_FILTERED
GAP = EMGD_EVENT_GAP
MARK = EMGD_EVENT_MARK

EVENT_SLOTS = 4096  # gaps and marks a reader may be behind: 4 s of a trigger a millisecond
SHORT_BLOCKS = 2    # slots for this many times as many blocks as fit uncut: every gap cuts one

Block = namedtuple("Block", "seq count gap_before host_time_ns flags channel_flags")
Event = namedtuple("Event", "kind seq count host_time_ns before_block code channel value")


cdef class Ring:
    """The last `capacity` samples (rounded up to whole blocks) of `channels` channels, raw and filtered."""

    def __cinit__(self, int channels, int block_samples, uint64_t capacity):
        self.fd = -1
        if channels < 1 or block_samples < 1 or capacity < 1:
            raise ValueError(
                f"a ring of {channels} channels, {block_samples} samples a block, {capacity} samples cannot be"
            )
        cdef uint64_t blocks = max(<uint64_t> 2, (capacity + block_samples - 1) // block_samples)
        capacity = blocks * block_samples
        cdef uint64_t slots = SHORT_BLOCKS * blocks
        self.size = emgd_ring_format(NULL, channels, block_samples, capacity, slots, EVENT_SLOTS)
        self.fd = os.memfd_create("emgd-ring", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, self.size)
        cdef void* memory = mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_SHARED, self.fd, 0)
        if memory == MAP_FAILED:
            raise MemoryError(f"cannot map a ring of {self.size} bytes; make history_s shorter")
        self.handle = <emgd_ring*> memory
        emgd_ring_format(self.handle, channels, block_samples, capacity, slots, EVENT_SLOTS)

    def __dealloc__(self):
        if self.handle is not NULL:
            munmap(self.handle, self.size)
        if self.fd >= 0:
            os.close(self.fd)

    @property
    def channels(self):
        """Numbers in a row."""
        return self.handle.channels

    @property
    def block_samples(self):
        """Length of an uncut block."""
        return self.handle.block_samples

    @property
    def capacity(self):
        """Depth of the history window in samples."""
        return self.handle.capacity

    @property
    def total_bytes(self):
        """Size of the shared memory."""
        return self.size

    @property
    def head(self):
        """Number of the next sample."""
        return emgd_ring_head(self.handle)

    @property
    def blocks(self):
        """Blocks published so far."""
        return emgd_ring_block_head(self.handle)

    def block(self, uint64_t index):
        """Block number `index`, or None when it is gone or has not happened."""
        cdef emgd_block block
        flags = bytearray(self.handle.channels)
        cdef uint8_t[::1] view = flags
        if emgd_ring_get_block(self.handle, index, &block, &view[0]) < 0:
            return None
        return Block(block.seq, block.count, block.gap_before, block.host_time_ns, block.flags, bytes(flags))

    def first_block(self):
        """(index, Block) of the oldest block whose samples are all there, or None."""
        cdef uint64_t floor = emgd_ring_floor(self.handle)
        found = self.block_from(floor)
        if found is None or found[1].seq >= floor:
            return found
        following = self.block(found[0] + 1)    # the one at the floor has lost its first rows
        return None if following is None else (found[0] + 1, following)

    def block_from(self, uint64_t seq):
        """(index, Block) of the first block that holds `seq` or a later sample, or None when there is none yet."""
        cdef emgd_block block
        cdef uint64_t low = emgd_ring_block_floor(self.handle)
        cdef uint64_t high = emgd_ring_block_head(self.handle)
        cdef uint64_t end = high
        cdef uint64_t middle
        while low < high:
            middle = low + (high - low) // 2
            if emgd_ring_get_block(self.handle, middle, &block, NULL) == 0 and block.seq + block.count > seq:
                high = middle
            else:       # a block that was overwritten meanwhile lies further back than any that is left
                low = middle + 1
        if low >= end:
            return None
        found = self.block(low)
        return None if found is None else (low, found)

    def events(self, uint64_t since=0):
        """Events from number `since` on that are still there: (number of the first, list of Event)."""
        cdef emgd_event event
        cdef uint64_t index = max(since, emgd_ring_event_floor(self.handle))
        first = index
        found = []
        while index < emgd_ring_event_head(self.handle):
            if emgd_ring_get_event(self.handle, index, &event) == 0:
                found.append(Event(
                    event.kind, event.seq, event.count, event.host_time_ns, event.before_block, event.code,
                    event.channel, event.value,
                ))
            elif not found:
                first = index + 1
            index += 1
        return first, found

    def read(self, int plane, uint64_t seq, uint64_t count):
        """Samples seq … seq+count-1 of a plane, (count, channels) int32 or float32; None when some are not there.

        The range must lie within one block, or within blocks that follow each other without a gap.
        """
        out = np.empty((count, self.handle.channels), np.int32 if plane == EMGD_PLANE_RAW else np.float32)
        cdef void* target = <void*> <size_t> out.ctypes.data
        cdef int done
        with nogil:
            done = emgd_ring_copy(self.handle, plane, seq, count, target)
        return out if done == 0 else None
