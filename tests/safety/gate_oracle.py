"""What the gate has to answer, said once more in plain Python: see gate_rules.

The calls are those of `emgd_ext.gate.Gate` and return sets of names; tests compare both after each call.
"""

from gate_rules import (
    AHEAD_NS,
    AWAITED,
    FAST_NS,
    JUMP_NS,
    LAST_TIME_NS,
    LEAD_NS,
    LONG_AGO_NS,
    MAX_CURRENT_UA,
    MS,
    OLD_NS,
    READBACK_NS,
    RECENT,
    STALE_NS,
    TRAIN,
    US,
    Facts,
    Sent,
    Session,
    Shot,
    when,
)


class Oracle(Facts):
    """Facts, and the calls that change them."""

    def __init__(self, now_ns=0):
        super().__init__()
        self._pass(now_ns)

    # --- ways down

    def _drop(self, why=()):
        self.session, self.shot = None, None
        self.dropped = set(why)

    def _latch(self, causes):
        self._drop(causes)
        self.faults |= set(causes)
        self.awaited.clear()
        self.connected = False  # what follows an acknowledgement is OFF

    # --- time

    def _cool(self):
        if self.session and not self.awaited and not self._begin_bars(self.now_ns):
            self.cooling = False

    def _pass(self, now_ns):
        """What ends now."""
        if not self.now_ns <= now_ns <= LAST_TIME_NS:
            self._latch({"time"})
            self.holder, self.newest_ns, self.saturated_since_ns = 0, LONG_AGO_NS, None
            self.now_ns = now_ns if 0 <= now_ns <= LAST_TIME_NS else self.now_ns
            return {"time"}
        lease_over = self.holder and now_ns >= self.lease_until_ns
        ended = when(lease_over, "lease_ms")
        if self.session:
            ended |= when(now_ns - self.now_ns > JUMP_NS, "time")
            ended |= when(not self._fresh(now_ns), "stale")
            ended |= when(now_ns - self.session.active_ns >= self.limits["idle_reset_ms"] * MS, "idle_reset_ms")
            if ended:
                self._drop(ended)
        if lease_over:
            self.holder = 0
        self.now_ns = now_ns
        if self.awaited and now_ns - self.awaited[0].at_ns > READBACK_NS:
            ended |= {"readback_missing"}
            self._latch({"readback_missing"})
        self._cool()
        return ended

    def tick(self, now_ns):
        return self._pass(now_ns)

    # --- calls: life and lease

    def set_limits(self, table):
        if self.state in {"armed", "firing", "cooldown"}:
            return {"busy"}
        if self.faults:
            return self._not_armed()
        if table["pair_interval_us"] <= table["width_us"]:
            return {"width_us", "pair_interval_us"}
        self.limits, self.limits_given = dict(table), True
        return set()

    def connect(self, now_ns):
        self._pass(now_ns)
        if self.faults:
            return self._not_armed()
        if not self.limits_given:
            return {"no_limits"}
        self._drop()
        self.awaited.clear()
        self.load_ohm, self.connected = 0, True
        return set()

    def disconnect(self):
        self._drop()
        self.awaited.clear()
        self.load_ohm, self.connected = 0, False

    def _keep_lease(self, nonce):
        self.nonce = nonce
        self.lease_until_ns = self.now_ns + self.limits["lease_ms"] * MS
        return set()

    def take(self, holder, nonce, now_ns):
        self._pass(now_ns)
        if self.holder or not holder:
            return {"holder"}
        self.holder = holder
        return self._keep_lease(nonce)

    def renew(self, holder, nonce, now_ns):
        self._pass(now_ns)
        if not self.holder:
            return {"lease_ms"}
        if holder != self.holder:
            return {"holder"}
        return self._keep_lease(nonce) if nonce > self.nonce else {"nonce"}

    def _not_mine(self, holder):
        return when(not holder or holder != self.holder, "holder")

    def release(self, holder):
        if self._not_mine(holder):
            return {"holder"}
        self._drop()
        self.holder = 0
        return set()

    # --- calls: what is seen, arming

    def stream(self, sample_ns, now_ns, *, saturated=False, stamped=True):
        ended = self._pass(now_ns)
        if sample_ns - self.now_ns <= STALE_NS:
            self.newest_ns = max(self.newest_ns, sample_ns)
        if not saturated:
            self.saturated_since_ns = None
        elif self.saturated_since_ns is None:
            self.saturated_since_ns = self.now_ns
        self.stamped = stamped
        return ended

    def load(self, load_ohm, now_ns):
        ended = self._pass(now_ns)
        self.load_ohm = load_ohm
        return ended

    def arm(self, now_ns, *, holder, operator_id, site, load_ohm, isolated=False, area_mm2=0, **device):
        bars = self._pass(now_ns) | self._stream_bars() | self._not_mine(holder)
        bars |= when(self.session, "busy") | (self._not_armed() - {"disarmed"})
        bars |= when(not operator_id, "operator") | when(not site, "site") | when(not isolated, "not_isolated")
        bars |= when(self.awaited, "readback_due")
        bars |= when(load_ohm < 1, "load") | when(load_ohm > self.limits["impedance_ohm"], "impedance_ohm")
        for own, limit in (
            ("compliance_v", "compliance_v"),
            ("device_current_ua", "current_ua"),
            ("device_width_us", "width_us"),
        ):
            bars |= when(not 1 <= device[own] <= self.limits[limit], limit, "device_limits")
        if bars:
            return bars
        self.dropped = set()
        self.load_ohm, self.device = load_ohm, {**device, "area_mm2": area_mm2}
        self.session, self.cooling = Session(site, operator_id, self.now_ns), True
        self._cool()
        return set()

    def confirm(self, holder, ceiling_ua, now_ns):
        bars = self._pass(now_ns) | (self._not_ready() - {"cooldown"}) | self._not_mine(holder)
        bars |= when(ceiling_ua < 1, "shape") | when(ceiling_ua > self.limits["current_ua"], "current_ua")
        bars |= when(ceiling_ua > self.device["device_current_ua"], "device_limits")
        if not bars:
            self.session.confirmed_ua, self.session.active_ns = ceiling_ua, self.now_ns
        return bars

    def disarm(self):
        self._drop()

    # --- calls: shots

    def begin_ns(self, begin_ns):
        return min(max(begin_ns, self.now_ns), self.now_ns + AHEAD_NS)

    def _shot_bars(self, kind, current_ua, width_us, count, interval_us, at_ns):
        shape = self._shape_bars(kind, current_ua, width_us, count, interval_us)
        if shape:
            return shape  # nothing is computed with such numbers
        return (
            self._rhythm_bars(kind, width_us, count, interval_us)
            | self._begin_bars(at_ns)
            | self._pulse_bars(current_ua, width_us, at_ns, count)
        )

    def request(
        self, now_ns, *, holder, site, kind, current_ua, width_us, count=1, interval_us=0, asked_ns=None, begin_ns=0
    ):
        asked_ns = now_ns if asked_ns is None else asked_ns
        bars = self._pass(now_ns) | self._not_ready() | self._stream_bars()
        ahead_ns, late_ns = begin_ns - self.now_ns, self.now_ns - begin_ns
        bars |= when(asked_ns > self.now_ns or ahead_ns > AHEAD_NS, "early")
        bars |= when(self.now_ns - asked_ns > OLD_NS or (begin_ns and late_ns > OLD_NS), "old")
        at_ns = self.begin_ns(begin_ns)
        bars |= self._shot_bars(kind, current_ua, width_us, count, interval_us, at_ns) | self._not_mine(holder)
        if self.session and not self._not_mine(holder) and site != self.session.site:
            bars |= {"site"}
            self._drop(bars)
        if not bars:
            self.shot = Shot(kind, current_ua, width_us, count, interval_us, at_ns)
            self.session.active_ns = self.now_ns
        return bars

    def cancel(self):
        if self.shot:
            self.shot, self.cooling = None, True

    def fire(self, now_ns):
        ended = self._pass(now_ns)
        shot = self.shot
        if not shot:
            return ended | {"no_shot"} | self._not_armed(), None
        at_ns = max(shot.due_ns, self.now_ns)
        if at_ns - self.now_ns > LEAD_NS:
            return {"early"}, None
        bars = self._stream_bars() | self._pulse_bars(shot.current_ua, shot.width_us, at_ns, 1)
        bars |= when(self.now_ns - shot.due_ns > OLD_NS, "old") | when(at_ns >= self.lease_until_ns, "lease_ms")
        bars |= self._follow_bars(at_ns) if shot.sent else self._begin_bars(at_ns)
        if bars:
            self.cancel()
            return bars, None
        if len(self.awaited) == AWAITED:
            return {"readback_due"}, None
        return set(), self._send(shot, at_ns)

    def _send(self, shot, at_ns):
        fast = shot.kind == TRAIN and shot.interval_us * US < FAST_NS
        pulse = Sent(
            len(self.sent), at_ns, shot.current_ua, shot.width_us, len(shot.sent), shot.count, self.session.site, fast
        )
        for pulses in (self.sent, self.awaited, shot.sent):
            pulses.append(pulse)
        shot.due_ns = at_ns + shot.interval_us * US
        self.session.active_ns = self.now_ns
        if not shot.left:
            self.cancel()
        return pulse

    # --- calls: what came of it

    def _reading_bars(self, asked, reading, name, unit):
        off = abs(reading - asked)
        far = off * 100 > asked * 20
        absurd = not 0 <= reading <= 10**9
        if not absurd and (
            off <= self.limits[f"readback_{name}_{unit}"]
            or off * 100 <= asked * self.limits[f"readback_{name}_percent"]
        ):
            return set()
        return {f"readback_{name}_percent"} | when(far or absurd, "readback_far")

    def readback(self, now_ns, *, seq, current_ua, width_us, load_ohm, dc_ua=0, limited=False):
        ended = self._pass(now_ns)
        if self.state in {"fault", "off"}:
            return ended | self._not_armed()
        if not self.awaited or seq != self.awaited[0].seq:
            self._latch({"readback_unexpected"})
            return ended | {"readback_unexpected"}
        pulse = self.awaited.pop(0)
        marks = self._reading_bars(pulse.current_ua, current_ua, "current", "ua")
        marks |= self._reading_bars(pulse.width_us, width_us, "width", "us") | when(limited, "headroom")
        faults = marks & {"readback_far"}
        faults |= when(marks and not all(self.agreed[-RECENT:]), "readback_often")
        faults |= when(abs(dc_ua) > self.limits["dc_ua"], "dc_ua")
        self.agreed.append(not marks)
        self.load_ohm = load_ohm
        if self.session:
            self.session.delivered_ua = min(current_ua, pulse.current_ua) if marks else pulse.current_ua
            self.session.at_most_ua = self.session.delivered_ua if marks else MAX_CURRENT_UA
            if marks:
                self.session.confirmed_ua = 0
        if faults:
            self._latch(faults)
        self._cool()
        return ended | marks | faults

    def stop(self):
        self._latch({"stopped"})

    def fault(self, causes=()):
        self._latch((set(causes) & {"device", "mark"}) or {"device"})

    def acknowledge(self, now_ns, *, operator_id, present=()):
        bars = self._pass(now_ns)
        if not self.faults:
            return set()
        bars |= when(not operator_id, "operator") | when(self.faults & set(present), "present")
        if bars:
            return bars | self._not_armed()
        self.faults, self.agreed = set(), []
        return set()
