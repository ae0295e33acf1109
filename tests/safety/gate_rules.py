"""The rules of a stimulus in plain Python, for the oracle: from the prose of gate.h and docs/safety, never from
gate.c.

Every pulse is kept for ever and every window computed from all of them; facts instead of states, exact products
instead of rounded quotients.
"""

from dataclasses import dataclass, field

US = 1_000
MS = 1_000_000
S = 1_000_000_000

# Ceiling and end of each limit, in the order of their bits.
RANGES = {
    "current_ua": (100_000, 1_000),
    "width_us": (1_000, 10),
    "charge_nc": (100_000, 10),
    "energy_uj": (10_000, 1),
    "load_energy_uj": (10_000, 1),
    "compliance_v": (400, 10),
    "rate_mhz": (50_000, 10),
    "interval_us": (1_000, 60_000_000),
    "pair_interval_us": (1_000, 60_000_000),
    "train_pulses": (500, 1),
    "train_duration_ms": (10_000, 1),
    "train_rest_ms": (10_000, 3_600_000),
    "mean_current_ua": (1_000, 1),
    "rms_ua_per_cm2": (10_000, 100),
    "site_pulses": (120, 1),
    "step_ua": (10_000, 100),
    "first_shot_ua": (10_000, 100),
    "impedance_ohm": (20_000, 100),
    "readback_current_percent": (20, 1),
    "readback_current_ua": (500, 1),
    "readback_width_percent": (20, 1),
    "readback_width_us": (10, 1),
    "dc_ua": (50, 1),
    "lease_ms": (2_000, 100),
    "idle_reset_ms": (300_000, 1_000),
}
TIGHTEST = {name: end for name, (_, end) in RANGES.items()}

MAX_CURRENT_UA = 100_000
MAX_WIDTH_US = 1_000
MAX_PULSES = 500
MAX_DURATION_US = 10_000_000
MAX_LOAD_OHM = 20_000
LAST_TIME_NS = 4 * 10**18
LONG_AGO_NS = -7_200 * S
STALE_NS = OLD_NS = 100 * MS
SATURATED_NS = 1_000 * MS
READBACK_NS = 200 * MS
JUMP_NS = 500 * MS
LEAD_NS = 20 * MS
AHEAD_NS = 1_000 * MS
FAST_NS = 200 * MS
BOOKED = 256
AWAITED = 2
RECENT = 4
SINGLE, PAIR, TRAIN = 1, 2, 3
WAIT = {"early", "readback_due"}


def up(amount, unit):
    """Rounded up: what is above a limit by any fraction is above it."""
    return -(-amount // unit)


def when(condition, *names):
    return set(names) if condition else set()


@dataclass(frozen=True)
class Sent:
    """A pulse that was let through."""

    seq: int
    at_ns: int
    current_ua: int
    width_us: int
    number: int
    of: int
    site: int
    fast: bool


@dataclass
class Session:
    """What holds while a site is armed, and is forgotten afterwards."""

    site: int
    operator_id: int
    active_ns: int
    delivered_ua: int = 0
    confirmed_ua: int = 0
    at_most_ua: int = MAX_CURRENT_UA


@dataclass
class Shot:
    kind: int
    current_ua: int
    width_us: int
    count: int
    interval_us: int
    due_ns: int
    sent: list = field(default_factory=list)

    @property
    def left(self):
        return self.count - len(self.sent)


class Facts:
    """What is so, and what stands against a pulse by it; nothing here changes a fact."""

    def __init__(self):
        self.now_ns = 0
        self.limits, self.limits_given = dict(TIGHTEST), False
        self.connected = False
        self.faults, self.dropped = set(), set()
        self.holder, self.nonce, self.lease_until_ns = 0, 0, 0
        self.newest_ns, self.saturated_since_ns, self.stamped = LONG_AGO_NS, None, False
        self.load_ohm = 0
        # Of the arming before, while none is in force.
        self.device = {"compliance_v": 0, "device_current_ua": 0, "device_width_us": 0, "area_mm2": 0}
        self.session, self.shot, self.cooling = None, None, False
        self.sent, self.awaited, self.agreed = [], [], []

    @property
    def state(self):
        if self.faults:
            return "fault"
        if not self.connected:
            return "off"
        if not self.session:
            return "idle"
        if self.shot:
            return "firing"
        return "cooldown" if self.cooling else "armed"

    def snapshot(self):
        session = self.session or Session(0, 0, 0)
        return {
            "state": self.state,
            "faults": self.faults,
            "dropped": self.dropped,
            "holder": self.holder,
            "lease_until_ns": self.lease_until_ns,
            "site": session.site,
            "operator_id": session.operator_id,
            "compliance_v": self.device["compliance_v"],
            "load_ohm": self.load_ohm,
            "last_ua": session.delivered_ua,
            "confirmed_ua": session.confirmed_ua,
            "retry_ua": session.at_most_ua,
            "left": self.shot.left if self.shot else 0,
            "due_ns": self.shot.due_ns if self.shot else None,
            "next_seq": len(self.sent),
            "awaited": len(self.awaited),
        }

    # --- what stands against

    def _not_armed(self):
        """Why there is nothing armed, if there is nothing."""
        return {
            "off": {"off"},
            "idle": {"disarmed"},
            "fault": {"fault"} | self.faults,
        }.get(self.state, set())

    def _not_ready(self):
        return {"firing": {"busy"}, "cooldown": {"cooldown"}}.get(self.state) or self._not_armed()

    def _fresh(self, now_ns):
        return abs(now_ns - self.newest_ns) <= STALE_NS

    def _stream_bars(self):
        long = self.saturated_since_ns is not None and self.now_ns - self.saturated_since_ns > SATURATED_NS
        return (
            when(not self._fresh(self.now_ns), "stale") | when(long, "saturated") | when(not self.stamped, "unstamped")
        )

    def gap_ns(self, at_ns, *, fast=False):
        """Since the last pulse of any kind, or of a fast train."""
        last_ns = next((pulse.at_ns for pulse in reversed(self.sent) if pulse.fast or not fast), LONG_AGO_NS)
        return max(at_ns - last_ns, 0)

    def _gap_bars(self, gap_ns):
        return when(gap_ns < self.limits["interval_us"] * US, "interval_us") | when(
            gap_ns * self.limits["rate_mhz"] < 1_000 * S, "rate_mhz"
        )

    def _begin_bars(self, at_ns):
        gap_ns = self.gap_ns(at_ns)
        return (
            self._gap_bars(gap_ns)
            | when(gap_ns < FAST_NS, "too_soon")
            | when(self.gap_ns(at_ns, fast=True) < self.limits["train_rest_ms"] * MS, "train_rest_ms")
        )

    def _follow_bars(self, at_ns):
        shot = self.shot
        lasts_ns = at_ns - shot.sent[0].at_ns + shot.width_us * US
        bars = when(lasts_ns > self.limits["train_duration_ms"] * MS, "train_duration_ms")
        gap_ns = self.gap_ns(at_ns)
        if shot.kind == PAIR:
            return bars | when(gap_ns < self.limits["pair_interval_us"] * US, "pair_interval_us")
        return bars | self._gap_bars(gap_ns)

    def _size_bars(self, current_ua, width_us):
        limits, device = self.limits, self.device
        return (
            when(current_ua > limits["current_ua"], "current_ua")
            | when(width_us > limits["width_us"], "width_us")
            | when(current_ua * width_us > limits["charge_nc"] * 1_000, "charge_nc")
            | when(current_ua**2 * width_us * 1_000 > limits["energy_uj"] * 10**12, "energy_uj")
            | when(current_ua > device["device_current_ua"], "device_limits")
            | when(width_us > device["device_width_us"], "device_limits")
        )

    def _load_bars(self, current_ua, width_us):
        if self.load_ohm < 1:
            return {"load"}
        if self.load_ohm > MAX_LOAD_OHM:
            return {"impedance_ohm"}  # nothing is computed with such a number
        energy = current_ua**2 * width_us * self.load_ohm
        needed = current_ua * self.load_ohm * 100
        return (
            when(self.load_ohm > self.limits["impedance_ohm"], "impedance_ohm")
            | when(energy > self.limits["load_energy_uj"] * 10**12, "load_energy_uj")
            | when(needed > 90 * self.device["compliance_v"] * 10**6, "headroom")
        )

    def window(self, at_ns, seconds, site=None):
        """Pulses less than `seconds` old at an instant, at one site or at any."""
        return [p for p in self.sent if at_ns - p.at_ns < seconds * S and site in {None, p.site}]

    def squares(self, at_ns, current_ua=0, width_us=0, more=0):
        """Squares of currents over 10 s, in 10^4 uA uA us, each pulse rounded up."""
        past = sum(up(p.current_ua**2 * p.width_us, 10_000) for p in self.window(at_ns, 10))
        return past + more * up(current_ua**2 * width_us, 10_000)

    def squares_allowed(self, density):
        return (density * self.device["area_mm2"] // 100) ** 2 * 1_000

    def charge(self, at_ns, current_ua, width_us, more):
        return sum(p.current_ua * p.width_us for p in self.window(at_ns, 10)) + more * current_ua * width_us

    def site(self):
        return self.session.site if self.session else 0

    def _dose_bars(self, current_ua, width_us, at_ns, more):
        limits = self.limits
        here = len(self.window(at_ns, 60, self.site())) + more
        squares = self.squares(at_ns, current_ua, width_us, more)
        charge = self.charge(at_ns, current_ua, width_us, more)
        known_area = self.device["area_mm2"] > 0
        dense = known_area and squares > self.squares_allowed(limits["rms_ua_per_cm2"])
        return (
            when(charge > limits["mean_current_ua"] * 10_000_000, "mean_current_ua")
            | when(dense, "rms_ua_per_cm2")
            | when(here > limits["site_pulses"], "site_pulses")
            | when(len(self.window(at_ns, 60)) + more > BOOKED, "history")
        )

    def step_allowed_ua(self):
        quarter = self.session.delivered_ua // 4 if self.session else 0
        return min(max(quarter, 500), self.limits["step_ua"])

    def _step_bars(self, current_ua):
        session = self.session or Session(0, 0, 0)
        bars = when(current_ua > session.at_most_ua, "retry")
        if not session.delivered_ua:
            return bars | when(current_ua > self.limits["first_shot_ua"], "first_shot_ua")
        free = current_ua <= max(session.delivered_ua + self.step_allowed_ua(), session.confirmed_ua)
        return bars | when(not free, "step_ua")

    def _pulse_bars(self, current_ua, width_us, at_ns, more):
        return (
            self._size_bars(current_ua, width_us)
            | self._load_bars(current_ua, width_us)
            | self._dose_bars(current_ua, width_us, at_ns, more)
            | self._step_bars(current_ua)
        )

    @staticmethod
    def _shape_bars(kind, current_ua, width_us, count, interval_us):
        sense = {
            SINGLE: count == 1 and interval_us == 0,
            PAIR: count == 2 and interval_us > 0,
            TRAIN: count > 1 and interval_us > 0,
        }.get(kind, False)
        if not (sense and current_ua > 0 and width_us > 0):
            return {"shape"}
        return (
            when(current_ua > MAX_CURRENT_UA, "current_ua")
            | when(width_us > MAX_WIDTH_US, "width_us")
            | when(count > MAX_PULSES, "train_pulses")
            | when(interval_us > MAX_DURATION_US, "train_duration_ms")
        )

    def _rhythm_bars(self, kind, width_us, count, interval_us):
        if kind == SINGLE:
            return set()
        limits = self.limits
        lasts_us = (count - 1) * interval_us + width_us
        bars = when(count > limits["train_pulses"], "train_pulses")
        bars |= when(lasts_us > limits["train_duration_ms"] * 1_000, "train_duration_ms")
        if kind == PAIR:
            return bars | when(interval_us < limits["pair_interval_us"], "pair_interval_us")
        return bars | self._gap_bars(interval_us * US)

    # --- explanation

    def warnings(self):
        dense = self.device["area_mm2"] and self.squares(self.now_ns) > self.squares_allowed(2_000)
        return when(self.load_ohm > 5_000, "impedance") | when(dense, "rms")

    def figures(self, *, kind, current_ua, width_us, count=1, interval_us=0, begin_ns=0, **_who):
        """What a request asks for, in the unit of each limit; nothing where a limit does not apply."""
        at_ns = self.begin_ns(begin_ns)
        asked = {"current_ua": current_ua, "width_us": width_us, "train_pulses": count, "impedance_ohm": self.load_ohm}
        if self._shape_bars(kind, current_ua, width_us, count, interval_us):
            return {**asked, "step_allowed_ua": 0, "rms_squares": 0}
        gap_ns = self.gap_ns(at_ns)
        intervals_us, rates_mhz = [gap_ns // US], [up(1_000 * S, gap_ns) if gap_ns else 1_000 * S]
        if kind == TRAIN:
            intervals_us.append(interval_us)
            rates_mhz.append(up(S, interval_us))
        delivered_ua = self.session.delivered_ua if self.session else 0
        asked |= {
            "charge_nc": up(current_ua * width_us, 1_000),
            "energy_uj": up(current_ua**2 * width_us, 10**9),
            "interval_us": min(intervals_us),
            "rate_mhz": max(rates_mhz),
            "train_rest_ms": self.gap_ns(at_ns, fast=True) // MS,
            "mean_current_ua": up(self.charge(at_ns, current_ua, width_us, count), 10_000_000),
            "site_pulses": len(self.window(at_ns, 60, self.site())) + count,
            "step_ua" if delivered_ua else "first_shot_ua": current_ua - delivered_ua,
            "step_allowed_ua": self.step_allowed_ua(),
            "rms_squares": self.squares(at_ns, current_ua, width_us, count),
        }
        if 1 <= self.load_ohm <= MAX_LOAD_OHM:
            asked["load_energy_uj"] = up(current_ua**2 * width_us * self.load_ohm, 10**12)
            asked["compliance_v"] = up(current_ua * self.load_ohm * 100, 90 * 10**6)
        if kind != SINGLE:
            asked["train_duration_ms"] = up((count - 1) * interval_us + width_us, 1_000)
        if kind == PAIR:
            asked["pair_interval_us"] = interval_us
        return asked
