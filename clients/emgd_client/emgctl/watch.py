"""`emgctl watch`: what a client gets of live streams, once a second.

Latency is the time of receipt minus the host time of the block's last sample.
"""

import argparse
import asyncio
import math
import sys
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from emgd_client.aio import AsyncClient, connect
from emgd_client.assembler import Tally
from emgd_client.emgctl import render
from emgd_client.messages import Block

_PERCENTILES: Final = (50, 95, 99)
_HEADER: Final = ("stream", "rate_hz", "blk/s", "gaps", "missing", "dropped", "fetched", "p50_ms", "p95_ms", "p99_ms")
_UP_AND_CLEAR: Final = "\x1b[{lines}F\x1b[J"
"""Terminal: go to the beginning of the line that many lines up, and clear from there on."""


@dataclass(slots=True)
class Meter:
    """Figures of one stream since they were last taken."""

    rate_hz: float
    samples: int = 0
    blocks: int = 0
    latencies_ns: list[int] = field(default_factory=list)

    def count(self, block: Block, received_ns: int) -> None:
        """Enter a block; one from the history says nothing about latency."""
        self.samples += block.count
        self.blocks += 1
        if block.origin == "live":
            self.latencies_ns.append(block.latency_ns(received_ns, self.rate_hz))

    def take(self, stream: str, tally: Tally, elapsed_s: float) -> dict[str, Any]:
        """The figures of the last `elapsed_s` and the totals of `tally`; counting begins anew."""
        latency: dict[str, float | None] = {f"p{percent}_ms": None for percent in _PERCENTILES}
        if self.latencies_ns:
            values = np.percentile(self.latencies_ns, _PERCENTILES) / 1e6
            latency = dict(zip(latency, (round(float(value), 3) for value in values), strict=True))
        rates = {"rate_hz": round(self.samples / elapsed_s, 1), "blocks_per_s": round(self.blocks / elapsed_s, 1)}
        self.samples, self.blocks, self.latencies_ns = 0, 0, []
        return {"stream": stream, **rates, **asdict(tally), **latency}


def run(args: argparse.Namespace) -> None:
    """The subcommand."""
    asyncio.run(_watch(args))


async def _watch(args: argparse.Namespace) -> None:
    async with connect(name="emgctl watch", runtime_dir=args.runtime_dir) as client:
        known = [await client.describe(args.stream)] if args.stream else await client.streams()
        meters = {one.stream: Meter(one.rate_hz) for one in known}
        tasks = {asyncio.create_task(_follow(client, stream, meter)) for stream, meter in meters.items()}
        try:
            await _report(client, meters, tasks, args)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _follow(client: AsyncClient, stream: str, meter: Meter) -> None:
    """Count what comes until the stream ends."""
    async with aclosing(client.blocks(stream)) as blocks:
        async for block in blocks:
            meter.count(block, time.monotonic_ns())


async def _report(
    client: AsyncClient, meters: dict[str, Meter], tasks: set[asyncio.Task[None]], args: argparse.Namespace
) -> None:
    """Print figures at each interval until the count is reached or all streams have ended."""
    updates_left = _updates(args)
    printer = _Printer(as_json=args.json)
    began_s = time.monotonic()
    while updates_left > 0 and tasks:
        done, tasks_left = await asyncio.wait(tasks, timeout=args.interval, return_when=asyncio.ALL_COMPLETED)
        for task in done:
            task.result()
        now_s = time.monotonic()
        printer.show([meter.take(stream, client.tally(stream), now_s - began_s) for stream, meter in meters.items()])
        began_s, tasks = now_s, tasks_left
        updates_left -= 1


def _updates(args: argparse.Namespace) -> float:
    """How many updates were asked for; without a word, any number."""
    by_time = math.inf if args.seconds is None else math.ceil(args.seconds / args.interval)
    return min(by_time, math.inf if args.count is None else args.count)


class _Printer:
    """Figures to standard output: JSON lines, a table redrawn in place on a terminal, else lines below one header."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._in_place = sys.stdout.isatty() and not as_json
        self._lines_drawn = 0

    def show(self, figures: list[dict[str, Any]]) -> None:
        """One update."""
        lines = [render.as_json(row) for row in figures] if self._as_json else _table(figures)
        if self._in_place and self._lines_drawn:
            print(_UP_AND_CLEAR.format(lines=self._lines_drawn), end="")
        elif self._lines_drawn and not self._as_json:
            lines = lines[1:]
        print("\n".join(lines), flush=True)
        self._lines_drawn = len(lines)


def _table(figures: list[dict[str, Any]]) -> list[str]:
    """Columns of fixed width, so that lines below one header stay aligned."""
    names = ("rate_hz", "blocks_per_s", "gaps", "missing", "dropped", "backfilled", "p50_ms", "p95_ms", "p99_ms")
    widths = (8, 6, 5, 7, 7, 7, 6, 6, 6)
    lines = [
        f"{_HEADER[0]:<13}" + "".join(f" {name:>{width}}" for name, width in zip(_HEADER[1:], widths, strict=True))
    ]
    for row in figures:
        cells = ("-" if row[name] is None else _short(row[name]) for name in names)
        lines.append(
            f"{row['stream']:<13}" + "".join(f" {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        )
    return lines


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
