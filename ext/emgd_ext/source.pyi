"""Where a device's bytes come from."""

class Source:
    """Base of all sources: one read is one transfer."""

class FdSource(Source):
    """Transfers from a file descriptor that keeps their bounds (a SOCK_SEQPACKET socket). Owns `fd` from here on."""

    def __init__(self, fd: int) -> None: ...
    def close(self) -> None: ...
