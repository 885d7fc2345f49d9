from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from service.actions.apply_changes import apply_changes
from service.actions.enqueue_job import Enqueued, enqueue_job
from service.actions.expire_memberships import EXPIRY, STATUS_LEASE, expire_memberships
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind
from service.domain.change import PendingPlan
from service.domain.jobs import JobState
from service.store.companies import insert_company
from service.store.leases import take_lease
from tests.clock_rig import DAY, Clock, ago, open_clock
from tests.domain.samples import time_passed


@pytest.fixture
async def clock(database_url: str) -> AsyncIterator[Clock]:
    async with open_clock(database_url) as clock:
        yield clock


async def test_who_is_past_the_end_expires_with_audit_and_event(clock: Clock) -> None:
    await clock.add_members(3, ago(1))
    await clock.add_members(1, ago(1), state="suspended", hold="unpaid")
    await clock.add_members(2, ago(-1))
    await clock.add_members(2, None)

    assert await clock.expire() == {"total_found": 4, "applied": 4}

    assert await clock.states() == {"expired": 4, "active": 4}
    told = [json.loads(row["body"]) for row in await clock.outbox() if row["type"] == "MEMBERSHIP_UPDATED"]
    assert {(body["reasonCode"], body["newState"], body["version"]) for body in told} == {("EXPIRY_RECONCILIATION", "expired", 2)}
    assert sorted(body["previousState"] for body in told) == ["active", "active", "active", "suspended"]
    assert all(body["changedFields"] == ["state"] for body in told)
    events = [row for row in await clock.events() if row["version"] == 2]
    (job,) = await clock.fetch("select id, correlation_id from jobs")
    assert {(row["actor"], row["correlation_id"]) for row in events} == {(f"job:{job['id']}", job["correlation_id"])}


async def test_a_second_pass_finds_nothing(clock: Clock) -> None:
    await clock.add_members(5, ago(1))
    await clock.expire()
    before = await clock.counts()

    assert await clock.expire() == {}
    assert (await clock.counts())[:2] == before[:2]


async def test_grace_begins_and_ends(clock: Clock) -> None:
    await clock.add_members(2, ago(2))
    await clock.add_members(1, ago(10))
    await clock.add_members(1, ago(2), state="suspended", hold="unpaid")

    assert await clock.expire(grace_days=7) == {"total_found": 4, "applied": 4}
    # Held ones have no grace.
    assert await clock.states() == {"grace": 2, "expired": 2}
    assert await clock.expire(grace_days=7) == {}
    # The company has days of its own from now on.
    await clock.fetch("update companies set grace_days = 1")
    assert await clock.expire(grace_days=7) == {"total_found": 2, "applied": 2}
    assert await clock.states() == {"expired": 4}


async def test_each_company_has_its_own_days_of_grace(clock: Clock) -> None:
    async with clock.database.transaction() as tx:
        strict = (await insert_company(tx, "Strict", "UTC", 0)).id
        kind = (await insert_company(tx, "Kind", "UTC", 30)).id
    for company in (strict, kind, clock.company):
        await clock.add_members(3, ago(5), state="grace", local=True, company=company)

    # In pages of one, so that every page ends within a company.
    assert await clock.expire(grace_days=3, batch=1) == {"total_found": 6, "applied": 6}
    left = await clock.fetch("select company_id, count(*) as n from members where state = 'grace' group by 1")
    assert [(row["company_id"], row["n"]) for row in left] == [(kind, 3)]


async def test_batches_go_on_where_the_one_before_ended(clock: Clock) -> None:
    await clock.add_members(25, ago(1))
    # All at one instant: the id goes on.
    await clock.fetch("update members set expires_at = $1", ago(1))

    assert await clock.expire(batch=4) == {"total_found": 25, "applied": 25}
    assert await clock.states() == {"expired": 25}


async def test_one_that_fails_among_a_thousand_stops_no_other(clock: Clock) -> None:
    await clock.add_members(1000, ago(1))
    # No event has room for it.
    await clock.fetch("update members set plan = repeat('x', 1000) where external_id = 'm-500'")

    assert await clock.expire() == {"total_found": 1000, "applied": 999, "errors": 1}
    ((state,),) = await clock.fetch("select state from members where external_id = 'm-500'")
    assert state == "active"
    (job,) = await clock.fetch("select state from jobs")
    assert job["state"] == JobState.PARTIAL
    # It is tried again, and found again.
    assert await clock.expire() == {"total_found": 1, "errors": 1}


async def test_one_that_the_database_fails_on_in_an_unknown_way_stops_no_other(clock: Clock) -> None:
    await clock.add_members(20, ago(1))
    await clock.fetch(
        "create function breaks() returns trigger language plpgsql as "
        "$$ begin if new.external_id = 'm-7' then raise exception 'unheard of'; end if; return new; end $$"
    )
    await clock.fetch("create trigger breaks before update on members for each row execute function breaks()")

    assert await clock.expire() == {"total_found": 20, "applied": 19, "errors": 1}


async def test_one_in_whose_way_something_always_is_loses_nobody_else_s_count(clock: Clock) -> None:
    await clock.add_members(20, ago(1))
    # The next version is in the audit already, whoever tries and however often.
    await clock.fetch(
        "insert into member_events (member_id, version, company_id, connection_id, external_id, occurred_at, reason_code, "
        "new_state, changed_fields, before, after, actor, correlation_id) "
        "select id, 2, company_id, connection_id, external_id, now(), 'ADMIN', state, '{}', '{}', '{}', 'somebody', '' "
        "from members where external_id = 'm-7' returning id"
    )

    assert await clock.expire() == {"total_found": 20, "applied": 19, "errors": 1}


async def test_whom_somebody_else_changes_is_not_waited_for(clock: Clock) -> None:
    await clock.add_members(3, ago(1))
    async with clock.database.transaction() as tx:
        await tx.execute("select from members where external_id = 'm-1' for update")

        assert await clock.expire() == {"total_found": 3, "applied": 2, "skipped_lock": 1}
    assert await clock.expire() == {"total_found": 1, "applied": 1}


async def test_a_renewal_that_races_wins_a_thousand_times(clock: Clock) -> None:
    await clock.add_members(1000, ago(1))
    renewals = [clock.upsert(1, {"expires_at": ago(-365)}, external_id=f"m-{n}", message=f"{n}") for n in range(1000)]

    async def renew() -> None:
        for start in range(0, 1000, 20):
            results = await clock.apply(*renewals[start : start + 20])
            assert {result.outcome.value for result in results} == {"applied"}

    counts, _ = await asyncio.gather(clock.expire(batch=50), renew())

    assert await clock.states() == {"active": 1000}
    # Every race is told of as it went: expired first and renewed then, or renewed alone.
    events = await clock.fetch("select reason_code, count(*) as n from member_events where version > 1 group by 1")
    found = {row["reason_code"]: row["n"] for row in events}
    assert found.get("UPSTREAM_CHANGE") == 1000
    assert found.get("EXPIRY_RECONCILIATION", 0) == counts.get("applied", 0)
    assert sum(value for name, value in counts.items() if name != "total_found") == counts["total_found"]
    assert await clock.expire() == {}


async def test_a_renewal_between_the_look_and_the_lock_wins(clock: Clock) -> None:
    await clock.add_members(2, ago(1))
    member = await clock.member_id("m-0")
    async with clock.database.transaction() as tx:
        # What the pass has read before, as it stands in its batch.
        found = await tx.fetch("select id, version from members where id = $1", member)
    await clock.apply(clock.upsert(1, {"expires_at": ago(-365)}, external_id="m-0", message="1"))
    (result,) = await apply_changes(clock.database, [time_passed(member, found[0]["version"])], default_grace_days=0)
    assert result.outcome == "stale"
    assert (await clock.states())["active"] == 2


async def test_another_instance_at_it_leaves_nothing_to_do(clock: Clock) -> None:
    await clock.add_members(2, ago(1))
    async with clock.database.transaction() as tx:
        await take_lease(tx, STATUS_LEASE, uuid4(), timedelta(minutes=1))

    with capture_logs() as said:
        assert await clock.expire() == {"skipped": True}
    assert "expiry skipped, another instance is at it" in [line["event"] for line in said]
    assert await clock.states() == {"active": 2}


async def test_two_passes_at_once_expire_each_member_once(clock: Clock) -> None:
    await clock.add_members(200, ago(1))

    found = await asyncio.gather(*(clock.expire(batch=10, subject=uuid4()) for _ in range(3)))

    assert sum(counts.get("applied", 0) for counts in found) == 200
    assert sum(counts.get("skipped", False) for counts in found) == 2
    assert await clock.states() == {"expired": 200}
    assert [row["n"] for row in await clock.fetch("select count(*) as n from member_events where version = 2")] == [200]


async def test_it_stops_between_batches_and_another_attempt_goes_on(clock: Clock) -> None:
    await clock.add_members(500, ago(1))
    async with clock.database.transaction() as tx:
        asked = await enqueue_job(tx, kind=EXPIRY, company_id=None, subject_id=None, requested_by="tests")
    assert isinstance(asked, Enqueued)
    options = JobOptions(look=timedelta(seconds=0.01))
    claimed = await claim_job(clock.database, asked.job_id, uuid4(), options.lease)
    assert claimed is not None

    async def stopped_on_its_way(job: object) -> object:
        async def stop() -> None:
            while (await clock.states()).get("expired", 0) < 5:
                await asyncio.sleep(0)
            claimed.stop()

        stopping = asyncio.create_task(stop())
        try:
            return await expire_memberships(clock.database, claimed, default_grace_days=0, batch=5)
        finally:
            await stopping

    state = await run_job(clock.database, claimed, JobKind(stopped_on_its_way), options=options)  # type: ignore[arg-type]
    assert state == JobState.QUEUED
    done = (await clock.states())["expired"]
    assert 0 < done < 500
    assert done % 5 == 0

    row = await clock.run(asked.job_id, partial(expire_memberships, clock.database, default_grace_days=0))
    assert row.result is not None
    assert row.result["applied"] == 500 - done


async def plan(clock: Clock, external_id: str, planned: PendingPlan) -> None:
    await clock.fetch(
        "update members set pending_plan = $2, pending_start = $3, pending_expires_at = $4 where external_id = $1",
        external_id,
        planned.plan,
        planned.starts_on,
        planned.expires_at,
    )


async def test_a_due_plan_begins_first_and_renews(clock: Clock) -> None:
    await clock.add_members(4, ago(1))
    await clock.fetch("update connections set mapped_fields = array['name'] where id = $1", clock.connection)
    today = ago(0).date()
    await plan(clock, "m-0", PendingPlan("gold", today, ago(-365)))
    await plan(clock, "m-1", PendingPlan("gold", today))
    await plan(clock, "m-2", PendingPlan("gold", today + 2 * DAY, ago(-365)))

    assert await clock.expire() == {"total_found": 4, "applied": 4}

    rows = {row["external_id"]: row for row in await clock.members()}
    assert [(rows[f"m-{n}"]["state"], rows[f"m-{n}"]["plan"], rows[f"m-{n}"]["version"]) for n in range(4)] == [
        ("active", "gold", 2),
        ("expired", "gold", 2),
        ("expired", "basic", 2),
        ("expired", "basic", 2),
    ]
    assert [rows[f"m-{n}"]["pending_plan"] for n in range(4)] == [None, None, "gold", None]
    history = await clock.fetch("select change_type, plan, effective_date_day, expires_at from plan_changes order by member_id")
    assert [row["change_type"] for row in history] == ["APPLIED", "APPLIED"]
    told = [json.loads(row["body"]) for row in await clock.outbox() if row["type"] == "MEMBERSHIP_UPDATED"]
    renewed = next(body for body in told if body["newState"] == "active")
    assert renewed["reasonCode"] == "EXPIRY_RECONCILIATION"
    assert renewed["changedFields"] == ["plan", "expiresAt"]


async def test_a_plan_that_the_source_owns_does_not_keep_a_membership_from_ending(clock: Clock) -> None:
    await clock.add_members(1, ago(1))
    await plan(clock, "m-0", PendingPlan("gold", ago(0).date(), ago(-365)))

    assert await clock.expire() == {"total_found": 1, "applied": 1}
    assert await clock.states() == {"expired": 1}
    assert await clock.fetch("select from plan_changes") == []
