"""Decoder of devices that send a plain stream of frames of one length, without bounds and without a check value.

Not Python because it looks at every byte of up to 16 000 frames a second, in the sample loop.

A frame is believed when its header, constant bits and end are right and the header of another one, numbered one higher,
stands right behind it. Less is not enough: where bytes are lost in the middle of a frame, its head and the tail of a
later one can have the right length together, and only the number of the next frame gives them away. So the newest frame
waits for the next one, and the frame before a hole in the numbers is given up. Silence settles the last one.

Nothing here can see bits that were changed inside samples: these formats have no check value.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from emgd_ext.decoder cimport (
    EMGD_FLAG_END,
    EMGD_FLAG_OVERFLOW,
    EMGD_FLAG_START,
    EMGD_FRAME_CORRUPT,
    EMGD_FRAME_GOOD,
    Decoder,
    emgd_frame,
)

from collections import namedtuple

import numpy as np


cdef extern from "layout.h" nogil:
    int emgd_layout_fits(const emgd_layout* layout, const uint8_t* frame)
    int emgd_layout_prefix(const uint8_t* pattern, size_t size, const uint8_t* data, size_t available)
    uint64_t emgd_layout_number(const emgd_field* field, const uint8_t* frame)
    void emgd_layout_unpack(const emgd_layout* layout, const uint8_t* frame, int32_t* out)

cdef extern from "count.h" nogil:
    void emgd_count_init(emgd_count* count, uint32_t bits, double period_ns)
    void emgd_count_start(emgd_count* count, int64_t host_ns)
    emgd_counted emgd_count_next(emgd_count* count, uint64_t raw, int64_t host_ns, uint32_t behind, int begun_anew)
    void emgd_grid_init(emgd_grid* grid, double period)
    int64_t emgd_grid_step(emgd_grid* grid, int64_t tick, int64_t counted)

cdef int64_t QUIET_NS = 40_000_000      # nothing behind a frame for so long: it was the last one
cdef int64_t END_NS = 100_000_000       # ... and so long after a stop: it has obeyed; a radio may pause for 50 ms
cdef size_t LONG_HEADER_BYTES = 4       # that samples should look like it is as good as impossible
cdef int MAX_REMARKS = 8                # between two frames; more would be no remarks
cdef int MAX_BACK = 128                 # frames seen before, in a row: more cannot be bytes that were sent twice

cdef enum:
    NEED_BYTES = 0
    FRAME = 1

cdef enum:
    NO = 0
    YES = 1
    UNDECIDED = 2
    SILENT = 3
    REMARK = 4

# Numbered frames that must stand behind one. While frames follow each other without anything in between, one is enough.
# Where the next frame begins has to be found, two: samples that do not change can look like a header and the right
# number once, but not like two numbers in a row.
cdef int FOLLOWERS_LOCKED = 1
cdef int FOLLOWERS_HUNTING = 2

Place = namedtuple("Place", "offset bytes big_endian", defaults=(False,))
Constant = namedtuple("Constant", "offset mask value")
Frame = namedtuple("Frame", "status known flags frame_seq first count tick host_ns samples")


cdef class Layout:
    """What a device's frames look like; see the stub for what each field means."""

    def __cinit__(self, *, uint32_t length, uint32_t channels, bytes header, counter, samples, bytes ends=b"",
                  constants=(), tick=None, double tick_hz=0.0, bytes remark=b""):
        self.layout.length = length
        self.layout.channels = channels
        self.tick_hz = tick_hz
        if not 1 <= length <= EMGD_LAYOUT_MAX_BYTES:
            raise ValueError(f"a frame has {length} bytes; 1 to {EMGD_LAYOUT_MAX_BYTES} are possible")
        if not 1 <= len(header) <= min(length, <uint32_t> EMGD_LAYOUT_HEADER_BYTES):
            raise ValueError(f"a header has {len(header)} bytes; 1 to {EMGD_LAYOUT_HEADER_BYTES} are possible")
        if len(remark) > EMGD_LAYOUT_REMARK_BYTES:
            raise ValueError(f"a remark has {len(remark)} bytes; up to {EMGD_LAYOUT_REMARK_BYTES} are possible")
        if remark[:1] == header[:1]:
            raise ValueError("a remark begins like a header: they cannot be told apart")
        if len(constants) > EMGD_LAYOUT_CONSTANTS:
            raise ValueError(f"there are {len(constants)} constants; up to {EMGD_LAYOUT_CONSTANTS} are possible")
        self.layout.header_bytes = len(header)
        memcpy(self.layout.header, <const char*> header, len(header))
        self.layout.remark_bytes = len(remark)
        memcpy(self.layout.remark, <const char*> remark, len(remark))
        for value in ends or bytes(range(256)):
            self.layout.ends[value] = 1
        for index, constant in enumerate(constants):
            if constant.offset >= length:
                raise ValueError(f"a constant at byte {constant.offset} lies outside of {length} bytes")
            self.layout.constants[index] = emgd_constant(constant.offset, constant.mask, constant.value)
        self.layout.constant_count = len(constants)
        self.layout.counter = field(counter, length, 4)
        self.layout.samples = field(samples, length, 4, channels)
        if tick is not None:
            self.layout.tick = field(tick, length, 4)
            if not tick_hz > 0:
                raise ValueError(f"tick_hz is {tick_hz:g}; with ticks in the frame it must be positive")


cdef emgd_field field(place, uint32_t length, int most, uint32_t count=1) except *:
    if not 1 <= place.bytes <= most:
        raise ValueError(f"a number has {place.bytes} bytes; 1 to {most} are possible")
    if place.offset + count * place.bytes > length:
        raise ValueError(
            f"{count} numbers of {place.bytes} bytes at byte {place.offset} do not fit into {length} bytes"
        )
    return emgd_field(place.offset, place.bytes, bool(place.big_endian))


cdef class FixedDecoder(Decoder):
    """Frames of `layout`, which come `rate_hz` times a second.

    `frames` good ones so far, `answers`: remarks of the device between them, `left_out`: samples that the device itself
    left out.
    """

    def __cinit__(self, Layout layout, double rate_hz):
        if not rate_hz > 0:
            raise ValueError(f"rate_hz is {rate_hz:g}; it must be positive")
        self.layout = layout.layout
        self.channels = layout.layout.channels
        self.head_bytes = max(
            self.layout.header_bytes,
            self.layout.counter.offset + self.layout.counter.bytes,
            self.layout.tick.offset + self.layout.tick.bytes,
        )
        self.header_is_long = self.layout.header_bytes >= LONG_HEADER_BYTES
        cdef int bits = 8 * layout.layout.counter.bytes
        self.counter_mask = (<uint64_t> 1 << bits) - 1
        # The counter's whole turn is as ambiguous within a frame as between two.
        self.split_ns = (<uint64_t> 1 << bits) * 1e9 / rate_hz / 2
        self.ticks_per_sample = 1.0
        if self.layout.tick.bytes:
            self.ticks_per_sample = layout.tick_hz / rate_hz
            self.tick_mask = (<uint64_t> 1 << 8 * self.layout.tick.bytes) - 1
            emgd_grid_init(&self.grid, self.ticks_per_sample)
            emgd_count_init(&self.count, 8 * self.layout.tick.bytes, 1e9 / layout.tick_hz)
        else:
            emgd_count_init(&self.count, bits, 1e9 / rate_hz)
        self.raw = self.counter_mask
        self.found_again = <uint64_t> -1
        self.last_seq = self.last_number = -1

    # --- bytes

    cdef void begin(self, const uint8_t* data, size_t size, int64_t host_ns) noexcept nogil:
        cdef int slot
        self.data = data
        self.left = size
        if size == 0:
            return
        if self.arrival_count < <int> ARRIVALS:
            self.arrival_count += 1
        # else: so many deliveries that settled nothing; the newest two become one, which came at the later time
        slot = (self.arrival_first + self.arrival_count - 1) % <int> ARRIVALS
        self.arrival_end[slot] = self.base + self.end + size
        self.arrival_ns[slot] = host_ns
        self.newest_ns = host_ns

    cdef void refill(self) noexcept nogil:
        memmove(self.work, self.work + self.at, self.end - self.at)
        self.base += self.at
        self.end -= self.at
        self.at = 0
        cdef size_t size = min(self.left, WORK_BYTES - self.end)
        memcpy(self.work + self.end, self.data, size)
        self.data += size
        self.left -= size
        self.end += size

    cdef int arrival_of(self, uint64_t byte) noexcept nogil:
        """Slot of the delivery that brought a byte which is not before `at`."""
        cdef int slot = self.arrival_first
        cdef int steps = 1
        while self.arrival_end[slot] <= byte and steps < self.arrival_count:
            slot = (slot + 1) % <int> ARRIVALS
            steps += 1
        return slot

    cdef void forget_arrivals(self) noexcept nogil:
        while self.arrival_count > 1 and self.arrival_end[self.arrival_first] <= self.base + self.at:
            self.arrival_first = (self.arrival_first + 1) % <int> ARRIVALS
            self.arrival_count -= 1

    cdef bint next(self, emgd_frame* frame) noexcept nogil:
        while True:
            if self.look(frame, False) == FRAME:
                return True
            if self.left == 0:
                return False
            self.refill()

    cdef int look(self, emgd_frame* frame, bint silence) noexcept nogil:
        """The first frame in what is undecided. `silence` settles what only waits for more."""
        cdef size_t step
        cdef int verdict
        while True:
            if self.skipped >= self.layout.length:
                self.skipped -= self.layout.length
                self.corrupt(frame)
                return FRAME
            self.forget_arrivals()
            verdict = self.judge()
            if verdict == UNDECIDED or (verdict == SILENT and not silence):
                return NEED_BYTES
            if verdict == REMARK:
                self.at += self.layout.remark_bytes
                self.answers += 1
            elif verdict == NO or self.doubtful():
                step = 1 if verdict == NO else self.layout.length
                self.at += step
                self.skipped += step
                self.skipped_since += step
            elif self.skipped:
                self.skipped = 0
                self.corrupt(frame)
                return FRAME
            else:
                self.hand_on(frame)
                return FRAME

    cdef int judge(self) noexcept nogil:
        """What stands at `at`?"""
        cdef const uint8_t* p = self.work + self.at
        cdef size_t available = self.end - self.at
        cdef int same
        if available == 0:
            return UNDECIDED
        if self.layout.remark_bytes and p[0] == self.layout.remark[0]:
            same = emgd_layout_prefix(self.layout.remark, self.layout.remark_bytes, p, available)
            if same == <int> self.layout.remark_bytes:
                return REMARK
            return UNDECIDED if same > 0 else NO
        if available < self.layout.length:
            same = emgd_layout_prefix(self.layout.header, self.layout.header_bytes, p, available)
            return UNDECIDED if same > 0 else NO
        return self.followed()

    cdef bint doubtful(self) noexcept nogil:
        """Where frames are out of step a short header is not enough: samples can look like it, at a frame's length
        before the next one. So the first frame is given up, and those behind it are believed.
        """
        if self.header_is_long or self.skipped_since % self.layout.length == 0:
            return False
        if self.base + self.at == self.found_again:
            return False
        self.found_again = self.base + self.at + self.layout.length
        return True

    cdef int followed(self) noexcept nogil:
        """Does what stands behind the frame at `at` say that it is one? SILENT: nothing stands behind it, but it would
        be one.
        """
        cdef uint64_t raw = emgd_layout_number(&self.layout.counter, self.work + self.at)
        cdef bint locked = self.frames and self.skipped_since == 0 or self.base + self.at == self.found_again
        cdef int wanted = FOLLOWERS_LOCKED if locked else FOLLOWERS_HUNTING
        cdef size_t at = self.at
        cdef int n, verdict
        self.next_tick_known = False
        for n in range(1, wanted + 1):
            verdict = self.next_header((raw + n) & self.counter_mask, &at)
            if verdict == SILENT and n < wanted:
                return UNDECIDED
            if verdict != YES:
                return verdict
            if n == 1 and not self.fits_next_tick(at):
                return NO
        cdef int64_t head_ns = self.arrival_ns[self.arrival_of(self.base + self.at)]
        cdef int64_t tail_ns = self.arrival_ns[self.arrival_of(self.base + self.at + self.layout.length - 1)]
        return YES if <double> (tail_ns - head_ns) < self.split_ns else NO

    cdef int next_header(self, uint64_t number, size_t* at) noexcept nogil:
        """Is there a frame at `at`, and the header of frame `number` behind it, remarks aside? Moves `at` there."""
        cdef const uint8_t* p
        cdef size_t available
        cdef int same
        cdef int remarks = 0
        if self.end - at[0] < self.layout.length:
            return UNDECIDED
        if not emgd_layout_fits(&self.layout, self.work + at[0]):
            return NO
        at[0] += self.layout.length
        while True:
            p = self.work + at[0]
            available = self.end - at[0]
            if available == 0:
                return SILENT
            if self.layout.remark_bytes == 0 or p[0] != self.layout.remark[0]:
                break
            same = emgd_layout_prefix(self.layout.remark, self.layout.remark_bytes, p, available)
            if same < 0 or remarks == MAX_REMARKS:
                return NO
            if same < <int> self.layout.remark_bytes:
                return UNDECIDED
            at[0] += same
            remarks += 1
        if emgd_layout_prefix(self.layout.header, self.layout.header_bytes, p, available) < 0:
            return NO
        if available < self.head_bytes:
            return UNDECIDED
        return YES if emgd_layout_number(&self.layout.counter, p) == number else NO

    cdef bint fits_next_tick(self, size_t following) noexcept nogil:
        """Behind a hole a frame's tick may be of two halves, and then missed conversions could not be counted: it is
        taken from the next one, which must agree. The first tick of all need not: it may be of a conversion that waited
        for the start.
        """
        if self.layout.tick.bytes == 0 or (self.frames and self.skipped_since == 0):
            return True
        cdef uint64_t tick = emgd_layout_number(&self.layout.tick, self.work + self.at)
        self.next_tick = emgd_layout_number(&self.layout.tick, self.work + following)
        self.next_tick_known = True
        cdef double passed = <double> ((self.next_tick - tick) & self.tick_mask)
        return self.frames == 0 or 0.5 <= passed / self.ticks_per_sample <= 1.5

    # --- frames

    cdef void corrupt(self, emgd_frame* frame) noexcept nogil:
        """Bytes that are no frame, up to a frame's length of them."""
        memset(frame, 0, sizeof(emgd_frame))
        frame.status = EMGD_FRAME_CORRUPT

    cdef void hand_on(self, emgd_frame* frame) noexcept nogil:
        """The frame at `at`, which is believed."""
        cdef uint64_t end = self.base + self.at + self.layout.length
        cdef int slot = self.arrival_of(end - 1)
        cdef uint64_t raw
        cdef uint32_t behind = 0
        memset(frame, 0, sizeof(emgd_frame))
        frame.status = EMGD_FRAME_GOOD
        frame.known = True
        frame.count = 1
        frame.samples = self.work + self.at
        frame.host_ns = self.arrival_ns[slot]
        if self.arrival_end[slot] > end:
            behind = <uint32_t> ((self.arrival_end[slot] - end) // self.layout.length)
        raw = emgd_layout_number(&self.layout.counter, frame.samples)
        if self.start_ns and not self.count.started:
            emgd_count_start(&self.count, self.start_ns)
        if self.layout.tick.bytes:
            self.number_by_ticks(frame, raw, behind)
        else:
            self.number_by_counter(frame, raw, behind)
        self.at += self.layout.length
        self.skipped_since = 0

    cdef void number_by_counter(self, emgd_frame* frame, uint64_t raw, uint32_t behind) noexcept nogil:
        """Sample numbers are the device's own, unwrapped, and ticks are sample numbers."""
        cdef bint begun_anew = self.restarts_seen < self.restarts_asked and self.last_seq >= 0
        cdef emgd_counted counted = emgd_count_next(&self.count, raw, frame.host_ns, behind, begun_anew)
        cdef int64_t step = counted.value - self.last_seq
        cdef int64_t seen
        if counted.kind == EMGD_COUNT_BACK:
            self.repeat(frame, counted.value)
            return
        if counted.kind == EMGD_COUNT_BY_TIME:
            self.restarts_seen += 1
            seen = 1 + min(<int64_t> (self.skipped_since // self.layout.length), step - 1)
            if step > seen:
                frame.flags = EMGD_FLAG_OVERFLOW
                self.left_out += step - seen
                step = seen
        self.steady = self.steady + 1 if step == 1 else 0
        if self.steady > self.counter_mask:
            self.restarts_seen = self.restarts_asked    # it went on without one
        self.advance(frame, counted.value, step, counted.value)

    cdef void number_by_ticks(self, emgd_frame* frame, uint64_t raw, uint32_t behind) noexcept nogil:
        """The device counts what it sent; what it left out shows in its ticks alone."""
        cdef int64_t counted = (raw - self.raw) & self.counter_mask
        cdef int64_t step
        if self.last_seq < 0:
            counted = raw + 1
        elif counted == 0 or <uint64_t> counted > self.counter_mask // 2:
            self.repeat(frame, self.last_seq - <int64_t> ((self.raw - raw) & self.counter_mask))
            return
        self.raw = raw
        cdef uint64_t tick = emgd_layout_number(&self.layout.tick, frame.samples)
        if self.next_tick_known:
            tick = (self.next_tick - <uint64_t> self.ticks_per_sample) & self.tick_mask
        emgd_count_next(&self.count, tick, frame.host_ns, <uint32_t> (behind * self.ticks_per_sample), False)
        step = emgd_grid_step(&self.grid, self.count.last, counted)
        if step > counted:
            frame.flags = EMGD_FLAG_OVERFLOW
            self.left_out += step - counted
        self.advance(frame, self.last_seq + step, counted, self.count.last)

    cdef void advance(self, emgd_frame* frame, int64_t seq, int64_t frames, uint64_t tick) noexcept nogil:
        frame.first = seq
        frame.tick = tick
        if self.last_seq < 0:
            self.start_tick = tick
            if seq == 0:
                frame.flags |= EMGD_FLAG_START
        self.last_seq = seq
        self.last_tick = tick
        self.last_number += frames
        frame.frame_seq = <uint32_t> self.last_number
        self.back_run = 0
        self.frames += 1

    cdef void repeat(self, emgd_frame* frame, int64_t seq) noexcept nogil:
        """A frame that was here before. When there is no end of them, the device has begun to count anew by itself."""
        frame.first = max(<int64_t> 0, min(seq, self.last_seq))
        frame.tick = self.last_tick
        frame.frame_seq = <uint32_t> self.last_number
        self.back_run += 1
        if self.back_run > MAX_BACK:
            frame.flags = EMGD_FLAG_START
            frame.tick = self.start_tick + 1

    cdef bint idle(self, emgd_frame* frame, int64_t host_ns) noexcept nogil:
        if host_ns - self.newest_ns < QUIET_NS or self.end_sent:
            return False
        if self.look(frame, True) == FRAME:
            return True
        if self.end_asked_ns and host_ns - max(self.newest_ns, self.end_asked_ns) >= END_NS:
            return self.finish(frame)
        return False

    cdef bint finish(self, emgd_frame* frame) noexcept nogil:
        """The device has stopped: what is left is no frame, then END."""
        self.skipped += self.end - self.at
        self.skipped_since += self.end - self.at
        self.at = self.end
        if self.skipped:
            self.skipped -= min(self.skipped, self.layout.length)
            self.corrupt(frame)
            return True
        # How many samples the last bytes held is known by their number alone.
        cdef int64_t missing = self.skipped_since // self.layout.length
        memset(frame, 0, sizeof(emgd_frame))
        frame.known = True
        frame.flags = EMGD_FLAG_END
        self.last_seq += missing
        self.last_number += missing + 1
        frame.first = self.last_seq + 1
        frame.frame_seq = <uint32_t> self.last_number
        frame.tick = self.last_tick + <uint64_t> ((missing + 1) * self.ticks_per_sample)
        frame.host_ns = self.newest_ns
        self.end_sent = True
        return True

    cdef void unpack(self, const emgd_frame* frame, uint32_t row, uint32_t rows, int32_t* out) noexcept nogil:
        emgd_layout_unpack(&self.layout, frame.samples, out)

    # --- from other threads

    def expect_start(self, int64_t host_ns):
        """The device is about to be started: its first sample is taken after `host_ns`."""
        self.start_ns = host_ns

    def expect_restart(self):
        """The device is about to pause and to set its counter to zero; once per call."""
        self.restarts_asked += 1

    def expect_end(self, int64_t host_ns):
        """The device was told to stop at `host_ns`: once it is silent an END frame is handed over."""
        self.end_asked_ns = host_ns

    @property
    def samples(self):
        """Number of the next sample."""
        return self.last_seq + 1

    # --- for tests and tools; the sample loop calls the C side

    def decode(self, const uint8_t[::1] data, int64_t host_ns):
        """Frames that bytes which were here at `host_ns` settle."""
        cdef emgd_frame frame
        frames = []
        if data.shape[0]:
            self.begin(&data[0], data.shape[0], host_ns)
            while self.next(&frame):
                frames.append(self.as_tuple(&frame))
        return frames

    def decode_idle(self, int64_t host_ns):
        """Frames that silence until `host_ns` settles."""
        cdef emgd_frame frame
        frames = []
        while self.idle(&frame, host_ns):
            frames.append(self.as_tuple(&frame))
        return frames

    cdef object as_tuple(self, emgd_frame* frame):
        samples = None
        if frame.count:
            samples = np.empty(self.channels, np.int32)
            self.unpack(frame, 0, 1, <int32_t*> <size_t> samples.ctypes.data)
        return Frame(
            frame.status, bool(frame.known), frame.flags, frame.frame_seq, frame.first, frame.count, frame.tick,
            frame.host_ns, samples,
        )
