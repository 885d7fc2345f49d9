"""Members against a genuine directory over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from service.actions.enqueue_job import Enqueued, enqueue_job
from service.actions.read_models.directory import DirectoryAccess
from service.actions.read_models.registry import built_in_read_models
from service.actions.reconcile_drift import DRIFT_FULL, DRIFT_SAMPLED, reconcile_drift
from service.actions.run_job import claim_job, run_job
from service.actions.running_job import JobKind, RunningJob
from service.domain.errors import SourceRefused
from service.domain.jobs import JobResult
from service.store.drift_findings import list_drift_findings
from service.store.drift_runs import DriftRunRow, list_drift_runs
from service.wiring.directories import described
from tests.directory_rig import Upstream
from tests.sync_rig import OPTIONS, Syncs, open_syncs


@pytest.fixture
async def syncs(module_database_url: str, upstream: Upstream) -> AsyncIterator[Syncs]:
    upstream.reset(100)
    async with open_syncs(module_database_url, upstream) as syncs:
        async with syncs.database.transaction() as tx:
            await tx.execute("truncate leases, drift_streaks")
        yield syncs


async def compare(syncs: Syncs, *, full: bool = True) -> tuple[DriftRunRow, dict[str, str]]:
    """A run over the built-in read models; answers the directory's, and what it found by key."""
    access = DirectoryAccess(opened=syncs.opened, described=described, default_grace_days=0)

    async def run(job: RunningJob) -> JobResult:
        return await reconcile_drift(
            syncs.database, job, await built_in_read_models(syncs.database, job, access), default_grace_days=0, budget=30
        )

    async with syncs.database.transaction() as tx:
        asked = await enqueue_job(
            tx, kind=DRIFT_FULL if full else DRIFT_SAMPLED, company_id=None, subject_id=None, requested_by="tests"
        )
    assert isinstance(asked, Enqueued)
    claimed = await claim_job(syncs.database, asked.job_id, UUID(int=1), OPTIONS.lease)
    assert claimed is not None
    before = await syncs.checksums()
    await run_job(syncs.database, claimed, JobKind(run), options=OPTIONS)
    after = await syncs.checksums()
    # It reads: only the message of its job and of a promotion may come in between.
    assert {table: seen for table, seen in after.items() if table != "outbox"} == {
        table: seen for table, seen in before.items() if table != "outbox"
    }
    assert await syncs.leftovers() == (0, 0)
    async with syncs.database.transaction() as tx:
        runs = {one.read_model: one for one in await list_drift_runs(tx, job_id=asked.job_id)}
        found = runs[f"directory:{syncs.connection}"]
        return found, {one.key: one.reason for one in await list_drift_findings(tx, found.id)}


async def test_what_was_synced_agrees(syncs: Syncs) -> None:
    await syncs.sync()

    full, _ = await compare(syncs)
    sampled, _ = await compare(syncs, full=False)

    assert [(one.verdict, one.compared) for one in (full, sampled)] == [("clean", 100), ("clean", 20)]


async def test_a_row_that_was_edited_behind_an_unchanged_record_is_found_by_its_mapped_fields(syncs: Syncs) -> None:
    await syncs.sync()
    await syncs.fetch("update members set name = 'Nobody', plan = 'gold' where external_id = '7'")
    await syncs.fetch("update members set plan = 'gold', hold = 'unpaid', held_at = now() where external_id = '8'")

    run, found = await compare(syncs)

    # Nobody maps the plan, and a hold is not the source's to say.
    assert found == {"7": "the member differs from its source in name"}
    assert (run.verdict, run.compared, run.out_of_sync) == ("breach", 100, 1)
    # The next sync would not have noticed.
    assert (await syncs.sync()).result is not None
    assert (await compare(syncs))[1] == found


async def test_what_the_source_changed_since_is_found_whichever_way(syncs: Syncs) -> None:
    await syncs.sync()
    syncs.upstream.change(delete=[1], insert=[101], update={5: {"name": "Ása"}})

    run, found = await compare(syncs)

    assert found == {
        "1": "the member has left at its source",
        "5": "the member differs from its source in name",
        "101": "its source has a member that is not known here",
    }
    assert run.compared == 101
    await syncs.sync()
    assert (await compare(syncs))[0].verdict == "clean"


async def test_a_record_that_cannot_be_read_is_an_error_of_its_key(syncs: Syncs) -> None:
    await syncs.sync()
    syncs.upstream.change(update={5: {"name": ""}})

    run, found = await compare(syncs)

    assert (run.verdict, run.errors, run.compared, list(found)) == ("clean", 1, 99, ["5"])


async def test_an_email_in_other_capitals_is_no_drift(syncs: Syncs) -> None:
    await syncs.sync()
    await syncs.fetch("update members set email = upper(email) where external_id = '7'")
    syncs.upstream.change(update={5: {"email": "MEMBER5@Example.com"}})

    run, found = await compare(syncs)

    assert (run.verdict, run.compared, found) == ("clean", 100, {})


async def test_a_key_that_is_the_national_id_is_an_error_of_its_key_and_no_drift(syncs: Syncs) -> None:
    await syncs.sync()
    syncs.upstream.change(insert=[101])
    syncs.upstream.dress({101: {"kennitala": "101"}})

    run, found = await compare(syncs)

    assert (run.verdict, run.errors, run.compared, list(found)) == ("clean", 1, 100, ["101"])


async def test_a_source_that_does_not_answer_is_inconclusive(syncs: Syncs, monkeypatch: pytest.MonkeyPatch) -> None:
    await syncs.sync()

    def opened(_: Any) -> Any:
        raise SourceRefused("the directory does not accept the key")

    monkeypatch.setattr(syncs, "opened", opened)
    run, found = await compare(syncs)

    assert (run.verdict, run.error, found) == ("inconclusive", "the directory does not accept the key", {})
    # Nobody has asked for a sync: the connection is not blocked by a look.
    assert (await syncs.refresh()).status == "active"
