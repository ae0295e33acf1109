"""`python -m emgd_drivers.sim.bus`: devices on an emulated USB bus, as a process."""

import argparse
import asyncio
import logging
import selectors
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from emgd_drivers.api import DeviceError
from emgd_drivers.sim.bus.control import VERBS
from emgd_drivers.sim.bus.kinds import KINDS, NAME_FIELD, add_device
from emgd_drivers.sim.bus.port import Bus, BusError
from emgd_drivers.sim.bus.server import BusServer

USAGE_ERROR: Final = 2

EXAMPLE: Final = """\
example:
  python -m emgd_drivers.sim.bus --device emg8,serial=EMG8-000001,channels=8,rate_hz=48000 \\
      --device emg8,serial=EMG8-000002,recording=needle.hea,loop=yes \\
      --usbip-tcp 3240 --control /tmp/bus.sock
  usbip attach -r 127.0.0.1 -b 1-1                  on this machine, as root, after: modprobe vhci-hcd
  echo "unplug EMG8-000001" | socat - /tmp/bus.sock

It prints one line that begins with "ready" once it listens, and ends at quit, SIGTERM or Ctrl-C.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end; the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    bus = Bus()
    try:
        if options.usbredir is not None:
            options.usbredir.mkdir(exist_ok=True)
        for text in options.device:
            add_device(bus, text, time.monotonic_ns())
        # select() waits to the microsecond; the usual epoll rounds up to whole milliseconds, a frame's time.
        with asyncio.Runner(loop_factory=_precise_loop) as runner:
            return runner.run(_serve(bus, options))
    except (BusError, DeviceError, OSError) as error:
        print(f"emulated bus: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return 0


def _precise_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _serve(bus: Bus, options: argparse.Namespace) -> int:
    server = BusServer(bus)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stopped.set)
    try:
        where = [await server.listen_control(options.control)]
        if options.usbip_unix is not None:
            where.append(await server.listen_usbip_unix(options.usbip_unix))
        if options.usbip_tcp is not None:
            where.append(await server.listen_usbip_tcp(options.usbip_tcp))
        if options.usbredir is not None:
            where.append(await server.listen_usbredir(options.usbredir))
        names = [f"{port.bus_id}={port.name}" for port in bus.ports]
        print("ready", *names, *where, flush=True)
        await server.stopped.wait()
    finally:
        await server.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m emgd_drivers.sim.bus",
        description="USB devices that exist only as models, for a kernel or a virtual machine to attach.",
        epilog="\n".join([*_kinds_help(), "", *_verbs_help(), "", EXAMPLE]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--device",
        action="append",
        required=True,
        metavar="KIND[,NAME=VALUE…]",
        help="a device on the bus; may be given again: the first is 1-1, the next 1-2, …",
    )
    parser.add_argument(
        "--control", type=Path, required=True, metavar="PATH", help="unix socket for faults and plug state"
    )
    parser.add_argument("--usbip-unix", type=Path, metavar="PATH", help="serve USB/IP on this unix socket")
    parser.add_argument("--usbip-tcp", type=int, metavar="PORT", help="serve USB/IP on 127.0.0.1 (usual: 3240; 0: any)")
    parser.add_argument("--usbredir", type=Path, metavar="DIR", help="serve usbredir on DIR/NAME.sock for each device")
    return parser


def _kinds_help() -> list[str]:
    lines = []
    for name, kind in KINDS.items():
        lines.append(f"device {name}: {kind.text}")
        for field in (*kind.fields, NAME_FIELD):
            default = "" if field.default in ("", ()) else f"; else {field.default}"
            lines.append(f"  {field.name + '=':12} {field.text}{default}")
    return lines


def _verbs_help() -> list[str]:
    lines = ["lines that the control socket takes (NAME is a device's name or bus id):"]
    lines += [f"  {f'{word} NAME {verb.arguments}'.strip():20} {verb.text}" for word, verb in VERBS.items()]
    return [*lines, f"  {'list':20} all devices, as JSON", f"  {'quit':20} end the process"]


if __name__ == "__main__":
    sys.exit(main())
