"""A simulated device as a process of its own, so that it stalls, overflows and dies as hardware would.

`python -m emgd_drivers.sim.device CONTROL_FD BULK_FD SPEC` is started by sim/cable.py. Both descriptors are
SOCK_SEQPACKET sockets: one control message (sim/link.py) or one bulk transfer each. The process ends with the cable:
when the host's end of the control socket is gone, or when the fault plan unplugs it.
"""

import select
import signal
import socket
import sys
import time
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

from emgd_drivers.api import DeviceError, DeviceLostError
from emgd_drivers.sim.link import MAX_MESSAGE_BYTES, failed, ready, reply
from emgd_drivers.sim.model import Emg8Model
from emgd_drivers.sim.signal import Signal, SyntheticEmg
from emgd_drivers.sim.spec import DeviceSpec
from emgd_drivers.sim.trigger_line import TriggerInput

BULK_SEND_BYTES: Final = 1024 * 1024
"""Wanted room on the way to the host, as for many transfers in flight; the kernel may grant less."""

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000


def main() -> None:
    """Build the device, say READY or FAILED, serve until the cable is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # These go to the host too, and the host decides.
        signal.signal(number, signal.SIG_IGN)
    control_fd, bulk_fd, spec = sys.argv[1:]
    with socket.socket(fileno=int(control_fd)) as control, socket.socket(fileno=int(bulk_fd)) as bulk:
        bulk.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BULK_SEND_BYTES)
        # A host that dies takes its sockets with it; a device that is unplugged has nobody to tell.
        with suppress(BrokenPipeError, ConnectionResetError, DeviceLostError), ExitStack() as undo:
            try:
                wanted = DeviceSpec.from_json(spec)
                trigger = undo.enter_context(closing(TriggerInput(Path(wanted.trigger)))) if wanted.trigger else None
                model = build(wanted, signal_of(wanted), time.monotonic_ns())
            except (DeviceError, ValueError, OSError) as error:
                control.send(failed(error))
                return
            control.send(ready(model))
            serve(model, control, bulk, trigger)


def build(spec: DeviceSpec, measured: Signal, now_ns: int) -> Emg8Model:
    """The device that a spec describes, powered up at `now_ns`. Raises ValueError, one line."""
    return Emg8Model(
        measured,
        spec.plan,
        speed=spec.speed,
        serial=spec.serial,
        electrodes=spec.electrodes,
        fifo_bytes=spec.fifo_bytes,
        trigger_hold_ns=round(spec.trigger_hold_ms * NS_PER_MS) if spec.trigger else 0,
        now_ns=now_ns,
    )


def signal_of(spec: DeviceSpec) -> Signal:
    """What the device measures; good for any number of devices. Raises DeviceError, ValueError or OSError, one line."""
    if spec.signal == "recording":
        from emgd_drivers.replay import open_recording  # noqa: PLC0415 - file formats, needed by no other device

        return open_recording(spec.path, loop=spec.loop, sidecar=spec.sidecar)
    return SyntheticEmg(spec.channels, spec.rate_hz, seed=spec.plan.seed, length=spec.length, triggers=spec.triggers)


def serve(model: Emg8Model, control: socket.socket, bulk: socket.socket, trigger: TriggerInput | None = None) -> None:
    """Answer and stream until the cable is gone. Deadlines are absolute, so being late once makes nothing later."""
    model.connect(partial(_send, bulk))
    while not model.unplugged:
        next_ns = model.next_event_ns()
        wait_s = None if next_ns is None else max(0, next_ns - time.monotonic_ns()) / NS_PER_S
        readers: list[socket.socket | TriggerInput] = [control] if trigger is None else [control, trigger]
        readable, _, _ = select.select(readers, [bulk] if model.blocked else [], [], wait_s)
        # Also when another thing woke us: what the line tells belongs into the frames that are due now.
        for at_ns, number in trigger.rises() if trigger is not None else ():
            model.trigger(at_ns, number)
        if control not in readable:
            model.run(time.monotonic_ns())
            continue
        request = control.recv(MAX_MESSAGE_BYTES)
        if not request:
            return
        control.send(reply(model, request, time.monotonic_ns()))


def _send(bulk: socket.socket, transfer: bytes) -> bool:
    """Hand a transfer to the host if it takes one now."""
    try:
        bulk.send(transfer, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except (BrokenPipeError, ConnectionResetError):
        return True  # The host closed its end and will never take anything again: nothing is worth keeping.
    return True


if __name__ == "__main__":
    main()
