"""How many bulk transfers to keep in flight, and of which size. Pure arithmetic: no I/O, no clock."""

from dataclasses import dataclass
from math import ceil
from typing import Final

from emgd_drivers.api import DeviceError

LATE_S: Final = 0.1
"""So much data may lie in the kernel before the device has to keep it: the sample loop may be that late."""

SPARE: Final = 2
"""One transfer is being looked at by the sample loop, and the first one may be over at once."""

MIN_TRANSFERS: Final = 8
"""A slow device costs nothing, and marks may come in a burst."""

MAX_TRANSFERS: Final = 4096
"""Twice what the fastest device that the emg8 format allows would need; beyond it a number is a mistake."""

OVERHEAD_BYTES: Final = 1024
"""What usbfs counts beside the buffer (drivers/usb/core/devio.c: its own and the URB's structures, 16 bytes for each
16 KiB): about 450 bytes, with room for kernels to come."""

USBFS_MEMORY_MB: Final = 16
"""The kernel's usual bound on all transfers of all devices (parameter usbfs_memory_mb of usbcore)."""

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """`transfers` of `transfer_bytes` each, kept in flight."""

    transfers: int
    transfer_bytes: int

    @property
    def usbfs_bytes(self) -> int:
        """What the kernel counts for them."""
        return self.transfers * (self.transfer_bytes + OVERHEAD_BYTES)


def plan_transfers(
    transfers_per_s: float, longest_bytes: int, *, packet_bytes: int = 512, usbfs_memory_mb: int = USBFS_MEMORY_MB
) -> TransferPlan:
    """Enough for LATE_S of a device that sends about `transfers_per_s`, none longer than `longest_bytes`.

    A buffer is a multiple of `packet_bytes`, so that no packet can overrun it, and longer than any transfer, so that a
    zero-length packet ends the transfer that it belongs to. `usbfs_memory_mb` is the kernel's bound, 0 = none.
    DeviceError says how to raise it where it is too low.
    """
    if not (transfers_per_s > 0 and longest_bytes > 0 and packet_bytes > 0):
        raise ValueError(f"{transfers_per_s} transfers a second of {longest_bytes} bytes, packets of {packet_bytes}")
    transfers = max(MIN_TRANSFERS, ceil(transfers_per_s * LATE_S) + SPARE)
    plan = TransferPlan(transfers, (longest_bytes // packet_bytes + 1) * packet_bytes)
    if transfers > MAX_TRANSFERS:
        raise DeviceError(
            f"{transfers_per_s:g} transfers a second need {transfers} in flight, more than {MAX_TRANSFERS}; "
            "choose a lower rate"
        )
    if usbfs_memory_mb and plan.usbfs_bytes > usbfs_memory_mb * MIB:
        needed_mb = ceil(plan.usbfs_bytes / MIB)
        raise DeviceError(
            f"{transfers} transfers of {plan.transfer_bytes} bytes in flight need {needed_mb} MiB, more than the "
            f"{usbfs_memory_mb} MiB that the kernel grants to all USB devices together; {memory_remedy(needed_mb)}"
        )
    return plan


def memory_remedy(needed_mb: int) -> str:
    """How to raise the kernel's bound."""
    return (
        f"start the kernel with usbcore.usbfs_memory_mb={needed_mb}, or until it ends: "
        f"echo {needed_mb} | sudo tee /sys/module/usbcore/parameters/usbfs_memory_mb"
    )
