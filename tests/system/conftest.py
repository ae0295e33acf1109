"""The virtual machine rung. It needs root, Debian's packages and minutes, so plain `make test` leaves it out."""

import os

import pytest

CALLED_BY = "EMGD_SYSTEM"
"""Set by scripts/test-system: kernels to test, such as "stock rt"."""

CONSOLE_LINES = 60


def pytest_collection_modifyitems(items):
    if not os.environ.get(CALLED_BY):
        skip = pytest.mark.skip(reason="needs a virtual machine, Debian's packages and root: run `make test-system`")
        for item in items:
            if "kernel" in getattr(item, "fixturenames", ()):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def disks(request):
    """The guest's folder and the disks with what is tested; scripts/test-system has built what takes long."""
    import image
    import software
    from cart import LOGS

    guest = image.folder()
    LOGS.mkdir(parents=True, exist_ok=True)
    return guest, [software.installed_disk(guest), software.checkout_disk(LOGS / "checkout.ext4")]


@pytest.fixture(scope="session", params=os.environ.get(CALLED_BY, "stock").split())
def kernel(request):
    return request.param


@pytest.fixture(scope="session")
def cart(kernel, disks):
    """A booted cart with the service installed; one for all the tests on a kernel, in their order in the file."""
    from cart import Cart

    with Cart(kernel, *disks) as made:
        made.machine.wait_until_up()
        made.install()
        yield made


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the end of the guest's console, and where the whole of it is."""
    outcome = yield
    report = outcome.get_result()
    kernel = getattr(item, "callspec", None) and item.callspec.params.get("kernel")
    if report.failed and kernel:
        from cart import LOGS

        log = LOGS / f"{kernel}.log"
        if log.exists():
            lines = log.read_text(errors="replace").splitlines()[-CONSOLE_LINES:]
            report.sections.append((f"end of the guest's console; all of it: {log}", "\n".join(lines)))
