"""The subcommands that ask and print; `watch` has a file of its own. Each takes the parsed command line."""

import argparse
from itertools import islice
from typing import Any

import numpy as np

from emgd_client.client import Client, connect
from emgd_client.emgctl import render
from emgd_client.errors import ClientError
from emgd_client.messages import Block, Impedance
from emgd_client.session import FilterSettings


def _connect(args: argparse.Namespace) -> Client:
    return connect(name=f"emgctl {args.command}", runtime_dir=args.runtime_dir)


def status(args: argparse.Namespace) -> None:
    """How the service and its device are."""
    with _connect(args) as client:
        figures = client.status()
    print(render.as_json(figures) if args.json else "\n".join(render.status(figures)))


def streams(args: argparse.Namespace) -> None:
    """The data streams and their channels."""
    with _connect(args) as client:
        known = client.streams()
    print(render.as_json(known) if args.json else "\n".join(render.stream_list(known)))


def tail(args: argparse.Namespace) -> None:
    """Messages as they come, a line each."""
    with _connect(args) as client:
        for message in islice(client.messages(*args.topics), args.count):
            line = render.as_json(render.message_map(message)) if args.json else render.message_line(message)
            print(line, flush=True)


def ping(args: argparse.Namespace) -> None:
    """A sign of life, and how long it took."""
    with _connect(args) as client:
        pong = client.ping()
    print(render.as_json(pong) if args.json else f"the service answered in {pong.round_trip_ns / 1e3:.0f} µs")


def set_filter(args: argparse.Namespace) -> None:
    """Set the filter of some channels or of all."""
    given = {name: getattr(args, name) for name in FilterSettings.__annotations__}
    settings: Any = {name: value for name, value in given.items() if value is not None}
    if not settings:
        args.parser.error("say what to set: --preset, or --high-pass-hz, --low-pass-hz, --notch-hz …")
    with _connect(args) as client:
        result = client.set_filter(args.stream, args.channels, **settings)
    if args.json:
        print(render.as_json(result))
        return
    print("\n".join(render.filter_list(args.stream, result)))


def impedance(args: argparse.Namespace) -> int:
    """Check the electrodes, and say how they are; 0 if all of them are good, else 1."""
    found: Impedance | None = None
    with _connect(args) as client:
        try:
            for found in client.check_impedance(args.channels):
                if not args.json and (line := render.impedance_progress(found)):
                    print(line, flush=True)
        except KeyboardInterrupt:
            client.stop_impedance()
            raise
    if found is None:
        raise ClientError("the impedance check ended without a word")
    if args.json:
        print(render.as_json(found))
    elif found.state == "done":
        print("\n".join(["", *render.electrode_list(found)]))
    else:
        raise ClientError(f"impedance check aborted ({found.reason}): {found.text}")
    return 0 if found.all_good else 1


def history(args: argparse.Namespace) -> None:
    """What the history has of a range: an overview, and the samples as a file if wanted."""
    with _connect(args) as client:
        blocks = client.history(args.stream, args.seq, args.count)
    if not blocks:
        raise ClientError(
            f"{args.stream} has only gaps from {args.seq} to {args.seq + args.count}: ask for more samples"
        )
    if args.out is not None:
        with args.out.open("wb") as file:
            np.save(file, np.concatenate([block.samples for block in blocks]))
    runs = _runs(blocks)
    fetched = sum(run["count"] for run in runs)
    if args.json:
        out = None if args.out is None else str(args.out)
        print(render.as_json({"stream": args.stream, "samples": fetched, "runs": runs, "out": out}))
        return
    print(f"{args.stream}: {fetched} of {args.count} samples from {args.seq} on")
    rows = [[str(run[name]) for name in ("seq", "count", "gap_before", "host_time_ns")] for run in runs]
    print("\n".join(render.table(["seq", "count", "gap_before", "host_time_ns"], rows, left=0)))
    if args.out is not None:
        print(f"written to {args.out}")


def _runs(blocks: list[Block]) -> list[dict[str, Any]]:
    """Blocks that follow each other without a gap, put together."""
    runs: list[dict[str, Any]] = []
    for block in blocks:
        if runs and runs[-1]["seq"] + runs[-1]["count"] == block.seq:
            runs[-1]["count"] += block.count
        else:
            fields = {"gap_before": block.gap_before, "host_time_ns": block.host_time_ns}
            runs.append({"seq": block.seq, "count": block.count, **fields})
    return runs


def completion(args: argparse.Namespace) -> None:
    """A completion script for a shell."""
    try:
        import shtab  # noqa: PLC0415 - optional, and only needed here
    except ImportError:
        raise ClientError("completion scripts are made by shtab: pip install shtab") from None
    print(shtab.complete(args.whole, args.shell))
