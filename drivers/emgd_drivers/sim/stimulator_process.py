"""A simulated stimulator in a process of its own, as an object of the process that started it."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from emgd_drivers.sim import child

START_TIMEOUT_S: Final = 60.0
"""A busy machine takes a while to start a process."""

END_TIMEOUT_S: Final = 10.0
"""It ends when its output is off; its watchdog sees to that within 2 s."""


class StimulatorProcess:
    """A stimulator behind a pty (sim/stimulator_port.py), for as long as the context lasts.

    `options` are those of the device's FIELDS but `faults`. `path` is a link that stays the same over `unplug` and
    `plug`; `pid` is the process. RuntimeError when it does not come up.
    """

    def __init__(
        self,
        device: str = "ncs1",
        *,
        link: Path | None = None,
        options: Mapping[str, Any] | None = None,
        faults: Sequence[str] = (),
        pulse_log: Path | None = None,
        trigger: Path | None = None,
        control: Path | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="emgd-stim-") if link is None else None
        self.path: Final = str(link if self._folder is None else Path(self._folder.name) / f"tty-{device}")
        command = [sys.executable, "-m", "emgd_drivers.sim.stimulator_port", "--until-eof"]
        command += ["--device", device, "--link", self.path, "--options", json.dumps(dict(options or {}))]
        for fault in faults:
            command += ["--fault", fault]
        paths = {"--pulse-log": pulse_log, "--trigger": trigger, "--control": control}
        for name, path in paths.items():
            command += [name, str(path)] if path is not None else []
        # Ctrl-C goes to whoever started us, and that decides: so not to the same group.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, process_group=0
        )
        self._heard = b""
        self.pid: Final = self._process.pid
        try:
            self._expect("ready")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
        self.close()

    def tell(self, line: str) -> str:
        """A line of control; what it answers after `ok`. RuntimeError when it does not say `ok`."""
        if self._process.stdin is not None:
            self._process.stdin.write(line.encode() + b"\n")
        return self._expect("ok")

    def state(self) -> dict[str, Any]:
        """What it is doing."""
        described: dict[str, Any] = json.loads(self.tell("state"))
        return described

    def await_unplugged(self) -> None:
        """Wait until a fault has pulled the plug."""
        self._expect("unplugged")

    def close(self) -> None:
        """End the process; harmless when called again."""
        child.end(self._process, END_TIMEOUT_S)
        if self._folder is not None:
            self._folder.cleanup()

    def _expect(self, begin: str) -> str:
        """The rest of the process's next line."""
        stdout = self._process.stdout
        while stdout is not None and b"\n" not in self._heard:
            data = b""
            if select.select([stdout], [], [], START_TIMEOUT_S)[0]:
                data = os.read(stdout.fileno(), 4096)
            if not data:
                break
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        word, _, rest = line.decode("utf-8", "replace").partition(" ")
        if word != begin:
            raise RuntimeError(f"the simulated stimulator at {self.path} said {line!r}; what it printed says why")
        return rest
