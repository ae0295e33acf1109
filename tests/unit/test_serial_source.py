"""Reading a terminal in the sample loop: all bytes, in order, and the news when it is gone."""

import os
import pty
import threading
import time
import tty
from contextlib import suppress

import pytest
from fixed_reference import CYTON, CYTON_RATE_HZ, cyton_frame, ramp
from rig import Rig

from emgd_ext.fixed import FixedDecoder
from emgd_ext.source import SerialSource


class Terminal:
    """A pseudo-terminal whose far end the test holds, and a sample loop that reads the near one."""

    def __init__(self, **options):
        self.far, self.near = pty.openpty()
        tty.setraw(self.near)
        os.set_blocking(self.near, False)
        self.decoder = FixedDecoder(CYTON, CYTON_RATE_HZ)
        self.rig = Rig(8, 16, 20_000, decoder=self.decoder, rate_hz=CYTON_RATE_HZ, tick_hz=CYTON_RATE_HZ)
        self.source = SerialSource(os.dup(self.near), **options)
        self.thread = threading.Thread(target=self.rig.loop.run, args=(self.source,))
        self.thread.start()

    def send(self, data):
        while data:
            data = data[os.write(self.far, data) :]

    def hang_up(self):
        os.close(self.far)
        self.far = -1

    def close(self):
        self.rig.loop.stop()
        self.thread.join()
        self.source.close()
        for fd in (self.far, self.near):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture(params=[0, 500])
def terminal(request):
    made = Terminal(gather_us=request.param)
    yield made
    made.close()


def until(true, timeout_s=5.0):
    give_up = time.monotonic() + timeout_s
    while not true() and time.monotonic() < give_up:
        time.sleep(0.002)
    assert true()


def test_every_byte_comes_through_in_order(terminal):
    numbers = range(3000)
    for at in range(0, 3000, 100):
        terminal.send(b"".join(cyton_frame(number, ramp(number)) for number in numbers[at : at + 100]))
    until(lambda: terminal.decoder.samples == 3000)
    found = terminal.rig.published()
    assert all((found.raw[seq] == ramp(seq)).all() for seq in found.seqs)
    wire, samples = terminal.rig.loop.stats()
    assert (wire["bytes"], samples["missing"], wire["corrupt"]) == (99_000, 0, 0)


def test_a_silent_terminal_settles_the_last_frame_and_then_the_end(terminal):
    terminal.send(b"".join(cyton_frame(number, ramp(number)) for number in range(5)))
    until(lambda: terminal.decoder.samples == 5)
    terminal.decoder.expect_end(time.monotonic_ns())
    terminal.thread.join(5)
    assert terminal.rig.loop.outcome == "ended"


def test_a_terminal_that_hangs_up_is_gone_but_its_last_bytes_are_not(terminal):
    terminal.send(b"".join(cyton_frame(number, ramp(number)) for number in range(50)))
    terminal.hang_up()
    terminal.thread.join(5)
    assert terminal.rig.loop.outcome == "lost"


def test_a_stop_is_noticed_while_nothing_comes(terminal):
    terminal.rig.loop.stop()
    terminal.thread.join(5)
    assert terminal.rig.loop.outcome == "stopped"


def test_the_descriptor_is_closed_once():
    far, near = pty.openpty()
    source = SerialSource(near)
    source.close()
    source.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(near)
    os.close(far)
