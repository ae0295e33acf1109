"""What goes over the control socket between a simulated device's process and its host.

Each message is one SOCK_SEQPACKET datagram. The device speaks first, READY or FAILED; then each request, 8 bytes of
setup packet and its data, gets one reply, ANSWER or STALLED. The first byte of what the device says tells which.
"""

import json
from typing import Final

from emgd_drivers.emg8.exchange import Stall
from emgd_drivers.emg8.protocol import SETUP
from emgd_drivers.sim.model import Emg8Model

READY: Final = b"R"
"""And a JSON map: `saturation_counts`, one per channel, and `notes`, what should be known of the signal."""

FAILED: Final = b"F"
"""And one line for people."""

ANSWER: Final = b"A"
"""And the data of an IN request."""

STALLED: Final = b"S"

MAX_MESSAGE_BYTES: Final = 65536
"""Above the longest message, READY of 1024 channels."""


def ready(model: Emg8Model) -> bytes:
    """The device's first message when all is well."""
    return READY + json.dumps({"saturation_counts": model.saturation_counts, "notes": model.notes}).encode()


def failed(error: Exception) -> bytes:
    """The device's first and last message when it cannot be built."""
    return FAILED + " ".join(str(error).split()).encode()[: MAX_MESSAGE_BYTES - 1]


def reply(model: Emg8Model, request: bytes, now_ns: int) -> bytes:
    """What the device says to a request. Raises DeviceLostError when it is unplugged."""
    try:
        return ANSWER + model.control(request[: SETUP.size], request[SETUP.size :], now_ns)
    except Stall:
        return STALLED
