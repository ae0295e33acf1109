"""A complete reader of one emgd stream, written from docs/protocol.md alone.

    python protocol_reader.py --runtime-dir /run/emgd --stream amp0/raw --out samples.npy

It follows the stream from sample 0 until the device says `ended`, fetches from the history whatever ZeroMQ dropped or
went by before it came, and writes one array of shape (samples, channels). Comments name the sections of the protocol.
Nothing of emgd's is used: only pyzmq, msgpack, numpy and the standard library.
"""

import argparse
import itertools
from pathlib import Path

import msgpack
import numpy as np
import zmq

DTYPES = {"<i4": np.dtype("<i4"), "<f4": np.dtype("<f4")}
REPLY_TIMEOUT_MS = 2000


class Reader:
    """Collects the samples of one stream; `expected` is the number of the next one, `gaps` holds [seq, count]."""

    def __init__(self, control: zmq.Socket, events: zmq.Socket, stream: str) -> None:
        self.control, self.events, self.stream = control, events, stream
        self.session: str | None = None
        self.expected = 0
        self.parts: list[np.ndarray] = []
        self.gaps: list[list[int]] = []
        # Where the gap that ends before a sample number begins, from the `gap` messages.
        self.gap_start: dict[int, int] = {}
        self.fetched = 0
        self._ids = itertools.count()

    def read(self) -> np.ndarray:
        """Follow the stream to its end."""
        self.ask("hello", name="protocol_reader")
        while True:
            _, header_bytes, payload = self.events.recv_multipart()
            header = msgpack.unpackb(header_bytes)
            if header["v"] != 1:
                raise SystemExit(f"protocol version {header['v']} is not spoken here")
            if self.session not in {None, header["session"]}:
                raise SystemExit("a new session began before the old one ended")
            self.session = header["session"]
            if header["kind"] == "gap":
                self.gap_start[header["seq"] + header["count"]] = self.gap_start.get(header["seq"], header["seq"])
            if header["kind"] == "state" and msgpack.unpackb(payload)["state"] == "ended":
                # No block follows a gap at the very end, so `gap_before` cannot tell it.
                self.fetch_to(self.gap_start.get(header["seq"], header["seq"]))
                self.skip_to(header["seq"])
                break
            if header["stream"] == self.stream and header["kind"] in {"raw", "filtered"}:
                samples = np.frombuffer(payload, DTYPES[header["dtype"]]).reshape(header["count"], header["channels"])
                # Section 4: what lies before the gap and is not here was dropped for us alone.
                self.fetch_to(header["seq"] - header["gap_before"])
                self.take(header["seq"], header["gap_before"], samples)
        self.ask("bye")
        return np.concatenate(self.parts)

    def take(self, seq: int, gap_before: int, samples: np.ndarray) -> None:
        """Add a block, less what we have of it already."""
        new = samples[max(0, self.expected - seq) :]
        if len(new) == 0:
            return
        if seq - gap_before > self.expected:
            raise SystemExit(f"samples {self.expected} to {seq - gap_before} are in no history any more")
        self.skip_to(seq)
        self.parts.append(new)
        self.expected = seq + len(samples)

    def skip_to(self, seq: int) -> None:
        """Nobody has the samples before `seq`."""
        if seq <= self.expected:
            return
        if self.gaps and sum(self.gaps[-1]) == self.expected:
            self.gaps[-1][1] += seq - self.expected
        else:
            self.gaps.append([self.expected, seq - self.expected])
        self.expected = seq

    def fetch_to(self, end: int) -> None:
        """Section 6, history: fetch the samples before `end` that are not here yet."""
        while self.expected < end:
            result, payload = self.ask("history", stream=self.stream, seq=self.expected, count=end - self.expected)
            if result["session"] != self.session:
                raise SystemExit("a new session began before the old one ended")
            if result["expired"]:
                raise SystemExit(f"{result['expired']} samples from {self.expected} on are no longer in the history")
            samples = np.frombuffer(payload, DTYPES[result["dtype"]]).reshape(-1, result["channels"])
            for seq, count, gap_before, *_ in result["blocks"]:
                self.take(seq, gap_before, samples[:count])
                samples, self.fetched = samples[count:], self.fetched + count
            # The range may end in a gap, which no block follows here.
            self.skip_to(result["next_seq"])

    def ask(self, verb: str, **args: object) -> tuple[dict, bytes]:
        """Section 5: one request, one reply. Returns its result and its frame of samples (empty but for history)."""
        self.control.send(msgpack.packb({"v": 1, "id": next(self._ids), "verb": verb, "args": args}))
        if not self.control.poll(REPLY_TIMEOUT_MS):
            raise SystemExit(f"no answer to {verb}: is the service running?")
        reply, *samples = self.control.recv_multipart()
        message = msgpack.unpackb(reply, strict_map_key=False)
        if not message["ok"]:
            raise SystemExit(f"{verb} refused: {message['error']['text']}")
        return message["result"], samples[0] if samples else b""


def main() -> None:
    """Read a stream to its end, write it, and say in one line what it was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime-dir", type=Path, required=True)
    parser.add_argument("--stream", default="amp0/raw")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    with zmq.Context() as context, context.socket(zmq.DEALER) as control, context.socket(zmq.SUB) as events:
        # Section 1: the two doors. What could not be sent when we leave is not worth waiting for.
        control.linger = 0
        control.connect(f"ipc://{args.runtime_dir}/control.sock")
        # Section 2: a topic brings its description too; `state` is kept, so the last one comes at once.
        events.subscribe(args.stream)
        device = args.stream.split("/", maxsplit=1)[0]
        events.subscribe(f"{device}/gap")
        events.subscribe(f"{device}/state")
        events.connect(f"ipc://{args.runtime_dir}/stream.sock")
        reader = Reader(control, events, args.stream)
        samples = reader.read()
    with args.out.open("wb") as file:
        np.save(file, samples)
    missing = sum(count for _, count in reader.gaps)
    print(f"samples {len(samples)}, gaps {len(reader.gaps)} ({missing} samples), fetched {reader.fetched}")


if __name__ == "__main__":
    main()
