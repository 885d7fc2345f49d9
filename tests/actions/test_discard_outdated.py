from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from service.actions.discard_outdated import RETENTION, discard_outdated
from service.actions.running_job import RunningJob
from service.domain.jobs import JobResult
from tests.clock_rig import Clock, open_clock


@pytest.fixture
async def clock(database_url: str) -> AsyncIterator[Clock]:
    async with open_clock(database_url) as clock:
        yield clock


async def discard(clock: Clock, **given: int) -> Any:
    row = await clock.pass_of(RETENTION, partial(discard_outdated, clock.database, **given))
    assert row.result is not None, row
    return dict(row.result)


async def taken_in(clock: Clock, count: int, days: float, prefix: str) -> None:
    await clock.fetch(
        "insert into inbox (connection_id, source, message_id, received_at) "
        "select $1, 'tests', $2 || n, now() - $3 * interval '1 day' from generate_series(1, $4) n",
        clock.connection,
        prefix,
        days,
        count,
    )


async def nothing(_: RunningJob) -> JobResult:
    return JobResult.succeeded({})


async def synced(clock: Clock, entries: int, days: float, status: str = "success", *, dry_run: bool = False) -> None:
    row = await clock.pass_of("directory_sync", nothing)
    await clock.fetch(
        "with log as (insert into sync_log "
        "(job_id, company_id, connection_id, type, mode, dry_run, baseline, status, finished_at, correlation_id) "
        "values ($1, $2, $3, 'membership', 'full', $4, false, $5, now() - $6 * interval '1 day', 'x') returning id) "
        "insert into sync_entries (log_id, what, external_id) select id, 'added', n::text from log, generate_series(1, $7) n",
        row.id,
        clock.company,
        clock.connection,
        dry_run,
        status,
        days,
        entries,
    )


async def test_keys_of_the_inbox_go_after_two_weeks(clock: Clock) -> None:
    await taken_in(clock, 3000, 14.01, "old-")
    await taken_in(clock, 500, 13.99, "young-")
    await taken_in(clock, 3000, 400, "ancient-")

    # Page by page, so that a batch ends in the middle.
    assert await discard(clock, pages=3) == {"inbox": 6000, "syncEntries": 0}
    assert {name.partition("-")[0] for name in await clock.inbox()} == {"young"}
    assert len(await clock.inbox()) == 500
    assert await discard(clock) == {"inbox": 0, "syncEntries": 0}


async def test_entries_of_syncs_go_after_a_month_unless_somebody_has_yet_to_look(clock: Clock) -> None:
    await synced(clock, 25, 31)
    await synced(clock, 7, 31, "quarantined")
    await synced(clock, 5, 31, "quarantined", dry_run=True)
    await synced(clock, 4, 29)

    assert await discard(clock, rows=10) == {"inbox": 0, "syncEntries": 30}
    left = await clock.fetch(
        "select l.status, count(*) as n from sync_log l join sync_entries e on e.log_id = l.id group by 1 order by 1"
    )
    assert [(row["status"], row["n"]) for row in left] == [("quarantined", 7), ("success", 4)]
    await clock.fetch(
        "update sync_log set review = 'rejected', reviewed_at = now(), reviewed_by = 'x' where not dry_run "
        "and status = 'quarantined'"
    )
    assert await discard(clock) == {"inbox": 0, "syncEntries": 7}
    # What was counted of them stays.
    ((logs,),) = await clock.fetch("select count(*) from sync_log")
    assert logs == 4
