"""How many transfers are kept in flight."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_drivers.api import DeviceError
from emgd_drivers.emg8.protocol import MAX_MARKS, frame_bytes, frame_samples
from emgd_drivers.usb.plan import LATE_S, MAX_TRANSFERS, MIB, OVERHEAD_BYTES, plan_transfers


def emg8(channels, rate_hz, **how):
    """The plan of an emg8, as the driver asks for it."""
    longest = frame_bytes(frame_samples(100_000, channels), channels, MAX_MARKS)
    return plan_transfers(rate_hz / frame_samples(rate_hz, channels), longest, **how)


def test_the_reference_device_has_a_hundred_milliseconds_in_flight():
    plan = emg8(8, 48_000)
    assert (plan.transfers, plan.transfer_bytes) == (102, 6656)
    assert plan.usbfs_bytes < MIB


def test_a_slow_device_has_a_few_all_the_same():
    assert plan_transfers(10, 100).transfers == 8


@given(st.floats(1, 30_000), st.integers(1, 20_000), st.sampled_from([64, 512, 1024]))
def test_every_plan_holds_a_tenth_of_a_second_and_any_transfer(per_s, longest, packet):
    plan = plan_transfers(per_s, longest, packet_bytes=packet, usbfs_memory_mb=0)
    assert plan.transfers >= per_s * LATE_S + 1, "one more is being looked at by the loop"
    assert plan.transfer_bytes % packet == 0, "no packet can overrun it"
    assert longest < plan.transfer_bytes <= longest + packet, "a zero-length packet ends its own transfer"


@given(st.floats(1, 30_000), st.integers(1, 70_000), st.integers(1, 64))
def test_a_plan_fits_into_the_kernels_bound_or_says_which_bound_it_needs(per_s, longest, bound):
    try:
        plan = plan_transfers(per_s, longest, usbfs_memory_mb=bound)
    except DeviceError as error:
        needed = int(re.search(r"usbcore\.usbfs_memory_mb=(\d+)", str(error)).group(1))
        assert needed > bound
        assert plan_transfers(per_s, longest, usbfs_memory_mb=needed).usbfs_bytes > bound * MIB
    else:
        assert plan.usbfs_bytes == plan.transfers * (plan.transfer_bytes + OVERHEAD_BYTES) <= bound * MIB


def test_too_much_for_the_kernel_names_the_parameter_and_the_command():
    with pytest.raises(DeviceError) as caught:
        emg8(1024, 48_000)
    assert str(caught.value) == (
        "962 transfers of 19968 bytes in flight need 20 MiB, more than the 16 MiB that the kernel grants to all USB "
        "devices together; start the kernel with usbcore.usbfs_memory_mb=20, or until it ends: "
        "echo 20 | sudo tee /sys/module/usbcore/parameters/usbfs_memory_mb"
    )


def test_a_kernel_without_bound_takes_it():
    assert emg8(1024, 48_000, usbfs_memory_mb=0).transfers == 962


def test_more_transfers_than_any_device_needs_are_a_mistake():
    assert plan_transfers((MAX_TRANSFERS - 2) / LATE_S, 100).transfers == MAX_TRANSFERS
    with pytest.raises(DeviceError, match="choose a lower rate"):
        plan_transfers((MAX_TRANSFERS - 1) / LATE_S, 100)


@pytest.mark.parametrize("numbers", [(0, 100), (-1, 100), (float("nan"), 100), (10, 0)])
def test_nonsense_is_refused(numbers):
    with pytest.raises(ValueError, match="transfers a second"):
        plan_transfers(*numbers)
