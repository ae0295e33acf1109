"""The publish thread: blocks and events from the ring to the XPUB socket.

Not Python because a Python publisher beside one busy Python thread wakes milliseconds late. It calls libzmq's C
functions, whose addresses the daemon looks up in the library that pyzmq has loaded, on the socket that pyzmq made.
From `run` on that socket belongs to this thread. It runs before there is a ring: a service without a device still has
something to say.

Headers are MessagePack templates, packed once in Python, with fixed-width integers at known offsets that are
overwritten per message. Sends never wait: a subscriber whose queue is full loses the block, and nobody else notices.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp
from posix.unistd cimport close

from emgd_ext.decoder cimport EMGD_CAUSE_SETS, EMGD_MARK_CODES
from emgd_ext.loop cimport pthread_mutex_init, pthread_mutex_lock, pthread_mutex_t, pthread_mutex_unlock
from emgd_ext.poll cimport POLLIN, poll, pollfd
from emgd_ext.prefixes cimport PREFIX_BYTES, Prefixes
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
from emgd_ext.template cimport Bytes, Template, as_template, copy_bytes, free_bytes, put32, put64, put_count, same_bytes

import os


cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void* data, size_t size)
    ssize_t write(int fd, const void* data, size_t size)

ctypedef int (*zmq_send_t)(void* socket, const void* data, size_t size, int flags) noexcept nogil
ctypedef int (*zmq_recv_t)(void* socket, void* data, size_t size, int flags) noexcept nogil
ctypedef int (*zmq_getsockopt_t)(void* socket, int option, void* value, size_t* size) noexcept nogil
ctypedef int (*zmq_setsockopt_t)(void* socket, int option, const void* value, size_t size) noexcept nogil

# From zmq.h; part of libzmq's stable interface.
cdef enum:
    ZMQ_FD = 14
    ZMQ_SNDHWM = 23
    ZMQ_DONTWAIT = 1
    ZMQ_SNDMORE = 2

cdef enum:
    MAX_STREAMS = 4
    MAX_KEPT = 32

cdef int WAKE_MS = 100          # how soon a stop is noticed without any news
cdef int LAP_MARGIN = 8         # a block in the oldest eighth of the ring is not sent: it could change meanwhile


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


cdef class Publisher:
    """Publisher of one ring, once it is attached.

    `socket` is the address of a bound libzmq XPUB socket (zmq.Socket.underlying), `functions` maps zmq_send, zmq_recv,
    zmq_getsockopt and zmq_setsockopt to their addresses.
    """

    cdef void* socket
    cdef zmq_send_t zmq_send
    cdef zmq_recv_t zmq_recv
    cdef zmq_getsockopt_t zmq_getsockopt
    cdef zmq_setsockopt_t zmq_setsockopt
    cdef Ring ring
    cdef bint attached      # the thread has taken over ring and streams
    cdef bint attaching     # they are ready to be taken over; guarded by outbox_lock
    cdef int queue_blocks
    cdef int wake_fd        # posts and `stop`
    cdef int notify_fd      # news in the ring
    cdef int stopping
    cdef Stream streams[MAX_STREAMS]
    cdef int stream_count
    cdef Bytes gap_topic
    cdef Template gap_header
    cdef Template gap_payloads[EMGD_CAUSE_SETS]
    cdef Bytes mark_topic
    cdef Template mark_header
    cdef Template mark_payloads[EMGD_MARK_CODES]
    cdef Kept kept[MAX_KEPT]
    cdef int kept_count
    cdef Prefixes prefixes
    cdef pthread_mutex_t outbox_lock
    cdef Post* outbox_first
    cdef Post* outbox_last
    cdef uint64_t next_block
    cdef uint64_t next_event
    cdef uint8_t* channel_flags
    cdef Figures figures

    def __cinit__(self, size_t socket, functions):
        self.wake_fd = self.notify_fd = -1
        self.socket = <void*> socket
        self.zmq_send = <zmq_send_t> <size_t> functions["zmq_send"]
        self.zmq_recv = <zmq_recv_t> <size_t> functions["zmq_recv"]
        self.zmq_getsockopt = <zmq_getsockopt_t> <size_t> functions["zmq_getsockopt"]
        self.zmq_setsockopt = <zmq_setsockopt_t> <size_t> functions["zmq_setsockopt"]
        self.prefixes = Prefixes()
        pthread_mutex_init(&self.outbox_lock, NULL)
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def __dealloc__(self):
        cdef int i
        cdef Post* post
        post = self.take_post()
        while post is not NULL:
            self.free_post(post)
            post = self.take_post()
        for i in range(self.stream_count):
            free_bytes(&self.streams[i].topic)
            free_bytes(&self.streams[i].header.bytes)
        for i in range(self.kept_count):
            self.free_kept(&self.kept[i])
        for i in range(EMGD_CAUSE_SETS):
            free_bytes(&self.gap_payloads[i].bytes)
        for i in range(EMGD_MARK_CODES):
            free_bytes(&self.mark_payloads[i].bytes)
        free_bytes(&self.gap_topic)
        free_bytes(&self.gap_header.bytes)
        free_bytes(&self.mark_topic)
        free_bytes(&self.mark_header.bytes)
        free(self.channel_flags)
        if self.wake_fd >= 0:
            close(self.wake_fd)

    # --- setting up, before `attach`

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

    def attach(self, Ring ring, int notify_fd, int queue_blocks):
        """Publish this ring from now on, once; also while the thread runs.

        `notify_fd` is the eventfd by which the sample loop tells of news, `queue_blocks` how many blocks may wait for
        a subscriber that is slow.
        """
        if self.ring is not None:
            raise ValueError("a ring is attached already")
        self.channel_flags = <uint8_t*> calloc(ring.channels, 1)
        if self.channel_flags is NULL:
            raise MemoryError("no memory for the publisher")
        self.ring = ring
        self.notify_fd = notify_fd
        self.queue_blocks = queue_blocks
        pthread_mutex_lock(&self.outbox_lock)
        self.attaching = True
        pthread_mutex_unlock(&self.outbox_lock)
        self.wake()

    # --- from any thread

    cdef void wake(self) noexcept nogil:
        cdef uint64_t one = 1
        write(self.wake_fd, &one, sizeof(one))

    def post(self, bytes topic, bytes header, bytes payload, bint keep=False):
        """Send a message that was packed elsewhere; a kept one replaces the last of its topic and greets new
        subscribers.
        """
        cdef Post* post = <Post*> calloc(1, sizeof(Post))
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
        self.wake()

    def stop(self):
        """Ask `run` to return once everything in the ring and the outbox is sent."""
        self.stopping = True
        self.wake()

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
            "subscriptions": self.prefixes.as_list(),
        }

    # --- the thread

    def run(self):
        """Publish until `stop`. Blocks, without the GIL; the socket belongs to this thread."""
        with nogil:
            self.work()

    cdef void work(self) noexcept nogil:
        cdef pollfd waiting[3]
        cdef uint64_t counted
        cdef size_t size = sizeof(int)
        waiting[0].fd = self.wake_fd
        waiting[2].fd = -1      # poll passes over it
        waiting[0].events = waiting[1].events = waiting[2].events = POLLIN
        self.zmq_getsockopt(self.socket, ZMQ_FD, &waiting[1].fd, &size)
        while True:
            stopping = self.stopping
            if self.take_ring():
                waiting[2].fd = self.notify_fd
            self.take_subscriptions()
            self.send_posts()
            self.send_news()
            # Sending may have swallowed the edge that tells of a subscription, so look again before sleeping.
            if self.take_subscriptions():
                continue
            if stopping:
                return
            poll(waiting, 3, WAKE_MS)
            read(self.wake_fd, &counted, sizeof(counted))
            if self.attached:
                read(self.notify_fd, &counted, sizeof(counted))
            self.figures.wakeups += 1

    cdef bint take_ring(self) noexcept nogil:
        """Take over a ring that was attached meanwhile, and what subscribers wanted before it was there."""
        pthread_mutex_lock(&self.outbox_lock)
        cdef bint fresh = self.attaching
        self.attaching = False
        pthread_mutex_unlock(&self.outbox_lock)
        if fresh:
            self.attached = True
            self.zmq_setsockopt(self.socket, ZMQ_SNDHWM, &self.queue_blocks, sizeof(int))
            self.match_streams()
        return fresh

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
                self.prefixes.remove(message + 1, size)     # told when the last subscriber of it has left
        if any_came:
            self.match_streams()
            for i in range(self.kept_count):
                kept = &self.kept[i]
                if kept.due:
                    kept.due = False
                    self.send(&kept.topic, &kept.header, kept.payload.data, kept.payload.size)
        return any_came

    cdef void match_streams(self) noexcept nogil:
        cdef int i
        if self.attached:
            for i in range(self.stream_count):
                self.streams[i].wanted = self.prefixes.match(&self.streams[i].topic)

    cdef void subscribe(self, const uint8_t* prefix, int size) noexcept nogil:
        cdef int i
        for i in range(self.kept_count):
            if self.kept[i].topic.size >= <size_t> size and memcmp(self.kept[i].topic.data, prefix, size) == 0:
                self.kept[i].due = True
        self.prefixes.add(prefix, size)

    # --- messages from Python

    cdef Post* take_post(self) noexcept nogil:
        pthread_mutex_lock(&self.outbox_lock)
        cdef Post* post = self.outbox_first
        if post is not NULL:
            self.outbox_first = post.next
            if post.next is NULL:
                self.outbox_last = NULL
        pthread_mutex_unlock(&self.outbox_lock)
        return post

    cdef void free_post(self, Post* post) noexcept nogil:
        free_bytes(&post.topic)
        free_bytes(&post.header)
        free_bytes(&post.payload)
        free(post)

    cdef void send_posts(self) noexcept nogil:
        cdef Post* post
        while True:
            post = self.take_post()
            if post is NULL:
                return
            self.send_news()    # what a post speaks of goes ahead of it: `ended` comes after the last block
            self.send(&post.topic, &post.header, post.payload.data, post.payload.size)
            self.figures.events += 1
            if post.keep and self.keep(post):
                free(post)      # its bytes are in the table now
            else:
                self.free_post(post)

    cdef bint keep(self, Post* post) noexcept nogil:
        """The table of kept messages takes over the post's bytes; False when it is full."""
        cdef int i
        cdef Kept* place = NULL
        for i in range(self.kept_count):
            if same_bytes(&self.kept[i].topic, &post.topic):
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
        free_bytes(&kept.topic)
        free_bytes(&kept.header)
        free_bytes(&kept.payload)

    # --- blocks and events from the ring

    cdef void send_news(self) noexcept nogil:
        cdef uint64_t head
        cdef uint64_t floor
        while self.attached:
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
                self.send_event(
                    &event, &self.gap_topic, &self.gap_header, &self.gap_payloads[event.code % EMGD_CAUSE_SETS]
                )
            else:
                self.send_event(
                    &event, &self.mark_topic, &self.mark_header, &self.mark_payloads[event.code % EMGD_MARK_CODES]
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
