"""The publish thread: blocks and events from the ring to the XPUB socket.

Not Python because a Python publisher beside one busy Python thread wakes milliseconds late. It calls libzmq's C
functions, whose addresses the daemon looks up in the library that pyzmq has loaded, on the socket that pyzmq made.
From `run` on that socket belongs to this thread.

Headers are MessagePack templates, packed once in Python, with fixed-width integers at known offsets that are
overwritten per message. Sends never wait: a subscriber whose queue is full loses the block, and nobody else notices.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from emgd_ext.loop cimport pthread_mutex_init, pthread_mutex_lock, pthread_mutex_t, pthread_mutex_unlock
from emgd_ext.ring cimport (
    EMGD_EVENT_GAP,
    Ring,
    emgd_block,
    emgd_event,
    emgd_ring_block_floor,
    emgd_ring_block_head,
    emgd_ring_event_floor,
    emgd_ring_event_head,
    emgd_ring_floor,
    emgd_ring_get_block,
    emgd_ring_get_event,
    emgd_ring_rows,
)


cdef extern from "<endian.h>" nogil:
    uint32_t htobe32(uint32_t value)
    uint64_t htobe64(uint64_t value)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd* fds, unsigned long count, int timeout_ms)
    enum: POLLIN

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void* data, size_t size)
    ssize_t write(int fd, const void* data, size_t size)

ctypedef int (*zmq_send_t)(void* socket, const void* data, size_t size, int flags) noexcept nogil
ctypedef int (*zmq_recv_t)(void* socket, void* data, size_t size, int flags) noexcept nogil
ctypedef int (*zmq_getsockopt_t)(void* socket, int option, void* value, size_t* size) noexcept nogil

# From zmq.h; part of libzmq's stable interface.
cdef enum:
    ZMQ_FD = 14
    ZMQ_DONTWAIT = 1
    ZMQ_SNDMORE = 2

cdef enum:
    MAX_STREAMS = 4
    MAX_KEPT = 32
    MAX_PREFIXES = 256
    PREFIX_BYTES = 256
    CAUSE_SETS = 32
    MARK_CODES = 5
    FLAG_SETTLING = 4

cdef int WAKE_MS = 100          # how soon a stop is noticed without any news
cdef int LAP_MARGIN = 8         # a block in the oldest eighth of the ring is not sent: it could change meanwhile


cdef struct Bytes:
    uint8_t* data
    size_t size


cdef struct Template:
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


cdef struct Stream:
    Bytes topic
    Template header
    int plane
    uint32_t flag_mask
    bint wanted


cdef struct Kept:
    Bytes topic
    Bytes header
    Bytes payload
    bint due


cdef struct Post:
    Bytes topic
    Bytes header
    Bytes payload
    bint keep
    Post* next


cdef struct Figures:
    uint64_t blocks
    uint64_t events
    uint64_t bytes
    uint64_t lapped_blocks
    uint64_t lapped_events
    uint64_t wakeups
    uint64_t failed_sends


cdef Bytes copy_bytes(bytes data) except *:
    cdef Bytes copy
    copy.size = len(data)
    copy.data = <uint8_t*> malloc(max(1, len(data)))
    if copy.data is NULL:
        raise MemoryError
    memcpy(copy.data, <const uint8_t*> data, len(data))
    return copy


cdef Template as_template(template) except *:
    """From (bytes, {field: offset}); a field that is not there has offset -1. `count` may be 4 or 8 bytes wide:
    "count_bytes".
    """
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


cdef inline void put64(Template* template, int at, uint64_t value) noexcept nogil:
    cdef uint64_t big = htobe64(value)
    if at >= 0:
        memcpy(template.bytes.data + at, &big, 8)


cdef inline void put32(Template* template, int at, uint32_t value) noexcept nogil:
    cdef uint32_t big = htobe32(value)
    if at >= 0:
        memcpy(template.bytes.data + at, &big, 4)


cdef inline void put_count(Template* template, uint64_t value) noexcept nogil:
    if template.count_bytes == 8:
        put64(template, template.count, value)
    else:
        put32(template, template.count, <uint32_t> value)


cdef class Publisher:
    """Publisher of one ring.

    `socket` is the address of a bound libzmq XPUB socket (zmq.Socket.underlying), `functions` maps zmq_send, zmq_recv
    and zmq_getsockopt to their addresses, `notify_fd` is the eventfd by which the sample loop (and `post`) tell of
    news.
    """

    cdef void* socket
    cdef zmq_send_t zmq_send
    cdef zmq_recv_t zmq_recv
    cdef zmq_getsockopt_t zmq_getsockopt
    cdef Ring ring
    cdef int notify_fd
    cdef int stopping
    cdef Stream streams[MAX_STREAMS]
    cdef int stream_count
    cdef Bytes gap_topic
    cdef Template gap_header
    cdef Template gap_payloads[CAUSE_SETS]
    cdef Bytes mark_topic
    cdef Template mark_header
    cdef Template mark_payloads[MARK_CODES]
    cdef Kept kept[MAX_KEPT]
    cdef int kept_count
    cdef uint8_t* prefixes          # MAX_PREFIXES x PREFIX_BYTES
    cdef int prefix_sizes[MAX_PREFIXES]
    cdef int prefix_count
    cdef bint too_many_prefixes     # then every topic counts as wanted
    cdef pthread_mutex_t outbox_lock
    cdef Post* outbox_first
    cdef Post* outbox_last
    cdef uint64_t next_block
    cdef uint64_t next_event
    cdef uint8_t* channel_flags
    cdef Figures figures

    def __cinit__(self, size_t socket, functions, Ring ring, int notify_fd):
        self.socket = <void*> socket
        self.zmq_send = <zmq_send_t> <size_t> functions["zmq_send"]
        self.zmq_recv = <zmq_recv_t> <size_t> functions["zmq_recv"]
        self.zmq_getsockopt = <zmq_getsockopt_t> <size_t> functions["zmq_getsockopt"]
        self.ring = ring
        self.notify_fd = notify_fd
        self.prefixes = <uint8_t*> calloc(MAX_PREFIXES, PREFIX_BYTES)
        self.channel_flags = <uint8_t*> calloc(ring.channels, 1)
        if self.prefixes is NULL or self.channel_flags is NULL:
            raise MemoryError("no memory for the publisher")
        pthread_mutex_init(&self.outbox_lock, NULL)

    def __dealloc__(self):
        cdef int i
        while self.outbox_first is not NULL:
            self.drop_post()
        for i in range(self.stream_count):
            free(self.streams[i].topic.data)
            free(self.streams[i].header.bytes.data)
        for i in range(self.kept_count):
            self.free_kept(&self.kept[i])
        for i in range(CAUSE_SETS):
            free(self.gap_payloads[i].bytes.data)
        for i in range(MARK_CODES):
            free(self.mark_payloads[i].bytes.data)
        free(self.gap_topic.data)
        free(self.gap_header.bytes.data)
        free(self.mark_topic.data)
        free(self.mark_header.bytes.data)
        free(self.prefixes)
        free(self.channel_flags)

    # --- setting up, before `run`

    def add_stream(self, bytes topic, header, int plane, uint32_t flag_mask):
        """Publish a plane of the ring; only flags in `flag_mask` concern it."""
        if self.stream_count == MAX_STREAMS:
            raise ValueError(f"more than {MAX_STREAMS} streams")
        cdef Stream* stream = &self.streams[self.stream_count]
        stream.topic = copy_bytes(topic)
        stream.header = as_template(header)
        stream.plane = plane
        stream.flag_mask = flag_mask
        self.stream_count += 1

    def set_gaps(self, bytes topic, header, payloads):
        """Publish gaps; one payload template per set of causes, in the order of the sets' numbers."""
        self.gap_topic = copy_bytes(topic)
        self.gap_header = as_template(header)
        for number, payload in enumerate(payloads):
            self.gap_payloads[number] = as_template(payload)

    def set_marks(self, bytes topic, header, payloads):
        """Publish marks; one payload template per mark code."""
        self.mark_topic = copy_bytes(topic)
        self.mark_header = as_template(header)
        for number, payload in enumerate(payloads):
            self.mark_payloads[number] = as_template(payload)

    # --- from any thread

    def post(self, bytes topic, bytes header, bytes payload, bint keep=False):
        """Send a message that was packed elsewhere; a kept one replaces the last of its topic and greets new
        subscribers.
        """
        cdef Post* post = <Post*> calloc(1, sizeof(Post))
        cdef uint64_t one = 1
        if post is NULL:
            raise MemoryError
        post.topic = copy_bytes(topic)
        post.header = copy_bytes(header)
        post.payload = copy_bytes(payload)
        post.keep = keep
        pthread_mutex_lock(&self.outbox_lock)
        if self.outbox_last is NULL:
            self.outbox_first = post
        else:
            self.outbox_last.next = post
        self.outbox_last = post
        pthread_mutex_unlock(&self.outbox_lock)
        write(self.notify_fd, &one, sizeof(one))

    def stop(self):
        """Ask `run` to return once everything in the ring and the outbox is sent."""
        cdef uint64_t one = 1
        self.stopping = True
        write(self.notify_fd, &one, sizeof(one))

    def stats(self):
        """The `publisher` map of `status` (docs/protocol.md), without what the daemon adds."""
        return {
            "blocks": self.figures.blocks,
            "events": self.figures.events,
            "bytes": self.figures.bytes,
            "lapped_blocks": self.figures.lapped_blocks,
            "lapped_events": self.figures.lapped_events,
            "wakeups": self.figures.wakeups,
            "failed_sends": self.figures.failed_sends,
            "subscriptions": [
                (<bytes> self.prefixes[i * PREFIX_BYTES:i * PREFIX_BYTES + self.prefix_sizes[i]]).decode("latin-1")
                for i in range(self.prefix_count)
            ],
        }

    # --- the thread

    def run(self):
        """Publish until `stop`. Blocks, without the GIL; the socket belongs to this thread."""
        with nogil:
            self.work()

    cdef void work(self) noexcept nogil:
        cdef pollfd waiting[2]
        cdef uint64_t counted
        cdef size_t size = sizeof(int)
        waiting[0].fd = self.notify_fd
        waiting[0].events = POLLIN
        waiting[1].events = POLLIN
        self.zmq_getsockopt(self.socket, ZMQ_FD, &waiting[1].fd, &size)
        while True:
            stopping = self.stopping
            self.take_subscriptions()
            self.send_posts()
            self.send_news()
            # Sending may have swallowed the edge that tells of a subscription, so look again before sleeping.
            if self.take_subscriptions():
                continue
            if stopping:
                return
            poll(waiting, 2, WAKE_MS)
            read(self.notify_fd, &counted, sizeof(counted))
            self.figures.wakeups += 1

    # --- subscriptions

    cdef bint take_subscriptions(self) noexcept nogil:
        """Note what subscribers want, and greet new ones with the kept messages of their topics."""
        cdef uint8_t message[PREFIX_BYTES + 1]
        cdef int size
        cdef int i
        cdef Kept* kept
        cdef bint any_came = False
        while True:
            size = self.zmq_recv(self.socket, message, sizeof(message), ZMQ_DONTWAIT)
            if size < 0:
                break
            if size == 0 or message[0] > 1:
                continue        # not a subscription: XPUB hands on whatever a subscriber sends
            any_came = True
            size = min(size, <int> sizeof(message)) - 1
            if message[0] == 1:
                self.subscribe(message + 1, size)
            else:
                self.unsubscribe(message + 1, size)
        if any_came:
            for i in range(self.stream_count):
                self.streams[i].wanted = self.is_wanted(&self.streams[i].topic)
            for i in range(self.kept_count):
                kept = &self.kept[i]
                if kept.due:
                    kept.due = False
                    self.send(&kept.topic, &kept.header, kept.payload.data, kept.payload.size)
        return any_came

    cdef int find_prefix(self, const uint8_t* prefix, int size) noexcept nogil:
        cdef int i
        for i in range(self.prefix_count):
            if self.prefix_sizes[i] == size and memcmp(self.prefixes + i * PREFIX_BYTES, prefix, size) == 0:
                return i
        return -1

    cdef void subscribe(self, const uint8_t* prefix, int size) noexcept nogil:
        cdef int i
        for i in range(self.kept_count):
            if self.kept[i].topic.size >= <size_t> size and memcmp(self.kept[i].topic.data, prefix, size) == 0:
                self.kept[i].due = True
        if self.find_prefix(prefix, size) >= 0:
            return
        if self.prefix_count == MAX_PREFIXES:
            self.too_many_prefixes = True
            return
        memcpy(self.prefixes + self.prefix_count * PREFIX_BYTES, prefix, size)
        self.prefix_sizes[self.prefix_count] = size
        self.prefix_count += 1

    cdef void unsubscribe(self, const uint8_t* prefix, int size) noexcept nogil:
        """libzmq tells when the last subscriber of a prefix has left."""
        cdef int found = self.find_prefix(prefix, size)
        if found < 0:
            return
        self.prefix_count -= 1
        memcpy(self.prefixes + found * PREFIX_BYTES, self.prefixes + self.prefix_count * PREFIX_BYTES, PREFIX_BYTES)
        self.prefix_sizes[found] = self.prefix_sizes[self.prefix_count]

    cdef bint is_wanted(self, const Bytes* topic) noexcept nogil:
        cdef int i
        if self.too_many_prefixes:
            return True
        for i in range(self.prefix_count):
            if (
                <size_t> self.prefix_sizes[i] <= topic.size
                and memcmp(self.prefixes + i * PREFIX_BYTES, topic.data, self.prefix_sizes[i]) == 0
            ):
                return True
        return False

    # --- messages from Python

    cdef void send_posts(self) noexcept nogil:
        cdef Post* post
        while True:
            pthread_mutex_lock(&self.outbox_lock)
            post = self.outbox_first
            if post is not NULL:
                self.outbox_first = post.next
                if post.next is NULL:
                    self.outbox_last = NULL
            pthread_mutex_unlock(&self.outbox_lock)
            if post is NULL:
                return
            self.send(&post.topic, &post.header, post.payload.data, post.payload.size)
            self.figures.events += 1
            if not (post.keep and self.keep(post)):
                free(post.topic.data)
                free(post.header.data)
                free(post.payload.data)
            free(post)

    cdef bint keep(self, Post* post) noexcept nogil:
        """The table of kept messages takes over the post's bytes; False when it is full."""
        cdef int i
        cdef Kept* place = NULL
        for i in range(self.kept_count):
            if (
                self.kept[i].topic.size == post.topic.size
                and memcmp(self.kept[i].topic.data, post.topic.data, post.topic.size) == 0
            ):
                place = &self.kept[i]
                self.free_kept(place)
        if place is NULL:
            if self.kept_count == MAX_KEPT:
                return False
            place = &self.kept[self.kept_count]
            self.kept_count += 1
        place.topic = post.topic
        place.header = post.header
        place.payload = post.payload
        place.due = False
        return True

    cdef void free_kept(self, Kept* kept) noexcept nogil:
        free(kept.topic.data)
        free(kept.header.data)
        free(kept.payload.data)

    cdef void drop_post(self) noexcept nogil:
        cdef Post* post = self.outbox_first
        self.outbox_first = post.next
        free(post.topic.data)
        free(post.header.data)
        free(post.payload.data)
        free(post)

    # --- blocks and events from the ring

    cdef void send_news(self) noexcept nogil:
        cdef uint64_t head
        cdef uint64_t floor
        while True:
            head = emgd_ring_block_head(self.ring.handle)
            floor = emgd_ring_block_floor(self.ring.handle)
            if self.next_block < floor:
                self.figures.lapped_blocks += floor - self.next_block
                self.next_block = floor
            self.send_events()
            if self.next_block >= head:
                return
            self.send_block()
            self.next_block += 1

    cdef void send_block(self) noexcept nogil:
        cdef emgd_block block
        cdef Stream* stream
        cdef Template* header
        cdef size_t channels = self.ring.handle.channels
        cdef int i
        if (
            emgd_ring_get_block(self.ring.handle, self.next_block, &block, self.channel_flags) < 0
            or block.seq < emgd_ring_floor(self.ring.handle) + (
                self.ring.handle.capacity // LAP_MARGIN if emgd_ring_floor(self.ring.handle) else 0)
        ):
            self.figures.lapped_blocks += 1
            return
        for i in range(self.stream_count):
            stream = &self.streams[i]
            if not stream.wanted:
                continue
            header = &stream.header
            put64(header, header.seq, block.seq)
            put_count(header, block.count)
            put64(header, header.host_time_ns, block.host_time_ns)
            put32(header, header.flags, block.flags & stream.flag_mask)
            put64(header, header.gap_before, block.gap_before)
            self.put_channel_flags(header, <uint8_t> stream.flag_mask)
            self.send(&stream.topic, &header.bytes, emgd_ring_rows(self.ring.handle, stream.plane, block.seq),
                      block.count * channels * sizeof(int32_t))
            self.figures.blocks += 1

    cdef void put_channel_flags(self, Template* header, uint8_t mask) noexcept nogil:
        cdef size_t c
        cdef uint8_t* out = header.bytes.data + header.channel_flags
        for c in range(self.ring.handle.channels):
            out[c] = self.channel_flags[c] & mask

    cdef void send_events(self) noexcept nogil:
        """Events that come before the next block."""
        cdef emgd_event event
        cdef uint64_t floor
        while self.next_event < emgd_ring_event_head(self.ring.handle):
            floor = emgd_ring_event_floor(self.ring.handle)
            if self.next_event < floor:
                self.figures.lapped_events += floor - self.next_event
                self.next_event = floor
            if emgd_ring_get_event(self.ring.handle, self.next_event, &event) < 0:
                continue
            if event.before_block > self.next_block:
                return
            self.next_event += 1
            if event.kind == EMGD_EVENT_GAP:
                self.send_event(&event, &self.gap_topic, &self.gap_header, &self.gap_payloads[event.code % CAUSE_SETS])
            else:
                self.send_event(
                    &event, &self.mark_topic, &self.mark_header, &self.mark_payloads[event.code % MARK_CODES]
                )

    cdef void send_event(
        self, const emgd_event* event, const Bytes* topic, Template* header, Template* payload
    ) noexcept nogil:
        put64(header, header.seq, event.seq)
        put_count(header, event.count)
        put64(header, header.host_time_ns, event.host_time_ns)
        put64(payload, payload.seq, event.seq)
        put_count(payload, event.count)
        put32(payload, payload.value, <uint32_t> event.value)
        put32(payload, payload.channel, event.channel)
        self.send(topic, &header.bytes, payload.bytes.data, payload.bytes.size)
        self.figures.events += 1

    cdef void send(self, const Bytes* topic, const Bytes* header, const void* payload, size_t size) noexcept nogil:
        if (
            self.zmq_send(self.socket, topic.data, topic.size, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0
            or self.zmq_send(self.socket, header.data, header.size, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0
            or self.zmq_send(self.socket, payload, size, ZMQ_DONTWAIT) < 0
        ):
            self.figures.failed_sends += 1
            return
        self.figures.bytes += topic.size + header.size + size
