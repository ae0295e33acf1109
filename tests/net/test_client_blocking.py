"""The blocking client against the small service, over real sockets."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from fake_service import STREAM, FakeService, sample_values

import emgd_client
from emgd_client import ErrorCode, NoAnswerError, RefusedError, ServiceNotRunningError


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    with FakeService(tmp_path) as running:
        yield running


@pytest.fixture
def client(service: FakeService) -> Iterator[emgd_client.Client]:
    with emgd_client.connect(name="test", runtime_dir=service.directory) as connected:
        yield connected


def verbs(service: FakeService) -> list[str]:
    return [verb for verb, _ in service.requests]


def play_to_the_end(fake: FakeService) -> None:
    """Three blocks, four dropped, a gap, two blocks, two dropped, a gap at the end."""
    fake.send_blocks(3)
    fake.drop_blocks(4)
    fake.gap(202)
    fake.send_blocks(2)
    fake.drop_blocks(2)
    fake.gap(10)
    fake.say_state("ended")


def test_each_verb_brings_what_the_service_says(service: FakeService, client: emgd_client.Client) -> None:
    assert client.status()["device"]["name"] == "amp0"
    assert client.version() == {"version": "0.0", "protocol": 1}
    assert client.help()[0]["verb"] == "ping"
    assert client.ping().round_trip_ns > 0
    (description,) = client.streams()
    assert (description.stream, description.rate_hz, len(description.channels)) == (STREAM, 48000.0, 2)
    assert client.describe(STREAM) == description
    assert client.set_filter(STREAM, [1], preset="emg", notch_hz=0)["from_seq"] == 0
    assert ("filter", {"stream": STREAM, "channels": [1], "preset": "emg", "notch_hz": 0}) in service.requests


def test_a_client_says_hello_and_bye(service: FakeService) -> None:
    with emgd_client.connect(name="scope", runtime_dir=service.directory) as client:
        client.close()
    assert service.requests == [("hello", {"name": "scope", "pid": os.getpid()}), ("bye", {})]


def test_history_is_fetched_in_as_many_replies_as_it_takes(service: FakeService, client: emgd_client.Client) -> None:
    service.reply_samples = 100
    service.run(lambda: service.drop_blocks(5))
    blocks = client.history(STREAM, 50, 1000)
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), sample_values(50, 430, 2))
    assert verbs(service).count("history") == 5


def test_a_refusal_names_code_field_and_what_is_allowed(client: emgd_client.Client) -> None:
    with pytest.raises(RefusedError, match="no such preset; allowed: emg") as refusal:
        client.set_filter(STREAM, preset="ecg")
    assert (refusal.value.code, refusal.value.field) == (ErrorCode.BAD_VALUE, "args.preset")


def test_an_unknown_stream_is_refused_with_those_that_are_there(client: emgd_client.Client) -> None:
    with pytest.raises(RefusedError, match="no stream 'amp9/raw'; allowed: amp0/raw"):
        next(client.blocks("amp9/raw"))


def test_blocks_come_complete_and_in_order_until_the_recording_has_ended(
    service: FakeService, client: emgd_client.Client
) -> None:
    service.on_subscribe = play_to_the_end
    service.reply_samples = 150
    blocks = list(client.blocks(STREAM))
    numbers = np.concatenate([block.samples[:, 0] // 2 for block in blocks])
    expected = np.concatenate([np.arange(block["seq"], block["seq"] + block["count"]) for block in service.blocks])
    np.testing.assert_array_equal(numbers, expected)
    assert {block.origin for block in blocks} == {"live", "history"}
    tally = client.tally(STREAM)
    assert (tally.samples, tally.gaps, tally.missing) == (len(expected), 2, 212)
    assert tally.dropped == tally.backfilled == sum(len(block.samples) for block in blocks if block.origin == "history")
    assert tally.dropped == 6 * 96


def test_from_the_first_sample_on_past_and_present_join_without_a_seam(
    service: FakeService, client: emgd_client.Client
) -> None:
    service.run(lambda: service.drop_blocks(10))
    service.on_subscribe = lambda fake: fake.send_blocks(5)
    blocks = list(islice(client.blocks(STREAM, from_seq=0), 15))
    np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), sample_values(0, 15 * 96, 2))
    assert client.tally(STREAM).dropped == 0


def test_what_the_history_has_forgotten_is_told_on_the_next_block(
    service: FakeService, client: emgd_client.Client
) -> None:
    def play(fake: FakeService) -> None:
        fake.send_blocks()
        fake.drop_blocks(2)
        fake.expire(2 * 96)
        fake.send_blocks()

    service.on_subscribe = play
    told = [(block.seq, block.dropped_before) for block in islice(client.blocks(STREAM), 3)]
    assert told == [(0, 0), (192, 96), (288, 0)]


def test_without_backfill_nothing_is_fetched(service: FakeService, client: emgd_client.Client) -> None:
    service.on_subscribe = play_to_the_end
    blocks = list(client.blocks(STREAM, backfill=False))
    assert [block.dropped_before for block in blocks] == [0, 0, 0, 384, 0]
    assert "history" not in verbs(service)
    assert client.tally(STREAM).dropped == 6 * 96


def test_a_service_that_is_started_anew_is_greeted_and_followed_from_its_first_sample(
    service: FakeService, client: emgd_client.Client
) -> None:
    service.on_subscribe = lambda fake: fake.send_blocks(2)
    blocks = client.blocks(STREAM)
    first = [next(blocks), next(blocks)]

    def restart() -> None:
        service.restart()
        service.drop_blocks(3)

    service.run(restart)
    again = [next(blocks) for _ in range(5)]
    assert [block.session for block in first + again] == ["0" * 16] * 2 + ["0" * 15 + "1"] * 5
    assert [block.seq for block in again] == [0, 96, 192, 288, 384]
    assert [block.dropped_before for block in again] == [0] * 5
    next_request = client.ping()
    assert next_request.round_trip_ns > 0
    assert verbs(service).count("hello") == 2


def test_a_report_says_where_we_are_at_most_once_a_second(service: FakeService, client: emgd_client.Client) -> None:
    def play(fake: FakeService) -> None:
        fake.send_blocks(200)
        fake.say_state("ended")

    service.on_subscribe = play
    began = time.monotonic()
    list(client.blocks(STREAM))
    client.version()  # Requests are answered in order: the reports before it are entered by now.
    reports = verbs(service).count("report") + verbs(service).count("ping")
    assert 1 <= reports <= 1 + (time.monotonic() - began)


def test_a_client_that_was_forgotten_gives_its_name_again(service: FakeService) -> None:
    """The reply to one report is read before the next is sent: both are made due at once by a short interval."""
    service.forgetful = True
    service.on_subscribe = lambda fake: fake.send_blocks(3)
    with (
        patch("emgd_client.session.REPORT_INTERVAL_S", 0.0),
        emgd_client.connect(name="test", runtime_dir=service.directory) as client,
    ):
        blocks = client.blocks(STREAM)
        for _ in range(3):
            next(blocks)
            client.version()
            client.version()
            service.run(service.send_blocks)
    assert verbs(service).count("hello") > 1


def test_messages_brings_events_of_the_chosen_topics(service: FakeService, client: emgd_client.Client) -> None:
    service.on_subscribe = play_to_the_end
    types = [type(message).__name__ for message in islice(client.messages("amp0/"), 10)]
    assert types == [*["Description", "State"], *["Block"] * 3, "Gap", *["Block"] * 2, "Gap", "State"]


def test_no_service_is_said_at_once_with_path_and_remedy(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(
        ServiceNotRunningError, match=r"no emgd service at .*/control\.sock .*no such file.*start it with"
    ):
        emgd_client.connect(name="test", runtime_dir=tmp_path)
    assert time.monotonic() - began < 1.0


def test_a_socket_that_a_dead_service_left_behind_is_no_service(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    with pytest.raises(ServiceNotRunningError, match="connection refused"):
        emgd_client.connect(name="test", runtime_dir=tmp_path)


def test_a_service_that_is_silent_is_given_up_and_its_late_answer_not_mistaken(service: FakeService) -> None:
    with emgd_client.connect(name="test", runtime_dir=service.directory, timeout_s=0.1) as client:
        service.muted = {"status"}
        with pytest.raises(NoAnswerError, match=r"did not answer status within 0\.1 s"):
            client.status()
        service.muted = set()
        assert client.version()["protocol"] == 1


def test_a_service_that_went_away_is_said_to_be_gone(service: FakeService) -> None:
    with emgd_client.connect(name="test", runtime_dir=service.directory, timeout_s=0.1) as client:
        service.__exit__()
        with pytest.raises(ServiceNotRunningError):
            client.ping()


def test_history_that_is_not_answered_costs_samples_and_not_the_stream(service: FakeService) -> None:
    service.on_subscribe = play_to_the_end
    with emgd_client.connect(name="test", runtime_dir=service.directory, timeout_s=0.1) as client:
        service.muted = {"history"}
        blocks = list(client.blocks(STREAM))
    assert [block.dropped_before for block in blocks] == [0, 0, 0, 384, 0]


def test_ctrl_c_ends_a_wait_and_leaves_the_client_usable(service: FakeService, client: emgd_client.Client) -> None:
    service.on_subscribe = lambda _: os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        next(client.blocks(STREAM))
    assert client.ping().round_trip_ns > 0


def test_a_closed_client_says_so(service: FakeService) -> None:
    client = emgd_client.connect(name="test", runtime_dir=service.directory)
    blocks = client.blocks(STREAM)
    service.on_subscribe = lambda fake: fake.send_blocks(1)
    next(blocks)
    client.close()
    with pytest.raises(emgd_client.ClientError, match="this client is closed"):
        client.ping()
    with pytest.raises(emgd_client.ClientError, match="this client is closed"):
        next(blocks)
