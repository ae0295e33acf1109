"""Serial ports: found, opened, lost; every error says what to do."""

import errno
from types import SimpleNamespace

import pytest
import serial

from emgd_drivers import serial_port
from emgd_drivers.api import DeviceError, DeviceLostError, DeviceNotFoundError, DevicePermissionError
from emgd_drivers.cyton import driver as cyton
from emgd_drivers.registry import open_amplifier
from emgd_drivers.serial_port import SerialPort, find_port
from emgd_drivers.sim.pty import PtyDevice


def ports(monkeypatch, *numbers):
    found = [
        SimpleNamespace(vid=0x0403, pid=0x6015, serial_number=number, device=f"/dev/ttyUSB{index}")
        for index, number in enumerate(numbers)
    ]
    monkeypatch.setattr(serial_port.list_ports, "comports", lambda: found)


def test_the_only_one_is_found_and_one_of_several_by_its_number(monkeypatch):
    ports(monkeypatch, "A")
    assert find_port(0x0403, 0x6015, None, "dongle") == ("/dev/ttyUSB0", "A")
    ports(monkeypatch, "A", "B")
    assert find_port(0x0403, 0x6015, "B", "dongle") == ("/dev/ttyUSB1", "B")


def test_none_and_several_are_said_with_what_is_there(monkeypatch):
    ports(monkeypatch)
    with pytest.raises(DeviceNotFoundError, match=r"no dongle \(USB 0403:6015\) is connected"):
        find_port(0x0403, 0x6015, None, "dongle")
    ports(monkeypatch, "A", "B")
    with pytest.raises(DeviceNotFoundError, match="serial number C is connected; connected: A at /dev/ttyUSB0, B at"):
        find_port(0x0403, 0x6015, "C", "dongle")
    with pytest.raises(DeviceError, match=r"2 devices dongle are connected: .*say which one with `serial`"):
        find_port(0x0403, 0x6015, None, "dongle")


def test_a_port_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(DeviceNotFoundError, match=r"there is no port .*none; ports that are there"):
        SerialPort(str(tmp_path / "none"), 115_200, "cyton X")


def test_no_permission_names_group_rule_and_command(monkeypatch, tmp_path):
    def refuse(*_args, **_kwargs):
        raise serial.SerialException(errno.EACCES, "Permission denied")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(DevicePermissionError, match=r"70-emgd\.rules makes it emgd\): sudo usermod -aG"):
        SerialPort(str(tmp_path), 115_200, "cyton X")


def test_a_second_opener_is_told_that_it_is_in_use():
    with PtyDevice("cyton") as device:
        first = SerialPort(device.path, 115_200, "cyton X")
        with pytest.raises(DeviceError, match="in use by another program"):
            SerialPort(device.path, 115_200, "cyton X")
        first.close()
        first.close()


def test_a_port_that_is_pulled_is_lost_whatever_is_asked():
    with PtyDevice("cyton") as device:
        port = SerialPort(device.path, 115_200, "cyton X")
        device.unplug()
        for ask in (port.check, lambda: port.write(b"s", "stop"), lambda: port.read_until(b"$", 1, "reset")):
            with pytest.raises(DeviceLostError, match=r"cyton X at .* is gone"):
                ask()
        port.close()


def test_what_does_not_answer_is_said(monkeypatch):
    monkeypatch.setattr(cyton, "RESET_S", 0.3)
    with PtyDevice("hackeeg") as device, pytest.raises(DeviceError, match=r"no whole answer to reset within 0\.3 s"):
        open_amplifier("cyton", {"port": device.path, "serial": None, "gain": 24})


@pytest.mark.parametrize("gain", [1, 12])
def test_a_gain_is_set_on_every_channel(gain):
    with PtyDevice("cyton") as device:
        amplifier = open_amplifier("cyton", {"port": device.path, "serial": None, "gain": gain})
        assert amplifier.channels[7].uv_per_count == pytest.approx(4.5e6 / gain / (2**23 - 1))
        amplifier.close()
