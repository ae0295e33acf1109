"""The C of the gate itself, called without the wrapper: for what the wrapper cannot say (a bent structure, a table
that no layer can make) and for what it checks twice.

The declarations are those of the headers, so a change there is a change here.
"""

import ast
import functools
import os
import re
import subprocess
import tempfile
from pathlib import Path

import cffi
from gate_world import WIDE

from emgd_ext.gate import LIMIT_NAMES, names_in
from paths import ROOT

C = ROOT / "ext" / "emgd_ext" / "c"


def sources():
    """The C files of the gate, as setup.py lists them."""
    found = re.search(r'"gate": (\[[^]]*\])', (ROOT / "setup.py").read_text())
    assert found
    return [C / name for name in ast.literal_eval(found[1])]


def declarations(folder):
    """The gate's headers and what they include, as cffi reads it: no system headers, no macros, no comments."""
    text = '#include "gate.h"\n#include "judge.h"\n'
    plain = subprocess.run(
        ["gcc", "-E", "-P", f"-I{folder}", "-xc", "-"], input=text, capture_output=True, text=True, check=True
    )
    return plain.stdout


def parsed():
    """All that the headers declare."""
    ffi = cffi.FFI()
    with tempfile.TemporaryDirectory() as folder:
        for header in C.glob("*.h"):
            (Path(folder) / header.name).write_text(re.sub(r"#include <[^\n]*\n", "", header.read_text()))
        ffi.cdef(declarations(folder))
    return ffi


FFI = parsed()
NOW = 10 * 10**9  # of every gate that is made here


@functools.cache
def foreign():
    """(cffi, library): the variant under test, or one built for this run."""
    built = os.environ.get("EMGD_GATE_VARIANT")
    if built:
        return FFI, FFI.dlopen(built)
    with tempfile.TemporaryDirectory() as folder:
        built = f"{folder}/gate.so"
        subprocess.run(["gcc", "-std=gnu11", "-O1", "-shared", "-fPIC", *sources(), "-o", built], check=True)
        return FFI, FFI.dlopen(built)


def new_gate(table=None, state="EMGD_ARMED"):
    """A gate in memory, in whatever state, armed by the wide table at NOW; all fields are there to be bent."""
    ffi, lib = foreign()
    gate = ffi.new("emgd_gate *")
    assert lib.emgd_gate_init(gate, 0) == 0
    gate.limits = limits_of({**WIDE, **(table or {})})[0]
    gate.limits_set = 1
    gate.state = getattr(lib, state)
    gate.now_ns = NOW
    gate.holder, gate.nonce, gate.lease_until_ns = 7, 1, gate.now_ns + 10**9
    gate.operator_id, gate.site = 1, 5
    gate.compliance_v, gate.device_current_ua, gate.device_width_us = 390, 80_000, 500
    gate.active_ns, gate.sample_ns, gate.stamped = gate.now_ns, gate.now_ns, 1
    gate.load_ohm = 1_000
    return gate


def limits_of(table):
    ffi, _ = foreign()
    limits = ffi.new("emgd_limits *")
    for number, name in enumerate(LIMIT_NAMES):
        limits.value[number] = table[name]
    return limits


def firing_gate(table=None, **shot):
    """A gate with a shot that stands, due now. No judgement was asked about it."""
    _, lib = foreign()
    gate = new_gate(table, "EMGD_FIRING")
    gate.shot.kind, gate.shot.count, gate.shot.left = lib.EMGD_SINGLE, 1, 1
    gate.shot.current_ua, gate.shot.width_us, gate.shot.interval_us = 5_000, 100, 0
    gate.shot.first_ns = gate.shot.due_ns = gate.now_ns
    for name, value in shot.items():
        setattr(gate.shot, name, value)
    return gate


def fire(gate, now_ns=None):
    """(names, pulse)."""
    _ffi, lib = foreign()
    fired = lib.emgd_gate_fire(gate, gate.now_ns if now_ns is None else now_ns)
    return set(names_in(fired.why)), fired.pulse


def book(gate, at_ns, current_ua=1, width_us=1, site=5):
    """A pulse that went out."""
    ffi, lib = foreign()
    lib.emgd_dose_book(
        ffi.addressof(gate, "dose"), ffi.new("emgd_booked *", lib.emgd_judge_booked(current_ua, width_us, at_ns, site))
    )


def bend(gate, changes):
    """Write fields of a gate: `shot.x`, `limit.x`, or a field of its own; `booked`: pulses that went out."""
    for path, value in changes.items():
        if path == "booked":
            for pulse in value:
                book(gate, *pulse)
        elif path.startswith("awaited."):
            gate.awaited_count = value
            for place in range(value):
                gate.awaited[place].at_ns = gate.now_ns
        elif not path.startswith("limit."):
            target = gate.shot if path.startswith("shot.") else gate
            setattr(target, path.removeprefix("shot."), value)


def bent(changes, build):
    table = {path[6:]: value for path, value in changes.items() if path.startswith("limit.")}
    gate = build(table)
    bend(gate, changes)
    return gate


def along_fire(changes):
    return fire(bent(changes, firing_gate), NOW)[0]


def along_request(changes):
    ffi, lib = foreign()
    gate = bent(changes, new_gate)
    firing = firing_gate()
    shot = firing.shot
    request = ffi.new("emgd_request *")
    request.holder, request.site, request.kind, request.count = 7, 5, shot.kind, shot.count
    request.asked_ns = NOW
    request.current_ua = changes.get("shot.current_ua", shot.current_ua)
    request.width_us = changes.get("shot.width_us", shot.width_us)
    return set(names_in(lib.emgd_gate_request(gate, request, NOW)))
