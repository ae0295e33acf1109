"""What can be typed: the subcommands of emgctl as one table, and the parser made from it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from emgd_client.emgctl import audit, commands, stim, stim_session, watch
from emgd_wire.version import PROTOCOL, VERSION

_EXIT_CODES: Final = "exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 service not running, 130 Ctrl-C"


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def _hz_or_off(text: str) -> float:
    return 0.0 if text == "off" else float(text)


def _channel_list(text: str) -> list[int]:
    return [_natural(part) for part in text.split(",")]


def _limit(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    return name.strip(), int(value)


def _site(text: str) -> tuple[str, str, str, str]:
    side, nerve, electrodes, *limb = (part.strip() for part in text.split(","))
    if len(limb) > 1 or not (side and nerve and electrodes):
        raise ValueError(text)
    return side, nerve, electrodes, limb[0] if limb else ""


def _milliamperes(text: str) -> int:
    return stim_session.microamperes(text)


def _milliseconds(text: str) -> int:
    return round(_seconds(text) * 1000)


def _rate(text: str) -> float:
    stim_session.interval_of(float(text))
    return float(text)


# argparse names the type in its message: "invalid channel numbers such as 0,1,2 value: 'x'".
_natural.__name__ = "number of 0 or more"
_positive.__name__ = "number of 1 or more"
_seconds.__name__ = "seconds above 0"
_hz_or_off.__name__ = "Hz (or off)"
_channel_list.__name__ = "channel numbers such as 0,1,2"
_limit.__name__ = "limit such as current_ua=2000"
_site.__name__ = "site such as right,median,wrist"
_milliamperes.__name__ = "current in mA"
_milliseconds.__name__ = "milliseconds above 0"
_rate.__name__ = "rate in Hz"


@dataclass(frozen=True, slots=True)
class _Argument:
    """One argument: its name (an option with dashes), and what argparse is to know of it."""

    name: str
    help: str
    options: dict[str, Any]


def _argument(name: str, text: str, **options: Any) -> _Argument:
    return _Argument(name, text, options)


_STREAM: Final = _argument("stream", "stream id, see `emgctl streams`", metavar="STREAM")

_FILTER_OPTIONS: Final = (
    _STREAM,
    _argument("--channels", "channels from 0 (all, if left out)", type=_channel_list, metavar="N,N"),
    _argument("--preset", "a named clinical preset", metavar="NAME"),
    _argument("--high-pass-hz", "corner, or off", type=_hz_or_off, metavar="HZ"),
    _argument("--high-pass-order", "its order", type=_positive, metavar="N"),
    _argument("--low-pass-hz", "corner, or off", type=_hz_or_off, metavar="HZ"),
    _argument("--low-pass-order", "its order", type=_positive, metavar="N"),
    _argument("--notch-hz", "centre, or off", type=_hz_or_off, metavar="HZ"),
    _argument("--notch-q", "centre / width", type=float, metavar="Q"),
)


@dataclass(frozen=True, slots=True)
class _Subcommand:
    """One row of the table."""

    name: str
    help: str
    run: Callable[[argparse.Namespace], int | None]
    arguments: tuple[_Argument, ...]
    examples: tuple[str, ...]
    presets: dict[str, Any] = field(default_factory=dict)


_ARM_OPTIONS: Final = (
    _argument("--site", "SIDE,NERVE,WHERE and if you like LIMB", type=_site, metavar="SITE", required=True),
    _argument("--operator", "who is responsible", metavar="ID", required=True),
    _argument("--profile", "whose limits hold (motor)", metavar="NAME", default="motor"),
    _argument("--width-us", "width of each pulse (200)", type=_positive, metavar="US", default=200),
    _argument("--limit", "a tighter limit, such as current_ua=2000", type=_limit, metavar="NAME=N", action="append"),
    _argument("--area-mm2", "of the smaller electrode", type=_positive, metavar="MM2"),
    _argument("--load-ohm", "as measured, where the stimulator cannot", type=_positive, metavar="OHM"),
    _argument("--acknowledge", "the operator stands for what the profile asks", action="store_true"),
)
_CURRENT_OPTION: Final = _argument(
    "--current-ma", "peak current", type=_milliamperes, metavar="MA", dest="current_ua", required=True
)
_OPERATOR_OPTION: Final = _argument("--operator", "who is responsible", metavar="ID", required=True)
_SITE_EXAMPLE: Final = '--site "right,median,wrist" --operator mw'

_STIM: Final = (
    _Subcommand("status", "how the stimulator is", stim.status, (), ("", "--json | jq .state")),
    _Subcommand("limits", "the limits in force, and which layer set each", stim.limits, (), ("",)),
    _Subcommand(
        "arm",
        "arm, and give what is typed until `quit`; Ctrl-C is an emergency stop",
        stim_session.run,
        (
            *_ARM_OPTIONS,
            _argument("--for", "end after S seconds", type=_seconds, metavar="S", dest="seconds"),
        ),
        (f"{_SITE_EXAMPLE} --profile motor", f"{_SITE_EXAMPLE} --for 30 < /dev/null"),
        {"shot": None},
    ),
    _Subcommand(
        "pulse",
        "arm, give one pulse, disarm; exit code 0 if it was given as asked",
        stim_session.run,
        (*_ARM_OPTIONS, _CURRENT_OPTION),
        (f"{_SITE_EXAMPLE} --current-ma 5 --width-us 200",),
        {"shot": stim_session.single},
    ),
    _Subcommand(
        "pair",
        "arm, give two pulses, disarm",
        stim_session.run,
        (
            *_ARM_OPTIONS,
            _CURRENT_OPTION,
            _argument(
                "--apart-ms",
                "from one to the other",
                type=_milliseconds,
                metavar="MS",
                dest="interval_us",
                required=True,
            ),
        ),
        (f"{_SITE_EXAMPLE} --current-ma 5 --apart-ms 20",),
        {"shot": stim_session.pair},
    ),
    _Subcommand(
        "train",
        "arm, give a train, disarm",
        stim_session.run,
        (
            *_ARM_OPTIONS,
            _CURRENT_OPTION,
            _argument("--count", "how many pulses", type=_positive, metavar="N", required=True),
            _argument("--rate-hz", "how many in a second", type=_rate, metavar="HZ", required=True),
        ),
        (f"{_SITE_EXAMPLE} --profile rns --current-ma 5 --count 10 --rate-hz 3",),
        {"shot": stim_session.train},
    ),
    _Subcommand("stop", "emergency stop, at once, whoever stimulates", stim.stop, (), ("",)),
    _Subcommand("disarm", "nothing more is given, whoever stimulates", stim.disarm, (), ("",)),
    _Subcommand(
        "ack",
        "the cause of a stop or a fault is removed",
        stim.acknowledge,
        (_OPERATOR_OPTION,),
        ("--operator mw",),
    ),
)


_SUBCOMMANDS: Final = (
    _Subcommand("status", "how the service and its device are", commands.status, (), ("", "--json | jq .samples")),
    _Subcommand("streams", "the data streams and their channels", commands.streams, (), ("",)),
    _Subcommand(
        "watch",
        "rate, gaps, drops and latency of live streams",
        watch.run,
        (
            _argument("stream", "stream id (all, if left out)", metavar="STREAM", nargs="?"),
            _argument("--count", "end after N updates", type=_positive, metavar="N"),
            _argument("--seconds", "end after S seconds", type=_seconds, metavar="S"),
            _argument("--interval", "seconds between updates (1)", type=_seconds, metavar="S", default=1.0),
        ),
        ("", "amp0/raw --seconds 10", "--json --count 5"),
    ),
    _Subcommand(
        "tail",
        "messages as they come",
        commands.tail,
        (
            _argument("topics", "what the topics begin with (all, if left out)", metavar="TOPIC", nargs="*"),
            _argument("--count", "end after N messages", type=_positive, metavar="N"),
        ),
        ("amp0/gap amp0/mark", "amp0/raw --count 3"),
    ),
    _Subcommand("ping", "ask the service for a sign of life", commands.ping, (), ("",)),
    _Subcommand(
        "filter",
        "set the filter of a stream",
        commands.set_filter,
        _FILTER_OPTIONS,
        ("amp0/filtered --preset motor", "amp0/filtered --channels 0,1 --high-pass-hz 20 --notch-hz off"),
    ),
    _Subcommand(
        "history",
        "fetch samples of the past",
        commands.history,
        (
            _STREAM,
            _argument("--seq", "first sample number", type=_natural, metavar="N", required=True),
            _argument("--count", "how many samples", type=_positive, metavar="N", required=True),
            _argument("--out", "write the samples there, shape (samples, channels)", type=Path, metavar="FILE.npy"),
        ),
        ("amp0/raw --seq 0 --count 48000 --out first_second.npy",),
    ),
    _Subcommand(
        "impedance",
        "check the electrodes; exit code 0 if all are good, else 1",
        commands.impedance,
        (_argument("--channels", "channels from 0 (all, if left out)", type=_channel_list, metavar="N,N"),),
        ("", "--channels 0,1", "--json | jq .results"),
    ),
    _Subcommand(
        "audit",
        "see whether an audit log is whole; exit code 0 if it is, else 1",
        audit.run,
        (
            _argument("action", "what to do with it", choices=("verify",)),
            _argument("file", "the log", type=Path, metavar="FILE"),
            _argument("--head", "a digest kept elsewhere, which the log has to contain", metavar="DIGEST"),
        ),
        ("verify /var/lib/emgd/audit.jsonl",),
    ),
    _Subcommand(
        "completion",
        "print a completion script for a shell (needs shtab)",
        commands.completion,
        (_argument("shell", "which shell", choices=("bash", "zsh")),),
        ("bash > ~/.local/share/bash-completion/completions/emgctl",),
    ),
)


def build_parser() -> argparse.ArgumentParser:
    """The parser; a parsed command line has its function in `run`, its parser in `parser`, all of it in `whole`."""
    parser = argparse.ArgumentParser(
        prog="emgctl",
        description="Look at a running emgd service, set filters, check electrodes and the audit log, stimulate.",
        epilog=f"`emgctl COMMAND --help` has examples. {_EXIT_CODES}",
    )
    parser.add_argument("--version", action="version", version=f"emgctl {VERSION}, protocol {PROTOCOL}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for row in _SUBCOMMANDS:
        _add(subparsers, row, "emgctl", parser)
    group = subparsers.add_parser(
        "stim",
        help="the stimulator: status, arm, pulse, train, stop",
        description="The stimulator. docs/safety/stimulating.md is the guide.",
        epilog=f"`emgctl stim COMMAND --help` has examples. {_EXIT_CODES}",
    )
    nested = group.add_subparsers(dest="stim_command", metavar="COMMAND", required=True)
    for row in _STIM:
        _add(nested, row, "emgctl stim", parser)
    return parser


def _add(subparsers: Any, row: _Subcommand, program: str, whole: argparse.ArgumentParser) -> None:
    """A subcommand's parser."""
    lines = [f"  {program} {row.name} {example}".rstrip() for example in row.examples]
    sub = subparsers.add_parser(
        row.name,
        help=row.help,
        description=row.help[0].upper() + row.help[1:] + ".",
        epilog="\n".join(["examples:", *lines, "", _EXIT_CODES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.add_argument("--json", action="store_true", help="JSON: one document, one per line for watch and tail")
    sub.add_argument("--runtime-dir", type=Path, metavar="DIR", help="where the service's sockets are")
    for argument in row.arguments:
        sub.add_argument(argument.name, help=argument.help, **argument.options)
    sub.set_defaults(run=row.run, parser=sub, whole=whole, **row.presets)
