import asyncio
from datetime import timedelta
from uuid import uuid4

from deploy.local_stack import RabbitmqNode, private_postgres
from service.store.migrate import migrate
from tests.relay_rig import Outbox, Sink, eventually, open_outbox, open_sink, running_relay, without_repeats


async def test_a_broker_that_is_killed_in_mid_stream_loses_nothing(database_url: str, own_broker: RabbitmqNode) -> None:
    keys = [uuid4() for _ in range(200)]
    connection, _ = await Sink.declare(own_broker.url, "faults")
    await connection.close()
    # A quorum queue that was declared a moment ago may lose what it confirmed when its node is killed.
    await asyncio.sleep(3)
    async with open_outbox(database_url, "faults") as outbox:
        for version in range(1, 26):
            await outbox.insert(*((key, version) for key in keys))
        async with running_relay(database_url, own_broker.url, publish=timedelta(seconds=3)) as relay:
            await eventually(lambda: _is_below(outbox, 4500))
            await asyncio.to_thread(own_broker.kill)
            assert await outbox.count() > 0, "killed in mid-stream"
            await eventually(lambda: not relay.ready)
            assert await outbox.connection.fetchval("select count(*) from outbox where attempts > 0") == 0
            await asyncio.to_thread(own_broker.start)
            await eventually(lambda: _is_below(outbox, 1), within=40)
    async with open_sink(own_broker.url, "faults") as sink:
        await sink.receive(5000, within=30)
        # Repeats may still be on their way.
        await asyncio.sleep(0.5)
        kept = without_repeats(sink.got)

    assert {(str(key), version) for key in keys for version in range(1, 26)} == set(kept)
    assert len(kept) == 5000


async def test_a_database_that_is_restarted_in_mid_stream_loses_nothing(rabbitmq_url: str) -> None:
    keys = [uuid4() for _ in range(100)]
    with private_postgres() as server:
        await migrate(server.url)
        async with open_sink(rabbitmq_url) as sink:
            async with running_relay(server.url, rabbitmq_url) as relay:
                async with open_outbox(server.url, sink.exchange.name) as outbox:
                    for version in range(1, 21):
                        await outbox.insert(*((key, version) for key in keys))
                await sink.receive(200)
                await asyncio.to_thread(server.kill)
                await eventually(lambda: not relay.ready)
                await asyncio.to_thread(server.start)
                await eventually(lambda: set(sink.got) == {(str(key), v) for key in keys for v in range(1, 21)}, within=30)
                await eventually(lambda: relay.ready and relay.listener_state.ready)
            async with open_outbox(server.url, "") as outbox:
                assert await outbox.count() == 0

    assert len(without_repeats(sink.got)) == 2000


async def test_a_relay_that_starts_before_its_broker_waits_for_it(database_url: str, own_broker: RabbitmqNode) -> None:
    url = own_broker.url
    await asyncio.to_thread(own_broker.shut_down)
    async with open_outbox(database_url, "early") as outbox, running_relay(database_url, url) as relay:
        await outbox.insert((uuid4(), 1))
        await eventually(lambda: relay.database_state.ready)
        assert not relay.ready
        await asyncio.to_thread(own_broker.start)
        async with open_sink(url, "early") as sink:
            await sink.receive(1, within=20)


async def _is_below(outbox: Outbox, limit: int) -> bool:
    return await outbox.count() < limit
