"""`emgctl stim status | limits | stop | disarm | ack`: what needs no lease. `stim_session` has what does."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from emgd_client.client import Client, connect
from emgd_client.emergency import emergency_stop
from emgd_client.emgctl import render
from emgd_client.messages import Pulse


def _connect(args: argparse.Namespace) -> Client:
    return connect(name="emgctl stim", runtime_dir=args.runtime_dir)


def status(args: argparse.Namespace) -> None:
    """How the stimulator is."""
    with _connect(args) as client:
        figures = client.stimulator.status()
    print(render.as_json(figures) if args.json else "\n".join(status_lines(figures)))


def limits(args: argparse.Namespace) -> None:
    """The limits in force, and which layer set each."""
    with _connect(args) as client:
        table = client.stimulator.limits()
    if args.json:
        print(render.as_json(table))
    elif not table:
        print("no limits yet: the stimulator was not there")
    else:
        rows = [[name, str(value), table["layers"][name]] for name, value in table["values"].items()]
        print("\n".join([f"profile {table['profile']}", *render.table(["limit", "value", "layer"], rows)]))


def stop(args: argparse.Namespace) -> None:
    """The emergency stop."""
    said = emergency_stop(args.runtime_dir)
    print(render.as_json({"stopped": True, "text": said}) if args.json else said)


def disarm(args: argparse.Namespace) -> None:
    """Nothing more is given."""
    with _connect(args) as client:
        answer = client.stimulator.disarm()
    print(render.as_json(answer) if args.json else f"disarmed; the stimulator is {answer['state']}")


def acknowledge(args: argparse.Namespace) -> None:
    """The cause of a fault or a stop is removed."""
    with _connect(args) as client:
        answer = client.stimulator.acknowledge(args.operator)
    print(render.as_json(answer) if args.json else f"acknowledged; the stimulator is {answer['state']}")


def status_lines(figures: Mapping[str, Any]) -> list[str]:
    """One subject per line."""
    simulated = ", simulated" if figures["simulated"] else ""
    device = f"{figures['driver']} {figures['serial']}, firmware {figures['firmware']}{simulated}"
    own = [
        text
        for name, text in (
            ("isolated", "NOT ISOLATED"),
            ("has_watchdog", "no watchdog of its own"),
            ("has_stop", "no emergency stop of its own"),
            ("has_trigger", "no trigger line"),
            ("measures_load", "cannot measure the load"),
        )
        if not figures[name]
    ]
    site = figures["site"]
    counts = ", ".join(f"{name} {number}" for name, number in figures["counts"].items()) or "nothing yet"
    yours = " (this program)" if figures["yours"] else ""
    subjects = {
        "device": device if figures["serial"] else "none yet",
        "lacks": ", ".join(own) if figures["serial"] else "",
        "state": f"{figures['state']}  {figures['text']}",
        "lease": f"{figures['holder']}{yours}" if figures["holder"] else "free",
        "site": f"{_place(site)}, profile {figures['profile']}, operator {figures['operator']}" if site else "",
        "load": f"{figures['load_ohm']} Ω" if figures["load_ohm"] else "not measured",
        "given": counts,
        "thread": figures["scheduling"],
        **{f"note {number}": note for number, note in enumerate(figures["notes"], 1)},
        "warning": ", ".join(figures["warnings"]),
    }
    return [f"{subject:<8} {text}" for subject, text in subjects.items() if text]


def _place(site: Mapping[str, str]) -> str:
    limb = f"{site['limb']}, " if site["limb"] else ""
    return f"{site['side']} {site['nerve']}, {limb}{site['electrodes']}"


def milliamperes(current_ua: int) -> str:
    """A current for people."""
    return f"{current_ua / 1000:g} mA"


def pulse_line(pulse: Pulse) -> str:
    """What became of a pulse."""
    asked = f"pulse {pulse.pulse} ({pulse.number} of {pulse.of}): {milliamperes(pulse.current_ua)}, {pulse.width_us} µs"
    if (given := pulse.delivered) is None:
        why = ", ".join(pulse.reasons)
        return f"{asked}; " + (f"not given ({why})" if why else "nobody knows whether it was given")
    load = f"{given.load_ohm / 1000:g} kΩ" if given.load_ohm else "open electrodes"
    mark = f", sample {pulse.mark_seq}" if pulse.mark_seq is not None else ""
    off = f"  NOT AS ASKED: {', '.join(pulse.reasons)}" if pulse.reasons else ""
    return f"{asked}; delivered {milliamperes(given.current_ua)}, {given.width_us} µs, {load}{mark}{off}"


def refusal_lines(refusals: Sequence[Mapping[str, Any]]) -> list[str]:
    """What stands against a stimulus: limit, layer, asked and allowed, and what to do."""
    lines = []
    for one in refusals:
        figures = [
            f"{word} {one[word]} {one['unit']}".rstrip() for word in ("asked", "allowed") if one.get(word) is not None
        ]
        layer = f" ({one['layer']})" if one.get("layer") else ""
        lines += [f"  {one['name']}{layer}: {', '.join(figures)}".rstrip(": "), f"    {one['text']}"]
    return lines
