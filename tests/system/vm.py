"""A virtual machine as an object: started, asked to run commands, powered off; bounded in time at every step.

qemu emulates the processor (TCG): hardware virtualisation is not to be had everywhere, and where it is, a nested one
may hang. So the guest is some ten times slower than its host and stalls now and then: nothing about latency can be
learnt in it, only order, loss and state.
"""

import itertools
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path

from emulator import DIES_WITH_US

BOOT_S = 180
"""A boot takes 15 to 25 s on an idle machine of two cores."""

POWER_OFF_S = 90
COMMAND_S = 60
GRACE_S = 15
"""What the guest may take to tell the outcome of a command after the time that the command itself had."""

MEMORY_MB = 2048
PROCESSORS = 2

KERNEL_ARGUMENTS = [
    "root=/dev/vda console=ttyS0 quiet panic=-1 mitigations=off audit=0",
    # Everything that is logged is in the console's log, which outlives the guest.
    "systemd.show_status=0 systemd.journald.forward_to_console=1",
]
NO_SHELL = "systemd.getty_auto=0"
"""A login on the console would hang it up now and then, and what is logged there would be lost."""


class GuestError(Exception):
    """The guest did not do what it was asked, or not in time."""


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    command: str
    status: int
    output: str
    errors: str


class Machine:
    """A running guest. Use it as a context manager: it is gone afterwards, whatever happened."""

    def __init__(self, guest, kernel, disks, log, *, usb=(), console_shell=False):
        """`guest` and `disks` as image.py and software.py make them; `usb` are sockets that speak usbredir."""
        self.log = log
        self._answers = {}
        self._ids = itertools.count(1)
        self._ready = threading.Event()
        self._closing = []
        self._qemu = self._hearing = self._monitor = None
        # Not below the log: the name of a socket may have 107 characters.
        self._folder = tempfile.TemporaryDirectory(prefix="emgd-vm-")
        self._sockets = {}
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            agent, monitor = self._listen("agent"), self._listen("monitor")
            command = self._command(guest, kernel, disks, usb, console_shell=console_shell)
            streams = None if console_shell else subprocess.DEVNULL
            with (log.parent / f"{log.stem}.qemu.log").open("w") as errors:
                self._qemu = subprocess.Popen(
                    command, stdin=streams, stdout=streams, stderr=None if console_shell else errors
                )
            self._agent = self._accept(agent)
            self._monitor = Monitor(self._accept(monitor))
        except BaseException:
            self.close()
            raise
        self._hearing = threading.Thread(target=self._hear, daemon=True)
        self._hearing.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- what tests ask for

    def wait_until_up(self):
        """Until the agent speaks: most of the guest is there then."""
        if not self._ready.wait(BOOT_S) or self._qemu.poll() is not None:
            raise GuestError(f"the guest did not come up within {BOOT_S} s; its console is in {self.log}")

    def begin(self, command, *, timeout_s=COMMAND_S):
        """Start a command of the guest's shell as root; `finish` waits for it."""
        request = {"id": next(self._ids), "command": command, "timeout_s": timeout_s}
        answer = self._answers[request["id"]] = Future()
        answer.command, answer.timeout_s = command, timeout_s
        self._agent.sendall(json.dumps(request).encode() + b"\n")
        return answer

    def finish(self, begun, *, check=True):
        """What came of it. GuestError when it did not end in time, or (with `check`) failed."""
        try:
            answer = begun.result(begun.timeout_s + GRACE_S)
        except FutureTimeoutError:
            raise GuestError(f"the guest says nothing any more (asked for: {begun.command})") from None
        if answer["status"] is None:
            raise GuestError(f"not done in {begun.timeout_s} s: {begun.command}\n{answer['output']}{answer['errors']}")
        done = Done(begun.command, answer["status"], answer["output"], answer["errors"])
        if check and done.status != 0:
            raise GuestError(f"status {done.status}: {done.command}\n{done.output}{done.errors}")
        return done

    def run(self, command, *, timeout_s=COMMAND_S, check=True):
        """`begin` and `finish` in one."""
        return self.finish(self.begin(command, timeout_s=timeout_s), check=check)

    def output(self, command, *, timeout_s=COMMAND_S):
        """What a command printed, which must end well."""
        return self.run(command, timeout_s=timeout_s).output.strip()

    def monitor(self, command, **arguments):
        """A command of qemu's own monitor (QMP); its result."""
        return self._monitor.ask(command, arguments)

    def sleep(self, duration_s):
        """Suspend it to memory as `systemctl suspend` does, and wake it that much later."""
        self.begin("systemctl suspend")
        give_up = time.monotonic() + COMMAND_S
        while self.monitor("query-status")["status"] != "suspended":
            if time.monotonic() > give_up:
                raise GuestError(f"the guest does not go to sleep; its console is in {self.log}")
            time.sleep(0.2)
        time.sleep(duration_s)
        self.monitor("system_wakeup")

    def console(self, offset=0):
        """What the kernel and the journal wrote since that many bytes."""
        return self.log.read_bytes()[offset:].decode(errors="replace")

    def is_running(self):
        return self._qemu.poll() is None

    def wait(self, timeout_s=POWER_OFF_S):
        """Until qemu has ended, which it does when the guest has powered off."""
        try:
            return self._qemu.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise GuestError(f"the guest was still there after {timeout_s} s; its console is in {self.log}") from None

    def close(self):
        """End it at once; more than once does no harm."""
        qemu = self._qemu
        if qemu is not None and qemu.poll() is None:
            qemu.kill()
        if qemu is not None:
            qemu.wait()
        # qemu's end closed the agent's door, which ends the thread.
        if self._hearing is not None:
            self._hearing.join(GRACE_S)
        if self._monitor is not None:
            self._monitor.close()
        for one in self._closing:
            one.close()
        self._folder.cleanup()

    # --- how it is done

    def _command(self, guest, kernel, disks, usb, *, console_shell):
        arguments = " ".join([*KERNEL_ARGUMENTS, *([] if console_shell else [NO_SHELL])])
        return [
            *DIES_WITH_US,
            "qemu-system-x86_64",
            *("-accel", "tcg,thread=multi,tb-size=512", "-machine", "q35", "-cpu", "max"),
            # Suspend to memory is there, hibernation is not.
            *("-global", "ICH9-LPC.disable_s3=0", "-global", "ICH9-LPC.disable_s4=1"),
            *("-smp", str(PROCESSORS), "-m", str(MEMORY_MB)),
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"),
            *("-kernel", guest / f"{kernel}.vmlinuz", "-initrd", guest / f"{kernel}.initrd", "-append", arguments),
            # What is written is forgotten at the end.
            *("-drive", f"file={guest / 'root.ext4'},if=virtio,format=raw,snapshot=on"),
            *itertools.chain.from_iterable(
                ("-drive", f"file={disk},if=virtio,format=raw,readonly=on") for disk in disks
            ),
            *("-serial", "mon:stdio" if console_shell else f"file:{self.log}"),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=agent,path={self._sockets['agent']}"),
            *("-device", "virtserialport,chardev=agent,name=emgd.agent"),
            *("-chardev", f"socket,id=monitor,path={self._sockets['monitor']}", "-mon", "monitor,mode=control"),
            *("-device", "qemu-xhci,id=xhci"),
            *itertools.chain.from_iterable(
                (
                    # An unplugged device is one that does not take the connection; qemu tries again each second.
                    *("-chardev", f"socket,id=usb{index},path={path},reconnect=1"),
                    *("-device", f"usb-redir,chardev=usb{index},bus=xhci.0,id=port{index}"),
                )
                for index, path in enumerate(usb)
            ),
        ]

    def _listen(self, name):
        listener = socket.socket(socket.AF_UNIX)
        self._closing.append(listener)
        self._sockets[name] = Path(self._folder.name, name)
        listener.bind(os.fspath(self._sockets[name]))
        listener.listen(1)
        listener.settimeout(1.0)
        return listener

    def _accept(self, listener):
        give_up = time.monotonic() + COMMAND_S
        while time.monotonic() < give_up and self._qemu.poll() is None:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            self._closing.append(connection)
            connection.settimeout(None)
            return connection
        said = (self.log.parent / f"{self.log.stem}.qemu.log").read_text()
        raise GuestError(f"qemu did not start: {said}")

    def _hear(self):
        """The answers of the agent, until qemu closes the door."""
        try:
            with self._agent.makefile("rb") as lines:
                for line in lines:
                    answer = json.loads(line)
                    if answer["id"] is None:
                        self._ready.set()
                    else:
                        self._answers.pop(answer["id"]).set_result(answer)
        except OSError:
            pass
        self._ready.set()
        for answer in list(self._answers.values()):
            answer.set_exception(GuestError("the guest is gone"))


class Monitor:
    """qemu's monitor: one JSON object per line each way."""

    def __init__(self, connection):
        connection.settimeout(COMMAND_S)
        self._connection = connection
        self._lines = connection.makefile("rb")
        self.events = [json.loads(self._lines.readline())]
        self.ask("qmp_capabilities", {})

    def close(self):
        """The socket itself belongs to the machine."""
        self._lines.close()

    def ask(self, command, arguments):
        """The result; what happens in between is kept in `events`."""
        self._connection.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self._lines.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise GuestError(f"qemu refused {command}: {answer['error']['desc']}")
            self.events.append(answer)
