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

from emgd.acquisition import Acquisition
from emgd.connection import LIVE, Connection, Event, State
from emgd.control import Control
from emgd.electrodes import Electrodes
from emgd.hotplug import Hotplug
from emgd.impedance import NotStreamingError, Reason
from emgd.publish import Publishing
from emgd_drivers.api import Amplifier, DeviceError, DeviceLostError, DeviceStatus, RunState
from emgd_wire.kinds import Kind

log = logging.getLogger("emgd.supervisor")

PROBE_S: Final = 0.25
"""Clock probes: four a second give the model 64 of them in 16 s, for a thousandth of a core."""

WAIT_S: Final = 0.1
"""How often to look for the first subscriber, and whether it is time to look for the device."""

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

SLEPT_NS: Final = 100_000_000
"""CLOCK_BOOTTIME and CLOCK_MONOTONIC part only while the machine is suspended; less than this is reading them one
after the other."""

DRAINED_NS: Final = 1_000_000_000
"""After the device said it is over and nothing more came for this long, its END frame is not coming."""


@dataclass(slots=True)
class Timer:
    """A call that is due every so often; what was missed is not made up for."""

    period_s: float
    call: Callable[[int], None]
    due_ns: int = 0


class Supervisor:
    """Poll loop over control socket, udev's news, timers and the stop request.

    `adopt` makes the acquisition of a device that was opened for the first time, and the check of its electrodes, and
    publishes them; `describe` publishes the descriptions of its streams (again) after the machine slept for so many ns.
    """

    def __init__(
        self,
        connection: Connection,
        hotplug: Hotplug,
        publishing: Publishing,
        control: Control,
        adopt: Callable[[Amplifier], tuple[Acquisition, Electrodes]],
        describe: Callable[[int], None],
        *,
        wait: bool,
    ) -> None:
        self._connection = connection
        self._hotplug = hotplug
        self._publishing = publishing
        self._control = control
        self._adopt = adopt
        self._describe = describe
        self._wait = wait
        self._acquisition: Acquisition | None = None
        self._electrodes: Electrodes | None = None
        self._checking = Timer(IDLE_S, self._step_check)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._last_status: DeviceStatus | None = None
        self._watching_since_ns = 0
        self._restarts = 0
        self._suspended_ns = suspended_ns()
        self._slept_ns = 0
        self._complaints: set[str] = set()
        self._timers = [
            Timer(WAIT_S, self._look),
            Timer(PROBE_S, self._probe),
            Timer(CLOCK_S, self._publish_clock),
            Timer(CLOCK_S, self._repeat_state),
            Timer(STATUS_S, self._watch),
            Timer(KEEP_ALIVE_S, self._keep_alive),
            self._checking,
        ]

    def request_stop(self, *_signal: Any) -> None:
        """End `run` soon; safe in a signal handler. A second Ctrl-C while the service ends changes nothing."""
        if not self._stopping:
            self._stopping = True
            os.eventfd_write(self._wake, 1)

    def run(self) -> None:
        """Serve until `request_stop`."""
        poller = zmq.Poller()
        poller.register(self._control.socket, zmq.POLLIN)
        poller.register(self._control.replies, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        if self._hotplug.fileno is not None:
            poller.register(self._hotplug.fileno, zmq.POLLIN)
        while not self._stopping:
            now_ns = time.monotonic_ns()
            self._notice_sleep()
            for timer in self._timers:
                if now_ns >= timer.due_ns:
                    timer.due_ns = now_ns + int(timer.period_s * 1e9)
                    timer.call(now_ns)
            wait_ns = min(timer.due_ns for timer in self._timers) - time.monotonic_ns()
            poller.poll(max(0, wait_ns // 1_000_000 + 1))
            if self._hotplug.arrived():
                self._connection.retry_now()
            self._control.serve(time.monotonic_ns())
        os.close(self._wake)

    # --- finding the device

    def connect(self) -> None:
        """Open the device and let it stream, or wait for the first subscriber; raises DeviceError."""
        amplifier = self._connection.open()
        try:
            if self._acquisition is None:
                self._acquisition, self._electrodes = self._adopt(amplifier)
                self._connection.serial = amplifier.info.serial
                self._connection.fire(Event.FOUND, f"{amplifier.info.serial} waits for the first subscriber")
                if not self._wait:
                    self._start(self._acquisition)
            else:
                self._acquisition.resume(amplifier, self._slept_ns)
                self._slept_ns = 0
                self._start(self._acquisition)
        except BaseException:
            amplifier.close()
            raise

    def _start(self, acquisition: Acquisition) -> None:
        try:
            acquisition.start()
        except DeviceError:
            acquisition.release()
            raise
        self._last_status = None
        self._watching_since_ns = 0
        self._restarts = acquisition.loop.stats()[0]["restarts"]
        self._connection.fire(Event.STARTED, f"{acquisition.info.serial} streams")

    def _look(self, now_ns: int) -> None:
        """Is it time to look for the device, or has the subscriber come that it waits for?"""
        state = self._connection.state
        if state is State.WAITING and self._acquisition and self._publishing.stats()["subscriptions"]:
            try:
                self._start(self._acquisition)
            except DeviceError as error:
                self._connection.fire(Event.GONE, str(error))
        elif self._connection.is_due(now_ns):
            self._connection.tried(now_ns)
            try:
                self.connect()
            except DeviceError as error:
                self._cannot(error)

    def _cannot(self, error: DeviceError) -> None:
        if self._connection.state is State.WAITING:
            self._connection.fire(Event.GONE, str(error))
        else:
            self._connection.failed(error)

    def _lose(self, text: str, event: Event = Event.GONE) -> None:
        """The device is gone, or has to be opened anew; one that can come back is looked for."""
        if self._acquisition:
            if self._connection.returns:
                self._acquisition.release()
                event = Event.GONE
                text += "; it is looked for"
            else:
                self._acquisition.join()
        self._connection.fire(event, text)

    def _notice_sleep(self) -> None:
        """After a suspend a device has lost its power, its stream or at least what did not fit its FIFO: begin anew."""
        suspended = suspended_ns()
        slept_ns, self._suspended_ns = suspended - self._suspended_ns, suspended
        if slept_ns < SLEPT_NS:
            return
        log.warning("the machine slept for %.1f s", slept_ns / 1e9)
        if self._acquisition is not None:
            self._describe(slept_ns)
        if self._connection.returns:
            self._slept_ns += slept_ns
            if self._connection.state in LIVE:
                self._lose(f"the machine slept for {slept_ns / 1e9:.1f} s")

    # --- impedance check

    def start_check(self, channels: Sequence[int] | None, now_ns: int) -> dict[str, Any]:
        """Begin an impedance check; the test current flows a moment later.

        NotStreamingError, BusyError, InterlockError.
        """
        if not self._live or not self._electrodes:
            raise NotStreamingError(f"the device does not stream: {self._connection.text}")
        started = self._electrodes.start(channels, now_ns)
        self._checking.period_s, self._checking.due_ns = CHECK_S, 0
        return started

    def stop_check(self, reason: Reason, text: str, now_ns: int) -> bool:
        """Give an impedance check up; False when none ran. The test current is off when this returns or soon after."""
        stopped = self._electrodes is not None and self._electrodes.stop(reason, text, now_ns)
        if stopped:
            self._step_check(now_ns)
        return stopped

    def _step_check(self, now_ns: int) -> None:
        if (electrodes := self._electrodes) and self._acquisition:
            self._ask(self._acquisition, lambda: electrodes.step(now_ns))
            self._checking.period_s = CHECK_S if electrodes.busy else IDLE_S

    # --- timers

    @property
    def _live(self) -> Acquisition | None:
        """The acquisition while samples are due."""
        return self._acquisition if self._connection.state in LIVE else None

    def _probe(self, now_ns: int) -> None:
        acquisition = self._live
        if acquisition is None:
            return
        acquisition.clock_state = acquisition.clock.snapshot(now_ns)["state"]
        if acquisition.info.can_probe:
            self._ask(acquisition, acquisition.probe_clock)

    def _keep_alive(self, _now_ns: int) -> None:
        if (acquisition := self._live) and acquisition.info.has_keep_alive:
            self._ask(acquisition, lambda: acquisition.amplifier.keep_alive(KEEP_ALIVE_TIMEOUT_MS))

    def _publish_clock(self, now_ns: int) -> None:
        if acquisition := self._acquisition:
            self._publishing.post(Kind.CLOCK, acquisition.clock.snapshot(now_ns), acquisition.loop.next_seq, now_ns)

    def _repeat_state(self, now_ns: int) -> None:
        """A subscriber that fell behind may have lost the one message that says why no more samples come."""
        if self._connection.state not in LIVE:
            seq = self._acquisition.loop.next_seq if self._acquisition else 0
            self._publishing.post_state(self._connection.state.value, self._connection.text, seq, now_ns)

    def _watch(self, now_ns: int) -> None:
        """Is everything that should move moving? Compare what the loop sees with what the device says."""
        if not self._publishing.running:
            # Nobody is told anything any more, so end, and loudly.
            raise RuntimeError("the publish thread has ended by itself")
        acquisition = self._live
        if acquisition is None:
            return
        loop = acquisition.loop
        if loop.has_ended:
            self._ask(acquisition, lambda: self._end(acquisition, acquisition.amplifier.status()))
        elif not acquisition.running:
            self._lose(f"{acquisition.info.serial} went away after sample {loop.next_seq}")
        elif loop.stats()[0]["restarts"] != self._restarts:
            remedy = "" if self._connection.returns else "; start the service again"
            self._lose(f"{acquisition.info.serial} began to count anew by itself{remedy}")
        else:
            self._ask(acquisition, lambda: self._compare(acquisition, acquisition.amplifier.status(), now_ns))

    def _compare(self, acquisition: Acquisition, status: DeviceStatus, now_ns: int) -> None:
        loop = acquisition.loop
        self._watching_since_ns = self._watching_since_ns or now_ns
        idle_ns = now_ns - max(loop.idle_since_ns, self._watching_since_ns)
        silent_ns = max(SILENT_NS, int(SILENT_SAMPLES * acquisition.sample_ns))
        nothing_new = self._last_status is not None and self._last_status.frames == status.frames
        self._last_status = status
        if status.state is not RunState.STREAMING and nothing_new and idle_ns > DRAINED_NS and not loop.has_ended:
            acquisition.join()
            loop.finish(status.samples)
            self._end(acquisition, status)
        elif idle_ns > silent_ns:
            text = f"no data from {acquisition.info.serial} for {silent_ns / 1e9:g} s"
            self._connection.fire(Event.SILENCE, text)
        else:
            self._connection.fire(Event.DATA, f"{acquisition.info.serial} streams")

    def _end(self, acquisition: Acquisition, status: DeviceStatus | None = None) -> None:
        serial, samples = acquisition.info.serial, acquisition.loop.next_seq
        if status and status.host_was_silent:
            silence_s = KEEP_ALIVE_TIMEOUT_MS / 1000
            remedy = "" if self._connection.returns else "; start the service again"
            text = f"{serial} stopped after {samples} samples: it had not heard of this machine for {silence_s:g} s"
            self._lose(text + remedy, Event.GAVE_UP)
        else:
            self._connection.fire(Event.ENDED, f"{serial} has ended its stream after {samples} samples")

    def _ask(self, acquisition: Acquisition, call: Callable[[], None]) -> None:
        """Call the device; a device that is gone is lost, unless its last frames said that it is over."""
        try:
            call()
        except DeviceLostError as error:
            acquisition.join()
            if acquisition.loop.has_ended:
                self._end(acquisition)
            else:
                self._lose(str(error))
        except DeviceError as error:
            if str(error) not in self._complaints:  # said once: these calls come back every second
                self._complaints.add(str(error))
                log.warning("%s: %s", acquisition.name, error)


def suspended_ns() -> int:
    """How long this machine has been suspended since it was started."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
