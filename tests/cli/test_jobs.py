"""`rollcall jobs` against a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from service.actions.run_job import claim_job, run_job
from service.domain.jobs import JobState
from tests.cli.test_commands import Command, in_process
from tests.jobs_rig import QUICK, Jobs, open_jobs


@pytest.fixture
async def jobs(module_database_url: str) -> AsyncIterator[Jobs]:
    async with open_jobs(module_database_url) as jobs:
        await jobs.fetch("truncate jobs, outbox cascade")
        yield jobs


@pytest.fixture
def rollcall(module_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("DATABASE_URL", module_database_url)
    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1/")
    monkeypatch.setenv("COLUMNS", "200")
    return in_process


async def test_jobs_are_listed_the_newest_first_and_chosen_by_company_kind_and_state(rollcall: Command, jobs: Jobs) -> None:
    first, second = await jobs.enqueue("works"), await jobs.enqueue("fails", **{"with": "park"})
    claimed = await claim_job(jobs.database, second, uuid4(), timedelta(seconds=30))
    assert claimed is not None
    await run_job(jobs.database, claimed, jobs.kinds["fails"], options=QUICK)

    listed = await rollcall("jobs", "list")
    assert (listed.status, listed.err) == (0, "")
    head, *lines = listed.out.splitlines()
    assert head.split()[:4] == ["id", "kind", "company", "state"]
    assert [line.split()[0] for line in lines] == [str(second), str(first)]
    assert "failed" in lines[0]
    assert "1/5" in lines[0]
    assert lines[0].rstrip().endswith("the directory answers no JSON")

    for chosen in (("--state", "failed"), ("--kind", "fails"), ("--limit", "1")):
        (line,) = (await rollcall("jobs", "list", *chosen)).out.splitlines()[1:]
        assert line.split()[0] == str(second)
    assert len((await rollcall("jobs", "list", "--company", str(jobs.company))).out.splitlines()) == 3
    other = await rollcall("jobs", "list", "--company", "nobody")
    assert (other.status, "no company nobody" in other.err) == (1, True)


async def test_one_job_is_shown_with_what_came_of_it(rollcall: Command, jobs: Jobs) -> None:
    job = await jobs.enqueue("ends", state="partial", seen=3)
    claimed = await claim_job(jobs.database, job, uuid4(), timedelta(seconds=30))
    assert claimed is not None
    await run_job(jobs.database, claimed, jobs.kinds["ends"], options=QUICK)

    shown = await rollcall("jobs", "show", str(job))

    facts = dict(line.split(maxsplit=1) for line in shown.out.splitlines() if not line.startswith(("requested by", "created at")))
    assert (facts["state"], facts["attempt"], facts["result"]) == ("partial", "1 of 5", '{"seen":3,"state":"partial"}')
    assert "heartbeat" not in facts


async def test_a_queued_job_is_cancelled_and_a_running_one_asked(rollcall: Command, jobs: Jobs) -> None:
    queued, running = await jobs.enqueue("works"), await jobs.enqueue("works")
    await claim_job(jobs.database, running, uuid4(), timedelta(seconds=30))

    assert (await rollcall("jobs", "cancel", str(queued))).out == "cancelled"
    assert (await rollcall("jobs", "cancel", str(running))).out.startswith("asked to stop")
    again = await rollcall("jobs", "cancel", str(queued))

    assert (again.status, "the job has ended already: cancelled" in again.err) == (1, True)
    assert (await jobs.row(queued)).state is JobState.CANCELLED
    events = await jobs.fetch("select actor, action, subject_id from admin_events where company_id = $1 order by id", jobs.company)
    assert [tuple(event) for event in events] == [("cli", "job.cancelled", queued), ("cli", "job.cancelled", running)]


async def test_a_job_of_the_whole_installation_is_cancelled_and_in_no_company_s_audit(rollcall: Command, jobs: Jobs) -> None:
    job = await jobs.enqueue("works")
    await jobs.fetch("update jobs set company_id = null where id = $1", job)

    assert (await rollcall("jobs", "cancel", str(job))).out == "cancelled"
    assert await jobs.fetch("select 1 from admin_events where subject_id = $1", job) == []


@pytest.mark.parametrize("verb", ["show", "cancel"])
async def test_a_job_that_is_not_there_is_said(rollcall: Command, jobs: Jobs, verb: str) -> None:
    answer = await rollcall("jobs", verb, str(jobs.company))

    assert (answer.status, "there is no job" in answer.err) == (1, True)
