"""Finding, opening and asking USB devices, on a bus that is a list."""

import errno

import pytest
from fake_usb import Backend, Device

from emgd_drivers.api import (
    DeviceError,
    DeviceLostError,
    DeviceNotFoundError,
    DevicePermissionError,
    DeviceRefusedError,
    Mode,
)
from emgd_drivers.emg8.api import Emg8Amplifier
from emgd_drivers.emg8.driver import FIELDS, HOTPLUG, KIND, set_up
from emgd_drivers.emg8.protocol import RATE, Request
from emgd_drivers.fields import FieldError, check_fields
from emgd_drivers.registry import DRIVERS, driver_fields
from emgd_drivers.usb import errors, libusb
from emgd_drivers.usb.finder import find_device, find_devices
from emgd_drivers.usb.libusb import Libusb, find_libusb, packaged_library
from emgd_drivers.usb.transport import UsbTransport, usbfs_memory_mb

NO_LIBRARY = Libusb("/nowhere/libusb.so", "0", "nowhere")


def found(*devices, serial=None):
    return find_device(KIND, serial, Backend(*devices))


def opened(device):
    return UsbTransport(found(device), NO_LIBRARY)


class TestFinder:
    def test_the_only_one_is_found_and_nothing_stays_open(self):
        device = Device("EMG8-1", 7)
        it = found(device, Device("other", product=0x0002))
        assert (it.serial, it.bus, it.address, it.node) == ("EMG8-1", 1, 7, "/dev/bus/usb/001/007")
        assert str(it) == "emg8 EMG8-1"
        assert device.opened == 0

    def test_two_are_told_apart_by_serial_number(self):
        bus = (Device("EMG8-B", 3), Device("EMG8-A", 9))
        assert found(*bus, serial="EMG8-A").address == 9
        assert found(*bus, serial="EMG8-B").address == 3
        assert [device.serial for device in find_devices(KIND, Backend(*bus))] == ["EMG8-A", "EMG8-B"]

    def test_two_and_no_serial_number_is_a_question_with_the_choices(self):
        with pytest.raises(DeviceError) as caught:
            found(Device("EMG8-B", 3), Device("EMG8-A", 9))
        assert str(caught.value) == (
            "2 devices emg8 (USB 1209:0001) are connected: EMG8-A at /dev/bus/usb/001/009, EMG8-B at "
            "/dev/bus/usb/001/003; say which one with its serial number"
        )

    def test_the_same_serial_number_twice_is_refused(self):
        with pytest.raises(DeviceError, match=r"EMG8-A is there twice: .*003, .*009; give each"):
            found(Device("EMG8-A", 3), Device("EMG8-A", 9), serial="EMG8-A")

    def test_none_says_what_was_looked_for(self):
        with pytest.raises(DeviceNotFoundError) as caught:
            found(Device("x", product=0x0002))
        assert str(caught.value) == (
            "no emg8 (USB 1209:0001) is connected; look at cable and power, and at: lsusb -d 1209:"
        )

    def test_another_one_says_what_is_there(self):
        with pytest.raises(DeviceNotFoundError, match=r"with serial number X is connected; connected: EMG8-A at /dev"):
            found(Device("EMG8-A"), serial="X")

    def test_one_that_may_not_be_opened_is_a_question_of_permission(self):
        device = Device("EMG8-A", 4)
        device.fails["open"] = errno.EACCES
        for serial in (None, "EMG8-A"):
            with pytest.raises(DevicePermissionError, match=r"/dev/bus/usb/001/004"):
                found(device, serial=serial)

    def test_one_that_may_not_be_opened_does_not_hide_the_other(self):
        denied, device = Device("EMG8-A", 4), Device("EMG8-B", 5)
        denied.fails["open"] = errno.EACCES
        assert found(denied, device, serial="EMG8-B").address == 5
        with pytest.raises(DeviceError, match=r"without serial number at .*004, EMG8-B at .*005"):
            found(denied, device)

    def test_one_that_leaves_while_it_is_asked_is_not_there(self):
        leaving = Device("EMG8-A", 4)
        leaving.fails["strings"] = errno.ENODEV
        assert found(leaving, Device("EMG8-B", 5)).serial == "EMG8-B"

    def test_one_that_does_not_tell_its_serial_number_is_there_and_says_why(self):
        dumb = Device("EMG8-A", 4)
        dumb.fails["strings"] = errno.ETIMEDOUT
        with pytest.raises(DeviceLostError, match="gave no answer to reading its serial number"):
            found(dumb)

    def test_one_without_serial_number_can_be_the_only_one(self):
        assert found(Device("")).serial == ""


class TestErrors:
    def test_a_rule_that_is_not_in_force(self):
        text = errors.permission_text("emg8 A", "/dev/bus/usb/001/004", "root", "anna")
        assert text == (
            "emg8 A: anna may not open /dev/bus/usb/001/004: the udev rule 70-emgd.rules, which gives it to the group "
            "emgd, is not in force; run: sudo groupadd --force --system emgd && sudo install -m 644 "
            "systemd/70-emgd.rules /etc/udev/rules.d/ && sudo udevadm control --reload && sudo udevadm trigger "
            "--subsystem-match=usb"
        )

    def test_a_user_who_is_not_in_the_group(self):
        text = errors.permission_text("emg8 A", "/dev/bus/usb/001/004", "emgd", "anna")
        assert text == (
            "emg8 A: anna may not open /dev/bus/usb/001/004: the udev rule 70-emgd.rules gives it to the group emgd; "
            "run: sudo usermod -aG emgd anna, then log in again"
        )

    def test_the_group_of_a_file(self, tmp_path):
        assert errors.group_of(str(tmp_path))
        assert errors.group_of(str(tmp_path / "absent")) == ""

    @pytest.mark.parametrize(
        ("number", "kind", "text"),
        [
            (errno.EACCES, DevicePermissionError, "may not open"),
            (errno.ENODEV, DeviceLostError, "is gone"),
            (errno.EIO, DeviceLostError, "is gone"),
            (errno.ETIMEDOUT, DeviceLostError, "gave no answer to testing"),
            (errno.EBUSY, DeviceError, "in use by another program"),
            (errno.ENOMEM, DeviceError, "usbcore.usbfs_memory_mb=32"),
            (errno.EINVAL, DeviceError, "testing failed: because"),
            (None, DeviceError, "testing failed: because"),
        ],
    )
    def test_each_has_its_class_and_its_words(self, number, kind, text):
        made = errors.device_error(OSError(number, "because"), "emg8 A", "/dev/x", "testing")
        assert type(made) is kind
        assert text in str(made)
        assert "emg8 A" in str(made)


class TestLibrary:
    def test_the_override_is_taken_or_refused(self, monkeypatch):
        monkeypatch.setenv("EMGD_LIBUSB", "/nowhere/libusb.so")
        with pytest.raises(DeviceError, match=r"^EMGD_LIBUSB: libusb cannot be loaded from /nowhere"):
            find_libusb()
        monkeypatch.setenv("EMGD_LIBUSB", packaged_library())
        assert find_libusb().origin == "EMGD_LIBUSB"

    def test_the_package_is_taken_where_the_system_has_none(self, monkeypatch):
        monkeypatch.setattr(libusb, "SYSTEM_LIBRARY", "libusb-that-is-not-there.so.0")
        it = find_libusb()
        assert (it.origin, it.path) == ("libusb-package", packaged_library())
        assert it.version.startswith("1.0.")

    def test_none_at_all_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr(libusb, "SYSTEM_LIBRARY", "libusb-that-is-not-there.so.0")
        monkeypatch.setattr(libusb, "packaged_library", lambda: None)
        with pytest.raises(DeviceError, match=r"apt install libusb-1.0-0, or: pip install libusb-package"):
            find_libusb()


class TestTransport:
    def test_opening_neither_configures_nor_asks_the_device_anything(self):
        device = Device("EMG8-A")
        with_it = opened(device)
        assert (device.configured_by_us, device.requests, device.opened) == (0, [], 1)
        with_it.close()
        with_it.close()
        assert device.opened == 0

    def test_a_device_without_configuration_gets_one(self):
        device = Device("EMG8-A", configuration=0)
        opened(device).close()
        assert device.configured_by_us == 1

    def test_a_device_without_the_endpoint_is_refused_and_closed(self):
        device = Device("EMG8-A", endpoint=0x82)
        with pytest.raises(DeviceError, match="has no endpoint 0x81"):
            opened(device)
        assert device.opened == 0

    def test_requests_reach_the_device_and_answers_come_back(self):
        amplifier = Emg8Amplifier(opened(Device("EMG8-A")))
        amplifier.set_rate(4000)
        amplifier.set_channel(1, 24)
        assert (amplifier.info.serial, amplifier.info.rate_hz) == ("EMG8-A", 4000)
        assert [channel.gain for channel in amplifier.channels] == [1, 24]
        amplifier.close()

    def test_a_refusal_comes_with_the_devices_reason(self):
        transport = opened(Device("EMG8-A"))
        with pytest.raises(DeviceRefusedError, match="refused SET_RATE: a value is out of range"):
            transport.control_out(Request.SET_RATE, 0, 0, RATE.pack(1.0))
        with pytest.raises(DeviceRefusedError, match="refused request 0x7f: it does not know this request"):
            transport.control_in(0x7F, 0, 0, 8)

    def test_a_device_that_refuses_to_say_why_is_quoted_so(self):
        device = Device("EMG8-A")
        transport = opened(device)
        device.fails["control"] = errno.EPIPE
        with pytest.raises(DeviceRefusedError, match="it gives no reason"):
            transport.control_in(Request.GET_RATE, 0, 0, 8)

    @pytest.mark.parametrize("number", [errno.ENODEV, errno.EIO])
    def test_a_device_that_left_is_lost(self, number):
        device = Device("EMG8-A")
        transport = opened(device)
        device.fails["control"] = number
        with pytest.raises(DeviceLostError, match=r"emg8 EMG8-A is gone \(at GET_RATE"):
            transport.control_in(Request.GET_RATE, 0, 0, 8)

    def test_a_question_that_times_out_is_asked_again_a_command_is_not(self):
        device = Device("EMG8-A")
        transport = opened(device)
        asked = []

        def late_once(doing):
            asked.append(doing)
            if len(asked) == 1:
                device.fails = {"control": errno.ETIMEDOUT}
                try:
                    Device.check(device, doing)
                finally:
                    device.fails = {}

        device.check = late_once
        assert len(transport.control_in(Request.GET_RATE, 0, 0, 8)) == 8
        asked.clear()
        with pytest.raises(DeviceLostError, match="gave no answer to START"):
            transport.control_out(Request.START, 0, 0)
        assert len(asked) == 1

    def test_a_closed_one_is_lost(self):
        transport = opened(Device("EMG8-A"))
        transport.close()
        with pytest.raises(DeviceLostError, match="was closed"):
            transport.control_in(Request.GET_RATE, 0, 0, 8)

    def test_a_stream_that_cannot_be_opened_says_why(self):
        transport = opened(Device("EMG8-A"))
        with pytest.raises(DeviceError, match="opening its bulk endpoint failed: libusb cannot be loaded"):
            transport.source(1000, 500)
        with pytest.raises(DeviceError, match="usbfs_memory_mb"):
            transport.source(20_000, 20_000)

    def test_the_kernels_bound_is_known(self):
        assert usbfs_memory_mb() >= 0


class Recorder:
    """A transport that notes what is done with it, around an emg8 in this process."""

    def __init__(self):
        self.device = Device("EMG8-A", channels=3)
        self.inner = opened(self.device)
        self.drained = 0
        self.closed = 0

    def control_in(self, request, value, index, length):
        return self.inner.control_in(request, value, index, length)

    def control_out(self, request, value, index, data=b""):
        return self.inner.control_out(request, value, index, data)

    def drain(self):
        self.drained += 1
        return 0

    def close(self):
        self.closed += 1


class TestDriver:
    def test_it_is_in_the_table_and_describes_its_options(self):
        assert DRIVERS["emg8"] == "emgd_drivers.emg8.driver"
        assert driver_fields("emg8") is FIELDS
        assert HOTPLUG == ("usb",)
        assert check_fields(FIELDS, {}) == {"serial": None, "rate_hz": 48_000.0, "gain": 1}
        with pytest.raises(FieldError, match=r"gain cannot be 3 \(allowed: 1, 2, 4, 6, 8, 12, 24\)"):
            check_fields(FIELDS, {"gain": 3})

    def test_a_device_that_is_as_wanted_is_left_alone(self):
        transport = Recorder()
        set_up(transport, 8000.0, 1)
        asked = set(transport.device.requests)
        reads = {Request.GET_INFO, Request.GET_SERIAL, Request.GET_CHANNEL, Request.GET_STATUS}
        assert asked == reads | {Request.GET_IMPEDANCE_TEST}
        assert transport.drained == 0

    def test_rate_and_gain_are_set_where_they_differ(self):
        amplifier = set_up(Recorder(), 12_500.0, 12)
        assert amplifier.info.rate_hz == 12_500
        assert {channel.gain for channel in amplifier.channels} == {12}
        assert {channel.mode for channel in amplifier.channels} == {Mode.NORMAL}

    def test_a_device_in_another_mode_is_set_back(self):
        transport = Recorder()
        Emg8Amplifier(transport).set_channel(1, 1, Mode.TEST)
        assert {channel.mode for channel in set_up(transport, 8000.0, 1).channels} == {Mode.NORMAL}

    def test_a_device_that_still_streams_is_stopped_and_drained(self):
        transport = Recorder()
        transport.control_out(Request.START, 0, 0)
        transport.device.requests.clear()
        set_up(transport, 4000.0, 1)
        asked = transport.device.requests
        assert transport.drained == 1
        assert asked.index(Request.STOP) < asked.index(Request.SET_RATE)

    def test_a_device_that_was_stopped_may_still_have_something_to_send(self):
        transport = Recorder()
        transport.control_out(Request.START, 0, 0)
        transport.control_out(Request.STOP, 0, 0)
        transport.device.requests.clear()
        set_up(transport, 8000.0, 1)
        assert transport.drained == 1
        assert Request.STOP not in transport.device.requests

    def test_a_rate_that_it_cannot_do_is_refused_and_the_device_let_go(self):
        transport = Recorder()
        with pytest.raises(DeviceRefusedError, match="no rate of 100 Hz"):
            set_up(transport, 100.0, 1)
        assert transport.closed == 1
