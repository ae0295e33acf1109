"""A client that stimulates, for tests on a machine that may stand still for longer than the gate allows: what that
disarms is armed again, and asserted is only what has to hold however slow everything is.
"""

import json
import time
from contextlib import suppress

from test_main_path import Listener

from emgd_client import RefusedError, Shot, connect
from emgd_client.decoding import decode
from emgd_client.messages import Pulse, StimulatorState

PATIENCE_S = 60.0
STALLS = {
    "stale",
    "unstamped",
    "time",
    "lease_ms",
    "holder",
    "disarmed",
    "old",
    "cooldown",
    "rate_mhz",
    "interval_us",
    "too_soon",
}
"""What a machine that stands still for a while makes of a request, and what is only a matter of waiting."""

FAULTS = {"device", "readback_missing", "mark", "stopped"}
"""What it makes of a stimulator: its watchdog bites, its reports and marks come too late."""

SITE = {"side": "right", "limb": "arm", "nerve": "median", "electrodes": "wrist"}
LEASE_S = 1.0


class Stimulating:
    """A client that renews its lease while it waits, as a GUI would in its own loop."""

    def __init__(self, running, profile="motor", electrodes=SITE["electrodes"]):
        self.client = connect("test", running.directory)
        self.stimulator = self.client.stimulator
        self.heard = []
        self._armed_for = {**SITE, "electrodes": electrodes, "profile": profile, "operator": "mw"}
        self._listener = Listener(running, "stim0/", "amp0/mark")
        self._renew_at = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.__exit__()
        self.client.close()

    def turn(self):
        """A moment of the loop."""
        now = time.monotonic()
        if now >= self._renew_at:
            self._renew_at = now + LEASE_S / 5
            with suppress(RefusedError):  # seen by whoever fires next
                self.stimulator.renew()
        if self._listener.socket.poll(20):
            message = decode(self._listener.socket.recv_multipart())
            if message is not None:
                self.heard.append(message)

    def until(self, condition, what):
        give_up = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < give_up, f"{what} did not happen; heard: {self.heard[-5:]}"
            self.turn()

    def retry(self, what, *attempts):
        """Do these one after the other; from the beginning when the machine stood still."""
        give_up = time.monotonic() + PATIENCE_S
        while (refused := self._refusal(attempts)) is not None:
            reasons = {refusal["name"] for refusal in refused.refusals}
            # Whatever else stands against it may follow from not being armed any more, such as a first current.
            if not reasons or ("disarmed" not in reasons and reasons - STALLS - FAULTS - {"fault"}):
                raise refused
            assert time.monotonic() < give_up, f"{what}: {refused}; {self.client.status()['device']}"
            self.recover()
        return self._result

    def _refusal(self, attempts):
        try:
            for attempt in attempts:
                self._result = attempt()
        except RefusedError as error:
            return error
        return None

    def recover(self):
        """Whatever a stall has latched is over, and nothing else: its reason is one that stalls have."""
        status = self.stimulator.status()
        if status["state"] == "fault":
            assert set(status["reasons"]) <= FAULTS, status["text"]
            self.stimulator.acknowledge("mw")
        self.turn()
        time.sleep(0.1)

    def take(self):
        if not self.stimulator.status()["yours"]:
            self.stimulator.take()

    def arm(self, **more):
        if self.stimulator.status()["state"] in ("off", "idle", "fault"):
            self.stimulator.arm(**self._armed_for, **more)

    def armed(self):
        self.retry("arming", self.take, self.arm)
        return self

    def given(self, **shot):
        """The pulses of a shot, at last."""
        wanted = Shot(**{"current_ua": 3_000, "width_us": 200, **shot})
        accepted = self.retry("firing", self.take, self.arm, lambda: self.stimulator.fire(wanted))
        pulses = []

        def complete():
            pulses[:] = [one for one in self.heard if isinstance(one, Pulse) and one.shot == accepted["shot"]]
            return len(pulses) == wanted.count or (pulses and self.states()[-1:] == ["idle"])

        self.until(complete, "the pulses")
        return pulses

    def states(self):
        return [one.state for one in self.heard if isinstance(one, StimulatorState)]


def pulses_in(path):
    """What the device's model wrote of each pulse at the instant at which it gave it."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
