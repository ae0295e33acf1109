"""The sample loop: bytes from the device to samples in the ring."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from emgd_ext.cascade import Cascade
from emgd_ext.clock import ClockModel
from emgd_ext.decoder import Decoder
from emgd_ext.ring import Ring
from emgd_ext.source import Source

CAUSE_COUNT: int

class SampleLoop:
    """Loop of one amplifier. After `run` has returned, `outcome` is "ended", "lost" or "stopped"."""

    ring: Ring
    clock: ClockModel
    outcome: str
    notify_fd: int
    filter_from_seq: int

    def __init__(
        self,
        decoder: Decoder,
        clock: ClockModel,
        ring: Ring,
        cascade: Cascade,
        limits: npt.NDArray[np.int32],
        ticks_per_sample: float,
        buffer_bytes: int,
    ) -> None: ...
    def run(self, source: Source) -> None:
        """Read `source` until the device ends its stream, goes away, or `stop` is called."""
    def stop(self) -> None:
        """Ask `run` to return soon; from any thread."""
    def feed(self, transfer: Buffer, host_ns: int) -> None:
        """One transfer that was here at `host_ns`. Not beside `run`."""
    def feed_idle(self, host_ns: int) -> None:
        """Nothing came for a while, until `host_ns`. Not beside `run`."""
    def finish(self, total: int) -> None:
        """The stream is over after `total` samples. After `run` has returned."""
    def resume(self, decoder: Decoder, clock: ClockModel, slept_ns: int = 0) -> None:
        """The same device is back after it was lost: go on with its new stream. After `run` has returned."""
    def probe(self, before_ns: int, tick: int, after_ns: int) -> bool:
        """Hand a clock probe to the loop; False when the mailbox is full."""
    def set_filter(self, cascade: Cascade) -> None:
        """Filter from the next block on."""
    def flag_impedance(self, channels: Iterable[int], on: bool) -> None:
        """Flag these channels from the present block on, or no longer; for a device that does not mark its test."""
    @property
    def filter_pending(self) -> bool:
        """A new filter waits for the next block."""
    @property
    def has_ended(self) -> bool:
        """The device said that its stream is over."""
    @property
    def next_seq(self) -> int:
        """Number of the next sample."""
    @property
    def idle_since_ns(self) -> int:
        """Host time of the newest transfer, 0 before the first."""
    def stats(self) -> tuple[dict[str, int], dict[str, int | list[int]]]:
        """(wire counters, sample counters)."""
