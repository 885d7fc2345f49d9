import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.store import leases
from service.store.database import Database
from service.store.outbox import (
    CHANNEL,
    LEASES_CHANGED,
    Claim,
    Committed,
    OutboxRow,
    Refusal,
    Span,
    claim_messages,
    committed_rows,
    delete_published,
    discover_keys,
    find_due_keys,
    insert_outbox,
    postpone_refused,
    sweep_keys,
)
from tests.relay_rig import Outbox, open_database, open_outbox

ME = UUID("5f2c6c3e-8f0a-4f0e-9d39-7a1f5d0c2b11")
ALL_FROM_ZERO = dict.fromkeys(range(64), 0)


class Desk:
    """A database whose buckets are all held by ME."""

    def __init__(self, database: Database, outbox: Outbox, fences: dict[int, int]) -> None:
        self.database, self.outbox, self.fences = database, outbox, fences

    async def bucket(self, key: UUID) -> int:
        return int(await self.outbox.connection.fetchval("select bucket from outbox where order_key = $1 limit 1", key))

    async def claim(
        self, *keys: UUID, holder: UUID = ME, fence: int | None = None, floor: int = 0, is_retry: bool = False
    ) -> list[int]:
        claims = []
        for key in keys:
            bucket = await self.bucket(key)
            claims.append(Claim(key, bucket, self.fences[bucket] if fence is None else fence, floor, is_retry))
        async with self.database.transaction() as tx:
            return sorted(message.id for message in await claim_messages(tx, holder, claims))

    async def sweep(self, last_id: int, *, after_id: int = 0, rows: int = 10) -> list[tuple[UUID, bool]]:
        async with self.database.transaction() as tx:
            found = await sweep_keys(tx, [Span(bucket, after_id, last_id) for bucket in range(64)], rows)
        return [(key.order_key, key.is_blocked) for key in found]

    async def due(self, *, rows: int = 10, keys: int = 10) -> list[UUID]:
        async with self.database.transaction() as tx:
            return [due.order_key for due in await find_due_keys(tx, range(64), rows, keys)]

    async def refuse(self, row: int, delay: timedelta, attempts: int = 0) -> None:
        async with self.database.transaction() as tx:
            await postpone_refused(tx, [Refusal(row, attempts, delay, "unroutable: NO_ROUTE")])


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with open_database(database_url) as database, open_outbox(database_url, "exchange") as outbox:
        async with database.transaction() as tx:
            await leases.insert_bucket_leases(tx)
            fences = await leases.take_buckets(tx, ME, 64, timedelta(seconds=60))
        yield Desk(database, outbox, fences)


async def test_a_claim_takes_the_lowest_row_of_each_key(desk: Desk) -> None:
    a, b = uuid4(), uuid4()
    a1, _a2, b1, _b2 = await desk.outbox.insert((a, 1), (a, 2), (b, 1), (b, 2))

    assert await desk.claim(a, b) == [a1, b1]


async def test_a_claimed_message_is_whole(desk: Desk) -> None:
    key = uuid4()
    await desk.outbox.insert((key, 7))
    (row,) = await desk.outbox.rows()
    async with desk.database.transaction() as tx:
        claim = Claim(key, row["bucket"], desk.fences[row["bucket"]], 0, is_retry=False)
        (message,) = await claim_messages(tx, ME, [claim])

    for field in ("id", "order_key", "attempts", "exchange", "routing_key", "type", "message_id", "correlation_id", "body"):
        assert getattr(message, field) == row[field], field
    assert message.headers == {"ce-type": "TEST", "traceparent": "00-1-2-01"}
    assert message.occurred_at == row["occurred_at"]


async def test_a_claim_starts_after_the_floor(desk: Desk) -> None:
    key = uuid4()
    first, second = await desk.outbox.insert((key, 1), (key, 2))

    assert await desk.claim(key, floor=first) == [second]


async def test_a_lowest_row_that_waits_blocks_its_key_and_no_other(desk: Desk) -> None:
    a, b = uuid4(), uuid4()
    a1, _a2, b1 = await desk.outbox.insert((a, 1), (a, 2), (b, 1))
    await desk.refuse(a1, timedelta(seconds=60))

    assert await desk.claim(a, b) == [b1]


async def test_a_row_whose_wait_is_over_is_claimed_as_a_retry_only(desk: Desk) -> None:
    key = uuid4()
    first, _ = await desk.outbox.insert((key, 1), (key, 2))
    await desk.refuse(first, timedelta(seconds=-1))

    assert await desk.claim(key) == []
    assert await desk.claim(key, is_retry=True) == [first]


async def test_a_retry_takes_no_row_that_still_waits(desk: Desk) -> None:
    key = uuid4()
    (first,) = await desk.outbox.insert((key, 1))
    await desk.refuse(first, timedelta(seconds=60))

    assert await desk.claim(key, is_retry=True) == []


@pytest.mark.parametrize("stranger", [{"holder": uuid4()}, {"fence": 0}, {"fence": 2}])
async def test_who_does_not_hold_the_bucket_claims_nothing(desk: Desk, stranger: dict[str, Any]) -> None:
    key = uuid4()
    await desk.outbox.insert((key, 1))

    assert await desk.claim(key, **stranger) == []


async def test_a_lapsed_lease_claims_nothing(desk: Desk) -> None:
    key = uuid4()
    await desk.outbox.insert((key, 1))
    await desk.outbox.connection.execute("update leases set expires_at = clock_timestamp() - interval '1 ms'")

    assert await desk.claim(key) == []


async def test_only_the_named_rows_are_deleted(desk: Desk) -> None:
    key = uuid4()
    first, second = await desk.outbox.insert((key, 1), (key, 2))
    async with desk.database.transaction() as tx:
        await delete_published(tx, [first, 10**12])

    assert [row["id"] for row in await desk.outbox.rows()] == [second]


async def test_a_refusal_is_counted_once_and_explained(desk: Desk) -> None:
    (row,) = await desk.outbox.insert((uuid4(), 1))
    await desk.refuse(row, timedelta(seconds=60))
    await desk.refuse(row, timedelta(seconds=600))

    (left,) = await desk.outbox.rows()
    assert (left["attempts"], left["last_error"]) == (1, "unroutable: NO_ROUTE")
    waits = left["next_attempt_at"] - left["created_at"]
    assert timedelta(seconds=55) < waits < timedelta(seconds=70)


async def test_discovery_reads_above_the_watermark_and_folds_a_hot_key(desk: Desk) -> None:
    hot = uuid4()
    rows = await desk.outbox.insert(*((hot, n) for n in range(100)))
    bucket = await desk.bucket(hot)
    async with desk.database.transaction() as tx:
        (found,) = await discover_keys(tx, {bucket: rows[9]}, 50)
        assert (found.bucket, found.order_key, found.first, found.last, found.rows) == (bucket, hot, rows[10], rows[59], 50)
        assert await discover_keys(tx, {bucket: rows[-1]}, 50) == []
        assert await discover_keys(tx, {(bucket + 1) % 64: 0}, 50) == []


async def test_discovery_passes_over_refused_rows(desk: Desk) -> None:
    key = uuid4()
    first, second = await desk.outbox.insert((key, 1), (key, 2))
    await desk.refuse(first, timedelta(seconds=-1))
    async with desk.database.transaction() as tx:
        (found,) = await discover_keys(tx, ALL_FROM_ZERO, 10)

    assert (found.first, found.last, found.rows, found.is_blocked) == (second, second, 1, True)


async def test_a_sweep_finds_the_fresh_rows_of_its_span(desk: Desk) -> None:
    keys = [uuid4() for _ in range(4)]
    rows = await desk.outbox.insert(*((key, 1) for key in keys))
    await desk.refuse(rows[2], timedelta(seconds=-1))

    assert await desk.sweep(rows[2], after_id=rows[0]) == [(keys[1], False)]


async def test_a_sweep_says_of_a_key_that_a_refused_row_stands_before_it(desk: Desk) -> None:
    key = uuid4()
    first, _ = await desk.outbox.insert((key, 1), (key, 2))
    await desk.refuse(first, timedelta(seconds=60))

    assert await desk.sweep(10**9) == [(key, True)]


async def test_a_sweep_reads_its_rows_from_the_lower_end(desk: Desk) -> None:
    key = uuid4()
    rows = await desk.outbox.insert(*((key, n) for n in range(10)))
    async with desk.database.transaction() as tx:
        (found,) = await sweep_keys(tx, [Span(await desk.bucket(key), rows[1], rows[8])], 3)

    assert (found.first, found.last, found.rows) == (rows[2], rows[4], 3)


async def test_a_refused_row_is_due_when_its_wait_is_over_and_comes_with_the_highest_row_of_its_key(desk: Desk) -> None:
    waiting, due = uuid4(), uuid4()
    waiting_row, due_row, _, last = await desk.outbox.insert((waiting, 1), (due, 1), (uuid4(), 1), (due, 2))
    await desk.refuse(waiting_row, timedelta(seconds=60))
    await desk.refuse(due_row, timedelta(seconds=-1))
    async with desk.database.transaction() as tx:
        (found,) = await find_due_keys(tx, range(64), 10, 10)

    assert (found.order_key, found.row, found.last) == (due, due_row, last)


async def test_what_was_refused_once_does_not_wait_behind_what_was_refused_for_days(desk: Desk) -> None:
    old = [uuid4() for _ in range(1000)]
    await desk.outbox.insert(*((key, 1) for key in old))
    await desk.outbox.connection.execute(
        "update outbox set attempts = 2000 + id % 9, last_error = 'x', next_attempt_at = now() - interval '1 h'"
    )
    young = uuid4()
    (row,) = await desk.outbox.insert((young, 1))
    await desk.refuse(row, timedelta(seconds=0))

    due = await desk.due(keys=100)

    assert len(due) == 100
    assert young in due


async def test_no_query_of_the_relay_reads_the_table_through_whatever_the_statistics_say(desk: Desk, database_url: str) -> None:
    connection = desk.outbox.connection
    spans = [Span(bucket, 0, 100) for bucket in range(64)]
    # A drained outbox whose emptiness was written down and planned for, and then 200,000 rows that nobody counted.
    await connection.execute("alter table outbox set (autovacuum_enabled = false)")
    await connection.execute("vacuum analyze outbox")
    async with open_database(database_url, size=1) as database:

        async def scans(keys: list[UUID], buckets: list[int]) -> tuple[int, int]:
            claims = [Claim(key, bucket, desk.fences[bucket], 0, True) for key, bucket in zip(keys, buckets, strict=True)]
            async with database.transaction() as tx:
                for _ in range(7):  # the sixth may keep its plan for good
                    await discover_keys(tx, ALL_FROM_ZERO, 32)
                    await sweep_keys(tx, spans, 78)
                    await find_due_keys(tx, range(64), 5, 128)
                    await claim_messages(tx, ME, claims)
                counters = await tx.fetchrow("select seq_scan, idx_scan from pg_stat_xact_user_tables where relname = 'outbox'")
            return counters["seq_scan"], counters["idx_scan"]

        await scans([uuid4()], [0])
        await connection.execute(
            """insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
            select gen_random_uuid(), 'e', 'r', 't', n::text, '', '{}', '{}', now() from generate_series(1, 200000) n"""
        )
        rows = await connection.fetch("select order_key, bucket from outbox limit 200")

        sequential, indexed = await scans([row["order_key"] for row in rows], [row["bucket"] for row in rows])

        assert sequential == 0
        assert indexed >= 7 * (64 + 64 + 4 * 64 + 200)


async def test_what_the_queries_read_does_not_depend_on_how_many_rows_were_refused_or_wait_behind_them(desk: Desk) -> None:
    connection = desk.outbox.connection

    async def fill(keys: int) -> None:
        await connection.execute(
            """with refused as (
                insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at,
                    attempts, next_attempt_at, last_error)
                select gen_random_uuid(), 'e', 'r', 't', n::text, '', '{}', '{}', now(), 1 + n % 9, now() - interval '1 s', 'x'
                from generate_series(1, $1) n
                returning order_key
            )
            insert into outbox (order_key, exchange, routing_key, type, message_id, correlation_id, headers, body, occurred_at)
            select order_key, 'e', 'r', 't', '', '', '{}', '{}', now() from refused""",
            keys,
        )

    async def rows_read() -> int:
        read = "select idx_tup_fetch + seq_tup_read from pg_stat_xact_user_tables where relname = 'outbox'"
        async with desk.database.transaction() as tx:
            before = await tx.fetchval(read)
            await sweep_keys(tx, [Span(bucket, 0, 10**9) for bucket in range(64)], 16)
            await find_due_keys(tx, range(64), 5, 128)
            await discover_keys(tx, ALL_FROM_ZERO, 16)
            return int(await tx.fetchval(read)) - int(before)

    await fill(10_000)
    few = await rows_read()
    await fill(60_000)
    many = await rows_read()

    assert many <= few * 1.1
    assert many < 10_000


def a_row(key: UUID) -> OutboxRow:
    return OutboxRow(
        order_key=key,
        exchange="tests",
        routing_key="test",
        type="TEST",
        message_id=str(uuid4()),
        correlation_id="correlation",
        headers={},
        body="{}",
        occurred_at=datetime.now(UTC),
    )


@pytest.mark.parametrize(("rows", "named"), [(1, True), (100, True), (101, False)])
async def test_a_commit_names_its_rows_to_the_relays_where_they_are_few(desk: Desk, rows: int, named: bool) -> None:
    payloads: asyncio.Queue[str] = asyncio.Queue()
    await desk.outbox.connection.add_listener(CHANNEL, lambda *told: payloads.put_nowait(told[-1]))
    keys = [uuid4() for _ in range(rows)]
    async with desk.database.transaction() as tx:
        await insert_outbox(tx, [a_row(key) for key in keys])
    async with asyncio.timeout(5):
        payload = await payloads.get()

    stored = await desk.outbox.rows()
    assert [row["order_key"] for row in stored] == keys
    if named:
        told = committed_rows(payload) or []
        assert sorted(told, key=lambda row: row.id) == [Committed(row["bucket"], row["order_key"], row["id"]) for row in stored]
    else:
        assert payload == ""
    assert payloads.empty()


@pytest.mark.parametrize("payload", ["", LEASES_CHANGED, "1 2 3", f"1 {ME} 5,", f"1 {ME}", f"1 {ME} 5 6"])
def test_a_notification_that_names_no_rows_makes_a_relay_search(payload: str) -> None:
    assert committed_rows(payload) is None
