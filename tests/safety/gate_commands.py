"""Commands for a world, good and bad ones, each with values at and around the boundaries that hold just now.

A command takes the world and `choose`, which picks one of some options: hypothesis does so in test_gate_machine, a
seeded generator in test_gate_walk.
"""

from math import isqrt

from gate_rules import LEAD_NS, MS, OLD_NS, READBACK_NS, SINGLE, STALE_NS, TRAIN, US, S, up
from gate_world import WIDE, World

from emgd_ext.gate import LIMIT_NAMES, ranges

TABLES = (
    WIDE,
    {**WIDE, "mean_current_ua": 3, "rms_ua_per_cm2": 150, "site_pulses": 4},
    {**WIDE, "step_ua": 400, "first_shot_ua": 600, "idle_reset_ms": 1_000, "lease_ms": 150},
    {name: limit.ceiling + (name == "pair_interval_us") for name, limit in ranges().items()},
    {name: limit.ceiling for name, limit in ranges().items()},  # not valid: two pulses of a pair may touch
    {name: limit.end for name, limit in ranges().items()},
    {
        **WIDE,
        "readback_current_percent": 1,
        "readback_current_ua": 1,
        "readback_width_percent": 1,
        "readback_width_us": 1,
    },
)
HOLDERS = (7, 7, 7, 8, 0)
SITES = (5, 5, 5, 5, 6)


def around(*values):
    return [value + off for value in values for off in (0, 1, -1)]


def instants(oracle):
    """When something ends or begins by time alone."""
    now_ns = oracle.now_ns
    found = [oracle.newest_ns + STALE_NS, now_ns + 500 * MS]
    if oracle.holder:
        found.append(oracle.lease_until_ns)
    if oracle.session:
        found.append(oracle.session.active_ns + oracle.limits["idle_reset_ms"] * MS)
    if oracle.saturated_since_ns is not None:
        found.append(oracle.saturated_since_ns + 1000 * MS)
    if oracle.shot:
        due_ns = oracle.shot.due_ns
        found += [due_ns, due_ns - LEAD_NS, due_ns + OLD_NS]
    if oracle.awaited:
        found.append(oracle.awaited[0].at_ns + READBACK_NS)
    if oracle.sent:
        last_ns = oracle.sent[-1].at_ns
        found += [last_ns + 200 * MS, last_ns + oracle.limits["interval_us"] * US, last_ns + 10 * S]
        found.append(last_ns + up(1000 * S, oracle.limits["rate_mhz"]))
        found += [p.at_ns + oracle.limits["train_rest_ms"] * MS for p in oracle.sent[-1:] if p.fast]
    return [at_ns for at_ns in found if at_ns >= now_ns] or [now_ns]


def currents(oracle, width_us):
    """Currents at which some limit begins."""
    limits, delivered_ua = oracle.limits, oracle.session.delivered_ua if oracle.session else 0
    load_ohm = max(oracle.load_ohm, 1)
    found = [
        limits["first_shot_ua"],
        delivered_ua + oracle.step_allowed_ua(),
        limits["current_ua"],
        oracle.device["device_current_ua"],
        limits["charge_nc"] * 1000 // width_us,
        isqrt(limits["energy_uj"] * 10**9 // width_us),
        isqrt(limits["load_energy_uj"] * 10**12 // width_us // load_ohm),
        90 * oracle.device["compliance_v"] * 10**4 // load_ohm,
        limits["mean_current_ua"] * 10**7 // width_us,
    ]
    if oracle.session:
        found += [oracle.session.confirmed_ua, oracle.session.at_most_ua]
    return [min(value, 100_000) for value in found]


# --- time


def wait(world, choose):
    """Time passes and nobody does anything."""
    oracle = world.oracle
    at_ns = choose(instants(oracle)) if choose((True, False)) else oracle.now_ns + choose((0, MS, 20 * MS, 50 * MS))
    world.now_ns = at_ns + choose((0, 1, -1))


def live(world, choose):
    """Time passes with client and amplifier alive."""
    world.now_ns = max(world.now_ns, world.oracle.now_ns)
    world.keep()
    at_ns = choose([at_ns for at_ns in instants(world.oracle) if at_ns < world.oracle.now_ns + 11 * S])
    world.live_until(at_ns + choose((0, 1, -1, 10 * MS)))


def jump(world, choose):
    """The clock does what a clock must not."""
    far = choose((world.oracle.now_ns - 1, -1, 4 * 10**18, 4 * 10**18 + 1, 2**63 - 1, world.oracle.now_ns + S))
    if world.oracle.now_ns + S < far <= 4 * 10**18:
        return  # after it there is no time left for anything
    world.now_ns = far
    world.tick()
    world.now_ns = world.oracle.now_ns


# --- life, lease, what is seen


def set_limits(world, choose):
    table = dict(choose(TABLES))
    name = choose(LIMIT_NAMES)
    table[name] = choose((table[name], *ranges()[name]))
    world.set_limits(table)


def connect(world, choose):
    world.connect()


def disconnect(world, choose):
    world.disconnect()


def take(world, choose):
    world.take(choose(HOLDERS), choose((0, 1, 2**63)))


def renew(world, choose):
    nonce = world.next_nonce()
    world.renew(choose(HOLDERS), choose((nonce, nonce, nonce - 1, 0, 2**64 - 1)))


def release(world, choose):
    world.release(choose(HOLDERS[::-1]))


def stream(world, choose):
    world.stream(
        world.now_ns + choose((0, 0, -STALE_NS, STALE_NS, STALE_NS + 1, -S)),
        saturated=choose((False, False, True)),
        stamped=choose((True, True, True, False)),
    )


def load(world, choose):
    world.load(
        choose((1000, 1, 0, -1, 5000, 5001, 20_000, 20_001, 2**63 - 1, *around(world.oracle.limits["impedance_ohm"])))
    )


def tick(world, choose):
    world.tick()


# --- arming


def arm(world, choose):
    """Good but for one thing, or quite good."""
    limits = world.oracle.limits
    wrong = choose(
        (
            {},
            {"site": 6},
            {"load_ohm": choose((1, 0, 5001, *around(limits["impedance_ohm"])))},
            {"compliance_v": choose((1, 0, *around(limits["compliance_v"])))},
            {"device_current_ua": choose((1, 0, *around(limits["current_ua"])))},
            {"device_width_us": choose((1, 0, *around(limits["width_us"])))},
            {"area_mm2": choose((1, 20, 50, 65_535))},
            {"holder": 8},
            {"holder": 0},
            {"site": 0},
            {"operator_id": 0},
            {"isolated": False},
        )
    )
    world.arm_well(**wrong)


def confirm(world, choose):
    limits = (world.oracle.limits["current_ua"], world.oracle.device["device_current_ua"])
    world.confirm(choose(HOLDERS), choose((20_000, 0, 1, -(2**40), 2**40, *around(*limits))))


def disarm(world, choose):
    world.disarm()


# --- shots


def rhythm(world, choose):
    """Kind, count and interval."""
    limits = world.oracle.limits
    kind = choose((1, 1, 2, 3, 3, 0))
    count = choose((2, 2, 1, 3, 0, 5, 500, 501, *around(limits["train_pulses"])))
    least_us = limits["pair_interval_us"] if kind == 2 else limits["interval_us"]
    longest_us = limits["train_duration_ms"] * 1000 // max(count - 1, 1)
    intervals = (*around(least_us, up(10**9, limits["rate_mhz"]), 200_000), longest_us, 0, -5, 10**7, 10**7 + 1)
    if kind == SINGLE:
        return kind, choose((1, 1, 1, 2)), choose((0, 0, 0, 1))
    return kind, count, choose(intervals)


def request(world, choose):
    now_ns, oracle = world.now_ns, world.oracle
    kind, count, interval_us = rhythm(world, choose)
    width_us = choose((100, 100, 1, 0, 1000, 1001, *around(oracle.limits["width_us"])))
    bounds = currents(oracle, max(width_us, 1))
    current_ua = choose((min(bounds), choose(around(*bounds)), 1, 500, 0, 100_001, 2**62))
    shot = {
        "kind": kind,
        "current_ua": current_ua,
        "width_us": width_us,
        "count": count,
        "interval_us": interval_us,
        "begin_ns": choose((0, 0, 0, now_ns + 30 * MS, *(now_ns + off for off in (S, S + 1, -OLD_NS, -OLD_NS - 1)))),
    }
    world.explain(shot)
    asked_ns = now_ns + choose((0, 0, 0, 0, 1, -OLD_NS, -OLD_NS - 1))
    world.request(holder=choose(HOLDERS), site=choose(SITES), asked_ns=asked_ns, **shot)


def cancel(world, choose):
    world.cancel()


def fire(world, choose):
    world.fire()


def deviations(asked, percent, tolerance):
    """Readings at which a deviation begins to count."""
    offs = [asked * percent // 100, tolerance, asked // 5, 0]
    return [0, -1, 10**9, 10**9 + 1, -(2**63), 2**63 - 1] + [
        asked + sign * off for off in around(*offs) for sign in (1, -1)
    ]


def readback(world, choose):
    oracle = world.oracle
    if not oracle.awaited:
        world.readback(seq=choose((0, len(oracle.sent))), current_ua=1000, width_us=100, load_ohm=1000)
        return
    pulse, limits = oracle.awaited[0], oracle.limits
    current = deviations(pulse.current_ua, limits["readback_current_percent"], limits["readback_current_ua"])
    width = deviations(pulse.width_us, limits["readback_width_percent"], limits["readback_width_us"])
    dc_ua = limits["dc_ua"]
    wrong = choose(
        (
            {},
            {"current_ua": choose(current)},
            {"width_us": choose(width)},
            {"current_ua": choose(current), "width_us": choose(width)},
            {"limited": True},
            {"dc_ua": choose((dc_ua, -dc_ua, dc_ua + 1, -dc_ua - 1))},
            {"load_ohm": choose((0, -1, 4000, 20_001))},
            {"seq": pulse.seq + 1},
        )
    )
    world.read_back(**wrong)


# --- faults


def stop(world, choose):
    world.stop()


def fault(world, choose):
    world.fault(choose(((), ("device",), ("mark",), ("device", "mark"), ("current_ua",), ("mark", "time"))))


def acknowledge(world, choose):
    world.acknowledge(operator_id=choose((1, 1, 0)), present=choose(((), (), ("time",), ("mark", "stopped", "device"))))


# --- the good way


def best_current(oracle, width_us, count):
    """A current that the oracle finds fine."""
    at_ns = oracle.now_ns
    fits = [c for c in currents(oracle, width_us) if c > 0 and not oracle._pulse_bars(c, width_us, at_ns, count)]
    return max(fits, default=None)


def good_shot(world, choose):
    """What the oracle finds fine is not refused."""
    oracle = world.oracle
    limits = oracle.limits
    width_us = min(100, limits["width_us"], oracle.device["device_width_us"])
    interval_us = max(limits["interval_us"], up(10**9, limits["rate_mhz"]))
    most = min(limits["train_pulses"], 1 + (limits["train_duration_ms"] * 1000 - width_us) // interval_us, 6)
    shots = [(SINGLE, 1, 0)]
    if interval_us <= 10**7:
        shots += [(TRAIN, count, interval_us) for count in range(2, most + 1)]
    kind, count, interval_us = choose(shots)
    current_ua = best_current(oracle, width_us, count)
    if current_ua is None:
        return
    bars = world.request(
        holder=oracle.holder,
        site=oracle.site(),
        kind=kind,
        current_ua=current_ua,
        width_us=width_us,
        count=count,
        interval_us=interval_us,
    )
    assert bars == set()


def well(world, choose):
    """Some steps of the good way, from wherever we are."""
    for _ in range(choose((1, 1, 3, 8))):
        next_step(world, choose)


def next_step(world, choose):
    """The next step of the good way."""
    oracle = world.oracle
    world.now_ns = max(world.now_ns, oracle.now_ns)
    world.keep()
    state = oracle.state
    if state == "fault":
        assert world.acknowledge(operator_id=1) == set()
    elif state == "off":
        if not oracle.limits_given:
            world.set_limits(choose(TABLES))
        world.connect()
    elif not oracle.holder:
        assert world.take(7, 1) == set()
    elif oracle.awaited:
        world.read_back()
    elif state == "idle":
        world.arm_well(holder=oracle.holder, load_ohm=min(1000, oracle.limits["impedance_ohm"]))
    elif state == "armed":
        good_shot(world, choose)
    elif state == "firing":
        if oracle.shot.due_ns < oracle.now_ns + 2 * S:
            world.live_until(oracle.shot.due_ns)
        world.fire()
    else:
        world.live(min(oracle.limits["train_rest_ms"] * MS, 10 * S) // 2)


# What ends an arming: one command, or hardly any pulse would ever go.
ENDS = (set_limits, connect, disconnect, release, disarm, stop, fault, jump)


def end(world, choose):
    choose(ENDS)(world, choose)


# Each, and how often it comes.
COMMANDS = {
    well: 12,
    request: 4,
    fire: 3,
    readback: 3,
    live: 3,
    wait: 2,
    arm: 2,
    confirm: 2,
    end: 1,
    load: 1,
    stream: 1,
    take: 1,
    renew: 1,
    tick: 1,
    cancel: 1,
    acknowledge: 1,
}


def new_world(choose):
    """Some start where the way begins, most where something can happen."""
    world = World(choose((0, 0, 1, 5 * S, -1)))
    if choose((True, True, True, False)) and world.oracle.state == "off":
        world.set_limits(choose(TABLES))
        world.connect()
        world.take(7, 1)
    return world
