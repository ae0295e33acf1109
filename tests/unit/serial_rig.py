"""A host at the other end of a serial model, on virtual time."""

import numpy as np

MS = 1_000_000
S = 1_000_000_000


class FixedSignal:
    """Counts that say where they are: 100 x sample + channel, 1 µV each."""

    channels = 8
    labels = tuple("12345678")
    uv_per_count = (1.0,) * 8
    saturation_counts = (2**23 - 1,) * 8
    notes = ()

    def __init__(self, rate_hz=250.0, length=None):
        self.rate_hz = rate_hz
        self.length = length

    def read(self, first, count):
        return (100 * np.arange(first, first + count)[:, np.newaxis] + np.arange(8)).astype(np.int32)

    def marks(self, first, count):
        return []


class SerialHost:
    """Takes all bytes, or `room` at most until there is more."""

    def __init__(self, model, now_ns=0, room=None):
        self.model = model
        self.now_ns = now_ns
        self.room = room
        self.heard = bytearray()
        model.connect(self._take)

    def _take(self, data):
        taken = data if self.room is None else data[: self.room]
        if self.room is not None:
            self.room -= len(taken)
        self.heard += taken
        return len(taken)

    def say(self, text):
        self.model.receive(text if isinstance(text, bytes) else text.encode(), self.now_ns)
        return self.read()

    def wait(self, ns):
        """Let time pass from event to event, as a server of the model does."""
        end_ns = self.now_ns + ns
        while (due_ns := self.model.next_event_ns()) is not None and due_ns <= end_ns:
            self.now_ns = max(self.now_ns, due_ns)
            self.model.run(self.now_ns)
        self.now_ns = end_ns
        self.model.run(end_ns)
        return self.read()

    def read(self):
        heard = bytes(self.heard)
        self.heard.clear()
        return heard


def values(packed):
    """8 x 24 bits, big endian, as numbers."""
    return [int.from_bytes(packed[at : at + 3], "big", signed=True) for at in range(0, 24, 3)]
