from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from service.actions.discard_outdated import RETENTION, discard_outdated
from service.actions.running_job import RunningJob
from service.domain.jobs import JobResult
from service.store.retention import list_unscanned_companies
from tests.clock_rig import Clock, open_clock


@pytest.fixture
async def clock(database_url: str) -> AsyncIterator[Clock]:
    async with open_clock(database_url) as clock:
        yield clock


async def discard(clock: Clock, **given: int) -> Any:
    row = await clock.pass_of(RETENTION, partial(discard_outdated, clock.database, **given))
    assert row.result is not None, row
    return {what: count for what, count in row.result.items() if count}


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
    assert await discard(clock, pages=3) == {"inbox": 6000}
    assert {name.partition("-")[0] for name in await clock.inbox()} == {"young"}
    assert len(await clock.inbox()) == 500
    assert await discard(clock) == {}


async def test_entries_of_syncs_go_after_a_month_unless_somebody_has_yet_to_look(clock: Clock) -> None:
    await synced(clock, 25, 31)
    await synced(clock, 7, 31, "quarantined")
    await synced(clock, 5, 31, "quarantined", dry_run=True)
    await synced(clock, 4, 29)

    assert await discard(clock, rows=10) == {"syncEntries": 30}
    left = await clock.fetch(
        "select l.status, count(*) as n from sync_log l join sync_entries e on e.log_id = l.id group by 1 order by 1"
    )
    assert [(row["status"], row["n"]) for row in left] == [("quarantined", 7), ("success", 4)]
    await clock.fetch(
        "update sync_log set review = 'rejected', reviewed_at = now(), reviewed_by = 'x' where not dry_run "
        "and status = 'quarantined'"
    )
    assert await discard(clock) == {"syncEntries": 7}
    # What was counted of them stays.
    ((logs,),) = await clock.fetch("select count(*) from sync_log")
    assert logs == 4


async def delivered(clock: Clock, subscriber: str, count: int, days: float, **given: str) -> None:
    row = {"state": "'delivered'", "due_at": "null", "finished_at": "now() - $2 * interval '1 day'", "in_order": "false"} | given
    await clock.fetch(
        "with new as (insert into deliveries (subscriber_id, member_id, version, created_at, correlation_id, state, due_at, "
        f"finished_at, in_order) select $1, $4, n + (select count(*) from deliveries), now() - $2 * interval '1 day', 'x', "
        f"{row['state']}, {row['due_at']}, {row['finished_at']}, {row['in_order']} from generate_series(1, $3) n returning id) "
        "insert into delivery_attempts (delivery_id, number, started_at, duration, outcome) "
        "select id, 1, now(), interval '0', 'delivered' from new",
        subscriber,
        days,
        count,
        clock.connection,
    )


async def subscribed(clock: Clock, state: str) -> str:
    ((found,),) = await clock.fetch(
        "insert into subscribers (id, company_id, name, url, state, state_changed_by, created_by) "
        "values (gen_random_uuid(), $1, $2, 'https://lists.example', $2, 'x', 'x') returning id",
        clock.company,
        state,
    )
    return str(found)


async def test_deliveries_go_a_month_after_their_end_with_their_attempts(clock: Clock) -> None:
    active, paused, removed = [await subscribed(clock, state) for state in ("active", "paused", "removed")]
    waits = {"state": "'pending'", "due_at": "now()", "finished_at": "null"}
    await delivered(clock, active, 25, 30.1)
    await delivered(clock, active, 3, 29.9)
    await delivered(clock, active, 4, 400, **waits)
    await delivered(clock, paused, 12, 91, **waits)
    await delivered(clock, paused, 5, 89, **waits)
    await delivered(clock, removed, 11, 1, **waits)

    assert await discard(clock, rows=10) == {"deliveries": 25 + 12 + 11}
    left = await clock.fetch("select subscriber_id::text, count(*) from deliveries group by 1")
    assert dict(left) == {active: 7, paused: 5}
    orphans = "select from delivery_attempts a where not exists (select from deliveries where id = delivery_id)"
    assert await clock.fetch(orphans) == []


async def test_what_waited_for_an_abandoned_delivery_is_let_go(clock: Clock) -> None:
    paused = await subscribed(clock, "paused")
    await delivered(clock, paused, 1, 91, state="'pending'", due_at="now()", finished_at="null", in_order="true")
    await delivered(clock, paused, 2, 1, state="'waiting'", finished_at="null", in_order="true")

    await discard(clock)

    left = await clock.fetch("select state from deliveries order by version")
    assert [state for (state,) in left] == ["pending", "waiting"]


async def scanned(clock: Clock, days: float, **findings: float | None) -> UUID:
    """A scan so long ago; each finding of it was resolved so long ago, or is open."""
    row = await clock.pass_of("scan", nothing)
    (member,) = [identity for (identity,) in await clock.fetch("select id from members limit 1")]
    ((scan,),) = await clock.fetch(
        "with scan as (insert into scans (job_id, company_id, members, started_at, finished_at, status, correlation_id) "
        "values ($1, $2, 1, now() - $3 * interval '1 day', now(), 'succeeded', 'x') returning id) "
        "insert into scan_parts (scan_id, provider, state, finished_at) select id, 'odd', 'succeeded', now() from scan "
        "returning scan_id",
        row.id,
        clock.company,
        days,
    )
    for key, resolved in findings.items():
        await clock.fetch(
            "insert into findings (id, company_id, member_id, provider, kind, key, severity, detail, first_scan, last_scan, "
            "first_seen_at, last_seen_at, state, resolved_at, resolution) "
            "select gen_random_uuid(), $1, $2, 'odd', 'odd', $3, 'low', '{}', 1, 1, now() - interval '9 years', "
            "now() - interval '9 years', case when d is null then 'open' else 'resolved' end, now() - d * interval '1 day', "
            "case when d is not null then 'not_found' end from (select $4::float8 as d) x",
            clock.company,
            member,
            key,
            resolved,
        )
    return UUID(str(scan))


async def test_scans_go_after_90_days_but_for_the_newest_and_findings_a_year_after_they_were_resolved(clock: Clock) -> None:
    await clock.add_members(1, None)
    await clock.fetch("update companies set scan_providers = '{\"odd\": {}}'")
    await scanned(clock, 100, old=365.1, young=364.9, still=None)
    await scanned(clock, 90.1)
    young = await scanned(clock, 89.9)
    assert await discard(clock, rows=1) == {"scans": 2, "findings": 1}
    assert await clock.fetch("select scan_id from scan_parts") == [(young,)]
    assert {key for (key,) in await clock.fetch("select key from findings")} == {"young", "still"}

    await clock.fetch("update scans set started_at = now() - interval '1 year'")
    assert await discard(clock) == {}
    assert await clock.fetch("select id from scans") == [(young,)]


async def test_findings_of_a_company_that_is_scanned_again_meanwhile_stay(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    await clock.add_members(1, None)
    await scanned(clock, 1, one=None)

    async def listed(tx: Any, limit: int) -> Any:
        companies = await list_unscanned_companies(tx, limit)
        await clock.fetch("update companies set scan_providers = '{\"odd\": {}}' where id = $1 returning id", companies[0])
        return companies

    monkeypatch.setattr("service.actions.discard_scans.list_unscanned_companies", listed)
    await discard(clock)
    assert await clock.fetch("select state from findings") == [("open",)]


async def test_findings_of_a_company_that_is_scanned_no_more_are_resolved(clock: Clock) -> None:
    await clock.add_members(1, None)
    await scanned(clock, 1, one=None, two=None, three=None)
    await discard(clock, rows=2)
    assert await clock.fetch("select state, resolution, count(*) from findings group by 1, 2") == [
        ("resolved", "provider_removed", 3)
    ]
