"""The connection to one device: a table of states, and when to try again.

The table is all there is to know about the states: docs/connection.md draws it, and what is not in it cannot happen.
`python -m emgd.connection` prints the drawing.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from emgd_drivers.api import Amplifier, DeviceError, DeviceNotFoundError, DevicePermissionError
from emgd_drivers.registry import hotplug_subsystems, open_amplifier

FIRST_RETRY_S: Final = 0.5
"""A device that was just plugged in may need this long until its node is there and its rights are set ..."""

LAST_RETRY_S: Final = 5.0
"""... and one that is away for the night is looked for this often, for next to nothing. udev's news come in between."""


class State(StrEnum):
    """Where the connection stands; published as `<device>/state` (docs/protocol.md)."""

    OPENING = "opening"
    ABSENT = "absent"
    DENIED = "denied"
    WAITING = "waiting"
    STREAMING = "streaming"
    SILENT = "silent"
    LOST = "lost"
    ENDED = "ended"
    STOPPED = "stopped"


class Event(StrEnum):
    """What can happen to a connection."""

    FOUND = "opened"
    NOT_FOUND = "not found"
    FORBIDDEN = "no permission"
    FAILED = "cannot be used"
    STARTED = "started"
    DATA = "data comes"
    SILENCE = "no data"
    GONE = "gone"
    ENDED = "ended by itself"
    GAVE_UP = "gave up on this machine"
    CLOSED = "service ends"


_NOT_THERE: Final = {
    Event.FOUND: State.WAITING,
    Event.NOT_FOUND: State.ABSENT,
    Event.FORBIDDEN: State.DENIED,
    Event.FAILED: State.ABSENT,
    Event.CLOSED: State.STOPPED,
}

_RUNNING: Final = {
    Event.DATA: State.STREAMING,
    Event.SILENCE: State.SILENT,
    Event.GONE: State.LOST,
    Event.ENDED: State.ENDED,
    Event.GAVE_UP: State.STOPPED,
    Event.CLOSED: State.STOPPED,
}

TABLE: Final[Mapping[State, Mapping[Event, State]]] = {
    State.OPENING: _NOT_THERE,
    State.ABSENT: _NOT_THERE,
    State.DENIED: _NOT_THERE,
    State.WAITING: {Event.STARTED: State.STREAMING, Event.GONE: State.LOST, Event.CLOSED: State.STOPPED},
    State.STREAMING: _RUNNING,
    State.SILENT: _RUNNING,
    # Whoever was there before keeps its streams, so whatever goes wrong now leaves it lost: only the text changes.
    State.LOST: {
        Event.STARTED: State.STREAMING,
        Event.NOT_FOUND: State.LOST,
        Event.FORBIDDEN: State.LOST,
        Event.FAILED: State.LOST,
        Event.GONE: State.LOST,
        Event.CLOSED: State.STOPPED,
    },
    State.ENDED: {Event.CLOSED: State.STOPPED},
    State.STOPPED: {Event.CLOSED: State.STOPPED},
}
"""State -> what can happen in it -> the state that follows."""

SEEKING: Final = frozenset({State.OPENING, State.ABSENT, State.DENIED, State.LOST})
"""States in which the device is looked for, if it is one that can come back."""

LIVE: Final = frozenset({State.STREAMING, State.SILENT})
"""States in which samples are due."""


class Connection:
    """State of the connection to one device, and the way to open it.

    `changed(state, text)` is told of every new state or text. `opener` opens a driver's device with options, `returns`
    says whether the device can come back (None: the driver tells). Time comes in as an argument.
    """

    def __init__(
        self,
        driver: str,
        options: Mapping[str, Any],
        changed: Callable[[State, str], None],
        *,
        opener: Callable[[str, Mapping[str, Any]], Amplifier] = open_amplifier,
        returns: bool | None = None,
    ) -> None:
        self.driver = driver
        self.state = State.OPENING
        self.text = "the device is being opened"
        self.serial: str | None = None
        self.returns = bool(hotplug_subsystems(driver)) if returns is None else returns
        self._options = dict(options)
        self._changed = changed
        self._opener = opener
        self._retry_s = FIRST_RETRY_S
        self._retry_ns = 0

    def fire(self, event: Event, text: str) -> None:
        """Something has happened; `text` is one sentence for people. KeyError for what cannot happen now."""
        following = TABLE[self.state][event]
        if (following, text) == (self.state, self.text):
            return
        if following in LIVE or self.state in LIVE:
            self.retry_now()
        self.state, self.text = following, text
        self._changed(following, text)

    def open(self) -> Amplifier:
        """Open the device; once it was seen, the same one by its serial number. DeviceError says why it cannot be."""
        wanted = self._options
        if self.serial is not None and "serial" in wanted:
            wanted = {**wanted, "serial": self.serial}
        amplifier = self._opener(self.driver, wanted)
        if self.serial is not None and amplifier.info.serial != self.serial:
            found = amplifier.info.serial
            amplifier.close()
            raise DeviceNotFoundError(f"{found} is there, but {self.serial} is waited for; plug {self.serial} in again")
        return amplifier

    def failed(self, error: DeviceError) -> None:
        """It could not be opened or started."""
        event = Event.FAILED
        if isinstance(error, DeviceNotFoundError):
            event = Event.NOT_FOUND
        elif isinstance(error, DevicePermissionError):
            event = Event.FORBIDDEN
        self.fire(event, str(error))

    # --- when to try again

    def is_due(self, now_ns: int) -> bool:
        """Is it time to look for the device?"""
        return self.returns and self.state in SEEKING and now_ns >= self._retry_ns

    def tried(self, now_ns: int) -> None:
        """The device is being looked for; the next time is later than the last."""
        self._retry_ns = now_ns + int(self._retry_s * 1e9)
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)

    def retry_now(self) -> None:
        """There is reason to believe that it is there, or will be soon."""
        self._retry_ns = 0
        self._retry_s = FIRST_RETRY_S


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.OPENING}"]
    for state, events in TABLE.items():
        targets: dict[State, list[str]] = {}
        for event, following in events.items():
            targets.setdefault(following, []).append(event.value)
        lines += [f"    {state} --> {following}: {', '.join(names)}" for following, names in targets.items()]
    return "\n".join([*lines, f"    {State.STOPPED} --> [*]"])


if __name__ == "__main__":
    print(diagram())
