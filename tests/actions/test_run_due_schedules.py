from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.actions.enqueue_job import Enqueued, enqueue_job
from service.actions.register_schedules import register_schedules, register_sync
from service.actions.run_due_schedules import Begun, Switches, run_due_schedules
from service.domain.change import VersionKind
from service.domain.member import ConnectionId
from service.store.connections import insert_directory
from service.store.database import Database
from service.store.schedules import find_schedule, list_schedules, set_interval, stop_schedule
from service.telemetry.handling import Handling, handled
from service.telemetry.traced import Traced
from tests.clock_rig import Clock, open_clock
from tests.skewed_service import set_clocks

KINDS = ("directory_sync", "expiry", "plan_changes", "scan")
HOUR = timedelta(hours=1)
OPEN = Switches()


@pytest.fixture
async def clock(database_url: str) -> AsyncIterator[Clock]:
    async with open_clock(database_url) as clock:
        # Somebody who scans: without, no scan is due.
        await clock.fetch("update companies set scan_providers = '{\"duplicates\": {}}'")
        yield clock


async def tick(clock: Clock, switches: Switches = OPEN, **given: Any) -> list[Begun]:
    return await run_due_schedules(clock.database, KINDS, switches, **given)


async def due_since(clock: Clock, late: timedelta, *, kind: str = "expiry", interval: timedelta = HOUR, subjects: int = 1) -> None:
    """Schedules whose slot was so long ago."""
    await clock.fetch(
        "insert into schedules (company_id, kind, subject_id, interval_ms, next_run_at) "
        "select case when $1 <> 'expiry' then $2::uuid end, $1, case when $1 <> 'expiry' then gen_random_uuid() end, $3, "
        "now() - $4::interval from generate_series(1, $5)",
        kind,
        clock.company,
        interval // timedelta(milliseconds=1),
        late,
        subjects,
    )


async def directory(clock: Clock, name: str = "directory", kind: str = "django") -> ConnectionId:
    async with clock.database.transaction() as tx:
        settings = {"baseUrl": "https://members.example.com"}
        return (await insert_directory(tx, clock.company, name, kind, VersionKind.NONE, ["name"], settings, None)).id


async def scheduled_sync(clock: Clock, name: str = "directory") -> ConnectionId:
    connection = await directory(clock, name)
    await register_sync(clock.database, clock.company, connection, HOUR)
    return connection


async def end_jobs(clock: Clock) -> None:
    await clock.fetch(
        "update jobs set state = 'succeeded', resend_at = null, result = '{}', finished_at = now() where state = 'queued'"
    )


async def test_a_due_schedule_has_a_job_for_its_slot_and_goes_on_at_the_next(clock: Clock) -> None:
    await due_since(clock, timedelta(seconds=1))
    (before,) = await clock.fetch("select * from schedules")

    (begun,) = await tick(clock)

    (after,) = await clock.fetch("select * from schedules")
    (job,) = await clock.fetch("select * from jobs")
    assert (job["id"], job["kind"], job["schedule_id"], job["slot"]) == (
        begun.job_id,
        "expiry",
        before["id"],
        before["next_run_at"],
    )
    assert (job["state"], job["requested_by"]) == ("queued", f"schedule:{before['id']}")
    assert after["next_run_at"] == before["next_run_at"] + HOUR
    assert after["last_run_at"] is not None
    assert (after["skipped"], begun.skipped) == (0, 0)
    (message,) = await clock.outbox()
    assert (message["order_key"], message["routing_key"]) == (job["id"], "job.expiry")
    assert json.loads(message["body"])["jobId"] == str(job["id"])
    assert await tick(clock) == []


async def test_whose_members_are_being_removed_is_not_synced(clock: Clock) -> None:
    connection = await scheduled_sync(clock)
    async with clock.database.transaction() as tx:
        asked = await enqueue_job(
            tx, kind="connection_removal", company_id=clock.company, subject_id=connection, requested_by="tests"
        )
    assert isinstance(asked, Enqueued)
    assert await tick(clock) == []
    await end_jobs(clock)
    assert [one.subject_id for one in await tick(clock)] == [connection]


async def test_what_is_not_due_or_is_switched_off_does_not_begin(clock: Clock) -> None:
    await due_since(clock, -HOUR)
    await due_since(clock, HOUR, kind="scan", subjects=2)
    await clock.fetch("update schedules set enabled = false where kind = 'scan'")

    assert await tick(clock) == []


async def test_after_an_outage_it_runs_once_and_counts_what_it_left_out(clock: Clock) -> None:
    await due_since(clock, timedelta(hours=2, minutes=7), interval=timedelta(minutes=5))

    (begun,) = await tick(clock)
    await end_jobs(clock)

    assert begun.skipped == 25
    assert await tick(clock) == []
    (schedule,) = await clock.fetch("select *, now() as now from schedules")
    assert schedule["skipped"] == 25
    assert timedelta(0) < schedule["next_run_at"] - schedule["now"] <= timedelta(minutes=5)
    assert (schedule["next_run_at"] - begun.slot) % timedelta(minutes=5) == timedelta(0)


async def test_a_cron_expression_goes_on_by_the_clocks_of_its_zone(clock: Clock) -> None:
    slot = datetime(2026, 3, 27, 1, 30, tzinfo=UTC)
    await clock.fetch(
        "insert into schedules (kind, cron, time_zone, next_run_at) values ('expiry', '30 2 * * *', 'Europe/Berlin', $1)", slot
    )

    (begun,) = await tick(clock)

    assert begun.slot == slot
    assert begun.skipped > 200
    ((ahead,),) = await clock.fetch("select next_run_at from schedules")
    assert ahead > datetime.now(UTC)


async def test_one_of_which_nobody_can_tell_when_it_is_due_is_switched_off_and_stops_no_other(clock: Clock) -> None:
    await due_since(clock, HOUR, kind="scan", subjects=2)
    await clock.fetch("insert into schedules (kind, cron, time_zone, next_run_at) values ('expiry', '99 * * * *', 'UTC', now())")

    assert {begun.kind for begun in await tick(clock)} == {"scan"}
    assert [row["kind"] for row in await clock.fetch("select kind from schedules where not enabled")] == ["expiry"]


async def test_a_subject_with_a_job_queued_or_running_is_not_due(clock: Clock) -> None:
    connection = await scheduled_sync(clock)
    await due_since(clock, HOUR)
    async with clock.database.transaction() as tx:
        for kind, company, subject in (("directory_sync", clock.company, connection), ("expiry", None, None)):
            asked = await enqueue_job(tx, kind=kind, company_id=company, subject_id=subject, requested_by="tests")
            assert isinstance(asked, Enqueued)

    assert await tick(clock) == []
    await end_jobs(clock)
    assert {begun.kind for begun in await tick(clock)} == {"directory_sync", "expiry"}


async def test_somebody_who_asks_by_hand_at_the_same_moment_takes_the_place_and_the_slot_stays_due(clock: Clock) -> None:
    await due_since(clock, timedelta(seconds=1))
    async with clock.database.transaction() as tx:
        await enqueue_job(tx, kind="expiry", company_id=None, subject_id=None, requested_by="tests")
        ticking = asyncio.create_task(tick(clock))
        # The tick sees no such job, and waits for the one that is about to be there.
        while not await clock.fetch(
            "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%insert into jobs%'"
        ):
            await asyncio.sleep(0.01)

    assert await ticking == []
    ((late,),) = await clock.fetch("select next_run_at <= now() from schedules")
    assert late
    await end_jobs(clock)
    assert len(await tick(clock)) == 1


async def test_a_slot_that_had_its_job_has_no_second_and_is_left_behind(clock: Clock) -> None:
    await due_since(clock, timedelta(seconds=1))
    (begun,) = await tick(clock)
    await end_jobs(clock)
    # As after a restore, or by somebody's hand.
    await clock.fetch("update schedules set next_run_at = $1", begun.slot)

    assert await tick(clock) == []
    ((ahead,),) = await clock.fetch("select next_run_at > now() from schedules")
    assert ahead


async def test_blocked_archived_and_pushed_connections_are_not_due(clock: Clock) -> None:
    names = ["fine", "blocked", "archived", "pushed", "stream"]
    found = {name: await scheduled_sync(clock, name) for name in names}
    for name in ("blocked", "archived"):
        await clock.fetch("update connections set status = $1 where id = $2", name, found[name])
    await clock.fetch("alter table connections drop constraint directories_are_described")
    await clock.fetch("update connections set kind = 'scim' where id = $1", found["pushed"])
    await clock.fetch("update connections set kind = 'stream', directory = null where id = $1", found["stream"])

    assert [begun.subject_id for begun in await tick(clock)] == [found["fine"]]
    # Released, it is due at once.
    await clock.fetch("update connections set status = 'active' where id = $1", found["blocked"])
    assert [begun.subject_id for begun in await tick(clock)] == [found["blocked"]]


async def test_a_connection_whose_quarantine_is_open_waits(clock: Clock) -> None:
    connection = await scheduled_sync(clock)
    (begun,) = await tick(clock)
    await end_jobs(clock)
    await clock.fetch(
        "insert into sync_log "
        "(job_id, company_id, connection_id, type, mode, dry_run, baseline, status, finished_at, correlation_id) "
        "values ($1, $2, $3, 'membership', 'full', false, false, 'quarantined', now(), 'x')",
        begun.job_id,
        clock.company,
        connection,
    )
    await clock.fetch("update schedules set next_run_at = now() - interval '1 second'")

    assert await tick(clock) == []
    await clock.fetch("update sync_log set review = 'rejected', reviewed_at = now(), reviewed_by = 'tests'")
    assert len(await tick(clock)) == 1


async def test_the_kill_switches(clock: Clock) -> None:
    await scheduled_sync(clock)
    await due_since(clock, HOUR)

    assert await tick(clock, Switches(cron=False)) == []
    assert [begun.kind for begun in await tick(clock, Switches(sync=False))] == ["expiry"]
    assert [begun.kind for begun in await tick(clock)] == ["directory_sync"]


async def test_kinds_that_this_release_cannot_do_are_left_to_others(clock: Clock) -> None:
    await due_since(clock, HOUR)
    assert await run_due_schedules(clock.database, ["scan"], OPEN) == []
    assert len(await tick(clock)) == 1


async def test_more_than_a_page_is_begun_in_one_tick(clock: Clock) -> None:
    await due_since(clock, HOUR, kind="scan", subjects=25)

    assert len(await tick(clock, batch=10)) == 25
    assert len({row["order_key"] for row in await clock.outbox()}) == 25


async def test_a_job_has_the_correlation_and_the_trace_of_its_tick(clock: Clock) -> None:
    await due_since(clock, HOUR)
    traceparent = f"00-{uuid4().hex}-{uuid4().hex[:16]}-01"
    with handled(Handling("the-tick", Traced(traceparent))):
        await tick(clock)

    (job,) = await clock.fetch("select correlation_id, traceparent from jobs")
    assert (job["correlation_id"], job["traceparent"]) == ("the-tick", traceparent)


async def test_a_hundred_ticks_at_once_on_three_instances_begin_each_slot_once(clock: Clock, database_url: str) -> None:
    await due_since(clock, HOUR, kind="scan", subjects=40)
    await due_since(clock, HOUR)
    async with AsyncExitStack() as stack:
        instances = []
        for number in range(3):
            database = await Database.connect(database_url, name=f"instance {number}", size=12)
            stack.push_async_callback(database.close)
            instances.append(database)

        found = await asyncio.gather(*(run_due_schedules(instances[n % 3], KINDS, OPEN, batch=7) for n in range(100)))

    begun = [one for some in found for one in some]
    assert len(begun) == 41
    slots = await clock.fetch("select schedule_id, slot, count(*) as n from jobs group by 1, 2")
    assert [row["n"] for row in slots] == [1] * 41
    assert len(await clock.outbox()) == 41


async def test_the_clocks_of_hosts_do_not_matter(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    await due_since(clock, timedelta(seconds=-20))
    await due_since(clock, timedelta(seconds=20), kind="scan")

    with monkeypatch.context() as patch:
        set_clocks(patch.setattr, timedelta(seconds=30))
        assert [begun.kind for begun in await tick(clock)] == ["scan"]
    await end_jobs(clock)
    await clock.fetch("update schedules set next_run_at = now() - interval '20 seconds' where kind = 'expiry'")
    with monkeypatch.context() as patch:
        set_clocks(patch.setattr, timedelta(seconds=-30))
        assert [begun.kind for begun in await tick(clock)] == ["expiry"]


async def test_the_installation_s_own_schedules_are_made_once_and_follow_the_environment(clock: Clock) -> None:
    intervals = {"expiry": timedelta(minutes=5), "plan_changes": timedelta(minutes=15)}
    await asyncio.gather(*(register_schedules(clock.database, intervals) for _ in range(6)))

    async with clock.database.transaction() as tx:
        first = await list_schedules(tx)
    assert {(row.kind, row.interval_ms) for row in first} == {("expiry", 300_000), ("plan_changes", 900_000)}
    await tick(clock)
    await register_schedules(clock.database, intervals | {"expiry": timedelta(minutes=1)})
    async with clock.database.transaction() as tx:
        second = {row.kind: row for row in await list_schedules(tx)}
    assert {row.id for row in first} == {row.id for row in second.values()}
    now = datetime.now(UTC)
    # A shorter interval is due sooner.
    assert second["expiry"].next_run_at < now + timedelta(minutes=1, seconds=5)
    assert second["plan_changes"].next_run_at > now + timedelta(minutes=10)


async def test_what_somebody_has_made_of_a_connection_s_schedule_stays(clock: Clock) -> None:
    connection = await scheduled_sync(clock)
    async with clock.database.transaction() as tx:
        await stop_schedule(tx, "directory_sync", connection)
    await register_sync(clock.database, clock.company, connection, HOUR)
    assert await tick(clock) == []
    await clock.fetch("update schedules set next_run_at = now() - interval '3 days'")

    async with clock.database.transaction() as tx:
        assert await set_interval(tx, "directory_sync", timedelta(minutes=5), clock.company, connection)
        assert not await set_interval(tx, "directory_sync", timedelta(minutes=5), clock.company, connection)
        row = await find_schedule(tx, "directory_sync", connection)
    assert row is not None
    assert (row.enabled, row.interval_ms) == (True, 300_000)
    assert [(begun.subject_id, begun.skipped) for begun in await tick(clock)] == [(UUID(str(connection)), 0)]


async def test_schedules_are_listed_in_pages_of_one_company(clock: Clock) -> None:
    await due_since(clock, HOUR, kind="scan", subjects=5)
    await due_since(clock, HOUR)
    async with clock.database.transaction() as tx:
        first = await list_schedules(tx, clock.company, limit=3)
        second = await list_schedules(tx, clock.company, after=(first[-1].next_run_at, first[-1].id), limit=3)
    assert (len(first), len(second)) == (3, 2)
    assert len({row.id for row in (*first, *second)}) == 5
