"""`rollcall sync` as a person uses it, with nothing but the two variables of the simplest setting."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from service.actions.audit_change import Author
from service.actions.enqueue_job import Enqueued
from service.actions.retire_directory import remove_members
from service.actions.run_job import JobOptions, claim_job, run_job
from service.domain.jobs import JobId, JobState
from service.settings import load_settings
from service.store.database import Database
from service.wiring.job_kinds import job_kinds
from tests.cli.test_commands import Command, as_process
from tests.directory_rig import KEY, Upstream
from tests.relay_rig import eventually
from tests.service_rig import clean_broker, running_service


@pytest.fixture
def rollcall(database_url: str, rabbitmq_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Command:
    upstream.reset(40)
    variables = {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": rabbitmq_url,
        "DJANGO_BASE_URL": f"{upstream.url}/page-number",
        "DJANGO_API_KEY": KEY,
        "ALLOW_NETWORKS": "127.0.0.0/8",
        "COLUMNS": "200",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    # It sends its logs elsewhere, for the whole process.
    return as_process


async def sync(rollcall: Command, *arguments: str) -> tuple[int, str, str]:
    ended = await rollcall("sync", "--wait", "0", *arguments)
    return ended.status, ended.out, ended.err


async def held_removal(url: str) -> JobId:
    """A removal of the only directory's members, as far as somebody has to look."""
    database = await Database.connect(url, name="tests", size=2)
    try:
        async with database.transaction() as tx:
            ((company, connection),) = await tx.fetch("select company_id, id from connections")
            asked = await remove_members(tx, Author(company, "tests"), connection)
        assert isinstance(asked, Enqueued)
        claimed = await claim_job(database, asked.job_id, uuid4(), timedelta(seconds=30))
        assert claimed is not None
        ended = await run_job(database, claimed, job_kinds(load_settings(), database)[claimed.kind], options=JobOptions())
        assert ended is JobState.QUARANTINED
    finally:
        await database.close()
    return asked.job_id


async def fetch(url: str, sql: str) -> list[tuple[object, ...]]:
    database = await Database.connect(url, name="tests", size=1)
    try:
        async with database.transaction() as tx:
            return [tuple(record) for record in await tx.fetch(sql)]
    finally:
        await database.close()


async def test_with_two_variables_a_dry_run_shows_what_a_sync_does(rollcall: Command, upstream: Upstream) -> None:
    status, out, err = await sync(rollcall, "--dry-run")
    assert status == 2, err
    assert out.splitlines()[-1].startswith("would be 40 added; 40 read in ")
    assert "--- /dev/null\n+++ 7\n@@ added @@\n" in out
    assert '+name: "Member 7"' in out

    status, out, err = await sync(rollcall)
    assert (status, out.partition(";")[0]) == (0, "40 added"), err
    assert "running it here" in err

    status, out, _ = await sync(rollcall, "--dry-run")
    assert (status, out.partition(";")[0]) == (0, "would be 40 unchanged")

    upstream.change(delete=[1], insert=[41], update={5: {"name": "Ása"}})
    status, out, _ = await sync(rollcall, "--dry-run")
    assert status == 2
    assert '--- 5\n+++ 5\n@@ updated @@\n-name: "Member 5"\n+name: "Ása"\n' in out
    assert "--- 1\n+++ /dev/null\n@@ removed @@\n" in out
    assert out.splitlines()[-1].startswith("would be 1 added, 1 updated, 1 removed, 38 unchanged; 40 read in ")


async def test_what_is_held_back_is_approved_or_rejected(rollcall: Command, database_url: str, upstream: Upstream) -> None:
    await sync(rollcall)
    upstream.change(delete=range(1, 11))
    status, _, err = await sync(rollcall)
    assert status == 1
    assert "held back: 10 of 40 live members would be removed" in err
    job = err.split("rollcall sync reject ")[1].split()[0]
    assert (await rollcall("sync", "reject", job)).status == 0
    assert (await rollcall("sync", "approve", job)).err == f"rollcall: job {job} is cancelled: there is nothing to approve"

    _, _, err = await sync(rollcall)
    job = err.split("rollcall sync approve ")[1].split()[0]
    ended = await rollcall("sync", "approve", job)
    assert (ended.status, ended.out.partition(";")[0]) == (0, "10 removed, 30 unchanged"), ended.err
    shown = (await rollcall("sync", "log")).out.splitlines()
    assert [line.split()[4] for line in shown[1:]] == ["success", "quarantined,", "quarantined,", "success"]
    assert await fetch(
        database_url, "select actor, action from admin_events where action <> 'directory.registered' order by id"
    ) == [
        ("cli", "directory.sync_requested"),
        ("cli", "directory.sync_requested"),
        ("cli", "job.rejected"),
        ("cli", "directory.sync_requested"),
        ("cli", "job.approved"),
    ]


async def test_the_removal_of_a_directory_s_members_is_approved_or_rejected_as_the_api_does_it(
    rollcall: Command, database_url: str
) -> None:
    await sync(rollcall)
    first = await held_removal(database_url)
    assert (await rollcall("sync", "reject", str(first))).out == f"job {first} is rejected; nobody was removed"

    job = await held_removal(database_url)
    ended = await rollcall("sync", "approve", str(job))

    assert (ended.status, ended.out) == (0, "40 removed; the connection is archived"), ended.err


async def test_more_than_were_approved_wait_anew(rollcall: Command, database_url: str) -> None:
    await sync(rollcall)
    job = await held_removal(database_url)
    await fetch(
        database_url,
        """
        insert into members (id, company_id, connection_id, external_id, name, upstream_state, state, version)
        select gen_random_uuid(), company_id, id, 'late', 'Late', 'active', 'active', 1 from connections
        """,
    )
    ended = await rollcall("sync", "approve", str(job))

    assert ended.status == 1
    assert "held back: 41 members are live now, and 40 removals were approved; nothing was changed" in ended.err
    assert f"rollcall sync approve {job}" in ended.err


async def test_what_goes_wrong_is_a_sentence_and_status_1(
    rollcall: Command, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.fault("html")
    status, _, err = await sync(rollcall)
    assert (status, err.splitlines()[-1]) == (1, "failed: page 1: the answer is HTML, not JSON; a page to log in, or another path?")
    upstream.heal()
    upstream.fault("status", code=503)
    status, _, err = await sync(rollcall)
    assert status == 1
    assert "not done yet: page 1: 127.0.0.1 answers 503" in err
    assert (await sync(rollcall))[2].startswith("rollcall: the connection is being synced already, by job ")
    monkeypatch.setenv("SYNC_ENABLED", "false")
    assert (await sync(rollcall))[2] == "rollcall: syncs are switched off (SYNC_ENABLED=false); dry runs are not"
    assert (await rollcall("sync", "--connection", "nobody")).status == 1


async def test_a_blocked_connection_is_released_by_a_test_that_succeeds(
    rollcall: Command, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_API_KEY", "wrong")
    status, _, err = await sync(rollcall)
    assert (status, "it does not accept the key" in err) == (1, True)
    monkeypatch.setenv("DJANGO_API_KEY", KEY)
    assert "the connection is blocked" in (await sync(rollcall))[2]
    tested = await rollcall("connections", "test", "default")
    assert "released" in tested.out
    assert (await sync(rollcall))[0] == 0


async def test_a_worker_that_runs_takes_it(rollcall: Command, database_url: str, rabbitmq_url: str) -> None:
    # Else the directory's own schedule would be first.
    async with clean_broker(rabbitmq_url), running_service(database_url, rabbitmq_url, CRON_ENABLED="false") as service:
        await service.says("worker takes messages")
        ended = await rollcall("sync", "--wait", "60")
        assert (ended.status, ended.out.partition(";")[0]) == (0, "40 added"), ended.err
        assert "running it here" not in ended.err
        await eventually(lambda: any(line["event"] == "job ended" for line in service.logs))
