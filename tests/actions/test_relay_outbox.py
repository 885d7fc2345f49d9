from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from uuid import UUID, uuid4

import pytest

from service.actions.hold_buckets import hold_buckets, prepare_buckets
from service.actions.relay_outbox import Settlement, discover, find_due, publish_window, settle, sweep_recent, sweep_round
from service.clients.broker import Publisher
from service.domain.backlog import Backlog, Key
from service.store.database import Database
from tests.relay_rig import Outbox, Sink, open_database, open_outbox, open_sink

TTL = timedelta(seconds=30)


@dataclass
class Bench:
    """All that one relay's steps need."""

    database: Database
    outbox: Outbox
    sink: Sink
    publisher: Publisher
    backlog: Backlog
    holder: UUID
    url: str

    async def publish(self, keys: list[Key]) -> Settlement:
        return await publish_window(self.database, self.publisher, self.backlog, self.holder, keys, monotonic, lambda: 0.5)

    async def discover(self) -> None:
        self.backlog.mark_unread()
        while await discover(self.database, self.backlog):
            pass

    async def search(self) -> list[Key]:
        await self.discover()
        return self.backlog.take(100, monotonic())

    async def sweep_all(self) -> int:
        """One round of the sweep; answers its passes."""
        passes = 1
        while (await sweep_round(self.database, self.backlog)).goes_on:
            passes += 1
        return passes

    async def step(self) -> None:
        await settle(self.database, self.backlog, await self.publish(await self.search()))


@asynccontextmanager
async def open_bench(database_url: str, rabbitmq_url: str) -> AsyncIterator[Bench]:
    publisher = Publisher(rabbitmq_url, name="test")
    await publisher.connect()
    async with (
        open_database(database_url) as database,
        open_sink(rabbitmq_url) as sink,
        open_outbox(database_url, sink.exchange.name) as outbox,
    ):
        await prepare_buckets(database)
        bench = Bench(database, outbox, sink, publisher, Backlog(100), uuid4(), database_url)
        await hold_buckets(database, bench.backlog, bench.holder, TTL, monotonic)
        yield bench
    await publisher.close()


@pytest.fixture
async def bench(database_url: str, rabbitmq_url: str) -> AsyncIterator[Bench]:
    async with open_bench(database_url, rabbitmq_url) as bench:
        yield bench


async def test_a_confirmed_row_is_deleted_and_its_key_goes_on_with_the_next(bench: Bench) -> None:
    key = uuid4()
    await bench.outbox.insert((key, 1), (key, 2))

    await bench.step()
    assert await bench.outbox.count() == 1
    await bench.step()

    assert await bench.sink.receive(2) == [(str(key), 1), (str(key), 2)]
    assert await bench.outbox.count() == 0
    assert bench.backlog.known == 0


async def test_only_confirmed_rows_are_deleted(bench: Bench) -> None:
    sent, lost = uuid4(), uuid4()
    await bench.outbox.insert((sent, 1))
    (row,) = await bench.outbox.insert((lost, 1), exchange="no-such-exchange")

    await bench.step()

    (left,) = await bench.outbox.rows()
    assert (left["id"], left["attempts"]) == (row, 1)
    assert left["last_error"].startswith("refused: ")
    assert "no-such-exchange" in left["last_error"]


async def test_a_refused_key_is_retried_when_its_wait_is_over_and_goes_on_with_what_came_behind(bench: Bench) -> None:
    key = uuid4()
    await bench.outbox.insert((key, 1), exchange="no-such-exchange")
    await bench.step()
    await bench.outbox.insert((key, 2), (key, 3))
    await bench.step()
    assert not await find_due(bench.database, bench.backlog)
    await sweep_recent(bench.database, bench.backlog)
    await bench.sweep_all()
    assert bench.backlog.known == 0

    await bench.outbox.connection.execute(
        "update outbox set next_attempt_at = clock_timestamp(), exchange = $1 where attempts > 0", bench.sink.exchange.name
    )
    assert await find_due(bench.database, bench.backlog)
    for _ in range(3):
        await bench.step()

    assert await bench.sink.receive(3) == [(str(key), 1), (str(key), 2), (str(key), 3)]


async def test_a_refused_key_is_not_retried_out_of_turn_because_it_gets_another_row(bench: Bench) -> None:
    key = uuid4()
    await bench.outbox.insert((key, 1), exchange="no-such-exchange")
    await bench.step()
    await bench.outbox.connection.execute("update outbox set next_attempt_at = clock_timestamp()")
    await bench.outbox.insert((key, 2))

    await bench.step()

    assert [row["attempts"] for row in await bench.outbox.rows()] == [1, 0]
    assert bench.backlog.known == 0


async def _commit_late(bench: Bench) -> UUID:
    """A key whose first row commits when its bucket's watermark is already past it."""
    late = uuid4()
    # The bucket is in the last byte.
    bucket_mate = UUID(bytes=uuid4().bytes[:15] + late.bytes[15:])
    async with open_outbox(bench.url, bench.outbox.exchange) as other:
        transaction = other.connection.transaction()
        await transaction.start()
        await other.insert((late, 1), notify=False)
        await bench.outbox.insert((bucket_mate, 1))
        await bench.step()
        await transaction.commit()
    return late


async def test_a_row_that_commits_below_the_watermark_is_swept_up(bench: Bench) -> None:
    late = await _commit_late(bench)
    await bench.step()
    assert await bench.outbox.count() == 1

    await sweep_recent(bench.database, bench.backlog)
    await bench.step()

    assert (str(late), 1) in await bench.sink.receive(2)


async def test_a_row_that_commits_far_below_the_watermark_is_found_by_the_round(bench: Bench) -> None:
    # Ids that others took and gave back lie between the late row and the watermark.
    async with open_outbox(bench.url, bench.outbox.exchange) as other:
        transaction = other.connection.transaction()
        await transaction.start()
        await other.insert(*((uuid4(), 1) for _ in range(100)), notify=False)
        await bench.outbox.connection.execute("select setval(pg_get_serial_sequence('outbox', 'id'), 1000000)")
        await bench.outbox.insert(*((uuid4(), 1) for _ in range(1000)))
        while await bench.outbox.count():
            await bench.step()
        assert {bucket.watermark > 1_000_000 for bucket in bench.backlog.buckets.values()} == {True}
        await transaction.commit()
    await sweep_recent(bench.database, bench.backlog)
    assert bench.backlog.known == 0

    await bench.sweep_all()

    assert bench.backlog.ready == 100


async def test_a_round_comes_by_every_row_in_bounded_passes(bench: Bench) -> None:
    """Blocked keys and one that is hot, all fresh rows below the watermark: what may hide a late commit."""
    blocked = [uuid4() for _ in range(1500)]
    await bench.outbox.insert(*((key, 1) for key in blocked), exchange="no-such-exchange")
    await bench.outbox.connection.execute(
        "update outbox set attempts = 1, last_error = 'x', next_attempt_at = now() + interval '1 h'"
    )
    await bench.outbox.insert(*((key, 2) for key in blocked), *((blocked[0], n) for n in range(3, 1003)))
    late = uuid4()
    await bench.outbox.insert((late, 1))
    for bucket in bench.backlog.buckets.values():
        bucket.watermark = 10**6

    passes = await bench.sweep_all()

    assert [key.order_key for key in bench.backlog.take(10, monotonic())] == [late]
    # Of 2,501 rows a pass reads no more than the 100 keys of this backlog have room for.
    assert passes >= 25
    # The late one is in flight now and takes no room: the next round needs a pass less at times, and never more.
    assert 25 <= await bench.sweep_all() <= passes


async def test_the_sweep_finds_no_more_than_there_is_room_for(bench: Bench) -> None:
    await bench.outbox.insert(*((uuid4(), 1) for _ in range(3000)))
    for bucket in bench.backlog.buckets.values():
        bucket.watermark = 3000

    await sweep_recent(bench.database, bench.backlog)

    assert bench.backlog.ready == 100


async def test_a_row_that_commits_below_the_watermark_goes_before_the_later_one_that_is_found_first(bench: Bench) -> None:
    late = await _commit_late(bench)
    await bench.outbox.insert((late, 2))

    await bench.step()
    await bench.step()

    assert [version for key, version in await bench.sink.receive(3) if key == str(late)] == [1, 2]


async def test_a_relay_whose_leases_were_taken_publishes_nothing(bench: Bench) -> None:
    await bench.outbox.insert((uuid4(), 1))
    keys = await bench.search()
    await bench.outbox.connection.execute(
        "update leases set holder = gen_random_uuid(), fence = fence + 1 where resource like 'relay/%'"
    )

    settlement = await bench.publish(keys)

    assert settlement == Settlement([], [], [])
    assert bench.backlog.known == 0
    assert await bench.outbox.count() == 1


async def test_a_claim_that_comes_back_after_the_lease_may_have_lapsed_is_not_published(bench: Bench) -> None:
    await bench.outbox.insert((uuid4(), 1))
    keys = await bench.search()

    settlement = await publish_window(
        bench.database, bench.publisher, bench.backlog, bench.holder, keys, lambda: monotonic() + 60, lambda: 0.5
    )

    assert settlement == Settlement([], [], [])
    assert bench.backlog.ready == 1
    assert bench.sink.messages == []


async def test_unknown_outcomes_spend_no_attempts_and_keep_their_keys_ready(bench: Bench) -> None:
    key = uuid4()
    await bench.outbox.insert((key, 1))
    await bench.publisher.close()

    await bench.step()

    (left,) = await bench.outbox.rows()
    assert (left["attempts"], left["next_attempt_at"], left["last_error"]) == (0, None, None)
    await bench.publisher.connect()
    await bench.step()
    assert await bench.sink.receive(1) == [(str(key), 1)]


async def test_a_settlement_may_be_written_again(bench: Bench) -> None:
    """The commit may have happened though its answer was lost."""
    await bench.outbox.insert((uuid4(), 1))
    settlement = await bench.publish(await bench.search())
    await bench.outbox.connection.execute("delete from outbox")

    await settle(bench.database, bench.backlog, settlement)

    assert bench.backlog.known == 0


async def test_discovery_leaves_room_for_memory(bench: Bench) -> None:
    await bench.outbox.insert(*((uuid4(), 1) for _ in range(5000)))

    assert await discover(bench.database, bench.backlog)

    # The least that is read of each bucket, and no more.
    assert bench.backlog.ready <= 64 * 16


async def test_a_hot_key_counts_once(bench: Bench) -> None:
    hot = uuid4()
    await bench.outbox.insert(*((hot, n) for n in range(3000)))

    (key,) = await bench.search()

    assert key.order_key == hot
    assert bench.backlog.known == 1
