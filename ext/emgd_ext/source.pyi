"""Where a device's bytes come from."""

class Source:
    """Base of all sources: one read is one transfer."""

    def close(self) -> None:
        """Let go of the device's bytes; harmless when called again. Only after the loop that reads has ended."""
    def stats(self) -> dict[str, int]:
        """Counters of this way to the device; empty where it has none of its own."""

class FdSource(Source):
    """Transfers from a file descriptor that keeps their bounds (a SOCK_SEQPACKET socket). Owns `fd` from here on."""

    def __init__(self, fd: int) -> None: ...

class SerialSource(Source):
    """All bytes that a terminal has. Owns `fd` from here on; `gather_us`: how long to let bytes gather, once there are
    some.
    """

    def __init__(self, fd: int, *, gather_us: int = 0) -> None: ...
