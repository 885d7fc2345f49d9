from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from service.actions import stage_snapshot
from service.actions.cancel_job import cancel_job
from service.actions.enqueue_job import AlreadyRunning
from service.actions.request_sync import request_sync
from service.domain.change import VersionKind
from service.domain.directories.sync_options import SyncMode, SyncOptions
from service.domain.jobs import JobState
from service.domain.member import CompanyId
from tests.directory_rig import PAGINGS, Upstream
from tests.sync_rig import OPTIONS, Interfering, Syncs, counts, open_syncs

# Member n of the upstream was updated n seconds after it.
START = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def a_page_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been read of a hundred people is looked through before the next page comes."""
    monkeypatch.setattr(stage_snapshot, "_TOGETHER", 1)


@pytest.fixture
async def syncs(module_database_url: str, upstream: Upstream) -> AsyncIterator[Syncs]:
    async with open_syncs(module_database_url, upstream) as syncs:
        yield syncs


@pytest.mark.parametrize("paging", [*PAGINGS, "list", "bare"])
async def test_a_directory_is_imported_and_then_verified(module_database_url: str, upstream: Upstream, paging: str) -> None:
    upstream.reset(50)
    async with open_syncs(module_database_url, upstream, paging=paging) as syncs:
        first = await syncs.sync()
        second = await syncs.sync()

        assert (first.state, second.state) == (JobState.SUCCEEDED, JobState.SUCCEEDED), (first.error, second.error)
        assert counts(await syncs.log(first.id)) == {"added": 50}
        assert counts(await syncs.log(second.id)) == {"verified": 50}
        assert len(await syncs.events()) == 50
        ((name, email, national_id),) = await syncs.fetch("select name, email, national_id from members where external_id = '7'")
        assert (name, email) == ("Member 7", "member7@example.com")
        assert national_id


async def test_what_changed_is_changed_and_who_left_is_removed_and_comes_back(syncs: Syncs) -> None:
    syncs.upstream.reset(100)
    await syncs.sync()
    syncs.upstream.change(delete=[3, 4], insert=[101], update={5: {"name": "Ása"}, 6: {"email": "new@example.com"}})
    changed = await syncs.sync()
    assert counts(await syncs.log(changed.id)) == {"added": 1, "updated": 2, "removed": 2, "verified": 96}
    assert await syncs.live() == {str(number) for number in range(1, 102)} - {"3", "4"}
    syncs.upstream.change(insert=[3])
    back = await syncs.sync()
    assert counts(await syncs.log(back.id)) == {"reactivated": 1, "verified": 99}
    reasons = {row["reason_code"] for row in await syncs.events()}
    assert reasons == {"DIRECTORY_SYNC"}


async def test_a_baseline_has_its_audit_and_one_event_a_batch(syncs: Syncs) -> None:
    syncs.upstream.reset(600)
    job = await syncs.request(baseline=True)
    row = await syncs.run(job)
    assert counts(await syncs.log(row.id)) == {"added": 600}
    assert len(await syncs.events()) == 600
    messages = [(message["type"], json.loads(message["body"])) for message in await syncs.outbox()]
    imported = [body for kind, body in messages if kind == "MEMBERS_IMPORTED"]
    # Batches run side by side, so either may be first.
    assert sorted(body["members"] for body in imported) == [100, 500]
    assert {kind for kind, _ in messages} == {"MEMBERS_IMPORTED", "JOB_DIRECTORY_SYNC"}
    # Whoever changes later does so loudly, baseline or not.
    syncs.upstream.change(update={5: {"name": "Ása"}})
    await syncs.run(await syncs.request(baseline=True))
    assert [json.loads(message["body"])["changedFields"] for message in await syncs.outbox() if "UPDATED" in message["type"]] == [
        ["name"]
    ]


async def test_an_incremental_sync_asks_from_its_watermark_and_removes_nobody(module_database_url: str, upstream: Upstream) -> None:
    upstream.reset(50)
    async with open_syncs(module_database_url, upstream, nested=True, modifiedSince="updated_since") as syncs:
        first = await syncs.sync(mode=SyncMode.INCREMENTAL)
        assert (await syncs.log(first.id)).mode == "full", "there is nothing to go on from"
        row = await syncs.refresh()
        newest = START + timedelta(seconds=50)
        assert row.incremental_watermark == newest - timedelta(minutes=5)
        assert row.last_full_sync_at is not None
        assert row.last_incremental_sync_at is None

        recently = "2026-11-20T00:00:00Z"
        upstream.change(delete=[1, 2], update={7: {"name": "Ása", "updated_at": recently}})
        second = await syncs.sync(mode=SyncMode.INCREMENTAL)
        log = await syncs.log(second.id)
        assert (log.mode, counts(log)) == ("incremental", {"updated": 1, "verified": 47})
        assert len(await syncs.live()) == 50
        after = await syncs.refresh()
        assert after.incremental_watermark == datetime.fromisoformat(recently) - timedelta(minutes=5)
        assert after.last_full_sync_at == row.last_full_sync_at
        assert after.last_incremental_sync_at is not None

        third = await syncs.sync(mode=SyncMode.INCREMENTAL)
        asked = [one["path"] for one in upstream.requests()]
        assert "updated_since=2026-11-19T23%3A55%3A00Z" in asked[-1]
        assert counts(await syncs.log(third.id)) == {"verified": 1}
        # Somebody who says by its state that they left is told of by a change, too.
        upstream.change(update={9: {"is_active": False, "updated_at": "2026-11-21T00:00:00Z"}})
        fourth = await syncs.sync(mode=SyncMode.INCREMENTAL)
        assert counts(await syncs.log(fourth.id)) == {"removed": 1, "verified": 1}
        # A dry run moves no watermark, and a day after the last full sync it is time for one.
        watermark = (await syncs.refresh()).incremental_watermark
        upstream.change(update={10: {"updated_at": "2026-11-21T12:00:00Z"}})
        await syncs.sync(mode=SyncMode.INCREMENTAL, dry_run=True)
        assert (await syncs.refresh()).incremental_watermark == watermark
        await syncs.fetch("update connections set last_full_sync_at = last_full_sync_at - interval '25 hours' returning id")
        fifth = await syncs.sync(mode=SyncMode.INCREMENTAL)
        assert (await syncs.log(fifth.id)).mode == "full"
        assert len(await syncs.live()) == 47


@pytest.mark.parametrize(("settings", "mode"), [({}, "full"), ({"modifiedSince": "updated_since"}, "incremental")])
async def test_a_sync_that_failed_is_told_of_as_what_it_was(
    module_database_url: str, upstream: Upstream, settings: dict[str, Any], mode: str
) -> None:
    upstream.reset(20)
    async with open_syncs(module_database_url, upstream, nested=True, **settings) as syncs:
        await syncs.sync()
        upstream.fault("html")
        failed = await syncs.sync(mode=SyncMode.INCREMENTAL)
        log = await syncs.log(failed.id)
        # A directory that cannot tell what changed since is read whole, whatever was asked for.
        assert (failed.state, log.status, log.mode) == (JobState.FAILED, "failed", mode)


async def test_one_sync_of_a_connection_runs_at_a_time(syncs: Syncs) -> None:
    job = await syncs.request()
    async with syncs.database.transaction() as tx:
        answers = [
            await request_sync(tx, syncs.connection, SyncOptions(dry_run=dry), requested_by="tests", enabled=True)
            for dry in (False, True)
        ]
    assert answers == [AlreadyRunning(job), AlreadyRunning(job)]
    async with syncs.database.transaction() as tx:
        foreign = await request_sync(
            tx, syncs.connection, SyncOptions(), requested_by="tests", enabled=True, company_id=CompanyId(uuid4())
        )
    assert foreign is None


async def test_an_attempt_that_lost_its_lease_writes_nothing_more(syncs: Syncs) -> None:
    syncs.upstream.reset(100)

    async def taken_over() -> None:
        await syncs.fetch("update jobs set lease_fence = lease_fence + 1 where state = 'running' returning id")

    job = await syncs.request()
    row = await syncs.run(job, lambda source: Interfering(source, 3, taken_over))
    # It is the other's, who goes on.
    assert row.state is JobState.RUNNING
    assert await syncs.live() == set()
    assert (await syncs.log(job)).status == "pending"


async def test_an_attempt_that_lost_its_lease_leaves_what_the_next_one_has_read(syncs: Syncs) -> None:
    syncs.upstream.reset(100)
    job = await syncs.request()

    async def taken_over() -> None:
        await syncs.fetch("update jobs set lease_fence = lease_fence + 1 where state = 'running' returning id")

    await syncs.run(job, lambda source: Interfering(source, 2, taken_over))
    assert await syncs.fetch("select true from sync_pages where keys like '1%'")


@pytest.mark.parametrize("page", [3, 5])
async def test_a_snapshot_that_the_database_lost_in_part_is_read_again(
    module_database_url: str, upstream: Upstream, page: int
) -> None:
    upstream.reset(100)
    # Without counts nothing else tells that somebody is missing.
    async with open_syncs(module_database_url, upstream, paging="cursor") as syncs:
        await syncs.sync()

        async def crash() -> None:
            await syncs.fetch("delete from sync_pages where ctid = (select min(ctid) from sync_pages) returning reading")

        row = await syncs.sync(lambda source: Interfering(source, page, crash))
        assert (row.state, row.attempts) == (JobState.QUEUED, 0)
        assert row.error == "the database lost what was read of the directory, as it does when it crashes"
        assert len(await syncs.live()) == 100


async def test_news_that_the_database_lost_are_read_again(module_database_url: str, upstream: Upstream) -> None:
    upstream.reset(100)
    async with open_syncs(module_database_url, upstream) as syncs:
        await syncs.sync()
        syncs.upstream.dress({1: {"name": "Another"}, 60: {"name": "One more"}})

        async def crash() -> None:
            assert await syncs.fetch("delete from sync_staging where external_id = '1' returning true")

        row = await syncs.sync(lambda source: Interfering(source, 4, crash))
        assert row.state is JobState.QUEUED
        assert row.error == "the database lost what was read of the directory, as it does when it crashes"
        assert not await syncs.fetch("select true from members where name in ('Another', 'One more')")


async def test_only_what_differs_is_kept_of_a_reading(syncs: Syncs) -> None:
    syncs.upstream.reset(100)
    await syncs.sync()
    syncs.upstream.dress({1: {"name": "Another"}})
    kept: list[Any] = []

    async def look() -> None:
        kept.extend(await syncs.fetch("select external_id from sync_staging"))

    row = await syncs.sync(lambda source: Interfering(source, 4, look))
    assert [key for (key,) in kept] == ["1"]
    assert counts(await syncs.log(row.id)) == {"updated": 1, "verified": 99}


async def test_a_cancelled_sync_says_so_and_removes_nobody(syncs: Syncs) -> None:
    syncs.upstream.reset(100)
    await syncs.sync()
    syncs.upstream.change(delete=[1])

    async def cancel() -> None:
        async with syncs.database.transaction() as tx:
            await cancel_job(tx, job, None, "tests")
        # Until the heartbeat has brought it.
        await asyncio.sleep(0.3)

    job = await syncs.request()
    quick = replace(OPTIONS, beat=timedelta(seconds=0.05))
    row = await syncs.run(job, lambda source: Interfering(source, 2, cancel), options=quick)
    assert row.state is JobState.CANCELLED
    log = await syncs.log(job)
    assert (log.status, log.error) == ("failed", "it was cancelled")
    assert len(await syncs.live()) == 100


async def test_a_mapping_that_cannot_order_what_the_connection_orders_is_said(module_database_url: str, upstream: Upstream) -> None:
    upstream.reset(3)
    async with open_syncs(module_database_url, upstream, versions=VersionKind.UPDATED_AT) as syncs:
        row = await syncs.sync()
        assert row.state is JobState.FAILED
        assert row.error == "the connection's changes are ordered by updated_at, and its mapping names no updatedAt"


async def test_what_comes_back_without_a_newer_version_comes_back(module_database_url: str, upstream: Upstream) -> None:
    upstream.reset(50)
    async with open_syncs(module_database_url, upstream, nested=True) as syncs:
        await syncs.sync()
        upstream.change(delete=[7])
        await syncs.sync()
        assert "p-7" not in await syncs.live()
        # The very record of before, as after a filter that was wrong for a day.
        upstream.change(insert=[7])
        row = await syncs.sync()
        assert counts(await syncs.log(row.id)) == {"reactivated": 1, "verified": 49}


async def test_a_newer_version_of_the_same_content_keeps_late_events_out(module_database_url: str, upstream: Upstream) -> None:
    upstream.reset(10)
    async with open_syncs(module_database_url, upstream, nested=True) as syncs:
        await syncs.sync()
        upstream.change(update={7: {"updated_at": "2026-11-20T00:00:00Z"}})
        row = await syncs.sync()
        assert counts(await syncs.log(row.id)) == {"verified": 10}
        late = syncs.upsert(1, {"name": "Late"}, external_id="p-7", updated_at=datetime(2026, 11, 10, tzinfo=UTC), message="late")
        assert await syncs.outcomes(late) == ["stale"]
