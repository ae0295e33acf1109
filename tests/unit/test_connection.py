"""The connection: its table, its picture, when it looks again, and whom it takes for the same device."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd.connection import FIRST_RETRY_S, LAST_RETRY_S, LIVE, SEEKING, TABLE, Connection, Event, State, diagram
from emgd_drivers.api import DeviceError, DeviceNotFoundError, DevicePermissionError

DOCUMENT = Path(__file__).parents[2] / "docs" / "connection.md"
SECOND = 10**9


@dataclasses.dataclass
class Device:
    serial: str
    closed: bool = False

    @property
    def info(self):
        return SimpleNamespace(serial=self.serial)

    def close(self):
        self.closed = True


def connection(opener=None, *, returns=True, **options):
    told = []
    made = Connection("emg8", options, lambda state, text: told.append((state, text)), opener=opener, returns=returns)
    return made, told


def test_the_picture_in_the_documents_is_the_table():
    assert f"```mermaid\n{diagram()}\n```" in DOCUMENT.read_text()


def test_every_state_can_be_reached_and_left():
    reached = {State.OPENING} | {target for events in TABLE.values() for target in events.values()}
    assert reached == set(State) == set(TABLE)
    assert all(events[Event.CLOSED] is State.STOPPED for events in TABLE.values())


def test_whoever_was_seen_is_lost_and_never_absent():
    seen = {State.STREAMING, State.SILENT, State.LOST}
    assert not {State.ABSENT, State.DENIED} & {target for state in seen for target in TABLE[state].values()}


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_what_is_not_in_the_table_cannot_happen(events):
    made, told = connection()
    for event in events:
        before = made.state
        if event in TABLE[before]:
            made.fire(event, event.value)
            assert made.state is TABLE[before][event]
        else:
            with pytest.raises(KeyError):
                made.fire(event, event.value)
            assert made.state is before
    assert [state for state, _ in told][-1:] in ([], [made.state])


def test_news_are_told_once():
    made, told = connection()
    for _ in range(3):
        made.fire(Event.NOT_FOUND, "nothing there")
    assert told == [(State.ABSENT, "nothing there")]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DeviceNotFoundError("x"), State.ABSENT),
        (DevicePermissionError("x"), State.DENIED),
        (DeviceError("x"), State.ABSENT),
    ],
)
def test_each_failure_has_its_state(error, state):
    made, _ = connection()
    made.failed(error)
    assert made.state is state


def test_it_looks_again_ever_less_often_and_at_once_on_news():
    made, _ = connection()
    made.fire(Event.NOT_FOUND, "x")
    now_ns, waits = 0, []
    for _ in range(8):
        assert made.is_due(now_ns)
        made.tried(now_ns)
        step = next(step for step in range(1, 1000) if made.is_due(now_ns + step * SECOND // 10))
        waits.append(step / 10)
        now_ns += step * SECOND // 10
    assert waits[0] == FIRST_RETRY_S
    assert waits == sorted(waits)
    assert waits[-1] == LAST_RETRY_S
    made.tried(now_ns)
    made.retry_now()
    assert made.is_due(now_ns)


def test_it_looks_only_where_there_is_hope():
    for state in State:
        made, _ = connection()
        made.state = state
        assert made.is_due(SECOND) == (state in SEEKING)
        made.returns = False
        assert not made.is_due(SECOND)
    assert not LIVE & SEEKING


def test_the_same_device_is_asked_for_by_its_serial_number():
    asked = []

    def opener(driver, options):
        asked.append((driver, options["serial"]))
        return Device(options["serial"] or "A")

    made, _ = connection(opener, serial=None)
    made.serial = made.open().info.serial
    made.open()
    assert asked == [("emg8", None), ("emg8", "A")]


def test_another_device_in_its_place_is_let_go():
    other = Device("B")
    made, _ = connection(lambda _driver, _options: other)
    made.serial = "A"
    with pytest.raises(DeviceNotFoundError, match="B is there, but A is waited for; plug A in again"):
        made.open()
    assert other.closed
