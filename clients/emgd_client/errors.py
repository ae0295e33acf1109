"""What can go wrong between a client and the service: one exception for each thing that a caller can do about it.

ClientError
├── ServiceNotRunningError   start the service, or look into another runtime directory
├── NoAnswerError            the service is there and says nothing in time: look at its log
│   └── NotStoppedError      nobody has confirmed an emergency stop: switch the stimulator off
└── RefusedError             the service said no: mend the request (`code`, `field`, `allowed`)
"""

from pathlib import Path

from emgd_wire.codec import WireError


class ClientError(Exception):
    """A request came to nothing; the text names what, where, the value and the remedy in one line."""


class ServiceNotRunningError(ClientError):
    """Nobody listens at the control socket."""

    def __init__(self, socket_path: Path, cause: OSError) -> None:
        reason = (cause.strerror or str(cause)).lower()
        remedy = (
            "ask to be made a member of its group"
            if isinstance(cause, PermissionError)
            else "start it with `systemctl start emgd`, or by hand with `emgd run`"
        )
        super().__init__(f"no emgd service at {socket_path} ({reason}): {remedy}")
        self.socket_path = socket_path


class NoAnswerError(ClientError):
    """The service took the request and did not answer in time."""

    def __init__(self, verb: str, socket_path: Path, timeout_s: float) -> None:
        super().__init__(
            f"the service at {socket_path} did not answer {verb} within {timeout_s:g} s: see `journalctl -u emgd`"
        )


class NotStoppedError(NoAnswerError):
    """Nobody has confirmed an emergency stop."""

    def __init__(self, socket_path: Path, reason: str) -> None:
        ClientError.__init__(
            self, f"no stop was confirmed at {socket_path} ({reason}): switch the stimulator off and pull its cable"
        )


class RefusedError(ClientError):
    """The service refused a request; `code` and `field` are for programs, the text is for people.

    `refusals`, where a stimulus was refused: a map for each thing that stands against it, as docs/protocol.md has them.
    """

    def __init__(self, verb: str, error: WireError) -> None:
        where = f" ({error.field})" if error.field else ""
        allowed = f"; allowed: {error.allowed}" if error.allowed else ""
        super().__init__(f"{verb} refused{where}: {error.text}{allowed}")
        self.code = error.code
        self.field = error.field
        self.allowed = error.allowed
        self.refusals = error.refusals
