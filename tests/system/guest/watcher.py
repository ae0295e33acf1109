"""A client inside the guest that looks at every sample and writes down what the service tells, a line of JSON each.

    python watcher.py LOG        until SIGTERM

What it writes: `state` (with the text), `gap` (seq, count, causes), `resumed` (the first block behind a gap), `begun`
(the first block of all), `wrong` (anything that must not be), and at the end `done` with the figures. It holds that the
numbers run on, that the values are one ramp between gaps (ramp.py), that the session stays, and that no sample comes
twice. What was dropped for this client alone it fetches from the history, and checks that as well.
"""

import json
import signal
import sys
from pathlib import Path

import msgpack
import numpy as np
import protocol_reader
import ramp
import zmq
from protocol_reader import DTYPES, Reader

RUNTIME_DIR = Path("/run/emgd")
STREAM = "amp0/raw"
POLL_MS = 200

protocol_reader.REPLY_TIMEOUT_MS = 60_000
"""Here an answer may take far longer than on a machine that somebody would use."""


class Watcher(Reader):
    """A reader that begins where the stream is, checks samples instead of keeping them, and tells what happens."""

    def __init__(self, control, events, log):
        super().__init__(control, events, STREAM)
        self.log = log
        self.begun = False
        self.samples = 0
        self.blocks = 0
        self.next_number = None
        self.causes = {}

    def tell(self, event, **what):
        self.log.write(json.dumps({"event": event, **what}) + "\n")
        self.log.flush()

    def message(self, header, payload):
        """Whatever came from the stream socket."""
        if self.session not in {None, header["session"]}:
            self.tell("wrong", text=f"session {header['session']} after {self.session}")
        self.session = header["session"]
        if header["kind"] == "state":
            state = msgpack.unpackb(payload)
            self.tell("state", state=state["state"], text=state["text"], seq=header["seq"])
        elif header["kind"] == "gap":
            causes = msgpack.unpackb(payload)["causes"]
            self.causes[header["seq"]] = causes
            self.tell("gap", seq=header["seq"], count=header["count"], causes=causes)
        elif header["kind"] == "raw":
            self.block(header, payload)

    def block(self, header, payload):
        """A block: what lies before it, and the block itself."""
        samples = np.frombuffer(payload, DTYPES[header["dtype"]]).reshape(header["count"], header["channels"])
        start = header["seq"] - header["gap_before"]
        if not self.begun:
            self.begun, self.expected = True, header["seq"]
            self.tell("begun", seq=header["seq"], status=self.ask("status")[0])
        elif start < self.expected:
            self.tell("wrong", text=f"block {header['seq']} with a gap of {header['gap_before']} comes again")
        self.fetch_to(start)
        self.take(header["seq"], header["gap_before"], samples)
        self.blocks += 1
        if header["gap_before"]:
            number = int(samples[0, 0]) // ramp.CHANNELS
            self.tell("resumed", seq=header["seq"], gap_before=header["gap_before"], number=number)

    def take(self, seq, gap_before, samples):
        """Check what `Reader` would keep: each piece begins where the last one ended, or anew behind a gap."""
        gaps = len(self.gaps)
        super().take(seq, gap_before, samples)
        for piece in self.parts:
            number = ramp.sample_number(piece)
            if number is None:
                self.tell("wrong", text=f"the values of {len(piece)} samples before {self.expected} are no ramp")
            elif len(self.gaps) == gaps and number != self.next_number is not None:
                self.tell("wrong", text=f"sample {number} of the ramp at {seq}, not {self.next_number}")
            self.samples += len(piece)
            self.next_number = None if number is None else (number + len(piece)) % ramp.WRAP
        self.parts.clear()


def main():
    """Watch until told to end."""
    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(True))
    with (
        Path(sys.argv[1]).open("w") as log,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as control,
        context.socket(zmq.SUB) as events,
    ):
        control.linger = 0
        control.connect(f"ipc://{RUNTIME_DIR}/control.sock")
        for topic in (STREAM, "amp0/gap", "amp0/state"):
            events.subscribe(topic)
        events.connect(f"ipc://{RUNTIME_DIR}/stream.sock")
        watcher = Watcher(control, events, log)
        watcher.ask("hello", name="watcher")
        while not ending:
            if events.poll(POLL_MS):
                _, header, payload = events.recv_multipart()
                watcher.message(msgpack.unpackb(header), payload)
        watcher.tell(
            "done",
            samples=watcher.samples,
            blocks=watcher.blocks,
            expected=watcher.expected,
            gaps=watcher.gaps,
            fetched=watcher.fetched,
            session=watcher.session,
            status=watcher.ask("status")[0],
        )


if __name__ == "__main__":
    main()
