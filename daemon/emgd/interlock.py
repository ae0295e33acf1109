"""Either a stimulus or a test current: never both, whichever of two threads is the first to ask."""

import threading
from collections.abc import Callable
from typing import TypeAlias

Question: TypeAlias = Callable[[], bool]


class Interlock:
    """Held for microseconds by the one who begins something; afterwards each sees what the other does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed = False
        self.test_runs: Question = lambda: False
        """Does a test current flow, or will it? Set by whoever owns the electrodes."""

    def arm(self) -> bool:
        """The stimulator is about to be armed; False when a test current flows."""
        with self._lock:
            if self.test_runs():
                return False
            self._armed = True
            return True

    def disarmed(self) -> None:
        """The stimulator gives nothing any more."""
        self._armed = False

    def begin_test(self) -> threading.Lock:
        """A lock to hold while a test current is begun: nothing is armed meanwhile."""
        return self._lock

    def forbids_test(self) -> str | None:
        """What forbids a test current now, in words; None: nothing does."""
        return "the stimulator is armed" if self._armed else None
