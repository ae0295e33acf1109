"""The stimulator's side of the service: its thread, its stop door, its audit log, joined to the rest. Nothing of it
where no stimulator is configured.
"""

import logging
import time
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from emgd import audit, limits
from emgd.acquisition import Acquisition
from emgd.config import Config
from emgd.deferred import Deferred, Replies
from emgd.electrodes import Electrodes
from emgd.interlock import Interlock
from emgd.publish import Publishing
from emgd.stim_commands import Command, Holder, Leave
from emgd.stim_desk import NAME
from emgd.stim_hands import Hands, Log
from emgd.stim_thread import StimulusThread
from emgd.stimulate import Stimulation
from emgd.stop_door import StopDoor
from emgd.stream_watch import StreamWatch
from emgd.verb import Caller
from emgd_drivers.registry import open_stimulator
from emgd_drivers.stimulator import Stimulator
from emgd_wire.codec import WireError
from emgd_wire.kinds import ErrorCode, Kind

log = logging.getLogger("emgd.stimulus")


class Stimulus:
    """Built by the service, started and stopped with it; without a door there is no stimulator. Its methods are for the
    service's own thread.
    """

    def __init__(self, config: Config, session: str, door: StopDoor | None, publishing: Publishing) -> None:
        self.interlock = Interlock()
        self._watch = StreamWatch()
        self._publishing = publishing
        self._config = config
        self._thread: StimulusThread | None = None
        self._log: audit.Audit | None = None
        if door is None:
            return
        hands = Hands(
            open=self._open,
            build=self._build,
            audit=self._open_log(session),
            publish=self._publish,
            watch=self._watch,
            interlock=self.interlock,
            profile=next(iter(config.limits.profiles), "motor"),
        )
        self._thread = StimulusThread(Stimulation(hands), door)

    def _open_log(self, session: str) -> Log:
        path = self._config.stimulator.audit_file or audit.default_path()
        try:
            self._log = audit.Audit.open(path, session)
        except audit.AuditError as error:
            log.error("nothing can be stimulated: %s", error)  # noqa: TRY400 - it says all that there is to say
            return BrokenLog(str(error))
        return self._log

    # --- for the stimulus thread

    def _open(self) -> Stimulator:
        chosen = self._config.stimulator
        return open_stimulator(chosen.driver or "", chosen.options)

    def _build(self, profile: str, device: Mapping[str, int], session: Mapping[str, int]) -> limits.LimitTable:
        return limits.build(profile, self._config.limits, device, session)

    def _publish(self, kind: Kind, payload: dict[str, Any], seq: int) -> None:
        self._publishing.post(kind, payload, seq, time.monotonic_ns(), device=NAME)

    # --- for the service

    def start(self) -> None:
        """From here on the stimulator belongs to its thread."""
        if self._thread:
            self._thread.start()

    def stop(self) -> None:
        """Disarm, close, end."""
        if self._thread:
            self._thread.stop()
        if self._log:
            self._log.close()

    def adopt(self, acquisition: Acquisition, electrodes: Electrodes) -> None:
        """Watch this amplifier: its samples tell of each pulse, and its test current keeps the stimulator off."""
        self.interlock.test_runs = lambda: electrodes.busy
        self._watch.adopt(acquisition)

    def ask(self, caller: Caller, name: str, command: Command, replies: Replies) -> Deferred:
        """Have a command obeyed; WireError where there is no stimulator."""
        if self._thread is None:
            raise WireError(
                ErrorCode.NO_STIMULATOR,
                "this service drives no stimulator",
                allowed="a [stimulator] in its configuration",
            )
        deferred = replies.defer("the stimulus thread", caller.now_ns)
        self._thread.ask(holder_of(caller, name), command, deferred)
        return deferred

    def leave(self, caller: Caller, name: str) -> None:
        """A client says that it is gone."""
        if self._thread:
            self._thread.tell(holder_of(caller, name), Leave())

    def as_map(self) -> dict[str, Any] | None:
        """The `stimulator` map of `status`: the last `stim0/state`; None where there is no stimulator."""
        return dict(self._thread.stimulation.summary) if self._thread else None


class BrokenLog:
    """Stands for an audit log that could not be opened: nothing can be recorded, so nothing can be armed."""

    def __init__(self, text: str) -> None:
        self._text = text

    def record(self, kind: str, **_fields: Any) -> int:
        """It cannot be."""
        raise audit.AuditError(f"{kind} cannot be logged: {self._text}")

    def check(self) -> None:
        """It cannot be."""
        raise audit.AuditError(self._text)

    def sync(self) -> None:
        """It cannot be."""
        raise audit.AuditError(self._text)


def holder_of(caller: Caller, name: str) -> Holder:
    """A client as the gate knows it: by its connection, which nobody else can have."""
    return Holder(int.from_bytes(blake2b(caller.routing_id, digest_size=8).digest(), "big") or 1, name)
