"""The stimulus thread: waits for the stop door, for the stimulator and for commands, and gives `emgd.stimulate` its
turns.

One thread owns gate and stimulator. It waits for nothing else: no lock, no reply, no subscriber.
"""

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from typing import Final

from emgd.deferred import Deferred
from emgd.stim_commands import Command, Holder
from emgd.stim_hands import Asked
from emgd.stimulate import Stimulation
from emgd.stop_door import StopDoor

log = logging.getLogger("emgd.stim_thread")

PRIORITY: Final = 20
"""Of SCHED_FIFO, where that is permitted: below the sample loop's, above everything that is not in real time."""

MOST_COMMANDS: Final = 16
"""Commands obeyed in one turn: a flood of them must not keep the lease from ending."""


DISTRESS_S: Final = 0.01
"""Pause after a mistake of ours: whatever it is, it shall not fill log and processor."""


class StimulusThread:
    """Runs a Stimulation until `stop`. `ask` and `tell` are for other threads."""

    def __init__(self, stimulation: Stimulation, door: StopDoor) -> None:
        self.stimulation = stimulation
        self._door = door
        self._commands: deque[tuple[Holder, Command, Deferred | None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="stimulus", daemon=True)
        self._poller = select.poll()
        self._poller.register(door.fileno(), select.POLLIN)
        self._poller.register(self._wake, select.POLLIN)
        self._device: int | None = None

    # --- for other threads

    def start(self) -> None:
        """From here on gate and stimulator belong to the thread."""
        self._thread.start()

    def ask(self, holder: Holder, command: Command, deferred: Deferred) -> None:
        """Have a command obeyed; the answer goes to `deferred`."""
        self._commands.append((holder, command, deferred))
        os.eventfd_write(self._wake, 1)

    def tell(self, holder: Holder, command: Command) -> None:
        """Have a command obeyed whose answer nobody waits for."""
        self._commands.append((holder, command, None))
        os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """End the thread: the stimulator is disarmed and closed when this returns."""
        self._ending = True
        os.eventfd_write(self._wake, 1)
        if self._thread.is_alive():
            self._thread.join()
        self._door.close()
        os.close(self._wake)

    @property
    def running(self) -> bool:
        """The thread lives."""
        return self._thread.is_alive()

    # --- the thread

    def _run(self) -> None:
        self.stimulation.scheduling = ask_for_real_time()
        try:
            while not self._ending:
                try:
                    self._wait()
                    self._turn()
                except Exception as error:  # noqa: BLE001 - this thread is what disables the output: it goes on
                    self.stimulation.mishap(error)
                    time.sleep(DISTRESS_S)
        finally:
            self.stimulation.close()

    def _wait(self) -> None:
        """Until something has come, or time has to pass in the gate."""
        device = self.stimulation.descriptor
        if device != self._device:
            known, self._device = self._device, None
            if known is not None:
                self._poller.unregister(known)
            if device is not None:
                self._poller.register(device, select.POLLIN)
                self._device = device
        if self._commands:
            return
        self._poller.poll(-(-self.stimulation.wait_ns() // 1_000_000))

    def _turn(self) -> None:
        """One turn: a stop comes before everything else."""
        stopped, waiting = self._door.take()
        if stopped:
            self._door.tell(waiting, self.stimulation.stop("the stop door"))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        self.stimulation.step(self._asked())

    def _asked(self) -> list[Asked]:
        """What has come, as far as somebody still waits for it: an order that was given up is not obeyed later."""
        found: list[Asked] = []
        while self._commands and len(found) < MOST_COMMANDS:
            holder, command, deferred = self._commands.popleft()
            if deferred is None:
                found.append(Asked(holder, command, lambda _result: None))
            elif time.monotonic_ns() < deferred.deadline_ns:
                found.append(Asked(holder, command, deferred.answer))
        return found


def ask_for_real_time() -> str:
    """Ask for a real-time priority for the calling thread; returns what it got, for people."""
    try:
        # What is started from this thread, such as a simulated stimulator, is not to inherit it.
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        log.info("the stimulus thread runs without a real-time priority: %s", reason)
        return f"normal ({reason})"
    return f"fifo {PRIORITY}"
