"""The impedance check of an amplifier, joined to its device, its ring and its stream."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from emgd.acquisition import Acquisition
from emgd.impedance import Hands, ImpedanceCheck, Reason, State
from emgd.publish import Publishing
from emgd.ring_tap import Gap, Lapped, Mark, RingTap, Stretch
from emgd_ext import ring as ring_planes
from emgd_wire.kinds import Kind

RESULTS: Final = frozenset({State.DONE, State.ABORTED})

Interlock = Callable[[], str | None]
"""Says what forbids a test current now, in words; None = nothing does."""


class Electrodes:
    """The check of one amplifier; `check` is None where its device has no impedance test. One thread calls it."""

    def __init__(self, acquisition: Acquisition, publishing: Publishing, interlock: Interlock) -> None:
        self.last: dict[str, Any] | None = None
        self.test: Final = acquisition.info.impedance
        self.check: Final = self._make_check(acquisition, interlock)
        self._acquisition = acquisition
        self._publishing = publishing
        self._tap = RingTap(acquisition.ring)
        self._now_ns = 0

    def _make_check(self, acquisition: Acquisition, interlock: Interlock) -> ImpedanceCheck | None:
        if self.test is None:
            return None
        hands = Hands(
            switch=acquisition.set_impedance_test,
            read=lambda seq, count: acquisition.ring.read(ring_planes.RAW, seq, count),
            flag=acquisition.loop.flag_impedance,
            interlock=interlock,
            publish=self._publish,
        )
        info = acquisition.info
        return ImpedanceCheck(self.test, acquisition.channels, info.rate_hz, acquisition.sample_ns, hands)

    @property
    def busy(self) -> bool:
        """A check runs; nobody may stimulate now."""
        return self.check is not None and self.check.busy

    def introduce(self, now_ns: int) -> None:
        """Publish that there was no check yet, so that whoever subscribes is greeted."""
        if self.check is not None:
            self._now_ns = now_ns
            self._publish(self.check.as_map(now_ns), 0, 0)

    def start(self, channels: Sequence[int] | None, now_ns: int) -> dict[str, Any]:
        """Begin a check: the result of the verb. Only where there is one; BusyError, InterlockError."""
        if self.check is None:
            raise ValueError("a device without impedance test cannot be checked")
        self._now_ns = now_ns
        number = self.check.start(channels, now_ns, self._acquisition.ring.head)
        self._tap.skip()  # only now: a request that is refused must take nothing from the check that runs
        return {
            "accepted": True,
            "check": number,
            "channels": self.check.as_map(now_ns)["channels"],
            "ready_ns": self.check.ready_ns(now_ns),
        }

    def step(self, now_ns: int) -> None:
        """Tell the check what happened in the stream, and let it act. DeviceLostError."""
        if self.check is None or not self.check.busy:
            return
        self._now_ns = now_ns
        for item in self._tap.items():
            match item:
                case Mark(seq, code, channel, value):
                    self.check.mark(seq, code, channel, value, now_ns)
                case Gap(seq, count):
                    self.check.gap(seq, count, now_ns)
                case Stretch(seq, count):
                    self.check.samples(seq, count, now_ns)
                case Lapped():
                    self.check.lapped(now_ns)
        self.check.step(now_ns, self._acquisition.ring.head)

    def stop(self, reason: Reason, text: str, now_ns: int) -> bool:
        """Give up; False when there was nothing to give up. The next step switches the current off."""
        self._now_ns = now_ns
        return self.check is not None and self.check.stop(reason, text, now_ns)

    def lose(self, text: str, now_ns: int) -> None:
        """The device streams no longer: whatever it sent through electrodes has ended with the stream."""
        self._now_ns = now_ns
        if self.check is not None:
            self.check.lose(text, now_ns)

    def as_map(self) -> dict[str, Any]:
        """The `impedance` map of `status`."""
        return {
            "offered": self.test is not None,
            "frequency_hz": self.test.frequency_hz if self.test else None,
            "current_na": self.test.current_na if self.test else None,
            "state": self.check.state.value if self.check else None,
            "last": self.last,
        }

    def _publish(self, payload: dict[str, Any], seq: int, count: int) -> None:
        if self.check is not None and self.check.state in RESULTS:
            self.last = payload
        self._publishing.post(Kind.IMPEDANCE, payload, seq, self._now_ns, count=count)
