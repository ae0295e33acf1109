"""Tests that need an emulated usbfs run under scripts/test-usb only."""

import os
import time

import emulated
import pytest


def pytest_collection_modifyitems(items):
    if "EMGD_BUS_CONTROL" in os.environ:
        return
    reason = pytest.mark.skip(reason="needs umockdev: make test-system")
    for item in items:
        if "tests/usb/" in item.path.as_posix():
            item.add_marker(reason)


@pytest.fixture
def device():
    """The emulated emg8 of 8 channels at 48 kHz, plugged in and freshly powered up."""
    made = emulated.Device(emulated.REFERENCE)
    made.power_cycle()
    yield made
    if not made.status()["connected"]:
        made.say("plug")
        emulated.until(made.present, "it is back on the bus")
        time.sleep(0.1)
