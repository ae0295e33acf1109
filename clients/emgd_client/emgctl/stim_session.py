"""`emgctl stim arm | pulse | pair | train`: what holds the lease, for as long as this command runs.

The lease is renewed in the same event loop that arms, fires and listens: a command that hangs, or is killed, is
disarmed by the service. Ctrl-C is an emergency stop.
"""

import argparse
import asyncio
import math
import os
import signal
import sys
from contextlib import aclosing, suppress
from typing import Any, Final

from emgd_client.aio import AsyncClient, connect
from emgd_client.emergency import emergency_stop
from emgd_client.emgctl import render, stim
from emgd_client.errors import ClientError, RefusedError
from emgd_client.messages import Message, Pulse, StimulatorState
from emgd_client.stimulator import Shot

RENEWALS: Final = 4
"""Renewals within a lease: three may be late on a busy machine."""

GREETING_S: Final = 2.0
"""Longest wait for the state that greets a subscriber."""

LAST_WORD_S: Final = 3.0
"""Longest wait for what became of a pulse: the service waits up to 0.5 s for report and mark, on a good day."""

REST_S: Final = 1.0
"""The same once a shot has ended before its time."""

HELP: Final = """\
  NUMBER         a pulse of so many mA
  Enter          the same again
  pair MS        two pulses of that current, MS apart
  train N HZ     N pulses of that current
  confirm MA     steps up to MA are wanted
  quit           disarm and end (Ctrl-C: emergency stop)"""


def run(args: argparse.Namespace) -> int:
    """The subcommands."""
    return asyncio.run(_Session(args).run())


class _Session:
    """One command from lease to release."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._interrupted = False
        self._width_us: int = args.width_us
        self._current_ua: int | None = getattr(args, "current_ua", None)
        self._greeted = asyncio.Event()
        self._armed = False
        self._heard: asyncio.Queue[Message] = asyncio.Queue()

    async def run(self) -> int:
        """Take, arm, work, disarm, release; KeyboardInterrupt after a stop."""
        work = asyncio.ensure_future(self._whole())
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._stop, work)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, work.cancel)
        try:
            return await work
        except asyncio.CancelledError:
            if self._interrupted:
                raise KeyboardInterrupt from None
            raise ClientError("ended by a signal; the stimulator is disarmed") from None

    def _stop(self, work: "asyncio.Future[int]") -> None:
        """Ctrl-C: the stop first, then all else. It is a datagram, so nothing is in its way."""
        try:
            said = emergency_stop(self._args.runtime_dir)
            print(f"\n{said}; before the next pulse: emgctl stim ack --operator ID", file=sys.stderr)
        except ClientError as error:
            print(f"\nemgctl: {error}", file=sys.stderr)
        self._interrupted = True
        work.cancel()

    async def _whole(self) -> int:
        async with connect(name="emgctl stim", runtime_dir=self._args.runtime_dir) as client:
            ears = asyncio.ensure_future(self._listen(client))
            try:
                await self._greeting()
                lease = await client.stimulator.take()
                try:
                    return await self._with_lease(client, lease["lease_ms"], ears)
                finally:
                    with suppress(ClientError):
                        await client.stimulator.release()
            finally:
                await _end(ears)

    async def _listen(self, client: AsyncClient) -> None:
        async with aclosing(client.messages("stim0/")) as messages:
            async for message in messages:
                self._greeted.set()
                if isinstance(message, StimulatorState):
                    self._armed = self._armed or message.armed
                if self._armed:  # what was before is not ours
                    self._heard.put_nowait(message)

    async def _greeting(self) -> None:
        """The state that greets a subscriber: from then on nothing is missed."""
        try:
            async with asyncio.timeout(GREETING_S):
                await self._greeted.wait()
        except TimeoutError:
            text = "the service says nothing of a stimulator: is there a [stimulator] in its configuration?"
            raise ClientError(text) from None

    async def _with_lease(self, client: AsyncClient, lease_ms: int, ears: "asyncio.Future[None]") -> int:
        """Arm and work; if the lease cannot be kept, or nothing is heard any more, that ends too."""
        keeper: asyncio.Future[Any] = asyncio.ensure_future(_keep(client, lease_ms))
        worker: asyncio.Future[Any] = asyncio.ensure_future(self._work(client))
        others: tuple[asyncio.Future[Any], ...] = (keeper, ears)
        try:
            await asyncio.wait({worker, *others}, return_when=asyncio.FIRST_COMPLETED)
            for task in others:
                if task.done() and not worker.done():
                    await task
                    raise ClientError("the service says nothing any more")
            code: int = worker.result()
            return code
        finally:
            await _end(keeper)
            await _end(worker)

    async def _work(self, client: AsyncClient) -> int:
        args = self._args
        side, nerve, electrodes, limb = args.site
        armed = await client.stimulator.arm(
            profile=args.profile,
            side=side,
            nerve=nerve,
            electrodes=electrodes,
            limb=limb,
            operator=args.operator,
            limits=dict(args.limit or ()) or None,
            area_mm2=args.area_mm2,
            load_ohm=args.load_ohm,
            acknowledged=args.acknowledge or None,
        )
        if not args.json:
            load = f"{armed['load_ohm'] / 1000:g} kΩ" if armed["load_ohm"] else "unknown load"
            print(f"armed: {', '.join(part for part in args.site if part)}; profile {args.profile}; {load}", flush=True)
        if args.shot is None:
            return await self._converse(client)
        return 0 if await self._shoot(client, args.shot(args)) else 1

    async def _shoot(self, client: AsyncClient, shot: Shot) -> bool:
        """Fire, and tell what became of each pulse; whether all were given as asked."""
        while not self._heard.empty():
            self._heard.get_nowait()
        accepted = await client.stimulator.fire(shot)
        left, good, why = shot.count, True, "nothing was heard of the rest"
        try:
            async with asyncio.timeout(shot.count * shot.interval_us / 1e6 + LAST_WORD_S) as patience:
                while left:
                    message = await self._heard.get()
                    if isinstance(message, Pulse) and message.shot == accepted["shot"]:
                        self._show(message)
                        left -= 1
                        good = good and message.delivered is not None and not message.reasons
                    elif isinstance(message, StimulatorState) and message.reasons:
                        why = message.text  # only pulses that are out already can still be told of
                        patience.reschedule(asyncio.get_running_loop().time() + REST_S)
        except TimeoutError:
            raise ClientError(f"{left} of {shot.count} pulses were not given: {why}") from None
        return good

    def _show(self, pulse: Pulse) -> None:
        print(render.as_json(render.message_map(pulse)) if self._args.json else stim.pulse_line(pulse), flush=True)

    # --- the conversation of `arm`

    async def _converse(self, client: AsyncClient) -> int:
        """Do what is typed, until the end of it, of the time, or of being armed."""
        if sys.stdin.isatty():
            print(HELP, flush=True)
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        descriptor = _read_lines(lines)
        try:
            async with asyncio.timeout(self._args.seconds):
                while (line := await self._next_line(lines)) is not None:
                    if line.strip() in ("quit", "q"):
                        return 0
                    await self._obey(client, line.split())
                if self._args.seconds is not None:
                    await self._next_line(lines)  # no input, but a time: hold it so long
        except TimeoutError:
            pass
        finally:
            if descriptor is not None:
                asyncio.get_running_loop().remove_reader(descriptor)
        return 0

    async def _next_line(self, lines: "asyncio.Queue[str | None]") -> str | None:
        """What is typed next; ClientError when it is armed no longer."""
        typed = asyncio.ensure_future(lines.get())
        try:
            while not typed.done():
                news = asyncio.ensure_future(self._heard.get())
                await asyncio.wait({typed, news}, return_when=asyncio.FIRST_COMPLETED)
                if not news.done():
                    news.cancel()
                elif isinstance(message := news.result(), StimulatorState) and not message.armed:
                    raise ClientError(f"no longer armed: {message.text}")
            return typed.result()
        finally:
            typed.cancel()

    async def _obey(self, client: AsyncClient, words: list[str]) -> None:
        """One line; a refusal ends nothing but that line."""
        try:
            match words:
                case ["confirm", current]:
                    await client.stimulator.confirm(microamperes(current))
                    print(f"steps up to {current} mA are confirmed", flush=True)
                case _:
                    await self._shoot(client, self._shot(words))
        except ValueError as error:
            print(f"{error}\n{HELP}", file=sys.stderr)
        except RefusedError as error:
            print("\n".join(["refused:", *stim.refusal_lines(error.refusals)] if error.refusals else [str(error)]))

    def _shot(self, words: list[str]) -> Shot:
        """What is meant; ValueError."""
        kind, count, interval_us = "single", 1, 0
        match words:
            case ["pair", apart_ms]:
                kind, count, interval_us = "pair", 2, round(float(apart_ms) * 1000)
            case ["train", number, rate_hz]:
                kind, count, interval_us = "train", int(number), interval_of(float(rate_hz))
            case [current]:
                self._current_ua = microamperes(current)
            case []:
                pass
            case _:
                raise ValueError(f"{' '.join(words)!r} is not understood")
        if self._current_ua is None:
            raise ValueError("how many mA?")
        return Shot(self._current_ua, self._width_us, kind, count, interval_us)


async def _keep(client: AsyncClient, lease_ms: int) -> None:
    """Keep the lease; ends with the error when it is lost."""
    while True:
        await asyncio.sleep(lease_ms / 1000 / RENEWALS)
        await client.stimulator.renew()


async def _end(task: "asyncio.Future[Any]") -> None:
    """Cancel it, and wait until it is gone."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _read_lines(lines: "asyncio.Queue[str | None]") -> int | None:
    """Put what is typed into a queue, None at its end; the descriptor that is listened to, if there is one."""
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    pending = bytearray()

    def readable() -> None:
        data = os.read(descriptor, 4096)
        pending.extend(data)
        while b"\n" in pending:
            line, _, rest = pending.partition(b"\n")
            pending[:] = rest
            lines.put_nowait(line.decode("utf-8", "replace"))
        if not data:
            loop.remove_reader(descriptor)
            lines.put_nowait(None)

    try:
        loop.add_reader(descriptor, readable)
    except PermissionError:  # a plain file is always readable, and cannot be waited for
        for line in sys.stdin:
            lines.put_nowait(line.rstrip("\n"))
        lines.put_nowait(None)
        return None
    return descriptor


def microamperes(text: str) -> int:
    """Microamperes from milliamperes as people type them; ValueError."""
    current_ua = float(text) * 1000
    if not 0 < current_ua < 1e6 or abs(current_ua - round(current_ua)) > 1e-6:
        raise ValueError(f"{text!r} is not a current in mA, in steps of 0.001")
    return round(current_ua)


def interval_of(rate_hz: float) -> int:
    """Microseconds from pulse to pulse, rounded up: 3 Hz is no more than 3 Hz. ValueError."""
    if not 0 < rate_hz <= 1000:
        raise ValueError(f"{rate_hz:g} Hz is not a rate above 0 and up to 1000")
    return math.ceil(1e6 / rate_hz)


def single(args: argparse.Namespace) -> Shot:
    """What `pulse` gives."""
    return Shot(args.current_ua, args.width_us)


def pair(args: argparse.Namespace) -> Shot:
    """What `pair` gives."""
    return Shot(args.current_ua, args.width_us, "pair", 2, args.interval_us)


def train(args: argparse.Namespace) -> Shot:
    """What `train` gives."""
    return Shot(args.current_ua, args.width_us, "train", args.count, interval_of(args.rate_hz))
