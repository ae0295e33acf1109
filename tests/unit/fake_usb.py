"""A backend of pyusb whose bus is a list: devices at byte level, without a kernel."""

import errno
import time
from types import SimpleNamespace

import usb.backend
import usb.core

from emgd_drivers.emg8.exchange import Stall
from emgd_drivers.emg8.protocol import Setup
from emgd_drivers.sim.model import Emg8Model
from emgd_drivers.sim.signal import SyntheticEmg

LANGUAGE = 0x0409
GET_DESCRIPTOR = 6


class Device:
    """An emg8 on the bus. `fails` maps what is done ("open", "control", "strings") to an errno."""

    def __init__(self, serial, address=1, *, product=0x0001, configuration=1, endpoint=0x81, channels=2):
        self.serial = serial
        self.bus = 1
        self.address = address
        self.product = product
        self.configuration = configuration
        self.endpoint = endpoint
        self.fails = {}
        self.opened = 0
        self.configured_by_us = 0
        self.requests = []
        self.model = Emg8Model(SyntheticEmg(channels, 8000.0), serial=serial or "?", now_ns=time.monotonic_ns())

    def check(self, doing):
        number = self.fails.get(doing)
        if number == errno.ETIMEDOUT:
            raise usb.core.USBTimeoutError("Operation timed out", -7, number)
        if number:
            raise usb.core.USBError("it is said so", -1, number)

    def answer(self, request_type, request, value, index, payload):
        self.check("control" if request_type & 0x60 else "strings")
        if request_type == 0x80 and request == GET_DESCRIPTOR:
            text = LANGUAGE.to_bytes(2, "little") if value & 0xFF == 0 else self.serial.encode("utf-16-le")
            return bytes([2 + len(text), value >> 8]) + text
        is_in = bool(request_type & 0x80)
        self.requests.append(request)
        setup = Setup(request_type, request, value, index, len(payload))
        try:
            return self.model.control(setup.pack(), b"" if is_in else bytes(payload), time.monotonic_ns())
        except Stall:
            raise usb.core.USBError("Pipe error", -9, errno.EPIPE) from None


class Backend(usb.backend.IBackend):
    def __init__(self, *devices):
        self.devices = devices

    def enumerate_devices(self):
        return iter(self.devices)

    def get_device_descriptor(self, dev):
        return SimpleNamespace(
            bLength=18,
            bDescriptorType=1,
            bcdUSB=0x0200,
            bDeviceClass=0xFF,
            bDeviceSubClass=0,
            bDeviceProtocol=0,
            bMaxPacketSize0=64,
            idVendor=0x1209,
            idProduct=dev.product,
            bcdDevice=0x0100,
            iManufacturer=1,
            iProduct=2,
            iSerialNumber=3 if dev.serial else 0,
            bNumConfigurations=1,
            bus=dev.bus,
            address=dev.address,
            port_number=1,
            port_numbers=(1,),
            speed=3,
        )

    def get_configuration_descriptor(self, dev, config):
        if config:
            raise IndexError(config)
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=2,
            wTotalLength=25,
            bNumInterfaces=1,
            bConfigurationValue=1,
            iConfiguration=0,
            bmAttributes=0x80,
            bMaxPower=50,
            extra_descriptors=[],
        )

    def get_interface_descriptor(self, dev, intf, alt, config):
        if intf or alt:
            raise IndexError(intf)
        return SimpleNamespace(
            bLength=9,
            bDescriptorType=4,
            bInterfaceNumber=0,
            bAlternateSetting=0,
            bNumEndpoints=1,
            bInterfaceClass=0xFF,
            bInterfaceSubClass=0,
            bInterfaceProtocol=0,
            iInterface=0,
            extra_descriptors=[],
        )

    def get_endpoint_descriptor(self, dev, ep, intf, alt, config):
        return SimpleNamespace(
            bLength=7,
            bDescriptorType=5,
            bEndpointAddress=dev.endpoint,
            bmAttributes=2,
            wMaxPacketSize=512,
            bInterval=0,
            bRefresh=0,
            bSynchAddress=0,
            extra_descriptors=[],
        )

    def open_device(self, dev):
        dev.check("open")
        dev.opened += 1
        return dev

    def close_device(self, dev_handle):
        dev_handle.opened -= 1

    def get_configuration(self, dev_handle):
        return dev_handle.configuration

    def set_configuration(self, dev_handle, config_value):
        dev_handle.configuration = config_value
        dev_handle.configured_by_us += 1

    def ctrl_transfer(self, dev_handle, bmRequestType, bRequest, wValue, wIndex, data, timeout):  # noqa: N803
        answer = dev_handle.answer(bmRequestType, bRequest, wValue, wIndex, data)
        if not bmRequestType & 0x80:
            return len(data)
        for at, byte in enumerate(answer[: len(data)]):
            data[at] = byte
        return min(len(answer), len(data))
