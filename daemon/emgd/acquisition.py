"""One amplifier's path from driver to ring: opened, filtered, run by the sample loop, described for clients."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from emgd import filters
from emgd.config import Config, FilterRule
from emgd_drivers.api import Amplifier, DeviceError, Side
from emgd_ext.clock import ClockModel
from emgd_ext.loop import SampleLoop
from emgd_ext.ring import Ring
from emgd_wire.kinds import CAUSES, Flag, Kind

log = logging.getLogger("emgd.acquisition")

STREAMS: Final = {Kind.RAW: ("<i4", "count"), Kind.FILTERED: ("<f4", "uV")}
"""Data streams of an amplifier: dtype and unit."""

RAW_FLAGS: Final = Flag.SATURATED | Flag.ELECTRODE_OFF | Flag.GAP_BEFORE | Flag.IMPEDANCE
FLAG_MASKS: Final = {Kind.RAW: int(RAW_FLAGS), Kind.FILTERED: int(RAW_FLAGS | Flag.SETTLING)}
"""Flags that concern a stream: raw counts do not settle."""

FIRST_PROBES: Final = 12
"""Clock probes before the start, so that the first block's stamp is as good as the cable allows; the loop's mailbox
holds 16."""

BYTES_PER_SAMPLE: Final = 8
"""int32 counts and float32 microvolts."""

FILTER_SWAP_S: Final = 0.25
"""How long to wait for the loop to take a new filter: many blocks, and no pain on the control socket."""


class Acquisition:
    """An amplifier and everything between it and the ring. Calls come from the supervising thread."""

    def __init__(self, name: str, amplifier: Amplifier, config: Config) -> None:
        self.name = name
        self.info = amplifier.info
        self.channels = amplifier.channels
        specs = channel_specs(config.filters, self.info.channel_count)
        self._designer = filters.Designer(self.info.rate_hz)
        self.designed = self._designer.design(specs)
        self.block_samples: int = max(1, round(config.stream["block_ms"] * 1e-3 * self.info.rate_hz))
        self.ring = Ring(self.info.channel_count, self.block_samples, self._history_samples(config))
        # A recording played N times as fast has N times the tick rate in host time, and as many ticks to a sample.
        speed = self.info.speed or 1.0
        self.loop = SampleLoop(
            amplifier.decoder(),
            self._fresh_clock(),
            self.ring,
            filters.cascade_of(self.designed, [channel.uv_per_count for channel in self.channels]),
            np.array([channel.saturation_count for channel in self.channels], np.int32),
            self.info.tick_hz / (self.info.rate_hz * speed),
            2 * self.info.max_frame_bytes,
        )
        self.sample_ns = 1e9 / (self.info.rate_hz * speed)
        self.clock_state = "unlocked"
        """State of the clock model a moment ago, for threads that may not look at the model itself."""
        self._connect(amplifier)

    @property
    def clock(self) -> ClockModel:
        """The clock model of the device as it is connected now."""
        return self.loop.clock

    def _fresh_clock(self) -> ClockModel:
        return ClockModel(self.info.tick_hz, virtual=not self.info.has_clock)

    def _connect(self, amplifier: Amplifier) -> None:
        self.amplifier = amplifier
        self._source = amplifier.source()
        self._thread = threading.Thread(
            target=self.loop.run, args=(self._source,), name=f"loop-{self.name}", daemon=True
        )

    def _history_samples(self, config: Config) -> int:
        wanted = int(config.stream["history_s"] * self.info.rate_hz)
        bound: int = (config.stream["history_max_mb"] << 20) // (BYTES_PER_SAMPLE * self.info.channel_count)
        if wanted > bound:
            log.warning(
                "history of %.0f s needs more than history_max_mb = %d; it holds %.1f s",
                config.stream["history_s"],
                config.stream["history_max_mb"],
                bound / self.info.rate_hz,
            )
        return max(self.block_samples, min(wanted, bound))

    # --- life

    def start(self) -> None:
        """Probe the clock, start the loop, then the device."""
        if self.info.can_probe:
            for _ in range(FIRST_PROBES):
                self.probe_clock()
        self._thread.start()
        self.amplifier.start()

    def stop(self) -> None:
        """Stop the device, then the loop; whatever arrived is in the ring."""
        if self.running:
            try:
                self.amplifier.stop()
                self._thread.join(timeout=1.0)  # the END frame ends the loop by itself
            except DeviceError as error:
                log.info("%s: not stopped: %s", self.name, error)
        self.release()

    def release(self) -> None:
        """Let go of a device that is gone, or shall be."""
        self.join()
        self._source.close()
        self.amplifier.close()

    def resume(self, amplifier: Amplifier, slept_ns: int) -> None:
        """Go on with the same device, opened anew after `release`; `start` follows.

        The machine slept for `slept_ns` of the time in between. DeviceError when it is not what it was.
        """
        if difference := self._difference(amplifier):
            raise DeviceError(
                f"{amplifier.info.serial} came back with {difference}; start the service again to take it as it is"
            )
        self.loop.resume(amplifier.decoder(), self._fresh_clock(), slept_ns)
        self._connect(amplifier)

    def _difference(self, amplifier: Amplifier) -> str:
        """In what the streams that clients know would not fit this device; empty when they do."""
        found, known = amplifier.info, self.info
        if found.serial != known.serial:
            return f"another serial number than {known.serial}"
        if (found.channel_count, found.rate_hz) != (known.channel_count, known.rate_hz):
            return (
                f"{found.channel_count} channels at {found.rate_hz:g} Hz instead of "
                f"{known.channel_count} at {known.rate_hz:g} Hz"
            )
        if amplifier.channels != self.channels:
            return "other labels, gains or modes of its channels"
        return ""

    def join(self) -> None:
        """End the sample loop, whatever the device does."""
        self.loop.stop()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def running(self) -> bool:
        """The sample loop runs."""
        return self._thread.is_alive()

    def probe_clock(self) -> None:
        """Latch the device's clock once and hand the result to the loop."""
        probe = self.amplifier.probe_clock()
        self.loop.probe(probe.before_ns, probe.tick, probe.after_ns)

    def set_impedance_test(self, channel: int | None, sides: Side) -> None:
        """Send the test current through electrodes; of the amplifier as it is connected now."""
        self.amplifier.set_impedance_test(channel, sides)

    # --- filters

    def set_filter(self, channels: Sequence[int] | None, spec: filters.FilterSpec) -> int | None:
        """Another filter for some channels (None: all); returns the first sample through it, None if the stream
        stands still.

        FieldError when the rate does not allow it; then nothing has changed.
        """
        (designed,) = self._designer.design([spec])
        chosen = range(len(self.designed)) if channels is None else channels
        wanted = list(self.designed)
        for channel in chosen:
            wanted[channel] = designed
        self.loop.set_filter(filters.cascade_of(wanted, [channel.uv_per_count for channel in self.channels]))
        self.designed = wanted
        give_up = time.monotonic() + FILTER_SWAP_S
        while self.loop.filter_pending and time.monotonic() < give_up:
            time.sleep(0.001)
        return None if self.loop.filter_pending else self.loop.filter_from_seq

    def transport(self) -> dict[str, int]:
        """Counters of the way on which the bytes come, such as USB transfers; empty where it has none."""
        return self._source.stats()

    # --- for clients

    def stream_ids(self) -> dict[str, Kind]:
        """Ids of the data streams."""
        return {f"{self.name}/{kind}": kind for kind in STREAMS}

    def oldest(self) -> int:
        """First sample in the history; the next sample where there is none."""
        found = self.ring.first_block()
        return found[1].seq if found else self.ring.head

    def describe(self, kind: Kind, realtime_offset_ns: int) -> dict[str, Any]:
        """Payload of `<device>/<kind>/description`."""
        dtype, unit = STREAMS[kind]
        return {
            "stream": f"{self.name}/{kind}",
            "kind": kind.value,
            "device": self.name,
            "driver": self.info.driver,
            "serial": self.info.serial,
            "firmware": self.info.firmware,
            "simulated": self.info.simulated,
            "isolated": self.info.isolated,
            "rate_hz": self.info.rate_hz,
            "speed": self.info.speed,
            "notes": list(self.info.notes),
            "dtype": dtype,
            "unit": unit,
            "block_samples": self.block_samples,
            "history_samples": self.ring.capacity,
            "realtime_offset_ns": realtime_offset_ns,
            "channels": [self._describe_channel(number, kind) for number in range(len(self.channels))],
        }

    def _describe_channel(self, number: int, kind: Kind) -> dict[str, Any]:
        channel = self.channels[number]
        described: dict[str, Any] = {
            "label": channel.label,
            "uv_per_count": channel.uv_per_count,
            "saturation_count": channel.saturation_count,
            "gain": channel.gain,
            "mode": channel.mode.name.lower(),
        }
        if kind is Kind.FILTERED:
            described["filter"] = self.designed[number].as_map()
        return described

    def samples(self) -> dict[str, Any]:
        """The `samples` map of `status`."""
        _, samples = self.loop.stats()
        causes = samples.pop("causes")
        return {
            "head": self.ring.head,
            "oldest": self.oldest(),
            **samples,
            "causes": dict(zip(CAUSES, causes if isinstance(causes, list) else [], strict=True)),
        }


def channel_specs(rules: Sequence[FilterRule], channel_count: int) -> list[filters.FilterSpec]:
    """The filter of each channel: the last rule that names it, else off. ValueError names a channel that is not
    there.
    """
    specs = [filters.PRESETS["off"]] * channel_count
    for rule in rules:
        for channel in range(channel_count) if rule.channels is None else rule.channels:
            if not 0 <= channel < channel_count:
                raise ValueError(
                    f"[[filters]] channels: there is no channel {channel}; the device has 0 to {channel_count - 1}"
                )
            specs[channel] = rule.spec
    return specs
