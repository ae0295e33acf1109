"""The sample loop: bytes from the device to samples in the ring, one thread per amplifier.

Not Python because it must keep up whatever Python does: once it runs it takes no GIL, calls no logger and allocates
nothing. Figures leave it through the ring and the counters, wishes (probe, filter) come in through a mailbox.

    source -> decoder -> sequence (which samples, what is missing) -> ring (raw) -> cascade -> ring (filtered) -> block

`feed` runs the same steps on bytes and a host time that the caller gives: tests on virtual time use it.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.math cimport llround
from libc.string cimport memset

from emgd_ext.cascade cimport Cascade, emgd_cascade_f32, emgd_cascade_prime
from emgd_ext.clock cimport ClockModel
from emgd_ext.decoder cimport (
    EMGD_CAUSE_DEVICE_LOST,
    EMGD_FRAME_CORRUPT,
    EMGD_FRAME_GOOD,
    EMGD_FRAME_TRUNCATED,
    EMGD_MARK_ALL_CHANNELS,
    EMGD_MARK_ELECTRODE,
    EMGD_MARK_IMPEDANCE,
    Decoder,
    emgd_frame,
    emgd_mark,
)
from emgd_ext.ring cimport (
    EMGD_EVENT_GAP,
    EMGD_EVENT_MARK,
    Ring,
    emgd_event,
    emgd_ring_add_block,
    emgd_ring_add_event,
    emgd_ring_commit,
    emgd_ring_reserve,
)
from emgd_ext.source cimport SOURCE_GONE, SOURCE_TOO_LONG, Source

import os

import numpy as np


cdef extern from "unpack.h" nogil:
    void emgd_saturation(const int32_t* samples, size_t rows, size_t channels, const int32_t* limit, uint32_t* hit)

cdef extern from "<time.h>" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec* now)
    enum: CLOCK_MONOTONIC

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int fd, const void* data, size_t size)

# Flags of blocks; the numbers are emgd_wire.kinds.Flag's.
cdef enum:
    FLAG_SATURATED = 1
    FLAG_ELECTRODE_OFF = 2
    FLAG_SETTLING = 4
    FLAG_GAP_BEFORE = 8
    FLAG_IMPEDANCE = 16

cdef int READ_TIMEOUT_MS = 50   # how soon a stop is noticed while the device is silent
cdef int MAILBOX_PROBES = 16
CAUSE_COUNT = 5


cdef int64_t now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t> now.tv_sec * 1000000000 + now.tv_nsec


cdef class SampleLoop:
    """Loop of one amplifier.

    `limits` (channels,) absolute counts from which a sample is saturated; `ticks_per_sample` of the device clock;
    `buffer_bytes` the longest transfer. After `run` has returned, `outcome` is "ended" (the device said so), "lost"
    (it went away) or "stopped".
    """

    def __cinit__(self, Decoder decoder, ClockModel clock, Ring ring, Cascade cascade, limits, double ticks_per_sample,
                  size_t buffer_bytes):
        self.notify_fd = -1
        self.decoder = decoder
        self.clock = clock
        self.ring = ring
        self.cascade = cascade.handle
        self.cascade_wanted = NULL
        self.cascades = [cascade]
        self.ticks_per_sample = ticks_per_sample
        self.channels = decoder.channels
        self.block_samples = ring.block_samples
        if not decoder.channels == ring.channels == cascade.handle.channels == len(limits):
            raise ValueError("decoder, ring, cascade and limits must have the same number of channels")
        self.limits = np.ascontiguousarray(limits, np.int32)
        self.hit = np.zeros(self.channels, np.uint32)
        self.electrode_off = np.zeros(self.channels, np.uint8)
        self.electrode_seen = np.zeros(self.channels, np.uint8)
        self.impedance_on = np.zeros(self.channels, np.uint8)
        self.impedance_told = np.zeros(self.channels, np.uint8)
        self.impedance_seen = np.zeros(self.channels, np.uint8)
        self.channel_flags = np.zeros(self.channels, np.uint8)
        self.settle_until = np.zeros(self.channels, np.uint64)
        self.cause_samples = np.zeros(CAUSE_COUNT, np.uint64)
        self.buffer = np.zeros(buffer_bytes, np.uint8)
        self.unprimed = True
        self.outcome = ""
        pthread_mutex_init(&self.mailbox, NULL)
        self.notify_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __dealloc__(self):
        if self.notify_fd >= 0:
            os.close(self.notify_fd)

    # --- one transfer

    cdef void take_transfer(self, const uint8_t* data, size_t size, int64_t host_ns) noexcept nogil:
        cdef emgd_frame frame
        self.take_probes()
        self.counters.transfers += 1
        self.counters.bytes += size
        self.last_arrival_ns = host_ns
        self.decoder.begin(data, size, host_ns)
        while self.decoder.next(&frame):
            self.take_frame(&frame, host_ns)
        self.notify()

    cdef void take_idle(self, int64_t host_ns) noexcept nogil:
        """Nothing came; the decoder may have held something back."""
        cdef emgd_frame frame
        while self.decoder.idle(&frame, host_ns):
            self.take_frame(&frame, host_ns)
        self.notify()

    cdef void take_probes(self) noexcept nogil:
        cdef int i
        if self.probe_count == 0 or pthread_mutex_trylock(&self.mailbox) != 0:
            return
        for i in range(self.probe_count):
            self.clock.probe(self.probes[i].before_ns, self.probes[i].tick, self.probes[i].after_ns)
        self.probe_count = 0
        pthread_mutex_unlock(&self.mailbox)

    cdef void take_frame(self, emgd_frame* frame, int64_t host_ns) noexcept nogil:
        cdef emgd_verdict verdict
        self.counters.frames += 1
        if self.returning and frame.known:
            self.place(frame, host_ns)
        frame.first += self.base
        verdict = emgd_sequence_accept(&self.sequence, frame)
        if frame.status == EMGD_FRAME_TRUNCATED:
            self.counters.truncated += 1
        elif frame.status == EMGD_FRAME_CORRUPT or verdict.unreadable:
            self.counters.corrupt += 1
        if verdict.unreadable:
            return
        if verdict.repeated:
            self.counters.repeated += 1
            self.counters.restarts += verdict.restarted
            return
        self.edge_seq = frame.first
        self.edge_tick = frame.tick
        if frame.status == EMGD_FRAME_GOOD and frame.count > 0:
            self.clock.arrival(self.tick_of(frame.first + frame.count - 1), frame.host_ns if frame.host_ns else host_ns)
        self.conclude(&verdict)
        if frame.status == EMGD_FRAME_GOOD:
            self.take_marks(frame, verdict.skip)
            self.take_rows(frame, verdict.skip)
        if verdict.ended:
            self.close_block()
            self.ended = True

    cdef void place(self, const emgd_frame* frame, int64_t host_ns) noexcept nogil:
        """Find our number of the device's sample 0 from the time that it was away: nobody sampled meanwhile."""
        cdef emgd_gap gap
        cdef double sample_ns = self.ticks_per_sample * self.clock.ns_per_tick
        cdef uint64_t first_tick = frame.tick - <uint64_t> <int64_t> (<double> frame.first * self.ticks_per_sample)
        cdef uint64_t newest = frame.first + frame.count - (frame.count > 0)
        cdef uint64_t newest_tick = first_tick + <uint64_t> <int64_t> (<double> newest * self.ticks_per_sample)
        self.clock.arrival(newest_tick, frame.host_ns if frame.host_ns else host_ns)
        cdef int64_t away_ns = <int64_t> self.clock.stamp(first_tick) - self.away_from_ns + self.slept_ns
        gap.seq = self.sequence.expected
        gap.count = max(0, llround(<double> away_ns / sample_ns))
        gap.causes = EMGD_CAUSE_DEVICE_LOST
        self.returning = False
        self.base = gap.seq + gap.count
        self.edge_seq = self.base
        self.edge_tick = first_tick
        emgd_sequence_resume(&self.sequence, self.base)
        if gap.count:
            self.add_gap(&gap)

    cdef uint64_t tick_of(self, uint64_t seq) noexcept nogil:
        return self.edge_tick + <uint64_t> <int64_t> (<double> <int64_t> (seq - self.edge_seq) * self.ticks_per_sample)

    cdef void conclude(self, const emgd_verdict* verdict) noexcept nogil:
        cdef int i
        for i in range(verdict.gap_count):
            self.add_gap(&verdict.gaps[i])

    cdef void add_gap(self, const emgd_gap* gap) noexcept nogil:
        cdef emgd_event event
        cdef int cause
        self.close_block()
        self.pending_gap += gap.count
        self.unprimed = True
        self.counters.gaps += 1
        self.counters.missing += gap.count
        for cause in range(5):
            if gap.causes >> cause & 1:
                self.cause_samples[cause] += gap.count
        memset(&event, 0, sizeof(event))
        event.kind = EMGD_EVENT_GAP
        event.seq = gap.seq
        event.count = gap.count
        event.code = gap.causes
        event.host_time_ns = self.clock.stamp(self.tick_of(gap.seq))
        event.before_block = self.ring.handle.block_head
        emgd_ring_commit(self.ring.handle, gap.seq + gap.count)
        emgd_ring_add_event(self.ring.handle, &event)
        self.news = True

    # --- marks

    cdef void read_mark(self, const emgd_frame* frame, uint32_t index, emgd_mark* mark) noexcept nogil:
        self.decoder.mark(frame, index, mark)
        mark.seq += self.base

    cdef void take_marks(self, const emgd_frame* frame, uint32_t skip) noexcept nogil:
        cdef emgd_mark mark
        cdef emgd_event event
        cdef uint32_t i
        for i in range(frame.mark_count):
            self.read_mark(frame, i, &mark)
            if mark.seq < frame.first or mark.seq >= frame.first + frame.count:
                self.counters.stray_marks += 1
                continue
            if mark.seq < frame.first + skip:
                continue
            memset(&event, 0, sizeof(event))
            event.kind = EMGD_EVENT_MARK
            event.seq = mark.seq
            event.count = 1
            event.code = mark.code
            event.channel = mark.channel
            event.value = mark.value
            event.host_time_ns = self.clock.stamp(self.tick_of(mark.seq))
            event.before_block = self.ring.handle.block_head
            emgd_ring_add_event(self.ring.handle, &event)
            self.counters.marks += 1
            self.news = True

    cdef void apply_electrodes(self, const emgd_frame* frame, uint64_t seq, uint32_t rows) noexcept nogil:
        cdef emgd_mark mark
        cdef uint32_t i
        for i in range(frame.mark_count):
            self.read_mark(frame, i, &mark)
            if mark.code == EMGD_MARK_ELECTRODE and seq <= mark.seq < seq + rows and mark.channel < self.channels:
                self.electrode_off[mark.channel] = mark.value != 0
                self.electrode_seen[mark.channel] |= mark.value != 0
            elif mark.code == EMGD_MARK_IMPEDANCE and seq <= mark.seq < seq + rows:
                self.apply_impedance(&mark)

    cdef void apply_impedance(self, const emgd_mark* mark) noexcept nogil:
        """From this sample on a test current flows, or none; the filters feel either as a step."""
        cdef int c
        cdef uint8_t on = mark.value != 0
        for c in range(self.channels):
            if mark.channel == EMGD_MARK_ALL_CHANNELS or mark.channel == c:
                self.impedance_on[c] = on
                self.impedance_seen[c] = on | (self.impedance_seen[c] if mark.seq > self.block.seq else 0)
                if self.cascade.settle[c]:
                    self.settle_until[c] = max(self.settle_until[c], mark.seq + self.cascade.settle[c])

    # --- samples and blocks

    cdef void take_rows(self, const emgd_frame* frame, uint32_t skip) noexcept nogil:
        cdef uint32_t row = skip
        cdef uint32_t rows
        cdef uint64_t seq
        cdef int32_t* raw
        cdef float* filtered
        while row < frame.count:
            seq = frame.first + row
            rows = min(frame.count - row, <uint32_t> (self.block_samples - seq % self.block_samples))
            if self.block.count == 0:
                self.open_block(seq)
            raw = emgd_ring_reserve(self.ring.handle, seq, rows, &filtered)
            self.decoder.unpack(frame, row, rows, raw)
            if self.unprimed:
                self.prime(raw, seq)
            emgd_cascade_f32(self.cascade, raw, filtered, rows)
            emgd_saturation(raw, rows, self.channels, &self.limits[0], &self.hit[0])
            emgd_ring_commit(self.ring.handle, seq + rows)
            if frame.mark_count:
                self.apply_electrodes(frame, seq, rows)
            self.block.count += rows
            row += rows
            if (seq + rows) % self.block_samples == 0:
                self.close_block()

    cdef void prime(self, const int32_t* row, uint64_t seq) noexcept nogil:
        cdef int c
        cdef uint64_t[::1] settle = self.settle_until
        emgd_cascade_prime(self.cascade, row)
        for c in range(self.channels):
            settle[c] = seq + self.cascade.settle[c]
        self.unprimed = False

    cdef void open_block(self, uint64_t seq) noexcept nogil:
        cdef int c
        self.block.seq = seq
        self.block.gap_before = self.pending_gap
        self.block.flags = FLAG_GAP_BEFORE if self.pending_gap else 0
        self.block.host_time_ns = self.clock.stamp_next(self.tick_of(seq))
        self.pending_gap = 0
        for c in range(self.channels):
            self.hit[c] = 0
            self.electrode_seen[c] = self.electrode_off[c]
            self.impedance_seen[c] = self.impedance_on[c] | self.impedance_told[c]
        if self.cascade_wanted is not NULL:
            self.swap_filter(seq)

    cdef void swap_filter(self, uint64_t seq) noexcept nogil:
        if pthread_mutex_trylock(&self.mailbox) != 0:
            return      # the next block will do
        self.cascade = self.cascade_wanted
        self.cascade_wanted = NULL
        self.filter_from_seq = seq
        self.unprimed = True
        pthread_mutex_unlock(&self.mailbox)

    cdef void close_block(self) noexcept nogil:
        cdef int c
        cdef uint8_t flags
        if self.block.count == 0:
            return
        for c in range(self.channels):
            flags = FLAG_SATURATED if self.hit[c] else 0
            if self.electrode_seen[c]:
                flags |= FLAG_ELECTRODE_OFF
            if self.impedance_seen[c] or self.impedance_told[c]:
                flags |= FLAG_IMPEDANCE
            if self.impedance_told[c] and self.cascade.settle[c]:
                self.settle_until[c] = self.block.seq + self.block.count + self.cascade.settle[c]
            if self.settle_until[c] > self.block.seq:
                flags |= FLAG_SETTLING
            self.channel_flags[c] = flags
            self.block.flags |= flags
        emgd_ring_add_block(self.ring.handle, &self.block, &self.channel_flags[0])
        self.block.count = 0
        self.news = True

    cdef void notify(self) noexcept nogil:
        cdef uint64_t one = 1
        if self.news:
            self.news = False
            write(self.notify_fd, &one, sizeof(one))

    # --- life

    def run(self, Source source):
        """Read `source` until the device ends its stream, goes away, or `stop` is called. Blocks, without the GIL."""
        with nogil:
            self.read_on(source)
        self.outcome = "ended" if self.ended else "stopped" if self.stopping else "lost"

    cdef void read_on(self, Source source) noexcept nogil:
        cdef const uint8_t* data = NULL
        cdef int size
        while not self.stopping and not self.ended:
            size = source.take(&self.buffer[0], self.buffer.shape[0], &data, READ_TIMEOUT_MS)
            if size > 0:
                self.take_transfer(data, size, now_ns())
            elif size == SOURCE_TOO_LONG:
                self.counters.transfers += 1
                self.counters.truncated += 1    # what is missing shows in the sample numbers of the next frame
            elif size == SOURCE_GONE:
                break
            else:
                self.take_idle(now_ns())
        self.close_block()
        self.notify()

    def stop(self):
        """Ask `run` to return within READ_TIMEOUT_MS; from any thread."""
        self.stopping = True

    def feed(self, const uint8_t[::1] transfer, int64_t host_ns):
        """One transfer that was here at `host_ns`: what `run` does with each. Not beside `run`."""
        if transfer.shape[0]:
            self.take_transfer(&transfer[0], transfer.shape[0], host_ns)

    def feed_idle(self, int64_t host_ns):
        """Nothing came for a while, until `host_ns`. Not beside `run`."""
        self.take_idle(host_ns)

    def finish(self, uint64_t total):
        """The device says by other means that its stream is over after `total` samples. After `run` has returned."""
        cdef emgd_verdict verdict
        self.close_block()
        verdict = emgd_sequence_finish(&self.sequence, total)
        self.conclude(&verdict)
        self.ended = True
        self.outcome = "ended"
        self.notify()

    def resume(self, Decoder decoder, ClockModel clock, int64_t slept_ns=0):
        """The same device is back after it was lost: go on with its new stream, after `run` has returned.

        Numbers run on. What is missing follows from the time it was away, by the clock models before and after, plus
        `slept_ns`: how long the machine, and CLOCK_MONOTONIC with it, stood still meanwhile. `clock` is a fresh model:
        a device that lost its power counts ticks from anywhere.
        """
        if decoder.channels != self.channels:
            raise ValueError(f"a device of {decoder.channels} channels in place of one of {self.channels}")
        self.close_block()
        if not self.returning:      # it may have gone again before its first frame: then it is away since long ago
            self.away_from_ns = self.clock.stamp(self.tick_of(self.sequence.expected))
            self.slept_ns = 0
        self.slept_ns += slept_ns
        clock.last_stamp_ns = self.clock.last_stamp_ns
        self.decoder = decoder
        self.clock = clock
        self.probe_count = 0
        self.electrode_off[:] = 0
        self.returning = self.sequence.expected > 0
        self.ended = self.stopping = False
        self.outcome = ""
        self.counters.returns += 1

    # --- mailbox

    def probe(self, int64_t before_ns, uint64_t tick, int64_t after_ns):
        """Hand a clock probe to the loop; it is used with the next transfer. False when the mailbox is full."""
        pthread_mutex_lock(&self.mailbox)
        cdef bint room = self.probe_count < MAILBOX_PROBES
        if room:
            self.probes[self.probe_count].before_ns = before_ns
            self.probes[self.probe_count].tick = tick
            self.probes[self.probe_count].after_ns = after_ns
            self.probe_count += 1
        pthread_mutex_unlock(&self.mailbox)
        return room

    def set_filter(self, Cascade cascade):
        """Filter from the next block on; `filter_pending` tells until when. It starts primed, and settling is
        flagged.
        """
        if cascade.handle.channels != self.channels:
            raise ValueError(f"a filter of {cascade.handle.channels} channels for a loop of {self.channels}")
        pthread_mutex_lock(&self.mailbox)
        self.cascades = [owner for owner in self.cascades if (<Cascade> owner).handle == self.cascade] + [cascade]
        self.cascade_wanted = cascade.handle
        pthread_mutex_unlock(&self.mailbox)

    def flag_impedance(self, channels, bint on):
        """Flag these channels from the present block on, or no longer: the host's own word on the test current, for a
        device that does not mark it. From any thread.
        """
        cdef int c
        for c in channels:
            if not 0 <= c < self.channels:
                raise ValueError(f"there is no channel {c}; the loop has 0 to {self.channels - 1}")
            self.impedance_told[c] = on

    @property
    def filter_pending(self):
        """A new filter waits for the next block."""
        return self.cascade_wanted is not NULL

    # --- figures

    @property
    def has_ended(self):
        """The device said that its stream is over."""
        return bool(self.ended)

    @property
    def next_seq(self):
        """Number of the next sample."""
        return self.sequence.expected

    @property
    def idle_since_ns(self):
        """Host time of the newest transfer, 0 before the first."""
        return self.last_arrival_ns

    def stats(self):
        """Counters since start: the `wire` map of `status` (docs/protocol.md) and what was missing."""
        wire = {
            "transfers": self.counters.transfers,
            "bytes": self.counters.bytes,
            "frames": self.counters.frames,
            "repeated": self.counters.repeated,
            "corrupt": self.counters.corrupt,
            "truncated": self.counters.truncated,
            "restarts": self.counters.restarts,
            "stray_marks": self.counters.stray_marks,
            "returns": self.counters.returns,
        }
        samples = {
            "gaps": self.counters.gaps,
            "missing": self.counters.missing,
            "marks": self.counters.marks,
            "causes": [int(count) for count in self.cause_samples],
        }
        return wire, samples
