"""A real service in a process of its own, for tests that talk to it as clients do."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import msgpack
import zmq

from paths import ROOT
from remembered_designs import new_folder

START_S = 30

EMGD = [sys.executable, str(ROOT / "tests/remembered_designs.py"), new_folder()]
"""`emgd`, less a second of designing the same filters at each start."""


class Running:
    """A running service: where it is, and a plain control call (pyzmq and msgpack only)."""

    def __init__(self, process, directory):
        self.process = process
        self.directory = directory
        self.stream = f"ipc://{directory}/stream.sock"
        self.control = f"ipc://{directory}/control.sock"
        self.killed = False

    def kill(self):
        """Its death, without a word."""
        self.killed = True
        self.process.kill()
        self.process.communicate()

    def ask(self, verb, **args):
        """Result map of a verb, and the payload frame if there is one; the error map is raised."""
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.rcvtimeo = 5000
            socket.connect(self.control)
            socket.send(msgpack.packb({"v": 1, "id": 1, "verb": verb, "args": args}))
            reply, *payload = socket.recv_multipart()
        reply = msgpack.unpackb(reply)
        if not reply["ok"]:
            raise RefusedError(reply["error"])
        return (reply["result"], payload[0]) if payload else reply["result"]


class RefusedError(Exception):
    def __init__(self, error):
        super().__init__(error)
        self.error = error


@contextmanager
def service(*args, directory=None, launcher=EMGD):
    """`emgd ARGS` until the block is left; its exit must be clean, unless it was killed on purpose."""
    # Unix socket paths are short by nature; pytest's own temporary folders may be too deep.
    with tempfile.TemporaryDirectory(prefix="emgd-") as made:
        home = Path(directory or made)
        command = [*map(str, [*launcher, *args]), "--runtime-dir", str(home)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            first = process.stdout.readline()
            if not first.startswith("emgd "):
                _, errors = process.communicate(timeout=START_S)
                raise AssertionError(f"the service did not start: {first}{errors}")
            running = Running(process, home)
            yield running
            if running.killed:
                return
            assert process.poll() is None, "the service died"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=START_S)
            assert process.returncode == 0, errors
            assert "Traceback" not in errors, errors
            assert not list(home.glob("*.sock")), "sockets must not be left behind"
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()


def rss_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
