"""A cart: a guest with emgd installed as docs/installation.md says, and the emulated bus that it hangs on."""

import json
import re
import time
from pathlib import Path

import ramp
from emulator import EmulatedBus
from vm import GuestError, Machine

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "build" / "system"

AMPLIFIER = "EMG8-000001"
SECOND = "EMG8-000002"
PORT = "LOOP-000001"
SERIAL_AMPLIFIER = "HACKEEG-000001"

CONTRACT_TESTS = 8
"""The contract suite has at least so many for each device; fewer means that it was not found."""

FIFO_BYTES = 2_500_000
"""Memory for two seconds instead of a quarter: this machine may hold the guest up for longer than a cart is held up."""

CHECKOUT = "/mnt/checkout"
WATCHER_LOG = "/run/watcher.jsonl"
PYTHON = "/opt/emgd/bin/python"

BLOCKS = """
[stream]
block_ms = 20
"""
"""What costs is each block, for the service and for a client in Python: an emulated processor cannot do 500 a second of
them beside a thousand USB transfers."""

START_S = 240
"""The service designs its filters with SciPy, whose import takes 15 s here, beside other work several times that."""

SLOW_S = 180
"""What a client in Python may take to start while the service keeps the processors busy: ten seconds when the machine
has nothing else to do."""

NEWS_S = 60
"""For what takes a second on a cart: a device that is found, a state that is told."""

USER = "clinician"
"""Somebody in the service's group, as those who work with it are; not root."""


class Cart:
    """The machine, the bus, and what the tests ask of both."""

    def __init__(self, kernel, guest, disks, *, console_shell=False):
        """Plug the amplifier in, and nothing else; then boot."""
        LOGS.mkdir(parents=True, exist_ok=True)
        recording = LOGS / "ramp.npy"
        ramp.write_recording(recording)
        self.bus = EmulatedBus(
            LOGS / f"{kernel}.bus.log",
            [
                f"emg8,serial={AMPLIFIER},recording={recording},loop=yes,fifo_bytes={FIFO_BYTES}",
                f"emg8,serial={SECOND},channels=4,rate_hz=8000",
                f"loopback,serial={PORT}",
                f"hackeeg,serial={SERIAL_AMPLIFIER}",
            ],
        )
        for name in (SECOND, PORT, SERIAL_AMPLIFIER):
            self.bus.say(f"unplug {name}")
        self.log = LOGS / f"{kernel}.log"
        self.watching = None
        try:
            self.machine = Machine(guest, kernel, disks, self.log, usb=self.bus.sockets, console_shell=console_shell)
        except BaseException:
            self.bus.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.machine.close()
        self.bus.close()

    def install(self):
        """What docs/installation.md tells an administrator to type under "Service", word for word."""
        page = (ROOT / "docs" / "installation.md").read_text()
        programs, service = (
            re.findall(
                r"^    (.+)$", page.split(f"\n## {title}\n")[1].split("\n## ")[0].split("\n\n\n")[0], re.MULTILINE
            )
            for title in ("Programs", "Service")
        )
        commands = [line for line in programs if line.startswith("ln ")]
        start = service.index("systemctl enable --now emgd")
        commands += [*service[:start], f"cat >> /etc/emgd/emgd.toml <<< '{BLOCKS}'", service[start]]
        self.machine.run(f"cd {CHECKOUT} && set -ex\n" + "\n".join(commands))
        join = next(line for line in service if line.startswith("adduser "))
        self.machine.run(f"useradd --create-home {USER} && {join.replace('NAME', USER)}")

    # --- the service

    def show(self, *properties):
        """What systemd knows of the service."""
        lines = self.machine.output(f"systemctl show emgd -p {','.join(properties)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def status(self):
        """`emgctl status --json`, as somebody who works with the cart."""
        return json.loads(self.machine.output(f"runuser -u {USER} -- emgctl status --json", timeout_s=SLOW_S))

    def wait_until(self, wanted, what, timeout_s=NEWS_S):
        """Ask `wanted` until it gives something true, and return that."""
        give_up = time.monotonic() + timeout_s
        while True:
            found = wanted()
            if found:
                return found
            if time.monotonic() > give_up:
                raise GuestError(f"waited {timeout_s} s for this: {what}")
            time.sleep(0.2)

    def wait_until_streaming(self):
        """However the service is now. The device itself is asked: a question in the guest would take time from it."""
        self.wait_until(lambda: self.bus.status(AMPLIFIER)["state"] == "streaming", "the service streams", START_S)

    def hold_to_contract(self, variable, serial, way):
        """Plug this device in, run the contract suite on it in the guest, and unplug it again."""
        self.bus.say(f"plug {serial}")
        plugged = f"until grep -qx {serial} /sys/bus/usb/devices/*/serial; do sleep 0.2; done"
        done = self.machine.run(
            f"cd {CHECKOUT} && timeout 60 bash -c '{plugged}'"
            f" && {variable}={serial} PYTHONPATH=/mnt/installed/tools HOME=/tmp"
            f" HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis {PYTHON} -m pytest"
            f" -p no:cacheprovider tests/contract -k '{way}' -v --timeout 120",
            timeout_s=400,
            check=False,
        )
        print(done.output + done.errors)
        self.bus.say(f"unplug {serial}")
        assert done.status == 0
        assert int(re.search(r"(\d+) passed", done.output)[1]) >= CONTRACT_TESTS
        assert "skipped" not in done.output.splitlines()[-1]

    # --- the client that watches

    def watch(self):
        """Start the watching client; it begins with the sample that comes next. Its word when it has begun."""
        paths = f"PYTHONPATH={CHECKOUT}/tests/net:{CHECKOUT}/tests/system"
        command = f"exec {PYTHON} -u {CHECKOUT}/tests/system/guest/watcher.py {WATCHER_LOG}"
        self.machine.run(f"install -m 666 /dev/null {WATCHER_LOG}")
        self.watching = self.machine.begin(
            f"{paths} exec runuser -u {USER} -- bash -c 'echo $$ > /tmp/watcher.pid; {command}'", timeout_s=600
        )
        return self.wait_for("begun", timeout_s=SLOW_S)[1]

    def events(self):
        """All that it has written down."""
        lines = self.machine.run(f"cat {WATCHER_LOG}").output.splitlines()
        return [json.loads(line) for line in lines]

    def wait_for(self, event, *, after=0, timeout_s=NEWS_S, **what):
        """The first such event behind the first `after`; returns its place and it."""

        def found():
            for place, one in list(enumerate(self.events()))[after:]:
                if one["event"] == event and all(one[key] == value for key, value in what.items()):
                    return place, one
            return None

        return self.wait_until(found, f"{event} {what}", timeout_s)

    def stop_watching(self):
        """End it; what it wrote down, and its last word."""
        watching, self.watching = self.watching, None
        # When it has ended by itself there is nothing to kill, and `finish` tells what it said.
        self.machine.run("kill $(cat /tmp/watcher.pid)", check=False)
        self.machine.finish(watching)
        events = self.events()
        assert events[-1]["event"] == "done"
        return events, events[-1]
