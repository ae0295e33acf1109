"""Figures as text: aligned tables, units, JSON. Nothing here asks or prints anything."""

import dataclasses
import json
import textwrap
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from emgd_client.messages import (
    Block,
    Clock,
    Description,
    ElectrodePair,
    Gap,
    Impedance,
    Mark,
    Message,
    Pulse,
    State,
)
from emgd_wire.kinds import Flag

_LAG: Final = ("lag_samples", "dropped", "backfilled")
"""What the service knows of a client's stream, beside its name."""

SUBJECT_TEXT: Final = 68
"""Columns of a subject's text: 80 less its name."""

SHOWN_VALUES: Final = 4
"""Channels of a sample that fit on a line of 80 columns beside the rest."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of an aligned table: the first `left` columns to the left, the others (numbers) to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def duration(seconds: float) -> str:
    """A time span with the two units that matter."""
    minutes, rest_s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{seconds:.1f} s"


def size(count: float) -> str:
    """A number of bytes in the largest decimal unit that fits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def flags(bits: int) -> str:
    """The names of a block's flags."""
    return ",".join(flag.name.lower() for flag in Flag(bits) if flag.name) or "-"


def as_json(value: Any) -> str:
    """One line of JSON, from plain values and from the dataclasses of the library."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def message_map(message: Message) -> dict[str, Any]:
    """A message for JSON: its fields and its type; of a block's samples only how many, and the first."""
    fields: dict[str, Any] = {"type": type(message).__name__.lower(), **_plain(message)}
    if isinstance(message, Block):
        fields |= {"samples": message.count, "first_sample": message.samples[0].tolist()}
    return fields


def message_line(message: Message) -> str:
    """A message on one line."""
    return f"{message.stream:<14} {_message_text(message)}"


def _message_text(message: Message) -> str:
    match message:
        case Block():
            values = " ".join(f"{value:g}" for value in message.samples[0][:SHOWN_VALUES].tolist())
            more = " …" if message.samples.shape[1] > SHOWN_VALUES else ""
            gap = f" gap_before {message.gap_before}" if message.gap_before else ""
            return f"block  seq {message.seq} count {message.count}{gap} flags {flags(message.flags)} [{values}{more}]"
        case Gap():
            return f"gap    seq {message.seq} count {message.count}: {', '.join(message.causes)}"
        case Mark():
            return f"mark   seq {message.seq} {message.code} value {message.value} channel {message.channel}"
        case Clock():
            return f"clock  {clock(dataclasses.asdict(message))}"
        case State() | Impedance() | Pulse():
            return _standing(message)
        case Description():
            channels = len(message.channels)
            return f"described: {message.kind} {message.rate_hz:g} Hz, {channels} channels of {message.device}"


def _standing(message: State | Impedance | Pulse) -> str:
    if isinstance(message, Pulse):
        given = "not known" if message.delivered is None else f"{message.delivered.current_ua} µA"
        return f"pulse  {message.pulse} {message.current_ua} µA {message.width_us} µs, delivered {given}"
    if isinstance(message, State):
        return f"state  {message.state}: {message.text}"
    return f"check  {message.check} {message.state} {message.side or message.text}".rstrip()


def clock(figures: dict[str, Any]) -> str:
    """The clock model in one phrase."""
    drift, sigma_us, age_ms = figures["drift_ppm"], figures["sigma_ns"] / 1e3, figures["age_ns"] / 1e6
    return f"{figures['state']}, drift {drift:+.2f} ppm, sigma {sigma_us:.1f} µs, age {age_ms:.0f} ms"


def status(figures: dict[str, Any]) -> list[str]:
    """The figures of the service, one subject per line."""
    device, publisher = figures["device"], figures["publisher"]
    simulated = ", simulated" if device["simulated"] else ""
    firmware = f", firmware {device['firmware']}" if device["firmware"] else ""
    errors = ", ".join(f"{code} {count}" for code, count in figures["control"]["errors"].items()) or "no errors"
    memory = figures["memory"]
    subjects = {
        "service": f"emgd {figures['version']}, protocol {figures['protocol']}, pid {figures['pid']}, "
        f"up {duration(figures['uptime_s'])}",
        "session": figures["session"],
        "device": f"{device['name']}: {device['driver']} {device['serial'] or '(any)'}{firmware}{simulated}",
        "state": f"{device['state']}  {device['text']}".rstrip(),
        **(_stream_subjects(figures) if figures["samples"] else {}),
        "publisher": f"{publisher['blocks']} blocks, {publisher['events']} events, {size(publisher['bytes'])}, "
        f"lapped {publisher['lapped_blocks']} and {publisher['lapped_events']}, failed {publisher['failed_sends']}",
        "control": f"{figures['control']['requests']} requests, {errors}",
        "memory": f"resident {size(memory['rss_bytes'])}, ring {size(memory['ring_bytes'])}",
    }
    if figures.get("impedance"):
        subjects["electrodes"] = electrodes(figures["impedance"])
    if stimulator := figures.get("stimulator"):
        subjects["stimulator"] = f"{stimulator['state']}, lease {stimulator['holder'] or 'free'}"
    lines = [f"{subject:<10} {text}" for subject, text in subjects.items()]
    return [*lines, *clients(figures["clients"])]


def _stream_subjects(figures: dict[str, Any]) -> dict[str, str]:
    """What there is to say once the device was there."""
    device, samples, wire = figures["device"], figures["samples"], figures["wire"]
    causes = ", ".join(f"{cause} {count}" for cause, count in samples["causes"].items() if count) or "none"
    subjects = {
        "signal": f"{device['channels']} channels, {device['rate_hz']:g} Hz, speed {device['speed']:g}, "
        f"returns {wire['returns']}",
        "samples": f"next {samples['head']}, history from {samples['oldest']}, marks {samples['marks']}",
        "gaps": f"{samples['gaps']}, missing {samples['missing']} samples ({causes})",
        "clock": clock(figures["clock"]),
        "wire": f"{wire['frames']} frames, {size(wire['bytes'])}, corrupt {wire['corrupt']}, "
        f"truncated {wire['truncated']}, repeated {wire['repeated']}, restarts {wire['restarts']}",
    }
    if transport := figures.get("transport"):
        shown = ", ".join(f"{name} {count}" for name, count in transport.items() if count)
        subjects["transport"] = f"\n{'':<11}".join(textwrap.wrap(shown, SUBJECT_TEXT)) or "nothing yet"
    return subjects


def electrodes(figures: dict[str, Any]) -> str:
    """What the last impedance check found, in one phrase."""
    last = figures["last"]
    if not figures["offered"]:
        return "this device has no impedance test"
    if figures["state"] not in ("idle", "done", "aborted"):
        return "an impedance check is running"
    if last is None:
        return "not checked"
    if last["state"] != "done":
        return f"check {last['check']} aborted: {last['text']}"
    bad = sum(pair["bridge"] or {pair["e1"]["state"], pair["e2"]["state"]} != {"good"} for pair in last["results"])
    checked = f"check {last['check']}: {len(last['results'])} channels"
    return f"{checked}, {bad} with an electrode that is not good" if bad else f"{checked}, all good"


def clients(known: list[dict[str, Any]]) -> list[str]:
    """Who listens, and how far behind."""
    rows = [
        [client["name"], str(client.get("pid") or "-"), f"{client['age_s']:.1f}", stream]
        + [str(figures[name]) for name in _LAG]
        for client in known
        for stream, figures in (client["streams"] or {"-": dict.fromkeys(_LAG, "-")}).items()
    ]
    header = ["client", "pid", "heard_s", "stream", "lag", "dropped", "backfilled"]
    return ["", *table(header, rows)] if rows else ["clients    none"]


def stream_list(known: list[Description]) -> list[str]:
    """The streams as a table, then the channels of each."""
    rows = [
        [
            one.stream,
            f"{one.rate_hz:g}",
            str(len(one.channels)),
            one.unit,
            str(one.block_samples),
            f"{one.history_samples / one.rate_hz:.1f}",
            f"{one.driver} {one.serial}",
        ]
        for one in known
    ]
    lines = table(["stream", "rate_hz", "channels", "unit", "block", "history_s", "device"], rows)
    for one in known:
        channels = [
            [str(number), channel.label, f"{channel.uv_per_count:.6g}", str(channel.gain), channel.mode]
            for number, channel in enumerate(one.channels)
        ]
        lines += ["", one.stream, *(f"  note: {note}" for note in one.notes)]
        lines += _indented(table(["no", "label", "uv_per_count", "gain", "mode"], channels, left=2))
    return lines


def filter_list(stream: str, result: dict[str, Any]) -> list[str]:
    """The reply of `filter`: from when on, and each channel's filter."""
    rows = [
        [
            str(number),
            str(chosen["preset"] or "-"),
            _corner(chosen, "high_pass"),
            _corner(chosen, "low_pass"),
            f"{chosen['notch_hz']:g} Hz" if chosen["notch_hz"] else "off",
            str(chosen["note"] or ""),
        ]
        for number, chosen in enumerate(result["channels"])
    ]
    since = "in force when the stream goes on" if result["from_seq"] is None else f"from sample {result['from_seq']} on"
    header = ["no", "preset", "high-pass", "low-pass", "notch", "note"]
    return [f"{stream}: {since}", *_indented(table(header, rows, left=len(header)))]


_SIDES: Final = {"e1": "E1", "e2": "E2", "both": "E1 and E2"}
_WORDS: Final = {"dry": "is dry", "off": "is off", "unknown": "was not to be measured"}


def impedance_progress(message: Impedance) -> str:
    """One line of progress; empty for what needs none."""
    if message.state == "measuring" and message.side in _SIDES:
        again = f", attempt {message.attempt}" if message.attempt > 1 else ""
        return f"{message.step} of {message.steps}: measuring {_SIDES[message.side]}{again}"
    if message.state == "settling" and message.step == 1 and message.attempt == 1:
        return f"{message.current_na:g} nA at {message.frequency_hz:g} Hz through {len(message.channels)} channels"
    return ""


def electrode_list(message: Impedance) -> list[str]:
    """What a check has found, a line for each channel."""
    rows = [
        [
            str(pair.channel),
            pair.label,
            ohms(pair.e1.ohm, pair.e1.sigma_ohm),
            ohms(pair.e2.ohm, pair.e2.sigma_ohm),
            ohms(pair.between_ohm, pair.between_sigma_ohm),
            _contact(pair),
        ]
        for pair in message.results
    ]
    return table(["no", "label", "E1", "E2", "between", "state"], rows, left=6)


def _contact(pair: ElectrodePair) -> str:
    if pair.bridge:
        return "bridge between E1 and E2"
    words = [
        f"{name} {_WORDS.get(electrode.state, electrode.state)}"
        for name, electrode in (("E1", pair.e1), ("E2", pair.e2))
        if electrode.state != "good"
    ]
    return ", ".join(words) or "good"


def ohms(value: float | None, sigma: float | None) -> str:
    """An impedance with its uncertainty, in the unit that fits."""
    if value is None or sigma is None:
        return "-"
    unit, scale = next(((unit, scale) for unit, scale in _OHM_UNITS if value >= scale), ("Ω", 1.0))
    digits = 0 if scale == 1 else 2 if value < 10 * scale else 1
    return f"{value / scale:.{digits}f} ±{sigma / scale:.{digits}f} {unit}"


_OHM_UNITS: Final = (("MΩ", 1e6), ("kΩ", 1e3))


def _corner(chosen: dict[str, Any], part: str) -> str:
    hz = chosen[f"{part}_hz"]
    return f"{hz:g} Hz, order {chosen[f'{part}_order']}" if hz else "off"


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
