"""The stimulus safety gate for Python: a thin wrapper of c/gate.h, which says what each call does.

Compiled because what it wraps is proven C: no rule lives here. Threads that run without the GIL use gate.pxd.
"""

from typing import NamedTuple

LIMIT_NAMES = (
    "current_ua",
    "width_us",
    "charge_nc",
    "energy_uj",
    "load_energy_uj",
    "compliance_v",
    "rate_mhz",
    "interval_us",
    "pair_interval_us",
    "train_pulses",
    "train_duration_ms",
    "train_rest_ms",
    "mean_current_ua",
    "rms_ua_per_cm2",
    "site_pulses",
    "step_ua",
    "first_shot_ua",
    "impedance_ohm",
    "readback_current_percent",
    "readback_current_ua",
    "readback_width_percent",
    "readback_width_us",
    "dc_ua",
    "lease_ms",
    "idle_reset_ms",
)
REASON_NAMES = LIMIT_NAMES + (
    "no_limits",
    "off",
    "disarmed",
    "busy",
    "cooldown",
    "fault",
    "no_shot",
    "time",
    "stale",
    "saturated",
    "unstamped",
    "old",
    "early",
    "holder",
    "nonce",
    "site",
    "operator",
    "shape",
    "load",
    "headroom",
    "device_limits",
    "not_isolated",
    "too_soon",
    "history",
    "retry",
    "readback_due",
    "present",
    "readback_missing",
    "readback_unexpected",
    "readback_far",
    "readback_often",
    "stopped",
    "device",
    "mark",
)
STATE_NAMES = ("off", "idle", "armed", "firing", "cooldown", "fault")
LAYER_NAMES = ("hard", "device", "profile", "session")
KIND_NAMES = ("", "single", "pair", "train")
WARNING_NAMES = ("impedance", "rms")
WAIT = <object> EMGD_WHY_WAIT
BOOKED = <object> EMGD_BOOKED
SQUARES_PER_UA2 = 10_000_000 // EMGD_SQUARE_UNIT


class Range(NamedTuple):
    ceiling: int
    end: int


class Pulse(NamedTuple):
    seq: int
    at_ns: int
    current_ua: int
    width_us: int
    number: int
    of: int


assert len(LIMIT_NAMES) == EMGD_LIMITS
assert len(REASON_NAMES) == EMGD_WHYS
assert len(LAYER_NAMES) == EMGD_LAYERS


def ranges():
    """Of each limit: the ceiling that nothing is looser than, and the end that nothing is tighter than."""
    return {
        name: Range(emgd_ranges[number].ceiling, emgd_ranges[number].end) for number, name in enumerate(LIMIT_NAMES)
    }


def names_in(uint64_t verdict):
    """Names of the bits of a verdict."""
    return tuple(name for number, name in enumerate(REASON_NAMES) if verdict >> number & 1)


def bit(name):
    """Bit of a name of REASON_NAMES."""
    return 1 << REASON_NAMES.index(name)


cdef class Limits:
    """The limits in force: every limit at its hard ceiling, until layers tighten them."""

    cdef emgd_limits limits

    def __cinit__(self):
        emgd_limits_at_ceiling(&self.limits)

    def merge(self, values, layer):
        """Tighten by a layer (`values`: name -> integer; `layer`: of LAYER_NAMES).

        Returns (names out of range, names it would have loosened). With any name out of range nothing was changed.
        """
        cdef emgd_layer stated
        cdef uint64_t looser = 0
        cdef int number
        for number in range(EMGD_LIMITS):
            stated.given[number] = 0
            stated.value[number] = 0
        for name, value in values.items():
            number = LIMIT_NAMES.index(name)
            stated.value[number] = value
            stated.given[number] = 1
        wrong = emgd_limits_merge(&self.limits, &stated, LAYER_NAMES.index(layer), &looser)
        return names_in(wrong), names_in(looser)

    def check(self):
        """Names of what keeps this table from being used; none when it is valid."""
        return names_in(emgd_limits_check(self.limits.value))

    @property
    def values(self):
        return {name: self.limits.value[number] for number, name in enumerate(LIMIT_NAMES)}

    @property
    def layers(self):
        return {name: LAYER_NAMES[self.limits.layer[number]] for number, name in enumerate(LIMIT_NAMES)}


cdef emgd_request packed(holder, site, kind, current_ua, width_us, count, interval_us, asked_ns, begin_ns) except *:
    cdef emgd_request request
    request.holder = holder
    request.site = site
    request.kind = kind
    request.current_ua = current_ua
    request.width_us = width_us
    request.count = count
    request.interval_us = interval_us
    request.asked_ns = asked_ns
    request.begin_ns = begin_ns
    return request


cdef class Gate:
    """One gate; not thread-safe. Methods return a verdict: 0 is yes, else `names_in` names what stands against."""

    def __cinit__(self, int64_t now_ns=0):
        emgd_gate_init(&self.gate, now_ns)

    def set_limits(self, Limits limits not None):
        return emgd_gate_set_limits(&self.gate, &limits.limits)

    def connect(self, int64_t now_ns):
        return emgd_gate_connect(&self.gate, now_ns)

    def disconnect(self):
        emgd_gate_disconnect(&self.gate)

    def take(self, uint64_t holder, uint64_t nonce, int64_t now_ns):
        return emgd_gate_take(&self.gate, holder, nonce, now_ns)

    def renew(self, uint64_t holder, uint64_t nonce, int64_t now_ns):
        return emgd_gate_renew(&self.gate, holder, nonce, now_ns)

    def release(self, uint64_t holder):
        return emgd_gate_release(&self.gate, holder)

    def stream(self, int64_t sample_ns, int64_t now_ns, *, saturated=False, stamped=True):
        return emgd_gate_stream(&self.gate, sample_ns, bool(saturated), bool(stamped), now_ns)

    def load(self, int64_t load_ohm, int64_t now_ns):
        return emgd_gate_load(&self.gate, load_ohm, now_ns)

    def arm(
        self,
        int64_t now_ns,
        *,
        uint64_t holder,
        uint64_t operator_id,
        uint64_t site,
        int64_t load_ohm,
        int64_t compliance_v,
        int64_t device_current_ua,
        int64_t device_width_us,
        uint16_t area_mm2=0,
        isolated=False,
    ):
        cdef emgd_arming arming
        arming.holder = holder
        arming.operator_id = operator_id
        arming.site = site
        arming.load_ohm = load_ohm
        arming.compliance_v = compliance_v
        arming.device_current_ua = device_current_ua
        arming.device_width_us = device_width_us
        arming.area_mm2 = area_mm2
        arming.isolated = bool(isolated)
        return emgd_gate_arm(&self.gate, &arming, now_ns)

    def confirm(self, uint64_t holder, int64_t ceiling_ua, int64_t now_ns):
        return emgd_gate_confirm(&self.gate, holder, ceiling_ua, now_ns)

    def request(
        self,
        int64_t now_ns,
        *,
        holder,
        site,
        kind,
        current_ua,
        width_us,
        count=1,
        interval_us=0,
        asked_ns=None,
        begin_ns=0,
    ):
        cdef emgd_request request = packed(
            holder, site, kind, current_ua, width_us, count, interval_us,
            now_ns if asked_ns is None else asked_ns, begin_ns,
        )
        return emgd_gate_request(&self.gate, &request, now_ns)

    def figures(
        self, *, holder=0, site=0, kind, current_ua, width_us, count=1, interval_us=0, asked_ns=0, begin_ns=0
    ):
        """What such a request would ask for: name of a limit -> value in its unit, where the limit applies.

        Also `step_allowed_ua`, and `rms_squares`: a thousandth of it is the square of the root mean square current.
        """
        cdef emgd_request request = packed(
            holder, site, kind, current_ua, width_us, count, interval_us, asked_ns, begin_ns
        )
        cdef emgd_figures figures = emgd_gate_figures(&self.gate, &request)
        found = {name: figures.asked[number] for number, name in enumerate(LIMIT_NAMES) if figures.asked[number]}
        found["step_allowed_ua"] = figures.step_allowed_ua
        found["rms_squares"] = figures.squares
        return found

    def cancel(self):
        emgd_gate_cancel(&self.gate)

    def fire(self, int64_t now_ns):
        """(verdict, the pulse that may go out): no pulse unless the verdict is 0."""
        cdef emgd_fired fired = emgd_gate_fire(&self.gate, now_ns)
        cdef emgd_pulse pulse = fired.pulse
        if fired.why:
            return fired.why, None
        return 0, Pulse(pulse.seq, pulse.at_ns, pulse.current_ua, pulse.width_us, pulse.index, pulse.count)

    def readback(
        self,
        int64_t now_ns,
        *,
        uint64_t seq,
        int64_t current_ua,
        int64_t width_us,
        int64_t load_ohm,
        int64_t dc_ua=0,
        limited=False,
    ):
        cdef emgd_readback readback
        readback.seq = seq
        readback.current_ua = current_ua
        readback.width_us = width_us
        readback.load_ohm = load_ohm
        readback.dc_ua = dc_ua
        readback.limited = bool(limited)
        return emgd_gate_readback(&self.gate, &readback, now_ns)

    def tick(self, int64_t now_ns):
        return emgd_gate_tick(&self.gate, now_ns)

    def disarm(self):
        emgd_gate_disarm(&self.gate)

    def stop(self):
        emgd_gate_stop(&self.gate)

    def fault(self, uint64_t causes=0):
        emgd_gate_fault(&self.gate, causes)

    def acknowledge(self, int64_t now_ns, *, uint64_t operator_id, uint64_t present=0):
        return emgd_gate_acknowledge(&self.gate, operator_id, present, now_ns)

    def warnings(self):
        """Names of WARNING_NAMES."""
        warnings = emgd_gate_warnings(&self.gate)
        return tuple(name for number, name in enumerate(WARNING_NAMES) if warnings >> number & 1)

    @property
    def state(self):
        """Name of STATE_NAMES."""
        return STATE_NAMES[self.gate.state]

    def snapshot(self):
        """What the gate knows, for status, audit and tests."""
        return {
            "state": self.state,
            "faults": self.gate.faults,
            "dropped": self.gate.dropped,
            "holder": self.gate.holder,
            "lease_until_ns": self.gate.lease_until_ns,
            "site": self.gate.site,
            "operator_id": self.gate.operator_id,
            "compliance_v": self.gate.compliance_v,
            "load_ohm": self.gate.load_ohm,
            "last_ua": self.gate.last_ua,
            "confirmed_ua": self.gate.confirmed_ua,
            "retry_ua": self.gate.retry_ua,
            "left": self.gate.shot.left,
            "due_ns": self.gate.shot.due_ns,
            "next_seq": self.gate.next_seq,
            "awaited": self.gate.awaited_count,
        }
