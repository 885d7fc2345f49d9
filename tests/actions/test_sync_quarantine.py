"""More removals than the limits allow wait for somebody, who approves a list and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.actions.request_sync import SyncRefused
from service.actions.review_job import NotQuarantined
from service.actions.review_sync import approve_sync
from service.domain.directories.sync_options import SyncMode
from service.domain.jobs import JobState
from service.domain.member import CompanyId
from tests.directory_rig import Upstream
from tests.sync_rig import Syncs, counts, open_syncs

# By its state, since the watermark of whoever synced before.
LEFT = {"is_active": False, "updated_at": "2026-11-20T00:00:00Z"}
OTHER_COMPANY = CompanyId(__import__("uuid").UUID(int=5))


@pytest.fixture
async def syncs(module_database_url: str, upstream: Upstream) -> AsyncIterator[Syncs]:
    upstream.reset(120)
    async with open_syncs(module_database_url, upstream, page_size=500) as syncs:
        await syncs.sync()
        yield syncs


def keys(*numbers: int) -> set[str]:
    return {str(number) for number in numbers}


async def test_as_many_as_the_limit_leave_unasked(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 7))
    row = await syncs.sync()
    assert (row.state, counts(await syncs.log(row.id))) == (JobState.SUCCEEDED, {"removed": 6, "verified": 114})


async def test_one_more_is_held_and_nothing_at_all_is_applied(syncs: Syncs) -> None:
    before = await syncs.checksums()
    syncs.upstream.change(delete=range(1, 8), insert=[121], update={50: {"name": "Ása"}})
    row = await syncs.sync()
    assert row.state is JobState.QUARANTINED
    assert row.result is not None
    assert row.result["held"] == "7 of 120 live members would be removed; more than 5% and more than 5 must be approved"
    assert {entry.external_id for entry in await syncs.entries(row.id)} == keys(*range(1, 8))
    assert {(entry.what, entry.changes) for entry in await syncs.entries(row.id)} == {("removed", None)}
    assert await syncs.checksums() == before


async def test_who_is_said_to_have_left_counts_as_who_is_not_there(module_database_url: str, upstream: Upstream) -> None:
    upstream.reset(40)
    async with open_syncs(module_database_url, upstream, nested=True, page_size=500) as syncs:
        await syncs.sync()
        upstream.change(delete=[1, 2, 3], update={number: {"is_active": False} for number in (4, 5, 6)})
        row = await syncs.sync()
        assert row.state is JobState.QUARANTINED
        assert len(await syncs.live()) == 40
        approved = await syncs.approve(row.id)
        assert approved.state is JobState.SUCCEEDED
        assert len(await syncs.live()) == 34


async def test_an_approved_list_is_applied_with_everything_else(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 31), insert=[121])
    held = await syncs.sync()
    approved = await syncs.approve(held.id)
    assert (approved.state, approved.id) == (JobState.SUCCEEDED, held.id)
    log = await syncs.log(held.id)
    assert counts(log) == {"added": 1, "removed": 30, "verified": 90}
    ((review, by, status),) = await syncs.fetch("select review, reviewed_by, status from sync_log where id = $1", log.approves)
    assert (review, by, status) == ("approved", "tests", "quarantined")
    assert len(await syncs.live()) == 91


async def test_of_an_approved_list_those_who_came_back_stay(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 31))
    held = await syncs.sync()
    syncs.upstream.change(insert=range(1, 11))
    approved = await syncs.approve(held.id)
    assert approved.state is JobState.SUCCEEDED
    assert await syncs.live() == keys(*range(1, 121)) - keys(*range(11, 31))


async def test_who_is_not_on_the_approved_list_is_asked_for_anew(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 31))
    held = await syncs.sync()
    syncs.upstream.change(delete=[31])
    again = await syncs.approve(held.id)
    assert again.state is JobState.QUARANTINED
    assert again.result is not None
    assert again.result["held"] == "1 of 31 removals are not on the list that was approved"
    assert len(await syncs.live()) == 120
    # The new list is what counts now.
    approved = await syncs.approve(held.id)
    assert approved.state is JobState.SUCCEEDED
    assert len(await syncs.live()) == 89


async def test_a_rejected_list_removes_nobody(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 31))
    held = await syncs.sync()
    await syncs.reject(held.id)
    row = await syncs.job(held.id)
    assert (row.state, row.error) == (JobState.CANCELLED, "its removals were rejected")
    assert len(await syncs.live()) == 120
    async with syncs.database.transaction() as tx:
        assert await approve_sync(tx, held.id, syncs.company, "tests", enabled=True) == NotQuarantined(JobState.CANCELLED)


async def test_what_cannot_run_now_keeps_its_list(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 31))
    held = await syncs.sync()
    async with syncs.database.transaction() as tx:
        off = await approve_sync(tx, held.id, syncs.company, "tests", enabled=False)
    await syncs.fetch("update connections set status = 'blocked' returning id")
    async with syncs.database.transaction() as tx:
        blocked = await approve_sync(tx, held.id, syncs.company, "tests", enabled=True)
    await syncs.fetch("update connections set status = 'active' returning id")

    assert isinstance(off, SyncRefused)
    assert "SYNC_ENABLED" in off.reason
    assert isinstance(blocked, SyncRefused)
    assert (await syncs.job(held.id)).state is JobState.QUARANTINED
    await syncs.approve(held.id)
    assert len(await syncs.live()) == 90


async def test_another_company_can_neither_see_nor_approve_it(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 31))
    held = await syncs.sync()
    async with syncs.database.transaction() as tx:
        assert await approve_sync(tx, held.id, OTHER_COMPANY, "tests", enabled=True) is None
    ((review,),) = await syncs.fetch("select review from sync_log where job_id = $1", held.id)
    assert review is None


async def test_a_newer_full_sync_supersedes_the_quarantine_and_a_dry_run_does_not(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 31))
    held = await syncs.sync()
    await syncs.sync(dry_run=True)
    assert (await syncs.job(held.id)).state is JobState.QUARANTINED
    syncs.upstream.change(insert=range(1, 31))
    newer = await syncs.sync()
    assert newer.state is JobState.SUCCEEDED
    row = await syncs.job(held.id)
    assert (row.state, row.error) == (JobState.CANCELLED, f"superseded by the sync of job {newer.id}")
    assert (await syncs.log(held.id)).review == "superseded"


async def test_a_newer_quarantine_supersedes_the_older_one(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 31))
    held = await syncs.sync()
    newer = await syncs.sync()
    assert newer.state is JobState.QUARANTINED
    assert (await syncs.job(held.id)).state is JobState.CANCELLED


async def test_a_held_incremental_sync_says_that_it_is_one_and_supersedes_nothing(
    module_database_url: str, upstream: Upstream
) -> None:
    upstream.reset(120)
    async with open_syncs(module_database_url, upstream, nested=True, page_size=500, modifiedSince="updated_since") as syncs:
        await syncs.sync()
        upstream.change(delete=range(1, 31))
        full = await syncs.sync()
        upstream.change(update=dict.fromkeys(range(31, 61), LEFT))

        held = await syncs.sync(mode=SyncMode.INCREMENTAL)

        assert [row.state for row in (full, held)] == [JobState.QUARANTINED] * 2
        log = await syncs.log(held.id)
        assert (log.mode, log.status, log.details["removals"]) == ("incremental", "quarantined", 30)
        # It has seen nothing of those whom the other one's list names.
        assert (await syncs.job(full.id)).state is JobState.QUARANTINED
        assert (await syncs.log(full.id)).review is None
        # Either list may be approved.
        assert (await syncs.approve(held.id)).state is JobState.SUCCEEDED
        assert len(await syncs.live()) == 90
        assert (await syncs.approve(full.id)).state is JobState.SUCCEEDED
        assert len(await syncs.live()) == 60


async def test_a_full_sync_supersedes_a_held_incremental_one_even_if_it_is_held_itself(
    module_database_url: str, upstream: Upstream
) -> None:
    upstream.reset(120)
    async with open_syncs(module_database_url, upstream, nested=True, page_size=500, modifiedSince="updated_since") as syncs:
        await syncs.sync()
        upstream.change(update=dict.fromkeys(range(1, 31), LEFT))
        incremental = await syncs.sync(mode=SyncMode.INCREMENTAL)
        full = await syncs.sync()
        assert (await syncs.log(full.id)).mode == "full"
        assert [(await syncs.job(row.id)).state for row in (incremental, full)] == [JobState.CANCELLED, JobState.QUARANTINED]


async def test_a_held_full_sync_that_could_not_see_everybody_supersedes_nothing(
    module_database_url: str, upstream: Upstream
) -> None:
    upstream.reset(120)
    async with open_syncs(module_database_url, upstream, nested=True, page_size=500) as syncs:
        await syncs.sync()
        upstream.change(delete=range(1, 31))
        complete = await syncs.sync()
        upstream.change(update=dict.fromkeys(range(31, 61), LEFT))
        upstream.fault("count", count=91)
        incomplete = await syncs.sync()
        assert incomplete.state is JobState.QUARANTINED
        assert "withheld" in (await syncs.log(incomplete.id)).details
        assert (await syncs.job(complete.id)).state is JobState.QUARANTINED


async def test_a_dry_run_says_that_it_would_be_held_and_waits_for_nobody(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 31))
    row = await syncs.sync(dry_run=True)
    assert row.state is JobState.SUCCEEDED
    log = await syncs.log(row.id)
    assert (log.status, counts(log)) == ("quarantined", {"removed": 30, "verified": 90})
    assert log.details["held"].startswith("30 of 120 live members would be removed")
    await syncs.sync(dry_run=True)


async def test_the_limits_are_the_connections_own(syncs: Syncs) -> None:
    await syncs.fetch("update connections set most_removed_percent = 100, most_removals = 29 returning id")
    syncs.upstream.change(delete=range(1, 31))
    held = await syncs.sync()
    assert held.result is not None
    assert held.result["held"] == "30 of 120 live members would be removed; more than 29 must be approved"
    await syncs.fetch("update connections set most_removals = 30 returning id")
    assert (await syncs.sync()).state is JobState.SUCCEEDED


async def test_what_an_attempt_removed_before_it_died_counts_for_the_next(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 7))
    job = await syncs.request()
    await syncs.run(job)
    # As if that attempt had died just before its end, and the directory had lost more since.
    await syncs.fetch("update sync_log set status = 'pending', finished_at = null where job_id = $1 returning id", job)
    await syncs.fetch(
        "update jobs set state = 'queued', finished_at = null, result = null, resend_at = now() where id = $1 returning id", job
    )
    syncs.upstream.change(delete=range(7, 12))
    row = await syncs.run(job)
    assert row.state is JobState.QUARANTINED
    assert row.result is not None
    assert row.result["held"].startswith("11 of 120 live members")
