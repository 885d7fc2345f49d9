"""What a sync found is applied in batches, of new members two at once: to the same end, whatever stops them in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service.actions import apply_delta, compare_snapshot, stage_snapshot
from service.actions.cancel_job import cancel_job
from service.domain.change import Change
from service.domain.errors import Unavailable
from service.domain.jobs import JobState
from service.domain.outcome import Result
from service.store.sync_pages import PageFindings, compare_page
from tests.directory_rig import Upstream
from tests.sync_rig import OPTIONS, Syncs, counts, open_syncs

BATCH = 10


@pytest.fixture
async def syncs(module_database_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Syncs]:
    """A hundred people in the directory and nobody here, applied ten at a time."""
    monkeypatch.setattr(apply_delta, "_BATCH", BATCH)
    upstream.reset(100)
    async with open_syncs(module_database_url, upstream) as syncs:
        yield syncs


class Watched:
    """The apply path, with the batches that go through it; one of them can fail or wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.under_way = self.most = 0
        self.batches: list[list[str]] = []
        self.fails_at: int | None = None
        self.waits_at: int | None = None
        self.waiting = asyncio.Event()
        self._apply = apply_delta.apply_changes
        monkeypatch.setattr(apply_delta, "apply_changes", self)

    async def __call__(self, db: Any, changes: Sequence[Change], **given: Any) -> list[Result]:
        self.batches.append([getattr(change, "external_id", "") for change in changes])
        number = len(self.batches)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if number == self.fails_at:
                raise Unavailable("the database does not answer")
            if number == self.waits_at:
                self.waiting.set()
                await asyncio.Event().wait()
            return await self._apply(db, changes, **given)
        finally:
            self.under_way -= 1


async def test_new_members_are_applied_in_several_batches_at_once(syncs: Syncs, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    row = await syncs.sync()
    assert row.state is JobState.SUCCEEDED
    assert (len(watched.batches), watched.most) == (10, 2)
    assert counts(await syncs.log(row.id)) == {"added": 100}


async def test_small_pages_are_looked_through_together_up_to_a_limit(syncs: Syncs, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    async def compare(tx: Any, job: Any, connection: Any, page: Any, removal: bytes, **given: Any) -> PageFindings:
        looked.append(len(page.keys))
        return await compare_page(tx, job, connection, page, removal, **given)

    monkeypatch.setattr(stage_snapshot, "compare_page", compare)
    await syncs.sync()
    monkeypatch.setattr(stage_snapshot, "_TOGETHER", 40)
    await syncs.sync()
    monkeypatch.setattr(stage_snapshot, "_TOGETHER_BYTES", 1)
    row = await syncs.sync()
    # All at once, as soon as they are so many, and each by itself.
    assert looked == [100, 40, 40, 20, 20, 20, 20, 20, 20]
    assert counts(await syncs.log(row.id)) == {"verified": 100}


class Looked:
    """How a comparison looked: for whom it had reason to, and whether it took what was kept for few."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.absent, self.few = 0, list[bool]()
        find, compare = compare_snapshot.find_absent, compare_snapshot.compare_kept

        async def find_absent(*given: Any) -> None:
            self.absent += 1
            await find(*given)

        async def compare_kept(*given: Any, few: bool) -> None:
            self.few.append(few)
            await compare(*given, few=few)

        monkeypatch.setattr(compare_snapshot, "find_absent", find_absent)
        monkeypatch.setattr(compare_snapshot, "compare_kept", compare_kept)


async def test_nobody_is_looked_for_while_everybody_is_named(syncs: Syncs, monkeypatch: pytest.MonkeyPatch) -> None:
    await syncs.sync()
    looked = Looked(monkeypatch)
    await syncs.sync()
    syncs.upstream.dress({1: {"name": "Another"}})
    assert counts(await syncs.log((await syncs.sync()).id)) == {"updated": 1, "verified": 99}
    assert (looked.absent, looked.few) == (0, [True])

    syncs.upstream.change(delete=[7])
    assert counts(await syncs.log((await syncs.sync()).id)) == {"removed": 1, "verified": 99}
    assert looked.absent == 1


async def test_many_kept_records_are_not_taken_for_few(syncs: Syncs, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Looked(monkeypatch)
    await syncs.sync()
    syncs.upstream.dress({number: {"name": f"Another {number}"} for number in range(1, 51)})
    await syncs.sync()
    assert looked.few == [False, False]


async def test_known_members_who_keep_their_national_ids_are_applied_in_several_batches_at_once(
    syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await syncs.sync()
    syncs.upstream.dress({number: {"name": f"Another {number}"} for number in range(1, 81)})
    watched = Watched(monkeypatch)
    row = await syncs.sync()
    assert counts(await syncs.log(row.id)) == {"updated": 80, "verified": 20}
    assert (len(watched.batches), watched.most) == (8, 2)
    await syncs.check()


@pytest.mark.parametrize("said", ["1234567{:03}", None], ids=["taken", "given up"])
async def test_national_ids_are_changed_one_batch_after_the_other(
    syncs: Syncs, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    await syncs.sync()
    syncs.upstream.dress({number: {"kennitala": said and said.format(number)} for number in range(1, 41)})
    watched = Watched(monkeypatch)
    row = await syncs.sync()
    assert counts(await syncs.log(row.id)) == {"updated": 40, "verified": 60}
    assert (len(watched.batches), watched.most) == (4, 1)


async def test_known_members_are_applied_before_new_ones_and_departures_last(syncs: Syncs, monkeypatch: pytest.MonkeyPatch) -> None:
    await syncs.sync()
    syncs.upstream.dress({number: {"name": f"Another {number}"} for number in range(1, 41)})
    syncs.upstream.change(insert=range(101, 131), delete=range(96, 101))
    watched = Watched(monkeypatch)
    row = await syncs.sync()
    assert counts(await syncs.log(row.id)) == {"updated": 40, "added": 30, "removed": 5, "verified": 55}
    known = [set(batch) & {str(number) for number in range(1, 101)} != set() for batch in watched.batches]
    # Updates, then who is new, then who has left.
    assert known == [*sorted(known[:-1], reverse=True), True]
    assert watched.most <= 2


async def test_a_national_id_that_an_update_frees_is_there_for_somebody_new(syncs: Syncs) -> None:
    await syncs.sync()
    ((freed,),) = await syncs.fetch("select national_id from members where external_id = '95'")
    syncs.upstream.change(insert=range(101, 141))
    syncs.upstream.dress({95: {"kennitala": "9999999999"}, 101: {"kennitala": freed}})
    row = await syncs.sync()
    assert counts(await syncs.log(row.id)) == {"updated": 1, "added": 40, "verified": 99}


async def test_of_two_new_keys_of_one_person_in_batches_side_by_side_one_is_added(syncs: Syncs) -> None:
    syncs.upstream.dress({number: {"kennitala": f"{number % 50:010}"} for number in range(1, 101)})
    row = await syncs.sync()
    assert row.state is JobState.PARTIAL
    assert counts(await syncs.log(row.id)) == {"added": 50, "error_count": 50}
    ((people, members),) = await syncs.fetch("select count(distinct national_id), count(*) from members")
    assert (people, members) == (50, 50)
    assert {entry.what for entry in await syncs.entries(row.id)} == {"conflicting"}


@pytest.mark.parametrize("batch", [1, 2, 5, 10])
async def test_a_batch_that_fails_leaves_whole_batches_and_the_next_attempt_does_the_rest(
    syncs: Syncs, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    watched = Watched(monkeypatch)
    watched.fails_at = batch
    job = await syncs.request()
    row = await syncs.run(job)
    assert row.state is JobState.QUEUED
    await syncs.check()
    assert len(await syncs.live()) % BATCH == 0
    assert len(await syncs.live()) <= 100 - BATCH

    await syncs.fetch("update jobs set next_attempt_at = clock_timestamp() where id = $1 returning id", job)
    row = await syncs.run(job)
    assert row.state is JobState.SUCCEEDED
    assert counts(await syncs.log(job)) == {"added": 100}
    await syncs.check()
    # Nobody twice.
    assert await syncs.counts() == (100, 100, 100, 0)
    assert await syncs.leftovers() == (0, 0)


async def test_what_is_interrupted_between_batches_side_by_side_leaves_whole_ones(
    syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    watched.waits_at = 6
    job = await syncs.request()
    quick = replace(OPTIONS, beat=timedelta(seconds=0.05), stop_within=timedelta(seconds=0.1))
    running = asyncio.create_task(syncs.run(job, options=quick))
    await asyncio.wait_for(watched.waiting.wait(), 30)
    async with syncs.database.transaction() as tx:
        await cancel_job(tx, job, None, "tests")
    row = await running
    assert (row.state, watched.under_way) == (JobState.CANCELLED, 0)
    done = await syncs.live()
    assert 0 < len(done) < 100
    assert len(done) % BATCH == 0
    # What is counted is what was done.
    assert counts(await syncs.log(job)) == {"added": len(done)}
    await syncs.check()
