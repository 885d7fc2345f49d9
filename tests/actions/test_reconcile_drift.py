"""The harness over read models whose drift the test decides; the last five of the seed's cases are among them.

Streak and promotion are kept from run to run; an inconclusive run leaves them; a run happens once, whoever else would do it;
an empty registry does nothing; one read model that fails stops no other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from service.actions.cancel_job import cancel_job
from service.actions.register_drift import register_drift
from service.domain.drift import ReconciliationMode
from service.domain.errors import SourceBroken, SourceUnavailable, Unavailable
from service.domain.jobs import JobState
from service.store.drift_runs import find_drift_run
from service.store.leases import take_lease
from service.telemetry.metric_names import DRIFT_BREACHES, DRIFT_DURATION, DRIFT_FOUND, DRIFT_PROMOTIONS, DRIFT_SAMPLES
from tests.drift_rig import BatchShelf, Drift, Shelf, open_drift


@pytest.fixture
async def drift(module_database_url: str) -> AsyncIterator[Drift]:
    async with open_drift(module_database_url) as drift:
        yield drift


async def test_two_breaches_of_whichever_mode_promote_once_until_a_clean_run(drift: Drift) -> None:
    shelf = Shelf(drifting={"k0001"})
    for full in (False, True, True):
        await drift.compare(shelf, full=full)
    (message,) = await drift.told()
    shelf.drifting = set()
    await drift.compare(shelf)
    shelf.drifting = {"k0001"}
    for _ in range(2):
        await drift.compare(shelf)

    runs = await drift.runs()
    assert [(run.mode, run.verdict, run.streak, run.promoted) for run in runs] == [
        ("sampled", "breach", 1, False),
        ("full", "breach", 2, True),
        ("full", "breach", 3, False),
        ("full", "clean", 0, False),
        ("full", "breach", 1, False),
        ("full", "breach", 2, True),
    ]
    assert (message["routing_key"], message["message_id"]) == ("drift.promoted", str(runs[1].id))
    body = json.loads(message["body"])
    assert body | {"occurredAt": "then"} == {
        "readModel": "shelf",
        "runId": str(runs[1].id),
        "mode": "full",
        "compared": 20,
        "outOfSync": 1,
        "errors": 0,
        "driftRate": 0.05,
        "streak": 2,
        "occurredAt": "then",
    }
    assert len(await drift.told()) == 2
    counted = drift.metrics.counted
    assert counted(DRIFT_SAMPLES) == {("shelf", "sampled"): 20, ("shelf", "full"): 100}
    assert counted(DRIFT_FOUND) == {("shelf", "sampled"): 1, ("shelf", "full"): 4}
    assert counted(DRIFT_BREACHES) == {("shelf", "sampled"): 1, ("shelf", "full"): 4}
    assert counted(DRIFT_PROMOTIONS) == {("shelf", "full"): 2}
    assert counted(DRIFT_DURATION) == {("shelf", "sampled"): 1, ("shelf", "full"): 5}


@pytest.mark.parametrize("kind", [Shelf, BatchShelf])
async def test_a_key_that_cannot_be_compared_is_an_error_and_no_drift(drift: Drift, kind: type[Shelf]) -> None:
    shelf = kind(drifting={"k0003"}, failing={"k0004"}, gone={"k0005"})
    row = await drift.compare(shelf, budget=7)

    (run,) = await drift.runs()
    assert (run.compared, run.out_of_sync, run.errors, run.verdict) == (18, 1, 1, "breach")
    assert [(one.key, one.what, one.reason) for one in await drift.findings()] == [
        ("k0003", "drift", "differs in plan"),
        # What it raised may quote somebody's data.
        ("k0004", "error", "RuntimeError"),
    ]
    assert row.state is JobState.SUCCEEDED


async def test_an_inconclusive_run_leaves_the_streak_as_it_is(drift: Drift) -> None:
    breach = {"drifting": {"k0000"}}
    await drift.compare(Shelf(**breach))
    for shelf in (Shelf(keys=[]), Shelf(failing={"k0001", "k0002", "k0003"}, **breach), Shelf(broken=SourceUnavailable("away"))):
        row = await drift.compare(shelf)
        assert row.state is JobState.PARTIAL
    await drift.compare(Shelf(**breach))

    runs = await drift.runs()
    assert [(run.verdict, run.streak) for run in runs] == [
        ("breach", 1),
        ("inconclusive", 1),
        ("inconclusive", 1),
        ("inconclusive", 1),
        ("breach", 2),
    ]
    assert runs[3].error == "away"
    assert len(await drift.told()) == 1


async def test_a_read_model_that_cannot_be_read_stops_no_other(drift: Drift) -> None:
    await drift.compare(Shelf("first", broken=RuntimeError("010101-1234")), Shelf("second"))

    assert [(run.read_model, run.verdict, run.error) for run in await drift.runs()] == [
        ("first", "inconclusive", "RuntimeError"),
        ("second", "clean", None),
    ]


async def test_what_a_read_model_says_is_kept_as_far_as_the_database_can_hold_it(drift: Drift) -> None:
    twice = Shelf("twice", keys=["k1", "k1", "k\0b"], drifting={"k1", "k\0b"})
    await drift.compare(Shelf("first", broken=SourceBroken()), twice)

    runs = await drift.runs()
    assert [(run.read_model, run.verdict, run.compared, run.out_of_sync, run.error) for run in runs] == [
        ("first", "inconclusive", 0, 0, "SourceBroken"),
        ("twice", "breach", 3, 3, None),
    ]
    assert [(one.key, one.reason) for one in await drift.findings()] == [("k1", "differs in plan"), ("kb", "differs in plan")]


async def test_a_run_whose_job_has_ended_without_it_runs_no_more(drift: Drift) -> None:
    job_id = await drift.enqueue()
    await drift.run_drift(job_id, [Shelf(broken=Unavailable("the database does not answer"))])
    (run,) = await drift.runs()
    assert (run.finished_at, run.verdict, run.error) == (None, None, None)

    async with drift.database.transaction() as tx:
        await cancel_job(tx, job_id, None, "tests")

    (run,) = await drift.runs()
    assert (run.verdict, run.error) == ("inconclusive", "its job was cancelled")
    assert run.finished_at == (await drift.job(job_id)).finished_at
    async with drift.database.transaction() as tx:
        assert await find_drift_run(tx, run.id) == run


async def test_without_read_models_a_run_does_nothing(drift: Drift) -> None:
    row = await drift.run_drift(await drift.enqueue(), ())

    assert (row.state, row.result) == (JobState.SUCCEEDED, {"readModels": {}})
    assert await drift.runs() == []


async def test_one_read_model_is_compared_where_it_is_named(drift: Drift) -> None:
    await drift.compare(Shelf("first"), Shelf("second"), readModel="second")
    unknown = await drift.compare(Shelf("first"), readModel="third")
    odd = await drift.compare(Shelf("first"), most=True)

    assert [run.read_model for run in await drift.runs()] == ["second"]
    assert (unknown.state, unknown.error) == (JobState.FAILED, "there is no such read model")
    assert odd.state is JobState.FAILED


@pytest.mark.parametrize("most", [19, 20, 21])
async def test_a_capped_run_says_so(drift: Drift, most: int) -> None:
    await drift.compare(Shelf(), most=most, budget=10)

    (run,) = await drift.runs()
    assert (run.compared, run.truncated) == (min(most, 20), most < 20)


async def test_a_budget_caps_what_is_in_memory_and_not_what_is_looked_at(drift: Drift) -> None:
    shelf = Shelf()
    await drift.compare(shelf, budget=3)

    assert shelf.asked == shelf.keys


async def test_while_another_instance_compares_a_read_model_it_is_skipped(drift: Drift) -> None:
    async with drift.database.transaction() as tx:
        await take_lease(tx, "drift:first", uuid4(), timedelta(minutes=1))
    row = await drift.compare(Shelf("first"), Shelf("second"))

    assert [run.read_model for run in await drift.runs()] == ["second"]
    assert row.result is not None
    assert row.result["readModels"]["first"] == {"skipped": True}


class Slow(Shelf):
    """Waits where the test wants it to."""

    def __init__(self) -> None:
        super().__init__(drifting={"k0000"})
        self.began, self.goes_on = asyncio.Event(), asyncio.Event()

    async def list_sample_keys(self, mode: ReconciliationMode, budget: int) -> AsyncGenerator[Sequence[str], None]:
        self.began.set()
        await self.goes_on.wait()
        yield self.keys


async def test_two_runs_at_once_count_once(drift: Drift) -> None:
    slow = Slow()
    first = asyncio.create_task(drift.compare(slow, full=True))
    await slow.began.wait()
    second = await drift.compare(Shelf(drifting={"k0000"}), full=False)
    slow.goes_on.set()
    await first

    assert second.result == {"readModels": {"shelf": {"skipped": True}}}
    assert [run.streak for run in await drift.runs()] == [1]


async def test_who_lost_the_lease_counts_nothing(drift: Drift) -> None:
    slow = Slow()
    first = asyncio.create_task(drift.compare(slow))
    await slow.began.wait()
    await drift.fetch("update leases set holder = gen_random_uuid(), fence = fence + 1 where resource = 'drift:shelf'")
    slow.goes_on.set()
    await first

    assert [(run.verdict, run.streak) for run in await drift.runs()] == [("inconclusive", 0)]
    assert await drift.fetch("select from drift_streaks where breaches > 0") == []


async def test_a_run_that_an_earlier_attempt_has_ended_counts_once(drift: Drift) -> None:
    job = await drift.enqueue()
    shelf = Shelf(drifting={"k0000"})
    await drift.run_drift(job, [shelf])
    await drift.fetch("update jobs set state = 'queued', finished_at = null, result = null, resend_at = now() where id = $1", job)
    row = await drift.run_drift(job, [shelf])

    assert row.result == {"readModels": {"shelf": {"done": True}}}
    assert [run.streak for run in await drift.runs()] == [1]
    assert len(shelf.asked) == 20


async def test_both_runs_are_scheduled_once_and_left_as_somebody_has_made_them(drift: Drift) -> None:
    await drift.fetch("truncate schedules")
    await asyncio.gather(*(register_drift(drift.database) for _ in range(5)))
    await drift.fetch("update schedules set enabled = false, cron = '0 1 * * *' where kind = 'drift_full'")
    await register_drift(drift.database)

    found = {row["kind"]: row for row in await drift.fetch("select * from schedules")}
    assert {kind: (row["cron"], row["time_zone"], row["enabled"]) for kind, row in found.items()} == {
        "drift_sampled": ("17 3 * * *", "UTC", True),
        "drift_full": ("0 1 * * *", "UTC", False),
    }
    now = datetime.now(UTC)
    nightly, sunday = found["drift_sampled"]["next_run_at"], found["drift_full"]["next_run_at"]
    assert now < nightly <= now + timedelta(days=1)
    assert f"{nightly:%H:%M}" == "03:17"
    assert now < sunday <= now + timedelta(days=7)
    assert f"{sunday:%a %H:%M}" == "Sun 04:30"
