"""Serial models behind a pty, in a process: bytes both ways, unplug and plug, and how the process ends."""

import errno
import os
import select
import signal
import subprocess
import sys
import termios
import time
import tty
from contextlib import contextmanager
from pathlib import Path

import pytest

from emgd_drivers.sim.pty import PtyDevice

TIMEOUT_S = 30.0


@contextmanager
def opened(path):
    port = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        yield port
    finally:
        os.close(port)


def read(port, count):
    """Exactly so many bytes."""
    heard = b""
    end_s = time.monotonic() + TIMEOUT_S
    while len(heard) < count:
        assert select.select([port], [], [], max(0, end_s - time.monotonic()))[0], heard
        heard += os.read(port, count - len(heard))
    return heard


def is_eio(error):
    return error.args[0] == errno.EIO


def test_cyton_answers_and_streams():
    with PtyDevice("cyton", options={"seed": 3}) as device, opened(device.path) as port:
        os.write(port, b"V")
        assert read(port, 9) == b"v3.1.5$$$"
        os.write(port, b"b")
        heard = read(port, 50 * 33)
    assert [heard[at] for at in range(0, len(heard), 33)] == [0xA0] * 50
    assert [heard[at + 1] for at in range(0, len(heard), 33)] == list(range(50))


def test_all_byte_values_pass_without_loss_at_a_fast_rate():
    with PtyDevice("hackeeg") as device, opened(device.path) as port:
        assert read(port, 7) == b"Ready\r\n"
        os.write(port, b"wreg 01 92\nwreg 05 00\nmessagepack\n")
        os.write(port, b'{"COMMAND":"start"}\n{"COMMAND":"rdatac"}\n')
        expected = b"200 Ok (Write Register 01 92) \r\n\r\n200 Ok (Write Register 05 00) \r\n\r\n"
        expected += 3 * b'{"STATUS_CODE":200,"STATUS_TEXT":"Ok"}\r\n'
        assert read(port, len(expected)) == expected
        heard = read(port, 4000 * 44)
    numbers = [int.from_bytes(heard[at + 13 : at + 17], "little") for at in range(0, len(heard), 44)]
    assert numbers == list(range(4000))
    assert len(set(heard)) == 256


def test_port_is_raw_from_the_start():
    with PtyDevice("cyton") as device, opened(device.path) as port:
        wanted = termios.tcgetattr(port)
        tty.setraw(port)
        assert termios.tcgetattr(port)[:4] == wanted[:4]


def test_unplug_is_an_error_to_who_has_it_open_and_plug_brings_a_fresh_device():
    with PtyDevice("cyton") as device:
        with opened(device.path) as port:
            os.write(port, b"b")
            read(port, 33 * 5)
            device.unplug()
            assert not Path(device.path).is_symlink()
            while os.read(port, 4096):  # What was on its way; then the end, as Linux reads a port that was hung up.
                pass
            for use in (lambda: os.write(port, b"s"), lambda: termios.tcgetattr(port)):
                with pytest.raises((OSError, termios.error), check=is_eio):
                    use()
        device.plug()
        with opened(device.path) as port:
            assert not select.select([port], [], [], 0.1)[0]  # it does not stream
            os.write(port, b"b")
            assert read(port, 33)[1] == 0


def test_fault_unplugs():
    with PtyDevice("cyton", faults=["unplug@3"]) as device, opened(device.path) as port:
        os.write(port, b"b")
        device.await_unplugged()
        assert not Path(device.path).exists()


def test_device_goes_on_after_its_host_closed():
    with PtyDevice("cyton") as device:
        with opened(device.path) as port:
            os.write(port, b"V")
            read(port, 9)
        with opened(device.path) as port:
            os.write(port, b"V")
            assert read(port, 9) == b"v3.1.5$$$"


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "emgd_drivers.sim.pty", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_ends_at_a_signal_and_takes_its_link_along(tmp_path, number):
    link = tmp_path / "tty"
    link.symlink_to("/nowhere")
    with start("--device", "cyton", "--link", str(link)) as process:
        assert process.stdout.readline() == f"ready {link}\n".encode()
        assert link.is_char_device()
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == 0
        assert process.stderr.read() == b""
    assert not link.is_symlink()


def test_process_names_the_slave_without_a_link_and_ends_with_its_parent():
    with start("--device", "hackeeg", "--until-eof") as process:
        ready, path = process.stdout.readline().split()
        assert ready == b"ready"
        assert Path(path.decode()).is_char_device()
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--device", "cyton", "--fault", "eat@1"), "not understood"),
        (("--device", "cyton", "--rate-hz", "500"), "rate_hz"),
        (("--device", "hackeeg", "--rate-hz", "333"), "allowed: 16000"),
        (("--device", "tea"), "invalid choice"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    with start(*arguments) as process:
        said = process.communicate(timeout=TIMEOUT_S)[1].decode()
    assert process.returncode == 2
    assert words in said
