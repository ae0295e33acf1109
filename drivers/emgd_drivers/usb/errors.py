"""What the system says about a USB device, as an error that says what to do."""

import errno
import getpass
import grp
import os
from pathlib import Path
from typing import Final

from emgd_drivers.api import DeviceError, DeviceLostError, DevicePermissionError
from emgd_drivers.usb.plan import USBFS_MEMORY_MB, memory_remedy

RULES_FILE: Final = "70-emgd.rules"
GROUP: Final = "emgd"
"""Who may open the devices: said by the udev rules, made by systemd-sysusers or by hand."""

INSTALL_RULE: Final = (
    f"sudo groupadd --force --system {GROUP} && sudo install -m 644 systemd/{RULES_FILE} /etc/udev/rules.d/ && "
    "sudo udevadm control --reload && sudo udevadm trigger --subsystem-match=usb"
)

LOST: Final = frozenset({errno.ENODEV, errno.EIO, errno.ENOENT, errno.EPROTO, errno.ESHUTDOWN})
DENIED: Final = frozenset({errno.EACCES, errno.EPERM})


def device_error(error: OSError, device: str, node: str, doing: str) -> DeviceError:
    """The error to raise. `device` is its name for people, `node` its file, `doing` what was asked of it."""
    if error.errno in DENIED:
        return DevicePermissionError(permission_text(device, node, group_of(node), user_name()))
    if error.errno in LOST:
        return DeviceLostError(f"{device} is gone (at {doing}: {error.strerror}); plug it in again")
    if error.errno == errno.ETIMEDOUT:
        return DeviceLostError(f"{device} gave no answer to {doing}; unplug it, plug it in again")
    if error.errno == errno.EBUSY:
        return DeviceError(f"{device} is in use by another program (at {doing}); is a second emgd running?")
    if error.errno == errno.ENOMEM:
        return DeviceError(
            f"{device}: the kernel has no USB memory left for {doing}, other devices use it too; "
            + memory_remedy(2 * USBFS_MEMORY_MB)
        )
    return DeviceError(f"{device}: {doing} failed: {error.strerror or error}")


def permission_text(device: str, node: str, node_group: str, user: str) -> str:
    """Why this user may not open the device, and the one command that changes it."""
    said = f"{device}: {user} may not open {node}"
    if node_group != GROUP:
        return (
            f"{said}: the udev rule {RULES_FILE}, which gives it to the group {GROUP}, is not in force; "
            f"run: {INSTALL_RULE}"
        )
    return (
        f"{said}: the udev rule {RULES_FILE} gives it to the group {GROUP}; run: sudo usermod -aG {GROUP} {user}, "
        "then log in again"
    )


def group_of(node: str) -> str:
    """Name of the group that a device file belongs to; its number where it has no name, "" where there is no file."""
    try:
        gid = Path(node).stat().st_gid
    except OSError:
        return ""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def user_name() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"
