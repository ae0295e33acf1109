"""The asyncio client against the small service: the same logic, shared by tasks."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
from fake_service import STREAM, FakeService, sample_values

from emgd_client import RefusedError, ServiceNotRunningError
from emgd_client.aio import connect


@pytest.fixture
def service(tmp_path: Path) -> Iterator[FakeService]:
    with FakeService(tmp_path) as running:
        yield running


def test_each_verb_brings_what_the_service_says(service: FakeService) -> None:
    async def main() -> None:
        async with connect(name="test", runtime_dir=service.directory) as client:
            assert (await client.status())["device"]["name"] == "amp0"
            assert (await client.version())["protocol"] == 1
            assert (await client.help())[0]["verb"] == "ping"
            assert [await client.describe(STREAM)] == await client.streams()
            assert (await client.set_filter(STREAM, preset="emg"))["from_seq"] == 0
            with pytest.raises(RefusedError, match="gone or not yet"):
                await client.history(STREAM, 0, 1)

    asyncio.run(main())
    assert [service.requests[0][0], service.requests[-1][0]] == ["hello", "bye"]


def test_blocks_come_complete_and_in_order_until_the_recording_has_ended(service: FakeService) -> None:
    def play(fake: FakeService) -> None:
        fake.send_blocks(2)
        fake.drop_blocks(2)
        fake.send_blocks(1)
        fake.say_state("ended")

    service.drop_blocks(3)
    service.on_subscribe = play

    async def main() -> None:
        async with connect(name="test", runtime_dir=service.directory) as client:
            blocks = [block async for block in client.blocks(STREAM, from_seq=0)]
            assert client.tally(STREAM).backfilled == 2 * 96
        np.testing.assert_array_equal(np.concatenate([block.samples for block in blocks]), sample_values(0, 8 * 96, 2))

    asyncio.run(main())


def test_tasks_may_share_a_client_and_each_gets_its_own_answer(service: FakeService) -> None:
    service.drop_blocks(20)

    async def main() -> None:
        async with connect(name="test", runtime_dir=service.directory) as client:
            fetched = await asyncio.gather(*(client.history(STREAM, seq, 96) for seq in range(0, 20 * 96, 96)))
        assert [blocks[0].seq for blocks in fetched] == list(range(0, 20 * 96, 96))

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_it_waits_leaves_the_client_usable(service: FakeService) -> None:
    async def first_block(client) -> None:
        async with aclosing(client.blocks(STREAM)) as blocks:
            await anext(blocks)

    async def main() -> None:
        subscribed = asyncio.Event()
        loop = asyncio.get_running_loop()
        service.on_subscribe = lambda _: loop.call_soon_threadsafe(subscribed.set)
        async with connect(name="test", runtime_dir=service.directory) as client:
            waiting = asyncio.create_task(first_block(client))
            await subscribed.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await client.ping()).round_trip_ns > 0

    asyncio.run(main())


def test_messages_brings_events_of_the_chosen_topics(service: FakeService) -> None:
    async def main() -> None:
        async with (
            connect(name="test", runtime_dir=service.directory) as client,
            aclosing(client.messages("amp0/state")) as messages,
        ):
            assert (await anext(messages)).state == "streaming"

    asyncio.run(main())


def test_no_service_is_said_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with connect(name="test", runtime_dir=tmp_path):
            pass

    with pytest.raises(ServiceNotRunningError):
        asyncio.run(main())
