from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.actions.request_sync import SyncRefused, request_sync
from service.domain.directories.sync_options import SyncOptions
from service.domain.jobs import JobState
from tests.directory_rig import Upstream
from tests.sync_rig import Syncs, counts, open_syncs


@pytest.fixture
async def syncs(module_database_url: str, upstream: Upstream) -> AsyncIterator[Syncs]:
    upstream.reset(100)
    async with open_syncs(module_database_url, upstream) as syncs:
        await syncs.sync()
        yield syncs


async def test_a_dry_run_touches_nothing_and_tells_every_difference(syncs: Syncs) -> None:
    before = await syncs.checksums()
    syncs.upstream.change(delete=[1], insert=[101], update={5: {"name": "Ása", "email": "a@example.com"}})
    syncs.upstream.dress({9: {"email": "x" * 400}})
    row = await syncs.sync(dry_run=True)
    assert await syncs.checksums() == before
    assert row.state is JobState.PARTIAL
    log = await syncs.log(row.id)
    assert (log.dry_run, counts(log)) == (True, {"added": 1, "updated": 1, "removed": 1, "verified": 97, "error_count": 1})
    entries = {entry.external_id: entry for entry in await syncs.entries(row.id)}
    assert {key: entry.what for key, entry in entries.items()} == {
        "1": "removed",
        "101": "added",
        "5": "updated",
        "9": "invalid",
    }
    assert entries["5"].changes == {
        "name": {"before": "Member 5", "after": "Ása"},
        "email": {"before": "member5@example.com", "after": "a@example.com"},
    }
    assert entries["1"].changes == {
        "upstreamState": {"before": "active", "after": "removed"},
        "state": {"before": "active", "after": "removed"},
    }
    assert entries["101"].changes is not None
    assert entries["101"].changes["name"] == {"before": None, "after": "Member 101"}

    # The real one does exactly that.
    real = await syncs.sync()
    assert counts(await syncs.log(real.id)) == counts(log)


async def test_an_email_in_other_capitals_is_verified_and_the_next_sync_knows_it(syncs: Syncs) -> None:
    events = len(await syncs.events())
    syncs.upstream.change(update={5: {"email": "MEMBER5@Example.com"}, 6: {"name": "Ása", "email": "Member6@example.com"}})
    foreseen = await syncs.sync(dry_run=True)
    assert {entry.external_id: entry.changes for entry in await syncs.entries(foreseen.id)} == {
        "6": {"name": {"before": "Member 6", "after": "Ása"}}
    }
    real = await syncs.sync()
    assert counts(await syncs.log(real.id)) == counts(await syncs.log(foreseen.id)) == {"updated": 1, "verified": 99}
    assert len(await syncs.events()) == events + 1
    emails = await syncs.fetch("select email, version from members where external_id in ('5', '6') order by external_id")
    assert [tuple(row) for row in emails] == [("member5@example.com", 1), ("member6@example.com", 2)]

    # What is remembered of them is what the directory says by now.
    known = await syncs.fetch("select upstream_applied_at from members where external_id in ('5', '6') order by 1")
    assert counts(await syncs.log((await syncs.sync()).id)) == {"verified": 100}
    assert await syncs.fetch("select upstream_applied_at from members where external_id in ('5', '6') order by 1") == known


async def test_a_dry_run_before_the_first_sync_says_what_would_be_imported(module_database_url: str, upstream: Upstream) -> None:
    upstream.reset(30)
    async with open_syncs(module_database_url, upstream) as syncs:
        before = await syncs.checksums()
        row = await syncs.sync(dry_run=True)
        assert (row.state, counts(await syncs.log(row.id))) == (JobState.SUCCEEDED, {"added": 30})
        assert await syncs.checksums() == before


async def test_with_syncs_switched_off_only_dry_runs_are_taken(syncs: Syncs) -> None:
    job = await syncs.request()
    syncs.enabled = False
    row = await syncs.run(job)
    assert (row.state, row.error) == (JobState.FAILED, "syncs are switched off (SYNC_ENABLED=false); dry runs are not")
    async with syncs.database.transaction() as tx:
        answer = await request_sync(tx, syncs.connection, SyncOptions(), requested_by="tests", enabled=False)
    assert answer == SyncRefused("syncs are switched off (SYNC_ENABLED=false); dry runs are not")
    assert (await syncs.sync(dry_run=True)).state is JobState.SUCCEEDED
