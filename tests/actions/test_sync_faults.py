"""A directory that answers badly: each time the right end, a message that says what and where, and nobody wrongly removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.actions import stage_snapshot
from service.domain.jobs import JobState
from tests import sync_rig
from tests.directory_rig import PAGINGS, QUICK, Upstream
from tests.sync_rig import Interfering, Syncs, counts, open_syncs

BY_EVENT = datetime(2026, 11, 10, tzinfo=UTC)
EVERYBODY = {str(number) for number in range(1, 101)}


@pytest.fixture
async def syncs(module_database_url: str, upstream: Upstream) -> AsyncIterator[Syncs]:
    """A hundred members here and there, on pages of twenty."""
    upstream.reset(100)
    async with open_syncs(module_database_url, upstream) as syncs:
        await syncs.sync()
        yield syncs


@pytest.mark.parametrize(
    ("kind", "page", "options", "says"),
    [
        ("truncated", 3, {}, "page 3: not valid JSON"),
        ("html", 2, {}, "page 2: the answer is HTML, not JSON"),
        ("empty", 1, {}, "page 1: the answer is empty"),
        ("redirect", 2, {"to": "http://127.0.0.1:1/elsewhere"}, "page 2: "),
        ("body", 4, {"body": {"detail": "ok"}}, "page 4: the JSON has no list `results`"),
        ("body", 1, {"body": "members"}, "page 1: the JSON is no list and no object"),
        ("body", 1, {"body": {"results": ["x"]}}, "page 1: record 1 is no object"),
        ("status", 3, {"code": 404}, None),
        ("status", 1, {"code": 404}, "page 1: "),
    ],
    ids=["truncated", "html", "empty", "redirect", "shape", "no-list", "no-record", "page-gone", "not-found"],
)
async def test_an_answer_that_is_no_directory_fails_the_sync_and_removes_nobody(
    syncs: Syncs, kind: str, page: int, options: dict[str, Any], says: str | None
) -> None:
    syncs.upstream.change(delete=range(1, 5))
    syncs.upstream.fault(kind, page=page, **options)
    row = await syncs.sync()
    if says is None:
        assert (row.state, row.error) == (JobState.QUEUED, "page 3: the page is gone; the list grew shorter while it was read")
    else:
        assert row.state is JobState.FAILED
        assert row.error is not None
        assert row.error.startswith(says)
        log = await syncs.log(row.id)
        assert (log.status, log.error) == ("failed", row.error)
    assert await syncs.live() == EVERYBODY
    assert (await syncs.refresh()).status == "active"


@pytest.mark.parametrize(
    ("kind", "page", "options"),
    [("status", 5, {"code": 500}), ("status", 1, {"code": 429}), ("broken-off", 2, {}), ("status", 2, {"code": 503})],
    ids=["500", "429", "broken-off", "503"],
)
async def test_a_directory_that_cannot_answer_now_is_read_again_later(
    syncs: Syncs, kind: str, page: int, options: dict[str, Any]
) -> None:
    syncs.upstream.change(delete=[1], insert=[101])
    syncs.upstream.fault(kind, page=page, **options)
    row = await syncs.sync()
    assert row.state is JobState.QUEUED
    assert row.error is not None
    assert row.error.startswith(f"page {page}: ")
    assert row.next_attempt_at is not None
    assert await syncs.live() == EVERYBODY
    assert (await syncs.log(row.id)).status == "pending"

    syncs.upstream.heal()
    await syncs.fetch("update jobs set next_attempt_at = clock_timestamp() where id = $1 returning id", row.id)
    again = await syncs.run(row.id)
    assert again.state is JobState.SUCCEEDED
    assert counts(await syncs.log(row.id)) == {"added": 1, "removed": 1, "verified": 99}


async def test_page_7_of_10_fails(module_database_url: str, upstream: Upstream) -> None:
    upstream.reset(100)
    async with open_syncs(module_database_url, upstream, page_size=10) as syncs:
        await syncs.sync()
        upstream.change(delete=[1])
        upstream.fault("status", page=7, code=500)
        row = await syncs.sync()
        assert row.state is JobState.QUEUED
        assert row.error == "page 7: 127.0.0.1 answers 500"
        assert await syncs.live() == EVERYBODY
        assert (await syncs.log(row.id)).status == "pending"


async def test_a_slow_drip_ends_in_time_and_is_read_again_later(syncs: Syncs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_rig, "QUICK", replace(QUICK, whole=timedelta(seconds=1)))
    syncs.upstream.change(delete=[1])
    syncs.upstream.fault("drip", page=2, every=0.05)
    row = await syncs.sync()
    assert row.state is JobState.QUEUED
    assert row.error == "page 2: 127.0.0.1 did not finish its answer in time"
    assert await syncs.live() == EVERYBODY


async def test_the_last_attempt_closes_the_run(syncs: Syncs) -> None:
    syncs.upstream.fault("status", page=1, code=500)
    job = await syncs.request()
    for _ in range(5):
        await syncs.fetch("update jobs set next_attempt_at = clock_timestamp() where next_attempt_at is not null returning id")
        row = await syncs.run(job)
    assert row.state is JobState.FAILED
    log = await syncs.log(job)
    assert (log.status, log.error) == ("failed", row.error)


async def test_a_directory_that_says_when_is_read_then(syncs: Syncs) -> None:
    syncs.upstream.fault("status", page=2, code=429, retry_after="1800")
    row = await syncs.sync()
    assert row.state is JobState.QUEUED
    ((wait,),) = await syncs.fetch("select next_attempt_at - clock_timestamp() from jobs where id = $1", row.id)
    assert timedelta(minutes=29) < wait <= timedelta(minutes=30)


async def test_a_key_that_is_not_accepted_in_the_middle_blocks_the_connection(syncs: Syncs) -> None:
    syncs.upstream.change(delete=[1])
    syncs.upstream.fault("status", page=3, code=401)
    row = await syncs.sync()
    assert (row.state, row.attempts) == (JobState.FAILED, 1)
    assert row.error == "page 3: 127.0.0.1 answers 401: it does not accept the key"
    assert (await syncs.refresh()).status == "blocked"
    assert await syncs.live() == EVERYBODY
    # A dry run may look whether it is mended, and does not mend it.
    syncs.upstream.heal()
    assert (await syncs.sync(dry_run=True)).state is JobState.SUCCEEDED
    assert (await syncs.refresh()).status == "blocked"


async def test_a_dry_run_that_is_refused_blocks_nothing(syncs: Syncs) -> None:
    syncs.upstream.fault("status", page=1, code=403)
    assert (await syncs.sync(dry_run=True)).state is JobState.FAILED
    assert (await syncs.refresh()).status == "active"


async def test_a_count_that_disagrees_removes_nobody_and_applies_the_rest(syncs: Syncs) -> None:
    before = (await syncs.refresh()).last_full_sync_at
    assert before is not None
    syncs.upstream.change(delete=[1, 2], update={3: {"name": "Ása"}})
    syncs.upstream.fault("count", page=0, count=100)
    row = await syncs.sync()
    log = await syncs.log(row.id)
    assert (row.state, log.status) == (JobState.PARTIAL, "partial")
    assert log.details["withheld"] == "the directory says that it has 100 members, and 98 could be read"
    assert counts(log) == {"updated": 1, "verified": 97}
    assert await syncs.live() == EVERYBODY
    assert (await syncs.refresh()).last_full_sync_at == before


async def test_a_count_that_was_wrong_once_is_asked_again(syncs: Syncs) -> None:
    syncs.upstream.change(delete=[1, 2])
    syncs.upstream.fault("count", page=5, times=1, count=99)
    row = await syncs.sync()
    assert row.state is JobState.SUCCEEDED
    assert await syncs.live() == EVERYBODY - {"1", "2"}
    assert (await syncs.log(row.id)).details["lookedAgain"] == 98


async def test_an_empty_directory_removes_nobody(syncs: Syncs) -> None:
    syncs.upstream.change(delete=range(1, 101))
    row = await syncs.sync()
    assert row.state is JobState.QUARANTINED
    assert row.result is not None
    assert row.result["held"] == "the directory is empty, and 100 of its members are live here"
    assert await syncs.live() == EVERYBODY
    assert len(await syncs.entries(row.id)) == 100


@pytest.mark.parametrize("paging", PAGINGS)
async def test_nobody_is_lost_who_was_pushed_over_the_edge_of_a_page(
    module_database_url: str, upstream: Upstream, paging: str
) -> None:
    upstream.reset(100)
    async with open_syncs(module_database_url, upstream, paging=paging) as syncs:
        await syncs.sync()
        # Before page 3 is made, somebody of page 1 leaves and somebody comes at the end: 41 moves to page 2, the count stays.
        upstream.change_after_page(2, delete=[1], insert=[101])
        row = await syncs.sync()
        assert "41" in await syncs.live()
        assert row.state is JobState.SUCCEEDED
        upstream.heal()
        await syncs.sync()
        assert await syncs.live() == (EVERYBODY | {"101"}) - {"1"}


async def test_a_key_that_comes_twice_alike_is_one_member(syncs: Syncs) -> None:
    syncs.upstream.fault("repeat", page=2, records=3)
    row = await syncs.sync()
    assert row.state is JobState.SUCCEEDED
    log = await syncs.log(row.id)
    assert (counts(log), log.details["repeated"]) == ({"verified": 100}, 3)


async def test_a_key_that_comes_twice_and_differs_is_left_as_it_is(syncs: Syncs) -> None:
    syncs.upstream.dress({7: {"id": 8}})
    row = await syncs.sync()
    # 7 is not told of any more: the count is short of it, so nobody is removed.
    assert row.state is JobState.PARTIAL
    assert await syncs.live() == EVERYBODY
    entries = await syncs.entries(row.id)
    assert [(entry.what, entry.external_id) for entry in entries] == [("conflicting", "8")]
    assert entries[0].reason == "the directory tells of this key more than once, and not the same"
    ((name,),) = await syncs.fetch("select name from members where external_id = '8'")
    assert name == "Member 8"


@pytest.mark.parametrize(
    ("dress", "reason"),
    [
        ({"name": ""}, "name: must be a string"),
        ({"name": None}, "name: must be a string"),
        ({"email": "x" * 400}, "email: string too long (max 320)"),
        ({"name": 12}, "name: must be a string"),
        ({"name": "x" * 10_000_000}, "the mapped fields take more than 80 KiB"),
        ({"name": "a\0b"}, "a field holds a NUL character"),
    ],
    ids=["blank", "null", "long", "number", "10 MB", "NUL"],
)
async def test_a_record_that_cannot_be_taken_is_named_and_protects_its_member(
    syncs: Syncs, dress: dict[str, Any], reason: str
) -> None:
    syncs.upstream.dress({7: dress})
    syncs.upstream.change(delete=[1])
    row = await syncs.sync()
    assert row.state is JobState.PARTIAL, row
    entries = await syncs.entries(row.id)
    assert [(entry.what, entry.external_id, entry.reason) for entry in entries] == [("invalid", "7", reason)]
    assert counts(await syncs.log(row.id)) == {"removed": 1, "verified": 98, "error_count": 1}
    assert await syncs.live() == EVERYBODY - {"1"}


async def test_a_record_without_a_key_could_be_anybody(syncs: Syncs) -> None:
    syncs.upstream.dress({7: {"id": None}})
    syncs.upstream.change(delete=[1])
    row = await syncs.sync()
    assert row.state is JobState.PARTIAL
    log = await syncs.log(row.id)
    assert log.details["withheld"] == "1 of 99 records have no key that can be read, and could be anybody"
    assert await syncs.live() == EVERYBODY


async def test_hyphens_and_unknown_fields_make_no_difference(module_database_url: str, upstream: Upstream) -> None:
    upstream.reset(10)
    async with open_syncs(module_database_url, upstream, nested=True) as syncs:
        await syncs.sync()
        ((national_id,),) = await syncs.fetch("select national_id from members where external_id = 'p-7'")
        assert national_id.isdigit()
        upstream.change(update={8: {"is_active": False}, 9: {"notes": "nobody maps this"}})
        row = await syncs.sync()
        assert counts(await syncs.log(row.id)) == {"removed": 1, "verified": 9}


async def test_a_renewal_during_the_sync_is_not_overwritten_by_the_older_snapshot(syncs: Syncs) -> None:
    async def renew() -> None:
        outcomes = await syncs.outcomes(syncs.upsert(1, {"name": "Renewed"}, external_id="7", message="event"))
        outcomes += await syncs.outcomes(syncs.upsert(1, {"name": "New here"}, external_id="new", message="new"))
        assert outcomes == ["applied", "applied"]

    syncs.upstream.change(update={7: {"name": "What the snapshot says"}})
    row = await syncs.sync(lambda source: Interfering(source, 3, renew))
    assert counts(await syncs.log(row.id)) == {"left_alone": 1, "verified": 99}
    ((name,),) = await syncs.fetch("select name from members where external_id = '7'")
    assert name == "Renewed"
    # Nor is somebody removed of whom the snapshot could not know yet.
    assert "new" in await syncs.live()


async def test_a_newer_version_in_the_snapshot_wins_over_an_older_event_during_the_sync(
    module_database_url: str, upstream: Upstream
) -> None:
    upstream.reset(10)
    async with open_syncs(module_database_url, upstream, nested=True) as syncs:
        await syncs.sync()

        async def late() -> None:
            for key in ("p-7", "p-8"):
                change = syncs.upsert(1, {"name": "By event"}, external_id=key, updated_at=BY_EVENT, message=key)
                assert await syncs.outcomes(change) == ["applied"]

        upstream.change(update={7: {"name": "Newer", "updated_at": "2026-11-20T00:00:00Z"}, 8: {"name": "Older"}})
        row = await syncs.sync(lambda source: Interfering(source, 1, late))
        names = {found["external_id"]: found["name"] for found in await syncs.fetch("select external_id, name from members")}
        assert (names["p-7"], names["p-8"]) == ("Newer", "By event")
        assert counts(await syncs.log(row.id)) == {"updated": 1, "left_alone": 1, "verified": 8}


async def test_somebody_who_is_gone_while_an_event_says_otherwise_stays(syncs: Syncs) -> None:
    syncs.upstream.change(delete=[7])

    async def event() -> None:
        assert await syncs.outcomes(syncs.upsert(1, {"name": "Still here"}, external_id="7", message="7")) == ["applied"]

    await syncs.sync(lambda source: Interfering(source, 2, event))
    assert "7" in await syncs.live()


async def test_a_record_nested_deeper_than_json_is_written_is_refused_alone(syncs: Syncs) -> None:
    deep: object = "x"
    for _ in range(254):
        deep = [deep]
    syncs.upstream.dress({1: {"name": deep}})
    row = await syncs.sync()
    assert (row.state, counts(await syncs.log(row.id))) == (JobState.PARTIAL, {"verified": 99, "error_count": 1})
    assert len(await syncs.live()) == 100


async def test_a_crash_of_the_database_during_the_second_reading_is_noticed(syncs: Syncs) -> None:
    syncs.upstream.change(delete=[50], update={1: {"name": "Another"}})
    looks = 0

    async def crash() -> None:
        nonlocal looks
        looks += 1
        # Pages that were cut by position are read twice where somebody is missing.
        if looks == 2:
            async with syncs.database.transaction() as tx:
                # As a crash leaves tables that are not logged.
                await tx.execute("truncate sync_pages, sync_staging, sync_delta")

    row = await syncs.sync(lambda source: Interfering(source, 4, crash))
    assert looks == 2
    assert (row.state, row.error) == (JobState.QUEUED, stage_snapshot.SNAPSHOT_LOST)
