"""Bulk-IN of a USB device as a source of the sample loop, over libusb's asynchronous transfers."""

from emgd_ext.source import Source

def libusb_version(path: str) -> str:
    """Version of the libusb at `path`, such as "1.0.26"; OSError when it cannot be loaded."""

class BulkSource(Source):
    """Transfers of one bulk-IN endpoint; OSError, whose errno tells why, when it cannot be opened."""

    transfers: int
    transfer_bytes: int

    def __init__(
        self,
        library: str,
        bus: int,
        address: int,
        interface: int,
        endpoint: int,
        transfers: int,
        transfer_bytes: int,
    ) -> None: ...
    def receive(self, timeout_ms: int) -> bytes | None:
        """One transfer, for tests and tools. None: nothing came; b"": it did not fit; EOFError: the device is gone."""
