"""Replies that come later: a verb hands its question to another thread, and the control socket sends what that answers.

The thread of the control socket never waits for another one. What is not answered by its deadline is answered with
an error; whoever finds it afterwards sees by the deadline that nobody waits any more.
"""

import os
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from emgd_wire.codec import WireError

ANSWER_S: Final = 1.0
"""Longest wait of a client: far above what the stimulus thread needs, and no longer than a lease."""


@dataclass(eq=False, slots=True)
class Deferred:
    """One question. `answer` is called by the thread that was asked, everything else by the one that asks."""

    replies: "Replies"
    deadline_ns: int
    what: str
    result: dict[str, Any] | WireError | None = None

    def answer(self, result: dict[str, Any] | WireError) -> None:
        """Answer, once; from any thread."""
        self.result = result
        self.replies.put(self)


class Replies:
    """What was answered and not yet sent. A queue with a descriptor to poll."""

    def __init__(self) -> None:
        self._answered: deque[Deferred] = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Readable when there is an answer."""
        return self._event

    def defer(self, what: str, now_ns: int) -> Deferred:
        """A question that has to be answered in time; `what` names it for people."""
        return Deferred(self, now_ns + round(ANSWER_S * 1e9), what)

    def put(self, deferred: Deferred) -> None:
        """It is answered."""
        self._answered.append(deferred)
        os.eventfd_write(self._event, 1)

    def take(self) -> list[Deferred]:
        """Everything that was answered since."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return []
        found = []
        while self._answered:
            found.append(self._answered.popleft())
        return found

    def close(self) -> None:
        """Close the descriptor; nobody answers any more."""
        os.close(self._event)
