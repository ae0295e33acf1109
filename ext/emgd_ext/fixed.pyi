"""Decoder of devices that send a plain stream of frames of one length."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from emgd_ext.decoder import Decoder

class Place(NamedTuple):
    """Where a number lies in a frame: `bytes` bytes from `offset` on."""

    offset: int
    bytes: int
    big_endian: bool = False

class Constant(NamedTuple):
    """Bits that are the same in every frame: the byte at `offset`, masked with `mask`, is `value`."""

    offset: int
    mask: int
    value: int

class Layout:
    """Frames of `length` bytes that begin with `header`, end with one of the bytes `ends` (empty: with any) and count
    themselves.

    `samples` is the place of the first channel's sample, two's complement; the other channels follow without space
    between. `tick`, if any, is what the device's clock showed when it read the sample, `tick_hz` its frequency; without
    it the sample numbers are the ticks. `remark` is what the device may say between two frames. ValueError for what
    does not fit into a frame.
    """

    tick_hz: float
    def __init__(
        self,
        *,
        length: int,
        channels: int,
        header: bytes,
        counter: Place,
        samples: Place,
        ends: bytes = b"",
        constants: Sequence[Constant] = (),
        tick: Place | None = None,
        tick_hz: float = 0.0,
        remark: bytes = b"",
    ) -> None: ...

class Frame(NamedTuple):
    """A decoded frame as tests see it; `status` is 0 good, 1 corrupt; `samples` has shape (channels,)."""

    status: int
    known: bool
    flags: int
    frame_seq: int
    first: int
    count: int  # type: ignore[assignment]  # the glossary's word; it hides tuple.count, which nobody calls
    tick: int
    host_ns: int
    samples: npt.NDArray[np.int32] | None

class FixedDecoder(Decoder):
    """Frames of `layout`, which come `rate_hz` times a second. The calls below are from any thread."""

    frames: int
    answers: int
    left_out: int

    def __init__(self, layout: Layout, rate_hz: float) -> None: ...
    def expect_start(self, host_ns: int) -> None:
        """The device is about to be started: its first sample is taken after `host_ns`."""
    def expect_restart(self) -> None:
        """The device is about to pause and to set its counter to zero; once per call."""
    def expect_end(self, host_ns: int) -> None:
        """The device was told to stop at `host_ns`: once it is silent an END frame is handed over."""
    @property
    def samples(self) -> int:
        """Number of the next sample."""
    def decode(self, data: Buffer, host_ns: int) -> list[Frame]:
        """Frames that bytes which were here at `host_ns` settle, for tests and tools."""
    def decode_idle(self, host_ns: int) -> list[Frame]:
        """Frames that silence until `host_ns` settles."""
