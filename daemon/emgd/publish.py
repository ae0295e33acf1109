"""The stream socket: made here, then handed to the publish thread for good."""

import ctypes
import threading
from pathlib import Path
from typing import Any, Final

import zmq
import zmq.backend.cython._zmq

from emgd import templates
from emgd.acquisition import FLAG_MASKS, STREAMS, Acquisition
from emgd_ext import ring as ring_planes
from emgd_ext.publish import Publisher
from emgd_wire import codec
from emgd_wire.kinds import DESCRIPTION_SUFFIX, Kind
from emgd_wire.paths import stream_endpoint

QUEUE_BYTES: Final = 64 << 20
"""Memory bound of one subscriber's queue, whatever queue_s says: ten stopped subscribers of 1024 channels must not
end the service."""

LEAST_QUEUE_BLOCKS: Final = 16

MAX_SUBSCRIPTION_BYTES: Final = 4096
"""Whatever a subscriber sends is a topic to subscribe to; one that sends more is disconnected."""

LIBZMQ: Final = ("zmq_send", "zmq_recv", "zmq_getsockopt", "zmq_setsockopt")
"""What the publish thread calls without the GIL."""

KEPT: Final = frozenset({Kind.CLOCK, Kind.STATE, Kind.IMPEDANCE})
"""Events whose last one greets newcomers. A pulse is news once."""

PLANES: Final = {Kind.RAW: ring_planes.RAW, Kind.FILTERED: ring_planes.FILTERED}


def libzmq_functions() -> dict[str, int]:
    """Addresses of libzmq's C functions in the very library that pyzmq has loaded (a look-up in its extension covers
    what it links).
    """
    library = ctypes.CDLL(zmq.backend.cython._zmq.__file__)  # noqa: SLF001 - the only name of the loaded extension
    return {name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in LIBZMQ}


class Publishing:
    """Owner of the stream socket until `start`; afterwards only `attach`, `post` and figures."""

    def __init__(self, context: zmq.Context[Any], directory: Path, device: str, session: str) -> None:
        self.session = session
        self.device = device
        self.queue_blocks = LEAST_QUEUE_BLOCKS
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # tell of every subscription, so that every newcomer is greeted
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION_BYTES)
        self._socket.bind(stream_endpoint(directory))
        self._publisher = Publisher(self._socket.underlying, libzmq_functions())
        self._thread = threading.Thread(target=self._publisher.run, name="publish", daemon=True)

    @staticmethod
    def _queue_blocks(acquisition: Acquisition, queue_s: float) -> int:
        blocks_per_s = acquisition.info.rate_hz * (acquisition.info.speed or 1) / acquisition.block_samples
        bound: int = QUEUE_BYTES // (acquisition.block_samples * acquisition.info.channel_count * 4)
        return max(LEAST_QUEUE_BLOCKS, min(int(queue_s * blocks_per_s * len(STREAMS)), bound))

    def _add_streams(self, acquisition: Acquisition) -> None:
        for stream, kind in acquisition.stream_ids().items():
            header = templates.block_header(
                kind, self.session, stream, acquisition.info.channel_count, STREAMS[kind][0]
            )
            self._publisher.add_stream(stream.encode(), header, PLANES[kind], FLAG_MASKS[kind])
        gap, mark = f"{self.device}/{Kind.GAP}", f"{self.device}/{Kind.MARK}"
        self._publisher.set_gaps(
            gap.encode(), templates.event_header(Kind.GAP, self.session, gap), templates.gap_payloads()
        )
        self._publisher.set_marks(
            mark.encode(), templates.event_header(Kind.MARK, self.session, mark), templates.mark_payloads()
        )

    def start(self) -> None:
        """From here on the socket belongs to the publish thread."""
        self._thread.start()

    def attach(self, acquisition: Acquisition, queue_s: float) -> None:
        """Publish what this device brings, once; `queue_s` seconds of it may wait for a slow subscriber."""
        self.queue_blocks = self._queue_blocks(acquisition, queue_s)
        self._add_streams(acquisition)
        self._publisher.attach(acquisition.ring, acquisition.loop.notify_fd, self.queue_blocks)

    def stop(self) -> None:
        """Send what is there, end the thread, close the socket."""
        self._publisher.stop()
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    @property
    def running(self) -> bool:
        """The publish thread lives."""
        return self._thread.is_alive()

    def post(
        self,
        kind: Kind,
        payload: dict[str, Any],
        seq: int,
        host_time_ns: int,
        *,
        count: int = 0,
        device: str | None = None,
    ) -> None:
        """Publish an event, from any thread; of the amplifier where no other device is named."""
        stream = f"{device or self.device}/{kind}"
        header = templates.posted_header(kind, self.session, stream, seq, host_time_ns, count)
        self._publisher.post(stream.encode(), header, codec.pack(payload), keep=kind in KEPT)

    def post_state(self, state: str, text: str, seq: int, host_time_ns: int) -> None:
        """Publish how the connection to the amplifier is."""
        self.post(Kind.STATE, {"device": self.device, "state": state, "text": text}, seq, host_time_ns)

    def describe(self, description: dict[str, Any], seq: int, host_time_ns: int) -> None:
        """Publish the description of a stream, kept for newcomers."""
        stream = description["stream"]
        header = templates.posted_header(Kind.DESCRIPTION, self.session, stream, seq, host_time_ns)
        self._publisher.post((stream + DESCRIPTION_SUFFIX).encode(), header, codec.pack(description), keep=True)

    def stats(self) -> dict[str, Any]:
        """The `publisher` map of `status`."""
        return {**self._publisher.stats(), "queue_blocks": self.queue_blocks}
