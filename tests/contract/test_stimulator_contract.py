"""What every stimulator driver must do, whatever is behind it. A new driver adds a way to open it to WAYS and nothing
else.

Each world says what really went through the electrodes (`given`), told by the device's model and not by the driver.
"""

import json
import select
import time
from contextlib import contextmanager

import pytest
from stimulator_rig import Bench

from emgd_drivers.api import DeviceLostError, DeviceRefusedError
from emgd_drivers.fields import check_fields
from emgd_drivers.prompt_port import PromptPort
from emgd_drivers.registry import open_stimulator, stimulator_fields
from emgd_drivers.rehamove import protocol as rehamove
from emgd_drivers.rehamove.driver import RehaMoveStimulator
from emgd_drivers.sim.stimulator_process import StimulatorProcess
from emgd_drivers.stimulator import Delivered, DeviceLimits, StimulatorError, Trouble

MS = 1_000_000
TIMEOUT_S = 30.0
FEED_MS = 2000
"""The longest: what the contract asks must not depend on the machine's speed."""


class VirtualWorld:
    """A model in this process, on a clock that the test moves."""

    def __init__(self):
        bench = Bench()
        self._bench = bench
        self.driver = bench.driver
        self.now_ns = bench.wire.now_ns
        self.pass_time = bench.pass_time

    def given(self):
        return [(one.seq, one.current_ua, one.width_us) for one in self._bench.given]

    def given_at_ns(self):
        return [one.at_ns for one in self._bench.given]

    def wait(self, condition):
        for _ in range(3000):
            if condition():
                return
            self.pass_time(MS)

    def pull(self):
        self._bench.model.add_fault("unplug", self._bench.wire.time_ns)


class PtyWorld:
    """A model behind a pty, by the wall clock."""

    now_ns = staticmethod(time.monotonic_ns)

    def __init__(self, device):
        self._device = device
        self._before = len(device.log.read_text().splitlines())

    def _lines(self):
        return [json.loads(line) for line in self._device.log.read_text().splitlines()[self._before :]]

    def given(self):
        return [(line["seq"], line["current_ua"], line["width_us"]) for line in self._lines()]

    def given_at_ns(self):
        return [line["at_ns"] for line in self._lines()]

    def pass_time(self, ns):
        time.sleep(ns / 1e9)

    def wait(self, condition):
        give_up = time.monotonic() + TIMEOUT_S
        while not condition() and time.monotonic() < give_up:
            time.sleep(0.002)

    def pull(self):
        self._device.pull()


class PtyDevice:
    """One process for all tests: a fresh device is plugged in for each."""

    def __init__(self, device, log):
        self.log = log
        self._process = StimulatorProcess(device, pulse_log=log)
        self._plugged = True

    @contextmanager
    def world(self, open_at):
        if not self._plugged:
            self._process.tell("plug")
            self._plugged = True
        world = PtyWorld(self)
        world.driver = open_at(self._process.path)
        try:
            yield world
        finally:
            world.driver.close()
            self.pull()

    def pull(self):
        if self._plugged:
            self._process.tell("unplug")
            self._plugged = False

    def close(self):
        self._process.close()


@contextmanager
def in_process(_devices):
    world = VirtualWorld()
    yield world
    world.driver.close()


def ncs1(devices):
    def open_at(path):
        options = check_fields(stimulator_fields("sim-ncs1"), {"port": path, "answer_ms": 5000})
        return open_stimulator("sim-ncs1", options)

    return devices("ncs1").world(open_at)


def rehamove3(devices):
    def open_at(path):
        port = PromptPort(path, rehamove.BAUD, "rehamove3", stopbits=2, rtscts=True)
        return RehaMoveStimulator(port, answer_s=5.0)

    return devices("rehamove3").world(open_at)


WAYS = {"ncs1 in process": in_process, "ncs1 on a pty": ncs1, "RehaMove3 on a pty": rehamove3}


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    """Devices behind a pty by name, started when one is asked for."""
    started = {}

    def device(name):
        if name not in started:
            started[name] = PtyDevice(name, tmp_path_factory.mktemp(name) / "pulses")
        return started[name]

    yield device
    for one in started.values():
        one.close()


@pytest.fixture(params=WAYS)
def world(request, devices):
    with WAYS[request.param](devices) as made:
        yield made


def limits_of(driver):
    """What the contract works with: far from any device's end, on its steps."""
    compliance_v = min(150, driver.info.most_compliance_v)
    return DeviceLimits(10_000, min(300, driver.info.most_width_us), compliance_v)


def ready(world):
    driver = world.driver
    driver.reset()
    driver.set_limits(limits_of(driver))
    driver.feed(FEED_MS)
    driver.arm()
    return driver


def ask_for_later(world):
    """A pulse that waits in the device, where it can."""
    if world.driver.info.most_ahead_us:
        world.driver.pulse(1, world.now_ns() + 45 * MS, 5000, 200)


def gather(world, count):
    """News, until there are so many."""
    found = []

    def enough():
        found.extend(world.driver.poll())
        return len(found) >= count

    world.wait(enough)
    return found


def test_it_says_what_it_is(world):
    info = world.driver.info
    assert info.serial
    assert info.serial.isprintable()
    assert info.current_step_ua > 0
    assert info.most_current_ua >= 10_000
    assert info.most_width_us >= 200
    assert info.most_compliance_v > 0
    if not (info.isolated and info.has_stop and info.has_watchdog and info.has_trigger):
        assert info.notes, "what it lacks has to be said"


def test_after_reset_it_is_off_and_refuses_pulses(world):
    world.driver.reset()
    with pytest.raises((DeviceRefusedError, StimulatorError)):
        world.driver.pulse(1, world.now_ns(), 5000, 200)
    world.pass_time(50 * MS)
    assert world.given() == []


def test_without_limits_it_is_not_armed(world):
    world.driver.reset()
    world.driver.feed(FEED_MS)
    with pytest.raises((DeviceRefusedError, StimulatorError)):
        world.driver.arm()


def test_limits_are_returned_as_read_back(world):
    world.driver.reset()
    asked = limits_of(world.driver)
    assert world.driver.set_limits(asked) == asked


def test_more_than_its_limits_is_refused_and_gives_no_pulse(world):
    driver = ready(world)
    limits = limits_of(driver)
    step_ua = driver.info.current_step_ua
    for current_ua, width_us in ((limits.current_ua + step_ua, 200), (5000, limits.width_us + 1)):
        with pytest.raises(DeviceRefusedError):
            driver.pulse(1, world.now_ns(), current_ua, width_us)
    world.pass_time(50 * MS)
    assert world.given() == []


def test_one_call_is_one_pulse_as_it_was_wanted(world):
    driver = ready(world)
    wanted = [(1, 5000, 200), (2, 10_000, 100), (3, 500, 300)]
    for seq, current_ua, width_us in wanted:
        driver.feed(FEED_MS)
        driver.pulse(seq, world.now_ns(), current_ua, width_us)
        world.wait(lambda seq=seq: len(world.given()) >= seq)
        world.pass_time(20 * MS)
    world.pass_time(100 * MS)
    assert world.given() == wanted


def test_it_reads_back_what_it_gave(world):
    driver = ready(world)
    if not driver.info.reads_back:
        return
    driver.pulse(4, world.now_ns(), 5000, 200)
    (told,) = gather(world, 1)
    assert isinstance(told, Delivered)
    assert told.seq == 4
    assert told.current_ua == pytest.approx(5000, rel=0.05)
    assert told.width_us == pytest.approx(200, abs=10)
    assert told.sigma_ns > 0
    (at_ns,) = world.given_at_ns()
    # Five sigma, and what a clock that was read once more costs.
    assert abs(told.at_ns - at_ns) <= 5 * told.sigma_ns + MS


def test_a_pulse_for_later_is_not_given_before(world):
    driver = ready(world)
    at_ns = world.now_ns() + 30 * MS
    if not driver.info.most_ahead_us:
        with pytest.raises(DeviceRefusedError):
            driver.pulse(1, at_ns, 5000, 200)
        return
    driver.pulse(1, at_ns, 5000, 200)
    world.wait(lambda: len(world.given()) == 1)
    # A device whose clock is known to a millisecond at worst.
    assert world.given_at_ns()[0] >= at_ns - MS


def test_disarm_drops_a_pulse_that_waits_and_it_can_be_armed_again(world):
    driver = ready(world)
    ask_for_later(world)
    driver.disarm()
    given = len(world.given())  # a machine that stalled may have let its time come
    world.pass_time(100 * MS)
    assert len(world.given()) == given
    with pytest.raises((DeviceRefusedError, StimulatorError)):
        driver.pulse(2, world.now_ns(), 5000, 200)
    ready(world)
    driver.pulse(3, world.now_ns(), 5000, 200)
    world.wait(lambda: len(world.given()) == given + 1)
    assert world.given()[-1] == (3, 5000, 200)


def test_after_stop_there_is_no_pulse_until_it_is_reset(world):
    driver = ready(world)
    ask_for_later(world)
    driver.stop()
    driver.stop()
    world.pass_time(20 * MS)
    given = len(world.given())
    assert not [told for told in driver.poll() if isinstance(told, Trouble)], "whoever stops it needs no telling"
    world.pass_time(150 * MS)
    assert len(world.given()) == given
    ready(world)
    driver.pulse(2, world.now_ns(), 5000, 200)
    world.wait(lambda: len(world.given()) == given + 1)
    assert world.given()[-1] == (2, 5000, 200)


def test_unfed_it_disables_its_output_and_says_so(world):
    driver = world.driver
    driver.reset()
    driver.set_limits(limits_of(driver))
    driver.feed(FEED_MS)
    driver.arm()
    if not driver.info.has_watchdog:
        return
    driver.feed(50)
    (trouble,) = gather(world, 1)
    assert isinstance(trouble, Trouble)
    assert trouble.cause == "watchdog"
    with pytest.raises((DeviceRefusedError, StimulatorError)):
        driver.pulse(1, world.now_ns(), 5000, 200)
    world.pass_time(50 * MS)
    assert world.given() == []


def test_the_load_is_measured_or_refused(world):
    world.driver.reset()
    if world.driver.info.measures_load:
        assert world.driver.measure_load() > 0
    else:
        with pytest.raises(DeviceRefusedError):
            world.driver.measure_load()


def test_its_descriptor_is_readable_when_there_is_news(world):
    driver = ready(world)
    driver.poll()
    assert driver.fileno() >= 0
    if driver.info.reads_back:
        driver.pulse(1, world.now_ns(), 5000, 200)
        world.wait(lambda: bool(select.select([driver.fileno()], [], [], 0)[0]))
        assert gather(world, 1)


def test_closed_it_is_off_and_closing_twice_does_no_harm(world):
    driver = ready(world)
    ask_for_later(world)
    driver.close()
    driver.close()
    world.pass_time(20 * MS)
    given = len(world.given())
    world.pass_time(150 * MS)
    assert len(world.given()) == given
    driver.stop()
    with pytest.raises(DeviceLostError):
        driver.feed(FEED_MS)


def test_unplugged_it_is_lost_and_not_silent(world):
    driver = ready(world)
    world.pull()
    world.pass_time(20 * MS)
    with pytest.raises(DeviceLostError):
        driver.poll()
    with pytest.raises(DeviceLostError):
        driver.disarm()
    driver.stop()
    assert world.given() == []
