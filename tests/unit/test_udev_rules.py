"""The udev rules: well formed, for exactly our devices, and never open to all. A virtual machine tries them out."""

import re

import pytest

from emgd_drivers.emg8.driver import KIND
from emgd_drivers.usb.errors import GROUP, RULES_FILE
from paths import ROOT

RULES = ROOT / "systemd" / RULES_FILE
KEY = re.compile(r'([A-Z]+)(?:\{([\w/]+)\})?(==|!=|\+=|=)"([^"]*)"')
TESTS = {"ACTION", "SUBSYSTEM", "DRIVER", "ENV", "ATTR", "ATTRS"}
ASSIGNMENTS = {"MODE", "GROUP", "TAG", "SYMLINK", "ATTR", "ENV", "GOTO", "LABEL"}
DEVICES = {("1209", "0001"), ("1209", "0002"), ("2341", "003e"), ("0403", "6015")}


def written(keys):
    return ", ".join(f'{key}{f"{{{attribute}}}" if attribute else ""}{o}"{v}"' for key, attribute, o, v in keys)


def rules():
    """Each rule as a list of (key, attribute, operator, value)."""
    found = []
    for line in RULES.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        keys = KEY.findall(line)
        assert ", ".join(f'{k}{f"{{{a}}}" if a else ""}{o}"{v}"' for k, a, o, v in keys) == line, "nothing is left over"
        found.append(keys)
    return found


def value(rule, name, operator, attribute=""):
    return next((v for k, a, o, v in rule if (k, o, a) == (name, operator, attribute)), None)


def identity(rule):
    kind = "ATTRS" if value(rule, "ATTRS", "==", "idVendor") else "ATTR"
    return value(rule, kind, "==", "idVendor"), value(rule, kind, "==", "idProduct")


def granting():
    return [rule for rule in rules() if value(rule, "MODE", "=")]


def test_every_key_is_one_that_udev_knows_in_that_place():
    for rule in rules():
        for key, _, operator, _ in rule:
            assert key in (TESTS if operator in ("==", "!=") else ASSIGNMENTS)


def test_jumps_go_forward_to_labels_that_are_there():
    lines = rules()
    labels = {value(rule, "LABEL", "="): at for at, rule in enumerate(lines) if value(rule, "LABEL", "=")}
    for at, rule in enumerate(lines):
        target = value(rule, "GOTO", "=")
        assert target is None or labels[target] > at


def test_each_device_is_given_to_our_group_and_to_nobody_else():
    assert {identity(rule) for rule in granting()} == DEVICES
    for rule in granting():
        assert value(rule, "MODE", "=") == "0660"
        assert value(rule, "GROUP", "=") == GROUP
        assert value(rule, "TAG", "+=") == "systemd"
        assert value(rule, "SYMLINK", "+=").endswith("-$attr{serial}")


def test_the_amplifier_is_the_drivers_and_never_sleeps():
    ours = (f"{KIND.vendor:04x}", f"{KIND.product:04x}")
    (rule,) = (rule for rule in granting() if identity(rule) == ours)
    assert value(rule, "SUBSYSTEM", "==") == "usb"
    assert value(rule, "ENV", "==", "DEVTYPE") == "usb_device"
    assert value(rule, "ATTR", "=", "power/control") == "on"


def test_the_cyton_dongle_does_not_hold_bytes_back():
    (rule,) = (rule for rule in rules() if value(rule, "ATTR", "=", "latency_timer"))
    assert value(rule, "ATTR", "=", "latency_timer") == "1"
    assert identity(rule) == ("0403", "6015")


@pytest.mark.parametrize("line", ['SUBSYSTEM=="usb" MODE="0666"', 'MODE=0660, GROUP="emgd"'])
def test_this_reader_would_notice_a_slip(line):
    keys = KEY.findall(line)
    assert ", ".join(f'{k}{f"{{{a}}}" if a else ""}{o}"{v}"' for k, a, o, v in keys) != line
