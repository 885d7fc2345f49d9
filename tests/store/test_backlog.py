"""The backlog as it is measured every few seconds: what a full count says, up to a bound."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

from service.store.outbox import measure_backlog, read_backlog
from service.store.queries import REGISTRY
from tests.relay_rig import open_database, open_outbox

REFUSE = (
    "update outbox set attempts = 1, next_attempt_at = now() + interval '1 hour', last_error = 'unroutable' where id = any ($1)"
)


async def test_up_to_the_bound_it_is_what_a_full_count_says(database_url: str) -> None:
    async with open_outbox(database_url, "nowhere") as outbox, open_database(database_url) as database:
        async with database.transaction() as tx:
            empty = await measure_backlog(tx, 100)
        assert (empty.messages, empty.oldest, empty.blocked_keys) == (0, None, 0)
        keys = [uuid4() for _ in range(10)]
        rows = await outbox.insert(*((key, version) for version in (1, 2) for key in keys))
        await outbox.connection.execute("update outbox set created_at = now() - interval '1 hour' where id = $1", rows[0])
        await outbox.connection.execute(REFUSE, [rows[0], rows[1]])
        async with database.transaction() as tx:
            measured, counted = await measure_backlog(tx, 100), await read_backlog(tx)
        assert (measured.messages, measured.blocked_keys) == (counted.messages, counted.blocked_keys) == (20, 2)
        assert measured.oldest is not None
        assert counted.oldest is not None
        assert abs(measured.oldest - counted.oldest) < timedelta(seconds=10)


async def test_beyond_it_the_bound_is_what_it_says(database_url: str) -> None:
    async with open_outbox(database_url, "nowhere") as outbox, open_database(database_url) as database:
        rows = await outbox.insert(*((uuid4(), 1) for _ in range(50)))
        await outbox.connection.execute(REFUSE, rows)
        async with database.transaction() as tx:
            measured = await measure_backlog(tx, 20)
    assert (measured.messages, measured.blocked_keys) == (20, 20)


async def test_it_reads_no_more_rows_than_the_bound_however_many_there_are(database_url: str) -> None:
    async with open_outbox(database_url, "nowhere") as outbox, open_database(database_url) as database:
        rows = await outbox.insert(*((uuid4(), 1) for _ in range(3000)))
        await outbox.connection.execute(REFUSE, rows[::2])
        await outbox.connection.execute("analyze outbox")
        async with database.transaction() as tx:
            await tx.execute("select set_config('plan_cache_mode', 'force_generic_plan', true)")
            await tx.execute(f"prepare measured as {REGISTRY['outbox', 'measure_backlog'].sql}")
            (plan,) = await tx.fetchval("explain (analyze, format json) execute measured(100)")
    assert max(read(plan["Plan"])) <= 110


def read(node: dict[str, Any]) -> list[int]:
    """How many rows each scan of the outbox gave."""
    own = [node["Actual Rows"] * node["Actual Loops"]] if "Scan" in node["Node Type"] and "Relation Name" in node else []
    return own + [rows for child in node.get("Plans", []) for rows in read(child)]
