"""A port that must not be waited for: deadlines, the emergency, and a device that goes away."""

import os
import termios
import time
import tty

import pytest

from emgd_drivers.api import DeviceError, DeviceLostError, DeviceNotFoundError
from emgd_drivers.prompt_port import PromptPort
from emgd_drivers.stimulator import StimulatorError

MS = 1_000_000


class Line:
    """A pty: `far` is the device's end."""

    def __init__(self):
        self.far, self._near = os.openpty()
        tty.setraw(self._near)
        self.path = os.ttyname(self._near)
        self.port = PromptPort(self.path, 115_200, "ncs1 X")
        os.close(self._near)

    def close(self):
        self.port.close()
        self.hang_up()

    def hang_up(self):
        if self.far >= 0:
            os.close(self.far)
            self.far = -1


@pytest.fixture
def line():
    made = Line()
    yield made
    made.close()


def soon():
    return time.monotonic_ns() + 50 * MS


def fill(line):
    """Until the device's end takes no more."""
    with pytest.raises(StimulatorError, match="took no bytes in time"):
        line.port.send(bytes(1_000_000), soon(), "filling")


def test_bytes_both_ways(line):
    line.port.send(b"ask", soon(), "asking")
    assert os.read(line.far, 100) == b"ask"
    os.write(line.far, b"answer")
    assert line.port.receive(time.monotonic_ns() + 20_000 * MS, "asking") == b"answer"


def test_silence_is_waited_for_no_longer_than_wanted(line):
    assert line.port.receive(line.port.now_ns() - MS, "listening") == b""
    before_ns = time.monotonic_ns()
    assert line.port.receive(before_ns + 20 * MS, "listening") == b""
    assert time.monotonic_ns() - before_ns >= 20 * MS


def test_a_device_that_takes_no_bytes_is_an_error_in_time(line):
    fill(line)


def test_the_emergency_does_not_wait_behind_what_the_device_did_not_take(line):
    line.port.send(b"PULSE", soon(), "asking")
    fill(line)
    line.port.abort(b"STOP")
    os.set_blocking(line.far, False)
    heard = b""
    give_up_s = time.monotonic() + 20
    while b"STOP" not in heard and time.monotonic() < give_up_s:
        try:
            heard += os.read(line.far, 65536)
        except BlockingIOError:
            time.sleep(0.001)
    assert heard.endswith(b"STOP")
    assert len(heard) < 5000, "what waited was thrown away"


def test_the_kernel_lowers_dtr_whichever_way_we_end(line):
    assert termios.tcgetattr(line.port.fileno())[2] & termios.HUPCL


def test_dtr_falls_at_the_emergency_and_rises_again(line, monkeypatch):
    # A pty has no modem lines, so what is asked of the port is looked at instead.
    states = []
    monkeypatch.setattr(type(line.port._port), "dtr", property(None, lambda _port, state: states.append(state)))
    line.port.abort(b"STOP")
    line.port.revive()
    assert states == [False, True]


def test_a_device_that_is_gone_is_lost_in_every_call_but_the_emergency(line):
    line.hang_up()
    for call in (lambda: line.port.receive(soon(), "listening"), lambda: line.port.send(b"x", soon(), "asking")):
        with pytest.raises(DeviceLostError, match="is gone"):
            call()
    line.port.abort(b"STOP")
    line.port.revive()
    line.port.close()


def test_a_closed_port_is_lost_and_closing_twice_does_no_harm(line):
    line.port.close()
    line.port.close()
    line.port.abort(b"STOP")
    with pytest.raises(DeviceLostError, match="open it again"):
        line.port.send(b"x", soon(), "asking")


def test_a_port_is_ours_alone(line):
    with pytest.raises(DeviceError, match="in use by another program"):
        PromptPort(line.path, 115_200, "ncs1 Y")
    with pytest.raises(DeviceNotFoundError):
        PromptPort("/dev/emgd-nowhere", 115_200, "ncs1 Y")
