"""The emulated USB bus as a process of its own (docs/emulation.md), one for each virtual machine."""

import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""In front of a command: a test run that is killed leaves nothing behind that takes the processor from the next."""

START_S = 30
ANSWER_S = 30


class EmulatedBus:
    """Devices to plug and unplug. A context manager: the process is gone afterwards."""

    def __init__(self, log, devices):
        """`devices` as the option --device takes them; `log` gets what the process says."""
        self._folder = tempfile.TemporaryDirectory(prefix="emgd-bus-")
        home = Path(self._folder.name)
        self.control = home / "control.sock"
        command = [
            *DIES_WITH_US,
            sys.executable,
            "-m",
            "emgd_drivers.sim.bus",
            "--control",
            self.control,
            "--usbredir",
            home,
        ]
        for device in devices:
            command += ["--device", device]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.ready = self._process.stdout.readline()
        if not self.ready.startswith("ready"):
            self.close()
            raise RuntimeError(f"the emulated bus did not start: {log.read_text()}")
        self.sockets = [home / f"{device['name']}.sock" for device in json.loads(self.say("list"))]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def say(self, line):
        """One line to the control socket; what came behind `ok`."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(str(self.control))
            connection.sendall(line.encode() + b"\n")
            with connection.makefile() as lines:
                answer = lines.readline().strip()
        if answer.split()[:1] != ["ok"]:
            raise RuntimeError(f"{line}: {answer}")
        return answer[2:].strip()

    def status(self, name):
        """What the device knows of itself."""
        return json.loads(self.say(f"status {name}"))

    def close(self):
        """End the process; more than once does no harm."""
        self._process.terminate()
        try:
            self._process.wait(START_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()
