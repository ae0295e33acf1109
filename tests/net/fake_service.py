"""A small service for tests: docs/protocol.md spoken with pyzmq and msgpack alone, in a thread of its own.

Its one stream `amp0/raw` moves only when a test says so, in the service's thread: `on_subscribe` runs at each new
subscription to it (or to another `on_topic`), `run` runs anything at any time. Sample values are known: sample n of
channel c is n * channels + c.
"""

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgpack
import numpy as np
import zmq

STREAM = "amp0/raw"
DEADLINE_S = 10.0
"""Longest wait for the service's thread: only a test that is broken comes near it."""


class Refusal(Exception):  # noqa: N818 - an answer, not an error of this code
    """A request that is refused: the `error` map of the reply."""

    def __init__(self, code: str, text: str, **more: str) -> None:
        super().__init__(text)
        self.map = {"code": code, "text": text, "field": more.get("field"), "allowed": more.get("allowed")}


def sample_values(seq: int, count: int, channels: int) -> np.ndarray:
    """The samples that the service has for a range, shape (count, channels)."""
    return np.arange(seq * channels, (seq + count) * channels, dtype="<i4").reshape(count, channels)


class FakeService:
    """Binds in `directory` when entered. Attributes and samples may be set before that, or inside `run`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rate_hz, self.channels, self.block_samples = 48000.0, 2, 96
        self.reply_samples = 1 << 40
        self.session_number = 0
        self.on_topic = STREAM
        self.on_subscribe: Callable[[FakeService], None] = lambda _: None
        self.muted: set[str] = set()
        self.forgetful = False
        self.electrodes = ["good", "good"]
        self.check_ends = "done"
        self.checks = 0
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._jobs: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="fake service", daemon=True)
        self._begin()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(DEADLINE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S)

    def run(self, job: Callable[[], None]) -> None:
        """Have the service's thread do something, and wait until it is done."""
        done = threading.Event()
        self._jobs.put((job, done))
        assert done.wait(DEADLINE_S)

    # What tests call through `on_subscribe` and `run`.

    def send_blocks(self, count: int = 1) -> None:
        """Take blocks of samples and publish them."""
        for _ in range(count):
            self._publish(STREAM, *self._take_block())

    def drop_blocks(self, count: int = 1) -> None:
        """Take blocks of samples that no subscriber gets; the history has them."""
        for _ in range(count):
            self._take_block()

    def gap(self, count: int, cause: str = "lost") -> None:
        """Lose samples for everybody."""
        self.gaps.append([self.head, count, [cause]])
        header = {"kind": "gap", "stream": "amp0/gap", "seq": self.head, "count": count}
        self._publish("amp0/gap", header, {"seq": self.head, "count": count, "causes": [cause]})
        self.head += count
        self._gap_before += count

    def mark(self) -> None:
        """A trigger at the next sample."""
        header = {"kind": "mark", "stream": "amp0/mark", "count": 1}
        self._publish("amp0/mark", header, {"seq": self.head, "code": "trigger", "value": 1, "channel": 0})

    def expire(self, seq: int) -> None:
        """Let the history forget what lies before `seq`."""
        self.oldest = seq

    def say_state(self, state: str) -> None:
        """Tell how the device is, now and to those who come later."""
        self._kept_state = state
        self._publish_state()

    def say_check(self, state: str, **more: Any) -> None:
        """Tell where the impedance check is, now and to those who come later."""
        body = {"check": self.checks, "state": state, "side": None, "step": 0, "steps": 3, "attempt": 0}
        body |= {"channels": [], "ready_ns": None, "reason": None, "text": "", "frequency_hz": 31.25}
        self._kept_check = body | {"current_na": 24.0, "windows": [], "results": []} | more
        self._publish_check()

    def restart(self) -> None:
        """Be a new process: new sockets, new session, no samples."""
        self._close()
        self.session_number += 1
        self._begin()
        self._open()

    @property
    def session(self) -> str:
        return f"{self.session_number:016x}"

    # Samples.

    def _begin(self) -> None:
        self.blocks: list[dict[str, Any]] = []
        self.gaps: list[list[Any]] = []
        self.head = self.oldest = self._gap_before = 0
        self._kept_state = "streaming"
        self._kept_check: dict[str, Any] = {}
        self._begin_ns = time.monotonic_ns()

    def _take_block(self) -> tuple[dict[str, Any], bytes]:
        seq, count = self.head, self.block_samples - self.head % self.block_samples
        block = {"seq": seq, "count": count, "gap_before": self._gap_before}
        block |= {"host_time_ns": self._time_ns(seq), "flags": 8 if self._gap_before else 0}
        self.blocks.append(block)
        self.head, self._gap_before = seq + count, 0
        header = {"kind": "raw", "stream": STREAM, "channels": self.channels, "dtype": "<i4"}
        header |= {"channel_flags": bytes(self.channels)}
        return header | block, sample_values(seq, count, self.channels).tobytes()

    def _time_ns(self, seq: int) -> int:
        return self._begin_ns + round(seq * 1e9 / self.rate_hz)

    # The stream socket.

    def _publish(self, topic: str, header: dict[str, Any], payload: bytes | dict[str, Any]) -> None:
        if not self._ready.is_set():
            return
        defaults = {"v": 1, "session": self.session, "seq": self.head, "count": 0, "channels": 0, "dtype": "msgpack"}
        defaults |= {"host_time_ns": self._time_ns(self.head), "flags": 0}
        body = payload if isinstance(payload, bytes) else msgpack.packb(payload)
        self._stream.send_multipart([topic.encode(), msgpack.packb(defaults | header), body])

    def _publish_state(self) -> None:
        body = {"device": "amp0", "state": self._kept_state, "text": f"amp0 is {self._kept_state}"}
        self._publish("amp0/state", {"kind": "state", "stream": "amp0/state"}, body)

    def _publish_check(self) -> None:
        self._publish("amp0/impedance", {"kind": "impedance", "stream": "amp0/impedance"}, self._kept_check)

    def _electrode_pair(self, channel: int) -> dict[str, Any]:
        ohm = {"good": 2500.0, "dry": 41_250.0}.get(self.electrodes[channel])
        good = {"ohm": 640.0, "sigma_ohm": 12.0, "state": "good"}
        bad = {"ohm": ohm, "sigma_ohm": None if ohm is None else 150.0, "state": self.electrodes[channel]}
        pair = {"channel": channel, "label": f"EMG {channel + 1}", "e1": bad, "e2": good, "bridge": False}
        return pair | {"between_ohm": 1_234_567.0, "between_sigma_ohm": 10_000.0}

    def _description(self) -> dict[str, Any]:
        channel = {"uv_per_count": 0.5, "saturation_count": 8388607, "gain": 1, "mode": "normal"}
        texts = {
            "stream": STREAM,
            "kind": "raw",
            "device": "amp0",
            "driver": "fake",
            "serial": "F-1",
            "firmware": "1.0",
        }
        numbers = {"rate_hz": self.rate_hz, "speed": 1.0, "block_samples": self.block_samples}
        numbers |= {"history_samples": 480000, "realtime_offset_ns": 1_700_000_000_000_000_000}
        channels = [{"label": f"EMG {number}", **channel} for number in range(1, self.channels + 1)]
        return (
            texts
            | numbers
            | {"notes": [], "simulated": True, "isolated": True, "dtype": "<i4", "unit": "count", "channels": channels}
        )

    def _subscribed(self, topic: str) -> None:
        if f"{STREAM}/description".startswith(topic):
            header = {"kind": "description", "stream": STREAM, "seq": self.oldest}
            self._publish(f"{STREAM}/description", header, self._description())
        if "amp0/state".startswith(topic):
            self._publish_state()
        if topic == "amp0/impedance":  # the greeting is for who asks for it, so that tests of all topics stay plain
            if not self._kept_check:
                self.say_check("idle")
            else:
                self._publish_check()
        if self.on_topic.startswith(topic):
            self.on_subscribe(self)

    # The control socket.

    def _answer(self, sender: bytes, request: dict[str, Any]) -> None:
        verb, args = request["verb"], request.get("args") or {}
        self.requests.append((verb, args))
        if verb in self.muted:
            return
        frames: list[bytes] = []
        try:
            result = getattr(self, f"_verb_{verb}")(args, frames)
            reply = {"v": 1, "id": request.get("id"), "ok": True, "result": result}
        except Refusal as refusal:
            reply = {"v": 1, "id": request.get("id"), "ok": False, "error": refusal.map}
        self._control.send_multipart([sender, msgpack.packb(reply), *frames])

    def _verb_hello(self, args: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        if not args["name"].isprintable():
            raise Refusal("bad_value", "a name is printable", field="args.name", allowed="1 to 64 printable characters")
        return {"session": self.session, "version": "0.0", "protocol": 1, "client": 1, "report_interval_s": 1.0}

    def _verb_bye(self, args: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        return {}

    def _verb_ping(self, args: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        return {"host_time_ns": time.monotonic_ns()}

    def _verb_version(self, args: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        return {"version": "0.0", "protocol": 1}

    def _verb_help(self, args: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        return {"verbs": [{"verb": "ping", "text": "sign of life", "args": []}]}

    def _verb_report(self, args: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        return {"head": self.head, "known": not self.forgetful}

    def _verb_streams(self, args: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        return {"streams": [self._description()]}

    def _verb_filter(self, args: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        if args.get("preset") not in {None, "emg"}:
            raise Refusal("bad_value", "no such preset", field="args.preset", allowed="emg")
        chosen = {"preset": "emg", "high_pass_hz": 20.0, "high_pass_order": 2, "low_pass_hz": None, "notch_hz": 50.0}
        return {"from_seq": self.head, "channels": [chosen | {"note": ""}] * self.channels}

    def _verb_impedance(self, args: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        if args.get("action") == "stop":
            return {"accepted": self._kept_check.get("state") == "measuring"}
        if self._kept_check.get("state") == "measuring":
            raise Refusal("busy", "impedance check 1 runs already", field=None, allowed="wait")
        self.checks += 1
        channels = args.get("channels") or list(range(self.channels))
        begun = {"channels": channels, "side": "e1", "step": 1, "attempt": 1}
        for state in ("settling", "measuring", "measuring"):  # twice, as when another client subscribes
            self.say_check(state, **begun)
        if self.check_ends == "done":
            windows = [["e1", 0, 100], ["e2", 200, 100], ["both", 400, 100]]
            results = [self._electrode_pair(channel) for channel in channels]
            self.say_check("done", channels=channels, windows=windows, results=results)
        elif self.check_ends == "aborted":
            self.say_check("aborted", channels=channels, reason="stimulus", text="a stimulus at sample 9")
        return {"accepted": True, "check": self.checks, "channels": channels, "ready_ns": time.monotonic_ns()}

    def _verb_status(self, args: dict[str, Any], _: list[bytes]) -> dict[str, Any]:
        missing = sum(gap[1] for gap in self.gaps)
        device = {"name": "amp0", "driver": "fake", "serial": "F-1", "firmware": "1.0", "simulated": True}
        device |= {
            "state": self._kept_state,
            "text": "",
            "rate_hz": self.rate_hz,
            "channels": self.channels,
            "speed": 1.0,
        }
        samples = {"head": self.head, "oldest": self.oldest, "gaps": len(self.gaps), "missing": missing}
        samples |= {"causes": {"lost": missing}, "marks": 0}
        wire = {"transfers": 9, "bytes": 9000, "frames": 9, "repeated": 0, "corrupt": 0, "truncated": 0, "restarts": 0}
        wire["returns"] = 0
        clock = {"state": "locked", "offset_ns": 1500.0, "drift_ppm": 12.5, "sigma_ns": 900.0, "age_ns": 10_000_000}
        clock |= {"observations": 100, "rejected": 1}
        publisher = {"blocks": len(self.blocks), "events": 3, "bytes": 9000, "lapped_blocks": 0, "wakeups": 12}
        publisher |= {"lapped_events": 0, "failed_sends": 0}
        publisher |= {"queue_blocks": 500, "subscriptions": [STREAM]}
        scope = {"next_seq": max(0, self.head - 96), "lag_samples": 96, "dropped": 192, "backfilled": 192}
        clients = [{"client": 1, "name": "scope", "pid": 42, "age_s": 0.25, "streams": {STREAM: scope}}]
        service = {"version": "0.0", "protocol": 1, "session": self.session, "pid": 4711, "uptime_s": 62.0}
        service |= {"host_time_ns": time.monotonic_ns(), "memory": {"rss_bytes": 52428800, "ring_bytes": 33554432}}
        parts = {"device": device, "samples": samples, "wire": wire, "clock": clock, "publisher": publisher}
        return service | parts | {"clients": clients, "control": {"requests": len(self.requests), "errors": {}}}

    def _verb_history(self, args: dict[str, Any], frames: list[bytes]) -> dict[str, Any]:
        if args["stream"] != STREAM:
            raise Refusal("unknown_stream", "no such stream", field="args.stream", allowed=STREAM)
        newest = self.blocks[-1]["seq"] + self.blocks[-1]["count"] if self.blocks else 0
        seq, end = args["seq"], min(args["seq"] + args["count"], newest)
        begin = max(seq, self.oldest)
        if begin >= end:
            raise Refusal("not_in_history", "gone or not yet", field="args.seq", allowed=f"{self.oldest} to {newest}")
        end = min(end, begin + self.reply_samples)
        rows, parts = [], [np.empty((0, self.channels), "<i4")]
        for block in self.blocks:
            first, last = max(block["seq"], begin), min(block["seq"] + block["count"], end)
            if first < last:
                whole = first == block["seq"]
                gap_before = min(block["gap_before"], first - begin) if whole else 0
                rows.append(
                    [
                        first,
                        last - first,
                        gap_before,
                        self._time_ns(first),
                        8 if gap_before else 0,
                        bytes(self.channels),
                    ]
                )
                parts.append(sample_values(first, last - first, self.channels))
        clipped = [(max(at, begin), min(at + count, end), causes) for at, count, causes in self.gaps]
        gaps = [[first, last - first, causes] for first, last, causes in clipped if first < last]
        frames.append(np.concatenate(parts).tobytes())
        head = {"stream": STREAM, "dtype": "<i4", "channels": self.channels, "session": self.session, "seq": seq}
        figures = {"count": end - seq, "next_seq": end, "oldest": self.oldest, "newest": newest}
        return head | figures | {"expired": begin - seq, "blocks": rows, "gaps": gaps}

    # The thread.

    def _serve(self) -> None:
        self._context = zmq.Context()
        self._open()
        self._ready.set()
        while not self._stop.is_set():
            # The short wait is how soon a job of `run` is seen; messages wake at once.
            events = dict(self._poller.poll(5))
            if self._stream in events:
                notice = self._stream.recv()
                if notice[:1] == b"\x01":
                    self._subscribed(notice[1:].decode())
            if self._control in events:
                sender, request = self._control.recv_multipart()
                self._answer(sender, msgpack.unpackb(request))
            while not self._jobs.empty():
                job, done = self._jobs.get()
                job()
                done.set()
        self._close()
        self._context.term()

    def _open(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._stream = self._context.socket(zmq.XPUB)
        self._stream.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._stream.bind(f"ipc://{self.directory}/stream.sock")
        self._control = self._context.socket(zmq.ROUTER)
        self._control.bind(f"ipc://{self.directory}/control.sock")
        self._poller = zmq.Poller()
        self._poller.register(self._stream, zmq.POLLIN)
        self._poller.register(self._control, zmq.POLLIN)

    def _close(self) -> None:
        self._stream.close(linger=1000)
        self._control.close(linger=1000)
