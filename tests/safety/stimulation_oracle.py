"""A second opinion on every pulse that goes through the electrodes. It knows what clients asked and were granted, and
what the device's model gave; of gate, driver and `emgd.stimulate` it knows nothing.

Times are host times in ns, in the order in which things happened.
"""

from collections import deque
from dataclasses import dataclass

MS = 1_000_000
LEASE_NS = 1_000 * MS
LEAD_NS = 9 * MS
"""A pulse lies in the device this long before its time at most: 8 ms, and what two clocks and an answer differ by."""

QUEUE = 2
"""Pulses that lie there at most."""

CLOCKS_NS = MS
LATE_NS = 100 * MS
APART_NS = 200 * MS
WINDOW_NS = 10_000 * MS
"""Over which the mean current is taken."""

MINUTE_NS = 60_000 * MS


@dataclass(frozen=True)
class Shot:
    """What was asked and granted, under the limits that were in force."""

    holder: int
    first: int
    count: int
    current_ua: int
    width_us: int
    interval_ns: int
    begin_ns: int
    limits: dict
    arming: int


class Oracle:
    def __init__(self):
        self.limits = None
        self.lease_until_ns = 0
        self.holder = None
        self.armings = 0
        self.ended_ns = 0
        self.after_end = 0
        self.shots = []
        self.given = []
        self.told = {}
        self.states = deque(maxlen=2000)
        self._first_of = set()

    # --- what clients were granted

    def leased(self, holder, now_ns):
        self.holder, self.lease_until_ns = holder, now_ns + LEASE_NS

    def left(self, holder, now_ns):
        if holder == self.holder:
            self.lease_until_ns = min(self.lease_until_ns, now_ns)
            self.ended(now_ns)

    def armed(self, limits):
        self.armings += 1
        self.limits, self.ended_ns, self.after_end = limits, None, 0

    def ended(self, now_ns):
        """Somebody disarmed or stopped it, or it was told that it is not armed."""
        if self.ended_ns is None:
            self.ended_ns, self.after_end = now_ns, 0

    def shot(self, holder, asked, answer):
        assert self.limits is not None
        assert self.ended_ns is None, "a shot was granted to a stimulator that is not armed"
        assert asked.current_ua <= self.limits["current_ua"]
        assert asked.width_us <= self.limits["width_us"]
        assert asked.current_ua * asked.width_us <= self.limits["charge_nc"] * 1000
        assert asked.count <= self.limits["train_pulses"]
        if asked.count > 1:
            least_us = self.limits["pair_interval_us" if asked.kind == "pair" else "interval_us"]
            assert asked.interval_us >= least_us
        self.shots.append(
            Shot(
                holder,
                answer["first_pulse"],
                asked.count,
                asked.current_ua,
                asked.width_us,
                asked.interval_us * 1000,
                asked.begin_ns or asked.asked_ns,
                self.limits,
                self.armings,
            )
        )

    # --- promise 1

    def pulse(self, given, *, percent, deaf):
        """A pulse went through the electrodes. `percent` is what a broken output stage makes of current and width;
        `deaf` says that the device hears nothing, STOP included.
        """
        shot = next((one for one in reversed(self.shots) if one.first <= given.seq < one.first + one.count), None)
        assert shot is not None, f"nobody asked for {given}"
        assert given.current_ua <= shot.current_ua * percent[0] // 100, given
        assert given.width_us <= shot.width_us * percent[1] // 100, given
        assert shot.arming == self.armings, f"{given} belongs to an earlier arming"
        assert shot.holder == self.holder, f"{given} belongs to somebody who has no lease"
        assert given.at_ns <= self.lease_until_ns + LEAD_NS, f"{given} is {given.at_ns - self.lease_until_ns} ns late"
        if self.ended_ns is not None and given.at_ns > self.ended_ns:
            self.after_end += 1
            assert deaf, f"{given} comes {given.at_ns - self.ended_ns} ns after the end"
            assert given.at_ns <= self.ended_ns + LEAD_NS
            assert self.after_end <= QUEUE
        if shot.arming not in self._first_of:
            self._first_of.add(shot.arming)
            assert shot.current_ua <= shot.limits["first_shot_ua"]
        self._in_its_place(given, shot)
        self.given.append((given, shot))
        self._dose(given, shot.limits)

    def _in_its_place(self, given, shot):
        due_ns = shot.begin_ns
        if self.given:
            last, other = self.given[-1]
            assert given.seq > last.seq, f"{given} comes after {last}"
            apart_ns = shot.interval_ns if other is shot else APART_NS
            assert given.at_ns - last.at_ns >= apart_ns - CLOCKS_NS, f"{given} is too soon after {last}"
            due_ns = max(due_ns, last.at_ns + (given.seq - last.seq) * apart_ns) if other is shot else due_ns
        assert given.at_ns >= due_ns - CLOCKS_NS, f"{given} was due at {due_ns}"
        assert given.at_ns <= due_ns + LATE_NS + LEAD_NS, f"{given} was due at {due_ns}"

    def _dose(self, given, limits):
        """Of what was asked: a device that gives more is found by its readback."""
        charge = sum(
            shot.current_ua * shot.width_us
            for one, shot in self.given
            if one.at_ns > given.at_ns - WINDOW_NS + CLOCKS_NS
        )
        assert charge <= limits["mean_current_ua"] * WINDOW_NS // 1000
        recent = [one for one, _ in self.given if one.at_ns > given.at_ns - MINUTE_NS + CLOCKS_NS]
        assert len(recent) <= limits["site_pulses"]

    # --- promise 2

    def state(self, state, now_ns):
        self.states.append((now_ns, state))
        if state not in ("armed", "firing", "cooldown"):
            self.ended(now_ns)

    def tell(self, payload, *, believable):
        """What is published of a pulse; `believable`: the readback repeats nothing old."""
        seq, delivered = payload["pulse"], payload["delivered"]
        assert seq not in self.told, f"pulse {seq} is told twice"
        self.told[seq] = payload
        if delivered is not None:
            found = [given for given, _ in self.given if given.seq == seq]
            assert found, f"pulse {seq} is told and was not given"
            if believable:
                assert (delivered["current_ua"], delivered["width_us"]) == (found[0].current_ua, found[0].width_us)
                assert abs(delivered["at_ns"] - found[0].at_ns) <= CLOCKS_NS

    def all_is_told(self, *, since=0):
        """Time enough has passed: each pulse is told once, or that nobody knows of it is a fault."""
        for given, _ in self.given[since:]:
            told = self.told.get(given.seq)
            if told is None or told["delivered"] is None:
                faults = [at for at, state in self.states if state in ("fault", "off") and at >= given.at_ns - LEAD_NS]
                assert faults, f"{given} was given, and all that is said of it is {told}"
