"""The supervising thread: answers the control socket, watches the device, keeps its clock probed and the world
informed.

One thread, one poll loop; everything slow about a device (probe, status, keep-alive) happens here and never in the
sample loop.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import zmq

from emgd.acquisition import STREAMS, Acquisition
from emgd.control import Control
from emgd.electrodes import Electrodes
from emgd.impedance import NotStreamingError, Reason
from emgd.publish import Publishing
from emgd_drivers.api import DeviceError, DeviceLostError, DeviceStatus, RunState
from emgd_wire.kinds import Kind

log = logging.getLogger("emgd.supervisor")

PROBE_S: Final = 0.25
"""Clock probes: four a second give the model 64 of them in 16 s, for a thousandth of a core."""

WAIT_S: Final = 0.1
"""How often to look for the first subscriber."""

CHECK_S: Final = 0.02
"""How soon a running impedance check sees what is in the stream: a stimulus must end the test current at once."""

IDLE_S: Final = 1.0
"""Without a check there is nothing to see."""

CLOCK_S: Final = 1.0
STATUS_S: Final = 0.5
KEEP_ALIVE_S: Final = 1.0
KEEP_ALIVE_TIMEOUT_MS: Final = 5000
"""The device stops by itself when the host has been dead this long; five missed calls, so that a stalled machine is
no false alarm."""

SILENT_NS: Final = 500_000_000
"""No data for this long while streaming is a state of its own ..."""

SILENT_SAMPLES: Final = 3
"""... and at least this many samples, for recordings of a sample a second."""

DRAINED_NS: Final = 1_000_000_000
"""After the device said it is over and nothing more came for this long, its END frame is not coming."""


@dataclass(slots=True)
class Timer:
    """A call that is due every so often; what was missed is not made up for."""

    period_s: float
    call: Callable[[int], None]
    due_ns: int = 0


class Supervisor:
    """Poll loop over control socket, timers and the stop request."""

    def __init__(
        self, acquisition: Acquisition, publishing: Publishing, control: Control, electrodes: Electrodes
    ) -> None:
        self._acquisition = acquisition
        self._publishing = publishing
        self._control = control
        self._electrodes = electrodes
        self._checking = Timer(IDLE_S, self._step_check)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._last_status: DeviceStatus | None = None
        self._watching_since_ns = 0
        self._complaints: set[str] = set()
        self._silent_ns = max(SILENT_NS, int(SILENT_SAMPLES * acquisition.sample_ns))
        self.state = "opening"
        self.text = "the device is being opened"
        self._timers = [
            Timer(WAIT_S, self._start_when_wanted),
            Timer(PROBE_S, self._probe),
            Timer(CLOCK_S, self._publish_clock),
            Timer(STATUS_S, self._watch),
            Timer(KEEP_ALIVE_S, self._keep_alive),
            self._checking,
        ]

    def request_stop(self, *_signal: Any) -> None:
        """End `run` soon; safe in a signal handler."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Serve until `request_stop`."""
        poller = zmq.Poller()
        poller.register(self._control.socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while not self._stopping:
            now_ns = time.monotonic_ns()
            for timer in self._timers:
                if now_ns >= timer.due_ns:
                    timer.due_ns = now_ns + int(timer.period_s * 1e9)
                    timer.call(now_ns)
            wait_ns = min(timer.due_ns for timer in self._timers) - time.monotonic_ns()
            poller.poll(max(0, wait_ns // 1_000_000 + 1))
            self._control.serve(time.monotonic_ns())
        os.close(self._wake)

    # --- state

    def set_state(self, state: str, text: str) -> None:
        """Note a state and publish it, if it is a new one."""
        if (state, text) == (self.state, self.text):
            return
        level = logging.WARNING if state in ("lost", "silent") else logging.INFO
        log.log(level, "%s: %s: %s", self._acquisition.name, state, text)
        self.state, self.text = state, text
        if not self.live:
            self._electrodes.lose(text, time.monotonic_ns())
        payload = {"device": self._acquisition.name, "state": state, "text": text}
        self._publishing.post(Kind.STATE, payload, self._acquisition.loop.next_seq, time.monotonic_ns())

    def describe_streams(self, realtime_offset_ns: int) -> None:
        """Publish the descriptions of the data streams."""
        for kind in STREAMS:
            description = self._acquisition.describe(kind, realtime_offset_ns)
            self._publishing.describe(description, self._acquisition.oldest(), time.monotonic_ns())

    @property
    def live(self) -> bool:
        """The device streams, as far as one knows."""
        return self.state in ("streaming", "silent")

    # --- impedance check

    def start_check(self, channels: Sequence[int] | None, now_ns: int) -> dict[str, Any]:
        """Begin an impedance check; the test current flows a moment later.

        NotStreamingError, BusyError, InterlockError.
        """
        if not self.live:
            raise NotStreamingError(f"{self._acquisition.info.serial} does not stream: {self.text}")
        started = self._electrodes.start(channels, now_ns)
        self._checking.period_s, self._checking.due_ns = CHECK_S, 0
        return started

    def stop_check(self, reason: Reason, text: str, now_ns: int) -> bool:
        """Give an impedance check up; False when none ran. The test current is off when this returns or soon after."""
        stopped = self._electrodes.stop(reason, text, now_ns)
        if stopped:
            self._step_check(now_ns)
        return stopped

    def _step_check(self, now_ns: int) -> None:
        self._ask(lambda: self._electrodes.step(now_ns))
        self._checking.period_s = CHECK_S if self._electrodes.busy else IDLE_S

    def start_device(self) -> None:
        """Let the device stream; raises DeviceError."""
        self._acquisition.start()
        self.set_state("streaming", f"{self._acquisition.info.serial} streams")

    # --- timers

    def _start_when_wanted(self, _now_ns: int) -> None:
        if self.state == "waiting" and self._publishing.stats()["subscriptions"]:
            try:
                self.start_device()
            except DeviceError as error:
                self._acquisition.join()
                self.set_state("lost", str(error))

    def _probe(self, _now_ns: int) -> None:
        if self.live and self._acquisition.info.can_probe:
            self._ask(self._acquisition.probe_clock)

    def _keep_alive(self, _now_ns: int) -> None:
        if self.live and self._acquisition.info.has_keep_alive:
            self._ask(lambda: self._acquisition.amplifier.keep_alive(KEEP_ALIVE_TIMEOUT_MS))

    def _publish_clock(self, now_ns: int) -> None:
        self._publishing.post(
            Kind.CLOCK, self._acquisition.clock.snapshot(now_ns), self._acquisition.loop.next_seq, now_ns
        )

    def _watch(self, now_ns: int) -> None:
        """Is everything that should move moving? Compare what the loop sees with what the device says."""
        if not self._publishing.running:
            # Nobody is told anything any more, so end, and loudly.
            raise RuntimeError("the publish thread has ended by itself")
        if not self.live:
            return
        loop = self._acquisition.loop
        if loop.has_ended:
            self._ask(lambda: self._end(self._acquisition.amplifier.status()))
        elif not self._acquisition.running:
            self.set_state("lost", f"{self._acquisition.info.serial} went away after sample {loop.next_seq}")
        elif loop.stats()[0]["restarts"]:
            self._acquisition.join()
            self.set_state(
                "lost", f"{self._acquisition.info.serial} began to count anew by itself; start the service again"
            )
        else:
            self._ask(lambda: self._compare(self._acquisition.amplifier.status(), now_ns))

    def _compare(self, status: DeviceStatus, now_ns: int) -> None:
        loop = self._acquisition.loop
        self._watching_since_ns = self._watching_since_ns or now_ns
        idle_ns = now_ns - max(loop.idle_since_ns, self._watching_since_ns)
        nothing_new = self._last_status is not None and self._last_status.frames == status.frames
        self._last_status = status
        if status.state is not RunState.STREAMING and nothing_new and idle_ns > DRAINED_NS and not loop.has_ended:
            self._acquisition.join()
            loop.finish(status.samples)
            self._end(status)
        elif idle_ns > self._silent_ns:
            self.set_state("silent", f"no data from {self._acquisition.info.serial} for {self._silent_ns / 1e9:g} s")
        else:
            self.set_state("streaming", f"{self._acquisition.info.serial} streams")

    def _end(self, status: DeviceStatus | None = None) -> None:
        serial, samples = self._acquisition.info.serial, self._acquisition.loop.next_seq
        if status and status.host_was_silent:
            silence_s = KEEP_ALIVE_TIMEOUT_MS / 1000
            text = f"{serial} stopped after {samples} samples: it had not heard of this machine for {silence_s:g} s"
            self.set_state("stopped", text + "; start the service again")
        else:
            self.set_state("ended", f"{serial} has ended its stream after {samples} samples")

    def _ask(self, call: Callable[[], None]) -> None:
        """Call the device; a device that is gone is lost, unless its last frames said that it is over."""
        try:
            call()
        except DeviceLostError as error:
            self._acquisition.join()
            if self._acquisition.loop.has_ended:
                self._end()
            else:
                self.set_state("lost", str(error))
        except DeviceError as error:
            if str(error) not in self._complaints:  # said once: these calls come back every second
                self._complaints.add(str(error))
                log.warning("%s: %s", self._acquisition.name, error)
