"""A gate and its oracle side by side: each call goes to both, and they must agree in verdict, state and explanation.

Beside the oracle, which knows all rules, stand the two promises in their plainest words, checked at every pulse from
nothing but what was called and what went out (`Promises`).
"""

import math
from fractions import Fraction

from gate_oracle import Oracle
from gate_rules import MS, PAIR, TRAIN, US, S, Sent

from emgd_ext.gate import Gate, Limits, bit, names_in

# Calls that carry the time as an argument, and where.
TIMED_LAST = ("connect", "take", "renew", "stream", "load", "confirm", "tick")
TIMED_FIRST = ("arm", "request", "fire", "readback", "acknowledge")

# A table with room: what a pulse is refused for is what a test has changed.
WIDE = {
    "current_ua": 80_000,
    "width_us": 500,
    "charge_nc": 30_000,
    "energy_uj": 3_000,
    "load_energy_uj": 9_000,
    "compliance_v": 390,
    "rate_mhz": 5_000,
    "interval_us": 2_000,
    "pair_interval_us": 1_500,
    "train_pulses": 40,
    "train_duration_ms": 8_000,
    "train_rest_ms": 10_000,
    "mean_current_ua": 900,
    "rms_ua_per_cm2": 9_000,
    "site_pulses": 100,
    "step_ua": 8_000,
    "first_shot_ua": 9_000,
    "impedance_ohm": 12_000,
    "readback_current_percent": 10,
    "readback_current_ua": 400,
    "readback_width_percent": 5,
    "readback_width_us": 8,
    "dc_ua": 20,
    "lease_ms": 1_500,
    "idle_reset_ms": 20_000,
}


def limits_of(table):
    limits = Limits()
    assert limits.merge(table, "profile")[0] == ()
    return limits


class Promises:
    """No pulse outside the armed limits, none without a lease, an arming and a fresh stream."""

    def __init__(self):
        self.table = {}
        self.lease_until_ns = self.sample_ns = -(10**18)
        self.armed = None
        self.load_ohm = 0
        self.pulses = []  # (pulse, shot, what was armed)
        self.shot = None

    def heard(self, name, verdict, now_ns, arguments):
        """What a call that was made tells."""
        if name == "set_limits" and not verdict:
            self.table = arguments["table"]
        elif name in {"take", "renew"} and not verdict:
            self.lease_until_ns = now_ns + self.table.get("lease_ms", 100) * MS
        elif name == "stream":
            sample_ns = arguments["sample_ns"]
            self.sample_ns = max(self.sample_ns, sample_ns if sample_ns <= now_ns + 100 * MS else self.sample_ns)
        elif name in {"load", "readback"}:
            self.load_ohm = arguments["load_ohm"]
        elif name == "arm" and not verdict:
            self.armed, self.load_ohm = arguments, arguments["load_ohm"]
        elif name == "request" and not verdict:
            self.shot = arguments
        elif name in {"disarm", "stop", "fault", "disconnect", "connect"} or (name == "release" and not verdict):
            self.armed = None

    def broken_by(self, pulse, now_ns):
        """What a pulse that was permitted now violates."""
        table, armed = self.table, self.armed
        if not armed:
            return {"not armed"}
        self.pulses.append((pulse, self.shot, armed))
        energy = Fraction(pulse.current_ua**2 * pulse.width_us, 10**12)
        rules = {
            "lease": now_ns < self.lease_until_ns and pulse.at_ns < self.lease_until_ns,
            "stream": abs(now_ns - self.sample_ns) <= 100 * MS,
            "lead": now_ns <= pulse.at_ns <= now_ns + 20 * MS,
            "current": 0 < pulse.current_ua <= min(table["current_ua"], armed["device_current_ua"]),
            "width": 0 < pulse.width_us <= min(table["width_us"], armed["device_width_us"]),
            "charge": pulse.current_ua * pulse.width_us <= 1000 * table["charge_nc"],
            "energy": energy * 1000 <= table["energy_uj"],
            "load energy": energy * self.load_ohm <= table["load_energy_uj"],
            "impedance": 1 <= self.load_ohm <= table["impedance_ohm"],
            "headroom": pulse.current_ua * self.load_ohm <= Fraction(9, 10) * armed["compliance_v"] * 10**6,
            "asked": (pulse.current_ua, pulse.width_us) == (self.shot["current_ua"], self.shot["width_us"]),
        }
        return {rule for rule, kept in rules.items() if not kept} | self._dose_broken() | self._rhythm_broken()

    def _dose_broken(self):
        """The windows that end at the newest pulse."""
        newest, _, armed = self.pulses[-1]
        recent = [pulse for pulse, _, _ in self.pulses if newest.at_ns - pulse.at_ns < 10 * S]
        sites = [a["site"] for pulse, _, a in self.pulses if newest.at_ns - pulse.at_ns < 60 * S]
        broken = set()
        if Fraction(sum(p.current_ua * p.width_us for p in recent), 10**7) > self.table["mean_current_ua"]:
            broken.add("mean current")
        area = armed.get("area_mm2", 0)
        square = Fraction(sum(p.current_ua**2 * p.width_us for p in recent), 10**7)
        if area and square > Fraction(self.table["rms_ua_per_cm2"] * area, 100) ** 2:
            broken.add("rms")
        if sites.count(armed["site"]) > self.table["site_pulses"]:
            broken.add("pulses per site")
        return broken

    def _rhythm_broken(self):
        """The newest pulse beside the ones before."""
        newest, shot, _ = self.pulses[-1]
        kind = shot["kind"]
        own = [pulse for pulse, s, _ in self.pulses if s is shot]
        fast = [p for p, s, _ in self.pulses if s is not shot and s["kind"] == TRAIN and s["interval_us"] < 200_000]
        broken = set()
        if len(own) > shot.get("count", 1) or (kind in {PAIR, TRAIN} and len(own) > self.table["train_pulses"]):
            broken.add("train pulses")
        if newest.at_ns - own[0].at_ns + newest.width_us * US > self.table["train_duration_ms"] * MS and len(own) > 1:
            broken.add("train duration")
        if fast and newest.at_ns - fast[-1].at_ns < self.table["train_rest_ms"] * MS:
            broken.add("train rest")
        if len(self.pulses) > 1:
            gap_ns = newest.at_ns - self.pulses[-2][0].at_ns
            paired = kind == PAIR and len(own) > 1
            least_ns = self.table["pair_interval_us" if paired else "interval_us"] * US
            if not paired:
                least_ns = max(least_ns, math.ceil(Fraction(1000 * S, self.table["rate_mhz"])))
            if gap_ns < least_ns:
                broken.add("interval")
        return broken


class World:
    """Calls both. `now_ns` is the time of the next call."""

    def __init__(self, now_ns=0):
        self.gate, self.oracle = Gate(now_ns), Oracle(now_ns)
        self.promises = Promises()
        self.now_ns = now_ns
        self.latched = set()
        self.steps = 0
        self.table = None
        self.compare()

    def __getattr__(self, name):
        """Each call of the gate, at `now_ns`."""
        if name.startswith("_") or not hasattr(Oracle, name):
            raise AttributeError(name)

        def call(*arguments, **named):
            return self._both(name, arguments, named)

        return call

    def set_limits(self, table):
        """The table is stated in full: a limit left out is at its ceiling."""
        limits = limits_of(table)
        verdict = names_in(self.gate.set_limits(limits))
        return self._agree("set_limits", verdict, self.oracle.set_limits(limits.values), {"table": limits.values})

    def fault(self, causes=()):
        self.gate.fault(sum(bit(name) for name in causes))
        return self._agree("fault", (), self.oracle.fault(causes), {})

    def acknowledge(self, *, operator_id, present=()):
        bits = sum(bit(name) for name in present)
        verdict = names_in(self.gate.acknowledge(self.now_ns, operator_id=operator_id, present=bits))
        said = self.oracle.acknowledge(self.now_ns, operator_id=operator_id, present=present)
        if not verdict:
            self.latched = set()
        return self._agree("acknowledge", verdict, said, {})

    def fire(self):
        """(names, pulse) of both."""
        verdict, pulse = self.gate.fire(self.now_ns)
        expected, expected_pulse = self.oracle.fire(self.now_ns)
        names = self._agree("fire", names_in(verdict), expected, {})
        assert (pulse is None) == bool(names)
        if pulse:
            assert tuple(pulse) == tuple(getattr(expected_pulse, key) for key in list(Sent.__annotations__)[:6])
            broken = self.promises.broken_by(pulse, self.now_ns)
            assert not broken, f"a pulse went out against {sorted(broken)}"
        return names, pulse

    def _both(self, name, arguments, named):
        if name in TIMED_LAST:
            arguments = (*arguments, self.now_ns)
        elif name in TIMED_FIRST:
            arguments = (self.now_ns, *arguments)
        verdict = names_in(getattr(self.gate, name)(*arguments, **named) or 0)
        said = dict(named)
        if name in {"stream", "load"}:
            said[{"stream": "sample_ns", "load": "load_ohm"}[name]] = arguments[0]
        return self._agree(name, verdict, getattr(self.oracle, name)(*arguments, **named), said)

    def _agree(self, name, verdict, expected, said):
        self.steps += 1
        assert set(verdict) == (expected or set()), (
            f"{name}: the gate says {sorted(verdict)}, the oracle {sorted(expected)}"
        )
        self.promises.heard(name, verdict, self.now_ns, said)
        self.compare()
        return set(verdict)

    def compare(self):
        """State and what the gate knows."""
        real, expected = self.gate.snapshot(), self.oracle.snapshot()
        real["faults"], real["dropped"] = set(names_in(real["faults"])), set(names_in(real["dropped"]))
        if expected["due_ns"] is None:
            del real["due_ns"], expected["due_ns"]
        if not expected["holder"]:
            del real["lease_until_ns"], expected["lease_until_ns"]
        assert real == expected
        # A fault ends by an acknowledgement and by nothing else.
        assert self.latched <= real["faults"]
        self.latched = set(real["faults"])

    def explain(self, request):
        """What a request asks for, and what the operator should know; each figure agrees with the oracle's."""
        expected = self.oracle.figures(**request)
        kept = {"step_allowed_ua", "rms_squares"}
        expected = {name: value for name, value in expected.items() if value or name in kept}
        assert self.gate.figures(**request) == expected
        assert set(self.gate.warnings()) == self.oracle.warnings()
        return expected

    # --- along the good way

    def keep(self, *, holder=7):
        """What a living client and amplifier do all the time."""
        self.stream(self.now_ns)
        if self.oracle.holder == holder:
            self.renew(holder, self.next_nonce())

    def next_nonce(self):
        return min(self.oracle.nonce + 1, 2**64 - 1)

    def live_until(self, at_ns):
        """Time passes as it should."""
        while self.now_ns < at_ns:
            self.now_ns = min(self.now_ns + 90 * MS, at_ns)
            self.keep()

    def live(self, duration_ns):
        self.live_until(self.now_ns + duration_ns)

    def arm_well(self, **changes):
        limits = self.oracle.limits
        arming = {
            "holder": 7,
            "operator_id": 1,
            "site": 5,
            "load_ohm": 1_000,
            "compliance_v": limits["compliance_v"],
            "device_current_ua": limits["current_ua"],
            "device_width_us": limits["width_us"],
            "isolated": True,
        }
        return self.arm(**{**arming, **changes})

    def read_back(self, **changes):
        """The oldest pulse that is out, as the device should say it."""
        pulse = self.oracle.awaited[0]
        reading = {
            "seq": pulse.seq,
            "current_ua": pulse.current_ua,
            "width_us": pulse.width_us,
            "load_ohm": self.oracle.load_ohm,
        }
        return self.readback(**{**reading, **changes})

    def shoot(self, **changes):
        """One whole single shot, from armed to armed."""
        shot = {"holder": 7, "site": self.oracle.site(), "kind": 1, "current_ua": 5_000, "width_us": 100}
        assert self.request(**{**shot, **changes}) == set()
        self.finish()

    def finish(self):
        """All pulses of the shot that stands, each read back; then wait until the next could begin."""
        while self.oracle.shot:
            self.live_until(self.oracle.shot.due_ns)
            assert self.fire()[0] == set()
            assert self.read_back() == set()
        while self.oracle.state == "cooldown":
            self.live(50 * MS)


def armed_world(changes=None, **arming):
    """Armed by the wide table."""
    world = World()
    assert world.set_limits({**WIDE, **(changes or {})}) == set()
    world.now_ns = MS
    assert world.connect() == set()
    assert world.take(7, 1) == set()
    assert world.stream(MS) == set()
    world.now_ns = 2 * MS
    assert world.arm_well(**arming) == set()
    return world
