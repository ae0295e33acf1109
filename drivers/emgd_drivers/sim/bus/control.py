"""The words of the control socket: what can be done to a device on the bus, as lines of text.

Each line gets one: `ok`, with or without more, or `error` and what is wrong.
"""

import json
from collections.abc import Callable
from typing import Final, NamedTuple

from emgd_drivers.sim.bus.pipe import PipeFault
from emgd_drivers.sim.bus.port import Bus, BusError, Port

MAX_LINE_BYTES: Final = 4096
"""Far above the longest line that makes sense."""


class Answer(NamedTuple):
    """One line, and whether the process shall end after it."""

    text: str
    quits: bool = False


class _Verb(NamedTuple):
    """A word, what comes after a device's name, and what it does: (port, numbers, now_ns) -> more text."""

    arguments: str
    text: str
    act: Callable[[Port, list[int], int], str | None]
    least: int = 0
    most: int = 0


def _plan(kind: PipeFault) -> Callable[[Port, list[int], int], None]:
    return lambda port, _numbers, _now_ns: port.plan(kind)


VERBS: Final[dict[str, _Verb]] = {
    "unplug": _Verb("", "pull the cable", lambda port, _, now_ns: port.unplug(now_ns)),
    "plug": _Verb("", "plug it in again, freshly powered up", lambda port, _, now_ns: port.plug(now_ns)),
    "stall": _Verb("", "halt bulk IN until the host clears it", lambda port, _, now_ns: port.stall(now_ns)),
    "babble": _Verb("", "the next transfer is longer than the host's buffer", _plan(PipeFault.BABBLE)),
    "short": _Verb(
        "[BYTES]",
        "the next transfer is cut, to half or to BYTES",
        lambda port, numbers, _: port.plan(PipeFault.SHORT, keep_bytes=numbers[0] if numbers else None),
        most=1,
    ),
    "corrupt": _Verb("", "bits of the next transfer are flipped", _plan(PipeFault.CORRUPT)),
    "drop": _Verb(
        "[N]",
        "the next transfer, or the next N, never come",
        lambda port, numbers, _: port.plan(PipeFault.DROP, times=numbers[0] if numbers else 1),
        most=1,
    ),
    "mute": _Verb(
        "MS",
        "nothing completes for MS milliseconds",
        lambda port, numbers, ns: port.mute(numbers[0], ns),
        least=1,
        most=1,
    ),
    "status": _Verb("", "what there is to know, as JSON", lambda port, _, now_ns: json.dumps(port.status(now_ns))),
}
"""Words that concern one device; `list` and `quit` stand alone."""

WORDS: Final = ", ".join([*VERBS, "list", "quit"])


def answer(bus: Bus, line: str, now_ns: int) -> Answer:
    """Do what a line says, and say how that went."""
    try:
        return _answer(bus, line.split(), now_ns)
    except BusError as error:
        return Answer(f"error {error}")


def _answer(bus: Bus, words: list[str], now_ns: int) -> Answer:
    match words:
        case ["quit"]:
            return Answer("ok", quits=True)
        case ["list"]:
            devices = [
                {"name": port.name, "kind": port.kind, "busid": port.bus_id, "connected": port.device is not None}
                for port in bus.ports
            ]
            return Answer(f"ok {json.dumps(devices)}")
        case [word, *rest] if word in VERBS:
            return Answer(_act(bus, word, rest, now_ns))
    shown = " ".join(words)[:60]
    raise BusError(f"{shown!r} is not understood; words are {WORDS}")


def _act(bus: Bus, word: str, rest: list[str], now_ns: int) -> str:
    verb = VERBS[word]
    usage = f"{word} NAME {verb.arguments}".strip()
    if not verb.least < len(rest) <= verb.most + 1:
        raise BusError(f"write: {usage}")
    name, *texts = rest
    if not all(text.isascii() and text.isdigit() and len(text) <= 18 for text in texts):
        raise BusError(f"numbers are whole and not negative; write: {usage}")
    said = verb.act(bus.port(name), [int(text) for text in texts], now_ns)
    return "ok" if said is None else f"ok {said}"
