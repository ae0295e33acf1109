"""Where a device's bytes come from."""

class Source:
    """Base of all sources: one read is one transfer."""

    def close(self) -> None:
        """Let go of what the bytes come from; harmless when called again."""
    def stats(self) -> dict[str, int]:
        """What became of the transfers, where the source counts them."""

class FdSource(Source):
    """Transfers from a file descriptor that keeps their bounds (a SOCK_SEQPACKET socket). Owns `fd` from here on."""

    def __init__(self, fd: int) -> None: ...
