import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from structlog.testing import CapturingLogger

from service.domain.buckets import BUCKETS
from service.domain.errors import Unavailable
from service.entrypoints.loops import relay as relay_module
from service.entrypoints.loops.relay import Relay
from service.store.database import Database
from tests.relay_rig import Outbox, Sink, eventually, inversions, open_database, open_outbox, open_sink, running_relay

SECONDS_60 = timedelta(seconds=60)


@pytest.fixture
async def sink(rabbitmq_url: str) -> AsyncIterator[Sink]:
    async with open_sink(rabbitmq_url) as sink:
        yield sink


@pytest.fixture
async def outbox(database_url: str, sink: Sink) -> AsyncIterator[Outbox]:
    async with open_outbox(database_url, sink.exchange.name) as outbox:
        yield outbox


async def test_what_was_there_before_and_what_comes_later_is_published(
    database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink
) -> None:
    keys = [uuid4() for _ in range(50)]
    await outbox.insert(*((key, 1) for key in keys))
    async with running_relay(database_url, rabbitmq_url) as relay:
        await sink.receive(50)
        await outbox.insert(*((key, version) for version in (2, 3) for key in keys))
        got = await sink.receive(150)
        assert relay.ready

    assert [version for key, version in got if key == str(keys[0])] == [1, 2, 3]
    assert await outbox.count() == 0


async def test_a_wake_up_is_enough_and_no_poll_is_needed(database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink) -> None:
    async with running_relay(database_url, rabbitmq_url, poll=SECONDS_60) as relay:
        await eventually(lambda: relay.ready and relay.listener_state.ready and len(relay.buckets) == BUCKETS)
        await asyncio.sleep(0.2)
        await outbox.insert((uuid4(), 1))
        await sink.receive(1, within=20)


async def test_a_poll_is_enough_and_no_wake_up_is_needed(database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink) -> None:
    async with running_relay(
        database_url, rabbitmq_url, poll=timedelta(seconds=0.1), listen_url="postgresql://nobody@127.0.0.1:1/none"
    ) as relay:
        await eventually(lambda: relay.ready and len(relay.buckets) == BUCKETS)
        await outbox.insert((uuid4(), 1))
        await sink.receive(1, within=20)
        assert not relay.listener_state.ready


async def test_a_listening_connection_that_was_killed_is_opened_again(
    database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink
) -> None:
    listeners = "select pid from pg_stat_activity where application_name = 'relay-listen' and datname = current_database()"
    async with running_relay(database_url, rabbitmq_url, poll=timedelta(seconds=0.2)) as relay:
        await eventually(lambda: relay.listener_state.ready)
        (first,) = await outbox.connection.fetch(listeners)

        await outbox.connection.execute("select pg_terminate_backend($1)", first["pid"])
        await outbox.insert((uuid4(), 1), notify=False)
        await sink.receive(1, within=20)

        async def reopened() -> bool:
            rows = await outbox.connection.fetch(listeners)
            return [row["pid"] for row in rows] != [first["pid"]] and len(rows) == 1

        await eventually(reopened)


async def test_a_row_that_commits_late_is_neither_lost_nor_overtaken(
    database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink
) -> None:
    a, b = uuid4(), uuid4()
    async with (
        open_outbox(database_url, sink.exchange.name) as writer,
        running_relay(database_url, rabbitmq_url, poll=SECONDS_60) as relay,
    ):
        await eventually(lambda: relay.listener_state.ready and len(relay.buckets) == BUCKETS)
        transaction = writer.connection.transaction()
        await transaction.start()
        (tenth,) = await writer.insert((a, 1))
        # Every bucket's watermark passes the uncommitted row.
        await outbox.insert(*((uuid4(), 1) for _ in range(1000)))
        (eleventh,) = await outbox.insert((b, 1))
        await sink.receive(1001)
        assert tenth < eleventh

        await transaction.commit()
        await outbox.insert((a, 2))
        # Well before the poll: a commit is what brings it.
        got = await sink.receive(1003, within=20)

        assert [version for key, version in got if key == str(a)] == [1, 2]


async def test_an_unroutable_message_blocks_its_key_only_and_goes_out_when_a_queue_is_bound(
    database_url: str, rabbitmq_url: str
) -> None:
    stuck, free = uuid4(), uuid4()
    async with open_sink(rabbitmq_url, bind=False) as sink, open_outbox(database_url, sink.exchange.name) as outbox:
        await sink.queue.bind(sink.exchange, "free")
        await outbox.insert((stuck, 1), routing_key="stuck")
        await outbox.insert((stuck, 2), (free, 1), (free, 2), routing_key="free")
        async with running_relay(database_url, rabbitmq_url):
            assert await sink.receive(2) == [(str(free), 1), (str(free), 2)]
            await eventually(lambda: _refused(outbox))
            await eventually(lambda: _is_left(outbox, 2))
            first, second = await outbox.rows()
            assert first["last_error"] == "unroutable: NO_ROUTE"
            assert (second["attempts"], second["last_error"]) == (0, None)

            await sink.queue.bind(sink.exchange, "stuck")
            got = await sink.receive(4)

    assert [version for key, version in got if key == str(stuck)] == [1, 2]


async def test_what_is_refused_again_and_again_is_logged_once(
    database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "_log", log := CapturingLogger())
    async with open_sink(rabbitmq_url, bind=False) as sink, open_outbox(database_url, sink.exchange.name) as outbox:
        await outbox.insert(*((uuid4(), 1) for _ in range(600)))
        async with running_relay(database_url, rabbitmq_url):
            await eventually(lambda: _refused_at_least(outbox, 2))

    said = [call.kwargs for call in log.calls if call.args == ("relay.refused",)]
    assert [line["error"] for line in said] == ["unroutable: NO_ROUTE"]
    assert 0 < said[0]["messages"] <= 600


async def test_a_message_that_a_full_queue_rejects_blocks_its_key_only_and_goes_out_when_there_is_room(
    database_url: str, rabbitmq_url: str
) -> None:
    full = {"x-max-length": 3, "x-overflow": "reject-publish"}
    stuck, free = uuid4(), uuid4()
    async with (
        open_sink(rabbitmq_url, arguments=full, consume=False) as small,
        open_sink(rabbitmq_url) as sink,
        open_outbox(database_url, small.exchange.name) as outbox,
        running_relay(database_url, rabbitmq_url),
    ):
        await outbox.insert(*((stuck, version) for version in range(1, 11)))
        await eventually(lambda: _refused(outbox))
        rows = await outbox.rows()
        assert rows[0]["last_error"] == "rejected by a queue"
        assert all(row["attempts"] == 0 for row in rows[1:])

        await outbox.insert((free, 1), exchange=sink.exchange.name)
        await sink.receive(1)

        # Room comes by and by, as the consumer takes what is there.
        await small.consume()
        got = await small.receive(10, within=30)

    assert got == [(str(stuck), version) for version in range(1, 11)]


async def test_a_missing_exchange_holds_up_its_own_keys_only(
    database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink
) -> None:
    astray = [uuid4() for _ in range(1000)]
    fine = [uuid4() for _ in range(1000)]
    missing = f"missing-{uuid4()}"
    await outbox.insert(*((key, 1) for key in astray), exchange=missing)
    await outbox.insert(*((key, 1) for key in fine))
    async with running_relay(database_url, rabbitmq_url) as relay:
        got = await sink.receive(1000)
        assert {key for key, _ in got} == {str(key) for key in fine}
        assert relay.ready
        await eventually(lambda: _all_refused(outbox))
        assert await outbox.count() == 1000
        # Made at last, it gets what waited for it.
        async with open_sink(rabbitmq_url, missing) as late:
            await late.receive(1000, within=20)
            await eventually(lambda: _is_empty(outbox))


async def test_a_hot_key_starves_nobody(database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink) -> None:
    hot = uuid4()
    await outbox.insert(*((hot, version) for version in range(1, 20_001)))
    others = [uuid4() for _ in range(500)]
    await outbox.insert(*((key, 1) for key in others))
    async with running_relay(database_url, rabbitmq_url):
        await eventually(lambda: {str(key) for key in others} <= {key for key, _ in sink.got})
        sent = [version for key, version in sink.got if key == str(hot)]
        assert sent == list(range(1, len(sent) + 1))
        assert len(sent) < 20_000


async def test_a_stop_finishes_what_is_in_flight_and_hands_over_at_once(
    database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink
) -> None:
    async with running_relay(database_url, rabbitmq_url, lease=SECONDS_60) as heir:
        async with running_relay(database_url, rabbitmq_url, lease=SECONDS_60) as leaver:
            await eventually(lambda: len(leaver.buckets) == len(heir.buckets) == BUCKETS // 2)
            await outbox.insert(*((uuid4(), 1) for _ in range(3000)))
        await eventually(lambda: len(heir.buckets) == BUCKETS, within=30)
        await outbox.insert(*((uuid4(), 1) for _ in range(1000)))
        await sink.receive(4000, within=20)
        await eventually(lambda: _is_empty(outbox))
    assert len(sink.messages) == 4000, "nothing was sent twice"
    assert await outbox.connection.fetchval("select count(*) from leases where holder is not null") == 0


async def test_a_cancelled_relay_hands_over_too(database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink) -> None:

    async with open_database(database_url) as database:
        relay = Relay(database, broker_url=rabbitmq_url, listen_url=database_url)
        run = asyncio.create_task(relay.run())
        await eventually(lambda: len(relay.buckets) == BUCKETS)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert await outbox.connection.fetchval("select count(*) from leases where holder is not null") == 0


async def test_what_a_dead_relay_owned_is_taken_over_when_its_lease_ends(
    database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink
) -> None:
    async with running_relay(database_url, rabbitmq_url, lease=timedelta(seconds=1)) as relay:
        await eventually(lambda: len(relay.buckets) == BUCKETS)
        # A holder that will never renew, as after SIGKILL.
        await outbox.connection.execute(
            """update leases set holder = gen_random_uuid(), fence = fence + 1, expires_at = clock_timestamp() + interval '1.5 s'
            where resource like 'relay/%'"""
        )
        await eventually(lambda: relay.buckets == frozenset(), within=2)
        await outbox.insert((uuid4(), 1))
        await sink.receive(1, within=20)
        assert len(relay.buckets) == BUCKETS


async def test_a_large_backlog_that_nobody_wants_delays_nothing_else(database_url: str, rabbitmq_url: str) -> None:
    async with (
        open_sink(rabbitmq_url, bind=False) as sink,
        open_outbox(database_url, sink.exchange.name) as outbox,
    ):
        # Nothing that a relay asks for may take long, however much waits.
        database = await Database.connect(database_url, name="test", size=6, slowest=timedelta(seconds=2))
        await sink.queue.bind(sink.exchange, "wanted")
        await _insert_refused(outbox, 150_000, followed=15_000)
        relay = Relay(database, broker_url=rabbitmq_url, listen_url=database_url)
        run = asyncio.create_task(relay.run())
        try:
            await _assert_prompt(relay, outbox, sink)
        finally:
            relay.stop()
            await run
            await database.close()


async def _assert_prompt(relay: Relay, outbox: Outbox, sink: Sink) -> None:
    await eventually(lambda: relay.ready and relay.listener_state.ready and len(relay.buckets) == BUCKETS)
    for version in range(1, 6):
        await outbox.insert((uuid4(), version), routing_key="wanted")
        await sink.receive(version, within=30)
        await asyncio.sleep(0.3)
        assert relay.ready
    assert all(state.ready for state in (relay.search.recent_state, relay.search.round_state, relay.search.retry_state))
    tries = await outbox.connection.fetchval("select sum(attempts - 1) from outbox where attempts > 0")
    assert 128 <= tries < 10_000, "128 in a quarter of a second, and no more: the wanted ones passed by the rest"


async def test_what_was_refused_goes_out_in_order_when_a_queue_is_bound(database_url: str, rabbitmq_url: str) -> None:
    keys = 4000
    async with open_sink(rabbitmq_url, bind=False) as sink, open_outbox(database_url, sink.exchange.name) as outbox:
        await _insert_refused(outbox, keys, followed=keys)
        async with running_relay(database_url, rabbitmq_url) as relay:
            await eventually(lambda: relay.ready and len(relay.buckets) == BUCKETS)
            assert sink.messages == []
            await sink.queue.bind(sink.exchange, "#")
            got = await sink.receive(2 * keys, within=40)
            await eventually(lambda: _is_empty(outbox))

    assert inversions(got) == 0
    assert len(set(got)) == len(got) == 2 * keys


@pytest.mark.parametrize("look", ["sweep_recent", "sweep_round", "find_due"])
async def test_a_look_at_what_is_late_or_refused_that_fails_or_hangs_delays_nothing_else(
    database_url: str, rabbitmq_url: str, outbox: Outbox, sink: Sink, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    asked = 0

    async def fail_then_hang(*_: object) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise Unavailable("too slow")
        await asyncio.Event().wait()

    monkeypatch.setattr(f"service.entrypoints.loops.relay_search.{look}", fail_then_hang)
    async with running_relay(database_url, rabbitmq_url) as relay:
        await eventually(lambda: asked == 2)
        await eventually(lambda: relay.ready and relay.listener_state.ready and len(relay.buckets) == BUCKETS)
        await outbox.insert(*((uuid4(), 1) for _ in range(100)))
        await sink.receive(100, within=30)
        assert relay.ready


async def _insert_refused(outbox: Outbox, keys: int, *, followed: int) -> None:
    """A row a key that was refused before and is due again; behind some of them a fresh one."""
    await outbox.connection.execute(
        """with first as (
            insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at,
                attempts, next_attempt_at, last_error)
            select key, $2, 'unwanted', 'TEST', key::text || '/1', 'correlation', '{}',
                json_build_object('key', key, 'version', 1)::text, now(), 1, now(), 'unroutable: NO_ROUTE'
            from (select gen_random_uuid() from generate_series(1, $1)) as new (key)
            returning order_key
        )
        insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
        select order_key, $2, 'unwanted', 'TEST', order_key::text || '/2', 'correlation', '{}',
            json_build_object('key', order_key, 'version', 2)::text, now()
        from first limit $3""",
        keys,
        outbox.exchange,
        followed,
    )


async def _refused(outbox: Outbox) -> bool:
    return bool(await outbox.connection.fetchval("select exists(select from outbox where attempts > 0)"))


async def _all_refused(outbox: Outbox) -> bool:
    return await _refused_at_least(outbox, 1)


async def _refused_at_least(outbox: Outbox, times: int) -> bool:
    return not await outbox.connection.fetchval("select exists(select from outbox where attempts < $1)", times)


async def _is_left(outbox: Outbox, rows: int) -> bool:
    return await outbox.count() == rows


async def _is_empty(outbox: Outbox) -> bool:
    return await _is_left(outbox, 0)
