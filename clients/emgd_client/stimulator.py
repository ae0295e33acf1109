"""The stimulator, for clients: lease, arm, fire, disarm; blocking, and for asyncio. docs/safety/stimulating.md guides.

**The lease is renewed by your own code and never by this library.** It says that the program which stimulates is alive
and in its right mind; a thread of ours would go on saying so while your program hangs. So call `renew` from the loop
that does the work, several times within `lease_ms`. When it lapses the stimulator is disarmed within 50 ms.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

from emgd_client.commands import Operation
from emgd_client.session import Session

T = TypeVar("T")

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shot:
    """What to give: a single pulse, a `pair` or a `train`. `begin_ns` is host time, 0 = now."""

    current_ua: int
    width_us: int
    kind: str = "single"
    count: int = 1
    interval_us: int = 0
    begin_ns: int = 0


class _Requests:
    """What is said to the service, as operations."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._nonces = count(1)
        self.site = ""

    def lease(self, action: str) -> Operation[Answer]:
        nonce = {} if action == "release" else {"nonce": next(self._nonces)}
        return (yield from self._session.call("stim_lease", {"action": action, **nonce}))

    def arm(self, arguments: Mapping[str, Any]) -> Operation[Answer]:
        given = {name: value for name, value in arguments.items() if value is not None}
        result = yield from self._session.call("stim_arm", given)
        self.site = str(result["site"])
        return result

    def fire(self, shot: Shot, asked_ns: int) -> Operation[Answer]:
        arguments = {
            "site": self.site or "0",
            "kind": shot.kind,
            "current_ua": shot.current_ua,
            "width_us": shot.width_us,
            "count": shot.count,
            "interval_us": shot.interval_us,
            "asked_ns": asked_ns,
            "begin_ns": shot.begin_ns,
        }
        return (yield from self._session.call("stim_fire", arguments))

    def call(self, verb: str, arguments: Mapping[str, Any] | None = None) -> Operation[Answer]:
        return (yield from self._session.call(verb, arguments))


class Stimulator:
    """The stimulator of a blocking client; `client.stimulator`. Every method may raise a ClientError.

    RefusedError has `refusals`: everything that stands against what was asked, in words, with limits and layers.
    """

    def __init__(self, session: Session, run: Callable[[Operation[Any]], Any]) -> None:
        self._requests = _Requests(session)
        self._run = run

    def status(self) -> Answer:
        """How it is, as docs/protocol.md section 10 lists it."""
        return self._ask(self._requests.call("stim_status"))

    def limits(self) -> Answer:
        """The limits in force: `profile`, `digest`, `values`, `layers`; empty before there were any."""
        return self._ask(self._requests.call("stim_limits"))["limits"] or {}

    def take(self) -> Answer:
        """Take the lease: `lease_ms`, `lease_until_ns`. From here on call `renew` in time."""
        return self._ask(self._requests.lease("take"))

    def renew(self) -> Answer:
        """Keep the lease for another `lease_ms`. Call it from the loop that does the work (see above)."""
        return self._ask(self._requests.lease("renew"))

    def release(self) -> Answer:
        """Give the lease back; disarms."""
        return self._ask(self._requests.lease("release"))

    def arm(
        self,
        *,
        profile: str,
        side: str,
        nerve: str,
        electrodes: str,
        operator: str,
        limb: str = "",
        **more: Any,
    ) -> Answer:
        """Arm for one site: `site`, `load_ohm`, `limits`, `warnings`. It measures the load, where the device can.

        `more`: `limits` (a map of tighter ones), `area_mm2`, `load_ohm`, `acknowledged`.
        """
        where = {"side": side, "limb": limb, "nerve": nerve, "electrodes": electrodes}
        return self._ask(self._requests.arm({"profile": profile, **where, "operator": operator, **more}))

    def confirm(self, current_ua: int) -> Answer:
        """The operator wants steps up to this current, however large."""
        return self._ask(self._requests.call("stim_confirm", {"current_ua": current_ua}))

    def fire(self, shot: Shot) -> Answer:
        """Give a shot at the armed site; returns when it is accepted: `shot`, `first_pulse`, `begin_ns`.

        What was delivered comes as Pulse messages on the topic stim0/pulse.
        """
        return self._ask(self._requests.fire(shot, time.monotonic_ns()))

    def disarm(self) -> Answer:
        """Nothing more may be given. Needs no lease."""
        return self._ask(self._requests.call("stim_disarm"))

    def acknowledge(self, operator: str) -> Answer:
        """The cause of a fault or a stop is removed, says this operator: the device is reset, and idle."""
        return self._ask(self._requests.call("stim_acknowledge", {"operator": operator}))

    def _ask(self, operation: Operation[Answer]) -> Answer:
        answer: Answer = self._run(operation)
        return answer


class AsyncStimulator:
    """The stimulator of an asyncio client. What a method does stands at Stimulator's method of its name."""

    def __init__(self, session: Session, run: Callable[[Operation[Any]], Awaitable[Any]]) -> None:
        self._requests = _Requests(session)
        self._run = run

    async def status(self) -> Answer:
        """How it is."""
        return await self._ask(self._requests.call("stim_status"))

    async def limits(self) -> Answer:
        """The limits in force."""
        return (await self._ask(self._requests.call("stim_limits")))["limits"] or {}

    async def take(self) -> Answer:
        """Take the lease."""
        return await self._ask(self._requests.lease("take"))

    async def renew(self) -> Answer:
        """Keep the lease."""
        return await self._ask(self._requests.lease("renew"))

    async def release(self) -> Answer:
        """Give the lease back."""
        return await self._ask(self._requests.lease("release"))

    async def arm(
        self,
        *,
        profile: str,
        side: str,
        nerve: str,
        electrodes: str,
        operator: str,
        limb: str = "",
        **more: Any,
    ) -> Answer:
        """Arm for one site."""
        where = {"side": side, "limb": limb, "nerve": nerve, "electrodes": electrodes}
        return await self._ask(self._requests.arm({"profile": profile, **where, "operator": operator, **more}))

    async def confirm(self, current_ua: int) -> Answer:
        """Steps up to this current are wanted."""
        return await self._ask(self._requests.call("stim_confirm", {"current_ua": current_ua}))

    async def fire(self, shot: Shot) -> Answer:
        """Give a shot at the armed site."""
        return await self._ask(self._requests.fire(shot, time.monotonic_ns()))

    async def disarm(self) -> Answer:
        """Nothing more may be given."""
        return await self._ask(self._requests.call("stim_disarm"))

    async def acknowledge(self, operator: str) -> Answer:
        """The cause of a fault or a stop is removed."""
        return await self._ask(self._requests.call("stim_acknowledge", {"operator": operator}))

    async def _ask(self, operation: Operation[Answer]) -> Answer:
        answer: Answer = await self._run(operation)
        return answer
