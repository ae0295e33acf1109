"""Both libraries that may be used: the system's, and the one that libusb-package brings. Each in a process of its own,
for pyusb knows one library for each process."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
from emulated import CHANNELS, REFERENCE, until

from emgd_drivers.usb.libusb import SYSTEM_LIBRARY, packaged_library

PROGRAM = textwrap.dedent(
    """
    import json, sys
    import emulated
    from emgd_drivers.usb.libusb import find_libusb

    device = emulated.Device(sys.argv[1])
    amplifier = device.open()
    with emulated.streaming(amplifier) as stream:
        stream.until_samples(48000)
        device.say("stall")
        stream.until_samples(24000)
        stream.stop()
        total = amplifier.status().samples
        figures = {
            "path": find_libusb().path,
            "serial": amplifier.info.serial,
            "channels": amplifier.info.channel_count,
            "gaps": stream.gaps,
            "checked": stream.check_samples() == total,
            "recoveries": stream.source.stats()["recoveries"],
        }
    amplifier = device.open()
    with emulated.streaming(amplifier) as stream:
        stream.until_samples(4800)
        device.say("unplug")
        stream.thread.join(10)
        figures["outcome"] = stream.loop.outcome
    print(json.dumps(figures))
    """
)


@pytest.mark.parametrize("path", [SYSTEM_LIBRARY, packaged_library()], ids=["system", "libusb-package"])
def test_it_streams_recovers_and_notices_that_the_device_left(device, path):
    environment = os.environ | {"EMGD_LIBUSB": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, REFERENCE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "path": path,
        "serial": REFERENCE,
        "channels": CHANNELS,
        "gaps": [],
        "checked": True,
        "recoveries": 1,
        "outcome": "lost",
    }
    device.say("plug")
    until(device.present, "it is back on the bus")
