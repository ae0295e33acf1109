"""Every reason that a verdict can name is one that a gate really gives."""

from operator import methodcaller as call

import pytest
from gate_rules import MS, S
from gate_world import WIDE, World, armed_world

from emgd_ext.gate import REASON_NAMES

SHOT = {"holder": 7, "site": 5, "kind": 1, "current_ua": 5_000, "width_us": 100}
TRAIN = {**SHOT, "kind": 3, "count": 2, "interval_us": 200_000}
CHARGED = {**TRAIN, "current_ua": 9_000, "width_us": 300, "count": 40}


def asked(table=None, load_ohm=1_000, **changes):
    """A shot is asked for, 50 ms after arming."""
    world = armed_world(table)
    world.load(load_ohm)
    world.live(50 * MS)
    return world.request(**{**SHOT, **changes})


def given(wait_ns=S):
    """A world after one shot, so long ago."""
    world = armed_world()
    assert world.request(**SHOT) == set()
    world.fire()
    world.read_back()
    world.live(wait_ns)
    return world


def answered(times=1, **reading):
    """The last of so many pulses is answered like this, and so were the ones before."""
    world = armed_world()
    for _ in range(times):
        world.request(**{**SHOT, "current_ua": 4_000})
        world.fire()
        said = world.read_back(**reading)
        world.live(S)
    return said


def after(do, then, *, wait_ns=0, table=None):
    """What `then` says after `do`."""
    world = armed_world(table)
    do(world)
    world.now_ns += wait_ns
    return then(world)


def fired(world):
    return world.fire()[0]


def nothing(world):
    """No call."""


def in_history():
    """Three sites, 256 pulses."""
    world = armed_world({"rate_mhz": 50_000, "train_pulses": 100, "idle_reset_ms": 60_000})
    for site, count in ((5, 100), (6, 100), (8, 56)):
        world.disarm()
        world.arm_well(site=site)
        small = {"site": site, "current_ua": 100, "count": count, "interval_us": 20_000}
        assert world.request(**{**TRAIN, **small}) == set()
        world.finish()
    return world.request(**{**SHOT, "site": 8, "current_ua": 100})


def dense():
    """On a square millimetre."""
    world = armed_world(area_mm2=1)
    return world.request(**CHARGED)


SCENES = {
    "current_ua": lambda: asked(current_ua=80_001),
    "width_us": lambda: asked(width_us=501),
    "charge_nc": lambda: asked({"charge_nc": 499}),
    "energy_uj": lambda: asked({"energy_uj": 2}),
    "load_energy_uj": lambda: asked({"load_energy_uj": 2}),
    "compliance_v": lambda: after(call("disarm"), lambda w: w.arm_well(compliance_v=391)),
    "rate_mhz": lambda: asked(**{**TRAIN, "interval_us": 199_999}),
    "interval_us": lambda: asked(**{**TRAIN, "interval_us": 1_999}),
    "pair_interval_us": lambda: asked(kind=2, count=2, interval_us=1_499),
    "train_pulses": lambda: asked(**{**TRAIN, "count": 41}),
    "train_duration_ms": lambda: asked(**{**TRAIN, "count": 11, "interval_us": 800_000}),
    "train_rest_ms": lambda: after(shoot_fast, lambda w: w.request(**SHOT), table={"rate_mhz": 6_000}),
    "mean_current_ua": lambda: asked({"mean_current_ua": 1}, **CHARGED),
    "rms_ua_per_cm2": dense,
    "site_pulses": lambda: asked({"site_pulses": 1}, **TRAIN),
    "step_ua": lambda: given().request(**{**SHOT, "current_ua": 6_251}),
    "first_shot_ua": lambda: asked(current_ua=9_001),
    "impedance_ohm": lambda: asked(load_ohm=12_001),
    "readback_current_percent": lambda: answered(current_ua=3_500),
    "readback_current_ua": None,
    "readback_width_percent": lambda: answered(width_us=111),
    "readback_width_us": None,
    "dc_ua": lambda: answered(dc_ua=-21),
    "lease_ms": lambda: after(nothing, call("tick"), wait_ns=1_500 * MS),
    "idle_reset_ms": lambda: after(lambda w: w.live(20 * S - 1), call("tick"), wait_ns=1),
    "no_limits": lambda: World().connect(),
    "off": lambda: World().request(**SHOT),
    "disarmed": lambda: after(call("disarm"), lambda w: w.request(**SHOT)),
    "busy": lambda: after(lambda w: w.request(**SHOT), lambda w: w.request(**SHOT)),
    "cooldown": lambda: given(wait_ns=0).request(**SHOT),
    "fault": lambda: after(call("stop"), call("connect")),
    "no_shot": lambda: after(nothing, fired),
    "time": lambda: after(nothing, call("tick"), wait_ns=-1),
    "stale": lambda: after(nothing, call("tick"), wait_ns=101 * MS),
    "saturated": lambda: after(saturate, lambda w: w.request(**SHOT)),
    "unstamped": lambda: after(lambda w: w.stream(w.now_ns, stamped=False), lambda w: w.request(**SHOT)),
    "old": lambda: asked(asked_ns=-100 * MS),
    "early": lambda: asked(asked_ns=S),
    "holder": lambda: asked(holder=8),
    "nonce": lambda: after(nothing, lambda w: w.renew(7, 1)),
    "site": lambda: asked(site=6),
    "operator": lambda: after(call("disarm"), lambda w: w.arm_well(operator_id=0)),
    "shape": lambda: asked(count=2),
    "load": lambda: asked(load_ohm=0),
    "headroom": lambda: answered(limited=True),
    "device_limits": lambda: after(call("disarm"), lambda w: w.arm_well(device_width_us=501)),
    "not_isolated": lambda: after(call("disarm"), lambda w: w.arm_well(isolated=False)),
    "too_soon": lambda: given(wait_ns=199 * MS).request(**SHOT),
    "history": in_history,
    "retry": lambda: after_a_mismatch().request(**SHOT),
    "readback_due": lambda: after(lambda w: w.request(**SHOT) or (w.fire() and w.disarm()), call("arm_well")),
    "present": lambda: after(call("stop"), lambda w: w.acknowledge(operator_id=1, present=("stopped",))),
    "readback_missing": lambda: after(lambda w: w.request(**SHOT) or w.fire(), call("tick"), wait_ns=201 * MS),
    "readback_unexpected": lambda: answered(seq=9),
    "readback_far": lambda: answered(current_ua=9_000),
    "readback_often": lambda: answered(2, current_ua=4_500),
    "stopped": lambda: after(call("stop"), call("connect")),
    "device": lambda: after(call("fault"), call("connect")),
    "mark": lambda: after(lambda w: w.fault(("mark",)), call("connect")),
}
# Bits that are never set: a tolerance is stated in two units, and the refusal names the first.
SILENT = {name for name, scene in SCENES.items() if scene is None}


def saturate(world):
    for _ in range(16):
        world.now_ns += 90 * MS
        world.stream(world.now_ns, saturated=True)
        world.renew(7, world.next_nonce())


def shoot_fast(world):
    """A fast train, 9 s ago."""
    assert world.request(**{**TRAIN, "interval_us": 199_999}) == set()
    while world.oracle.shot:
        world.live_until(world.oracle.shot.due_ns)
        world.fire()
        world.read_back()
    world.live(9 * S)


def after_a_mismatch():
    world = armed_world({**WIDE})
    world.request(**SHOT)
    world.fire()
    world.read_back(current_ua=4_400)
    world.live(S)
    return world


def test_all_reasons_have_a_scene():
    assert tuple(SCENES) == REASON_NAMES
    assert sorted(SILENT) == ["readback_current_ua", "readback_width_us"]


@pytest.mark.parametrize("name", [name for name in SCENES if name not in SILENT])
def test_a_reason_is_given(name):
    assert name in SCENES[name]()
