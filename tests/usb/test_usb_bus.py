"""What a real libusb and pyusb see of emg8 devices on an emulated usbfs."""

import errno
import subprocess
import time
from pathlib import Path

import pytest
import usb.core
import usb.util
from emulated import REFERENCE, SMALL, Device, bridge_notes, until

from emgd_drivers.api import DeviceError, DeviceLostError, DeviceNotFoundError, DeviceRefusedError, RunState
from emgd_drivers.emg8.driver import KIND
from emgd_drivers.emg8.protocol import RATE, Request
from emgd_drivers.usb.finder import find_device, find_devices
from emgd_drivers.usb.libusb import find_libusb
from emgd_drivers.usb.transport import UsbTransport
from emgd_ext.usb import BulkSource


def found(serial):
    return find_device(KIND, serial, find_libusb().backend())


def test_the_devices_are_found_with_their_strings(device):
    devices = find_devices(KIND, find_libusb().backend())
    assert [each.serial for each in devices] == [REFERENCE, SMALL]
    assert len({each.address for each in devices}) == 2
    handle = devices[0].handle
    assert (handle.manufacturer, handle.product, handle.serial_number) == ("emgd project", "emg8", REFERENCE)
    assert (handle.bcdUSB, handle.bDeviceClass, handle[0].bNumInterfaces) == (0x0200, 0xFF, 1)
    endpoint = handle[0][(0, 0)][0]
    assert (endpoint.bEndpointAddress, endpoint.wMaxPacketSize, endpoint.bmAttributes) == (0x81, 512, 2)
    usb.util.dispose_resources(handle)


def test_two_devices_are_told_apart_by_serial_number(device):
    for serial, channels in ((REFERENCE, 8), (SMALL, 4)):
        amplifier = Device(serial).open(rate_hz=8000.0)
        assert (amplifier.info.serial, amplifier.info.channel_count) == (serial, channels)
        amplifier.close()


def test_which_of_two_is_a_question_and_another_one_is_not_there(device):
    with pytest.raises(DeviceError, match=rf"{REFERENCE} at /dev/bus/usb/001/\d+, {SMALL} at .*; say which one"):
        found(None)
    with pytest.raises(DeviceNotFoundError, match=rf"serial number X is connected; connected: {REFERENCE} at"):
        found("X")


def test_a_device_that_was_unplugged_is_not_found(device):
    device.say("unplug")
    until(lambda: not device.present(), "it has left the bus")
    assert [each.serial for each in find_devices(KIND, find_libusb().backend())] == [SMALL]
    assert found(None).serial == SMALL


def test_opening_neither_resets_nor_configures_a_device(device):
    before = len(bridge_notes())
    amplifier = device.open()
    amplifier.source()
    amplifier.close()
    notes = [note.split()[1] for note in bridge_notes()[before:]]
    assert notes.count("claim") == notes.count("release") == 1
    assert not {"reset", "set_configuration", "clear_halt"} & set(notes)


def test_control_requests_and_refusals_with_their_reasons(device):
    amplifier = device.open(rate_hz=12_500.0, gain=24)
    assert amplifier.info.rate_hz == 12_500
    assert {channel.gain for channel in amplifier.channels} == {24}
    assert amplifier.status().state is RunState.IDLE
    with pytest.raises(DeviceRefusedError, match="no rate of 1 Hz: the device refused SET_RATE: a value is out of"):
        amplifier.set_rate(1)
    amplifier.start()
    with pytest.raises(DeviceRefusedError, match="not while it is streaming; stop it first"):
        amplifier.set_rate(8000)
    probe = amplifier.probe_clock()
    assert probe.before_ns < probe.after_ns
    amplifier.close()


def test_an_unknown_request_is_refused_with_its_reason(device):
    transport = UsbTransport(found(REFERENCE), find_libusb())
    with pytest.raises(DeviceRefusedError, match="request 0x7f: it does not know this request"):
        transport.control_in(0x7F, 0, 0, 8)
    with pytest.raises(DeviceRefusedError, match="a value is out of range"):
        transport.control_out(Request.SET_RATE, 0, 0, RATE.pack(-1.0))
    transport.close()


def test_a_stream_belongs_to_one_program(device):
    amplifier, other = device.open(), device.open()
    source = amplifier.source()
    with pytest.raises(DeviceError, match="in use by another program"):
        other.source()
    source.close()
    assert other.source().stats()["in_flight"] > 100, "once the first has let go"
    other.close()
    amplifier.close()


def test_a_source_of_a_device_that_is_not_there_says_so(device):
    with pytest.raises(OSError, match="not on the bus") as caught:
        BulkSource(find_libusb().path, 1, 99, 0, 0x81, 8, 512)
    assert caught.value.errno == errno.ENODEV


def test_requests_to_a_device_that_left_say_that_it_is_lost(device):
    amplifier = device.open()
    device.say("unplug")
    until(lambda: not device.status()["attached"], "the bus has let go of it")
    time.sleep(0.1)
    with pytest.raises(DeviceLostError, match=f"emg8 {REFERENCE} is gone"):
        amplifier.status()
    amplifier.close()
    amplifier.close()


def test_our_picture_of_libusb_is_that_of_its_header(tmp_path):
    """c/usb_abi.h against libusb.h, by the compiler."""
    fields = {
        "handle": "dev_handle",
        "flags": "flags",
        "endpoint": "endpoint",
        "type": "type",
        "timeout_ms": "timeout",
        "status": "status",
        "length": "length",
        "actual_length": "actual_length",
        "callback": "callback",
        "user_data": "user_data",
        "buffer": "buffer",
        "iso_packet_count": "num_iso_packets",
    }
    numbers = {
        "TYPE_BULK": "LIBUSB_TRANSFER_TYPE_BULK",
        **{
            name: f"LIBUSB_TRANSFER_{name}"
            for name in ("COMPLETED", "ERROR", "TIMED_OUT", "CANCELLED", "STALL", "NO_DEVICE", "OVERFLOW")
        },
        **{
            f"ERROR_{ours}": f"LIBUSB_ERROR_{theirs}"
            for ours, theirs in {
                "IO": "IO",
                "INVALID": "INVALID_PARAM",
                "ACCESS": "ACCESS",
                "NO_DEVICE": "NO_DEVICE",
                "NOT_FOUND": "NOT_FOUND",
                "BUSY": "BUSY",
                "TIMEOUT": "TIMEOUT",
                "OVERFLOW": "OVERFLOW",
                "PIPE": "PIPE",
                "INTERRUPTED": "INTERRUPTED",
                "NO_MEMORY": "NO_MEM",
                "NOT_SUPPORTED": "NOT_SUPPORTED",
            }.items()
        },
    }
    checks = [
        f"_Static_assert(offsetof(emgd_usb_transfer, {ours}) == offsetof(struct libusb_transfer, {theirs}) && "
        f'sizeof(((emgd_usb_transfer *)0)->{ours}) == sizeof(((struct libusb_transfer *)0)->{theirs}), "{ours}");'
        for ours, theirs in fields.items()
    ]
    checks += [f'_Static_assert((int)EMGD_USB_{ours} == (int){theirs}, "{ours}");' for ours, theirs in numbers.items()]
    source = tmp_path / "layout.c"
    source.write_text("\n".join(["#include <libusb-1.0/libusb.h>", '#include "usb_abi.h"', *checks, ""]))
    include = Path(__file__).parents[2] / "ext" / "emgd_ext" / "c"
    subprocess.run(["gcc", "-std=gnu11", "-fsyntax-only", "-I", include, source], check=True)
