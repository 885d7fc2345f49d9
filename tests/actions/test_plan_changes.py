from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from service.actions.apply_plan_changes import PLAN_CHANGES, apply_plan_changes
from service.actions.change_member import MemberRefused
from service.actions.request_plan_change import cancel_plan_change, request_plan_change
from service.domain.change import Cause, PendingPlan, Reason
from service.domain.member import MemberId
from service.store.companies import insert_company
from service.store.database import Database
from service.store.plan_changes import list_plan_changes, try_lock_plan_changes
from service.telemetry.logs import add_ids
from tests.clock_rig import DAY, Clock, ago, open_clock

ROOT = Path(__file__).resolve().parents[2]
DUPLICATES = "select member_id from plan_changes where change_type = 'APPLIED' group by member_id having count(*) > 1"
ADMIN = Cause(Reason.ADMIN, "key:test", "request")


def today() -> date:
    return datetime.now(UTC).date()


@pytest.fixture
async def clock(database_url: str) -> AsyncIterator[Clock]:
    async with open_clock(database_url, size=12) as clock:
        yield clock


async def pending(clock: Clock, count: int, plan: str = "gold", starts_on: date | None = None) -> None:
    """So many more local members with a plan that is due."""
    await clock.add_members(count, ago(-30), local=True)
    await clock.fetch(
        "update members set pending_plan = $1, pending_start = $2 where pending_plan is null and plan = 'basic'",
        plan,
        starts_on or today(),
    )
    await clock.fetch(
        "insert into plan_changes (member_id, company_id, change_type, plan, effective_date_day, actor, correlation_id) "
        "select id, company_id, 'SCHEDULED', pending_plan, pending_start, 'key:test', 'request' from members "
        "where pending_plan is not null and not exists (select from plan_changes where member_id = members.id)"
    )


async def begin_plans(clock: Clock, *, database: Database | None = None, batch: int = 200) -> dict[str, Any]:
    """One pass; answers its counts, zeros left out. A subject of its own lets several of them run at once."""
    function = partial(apply_plan_changes, database or clock.database, default_grace_days=0, batch=batch)
    row = await clock.pass_of(PLAN_CHANGES, function, subject=uuid4())
    assert row.result is not None, row
    return {name: value for name, value in row.result.items() if value}


async def history(clock: Clock, member: UUID | None = None) -> list[tuple[str, str]]:
    rows = await clock.fetch(
        "select change_type, plan from plan_changes where $1::uuid is null or member_id = $1 order by id", member
    )
    return [(row["change_type"], row["plan"]) for row in rows]


async def local_member(clock: Clock, **facts: Any) -> MemberId:
    await clock.add_members(1, facts.pop("expires_at", ago(-30)), local=True)
    ((found,),) = await clock.fetch("select id from members order by created_at desc limit 1")
    return MemberId(found)


class TestRequest:
    async def ask(self, clock: Clock, member: MemberId, planned: PendingPlan) -> Any:
        return await request_plan_change(clock.database, clock.company, member, planned, ADMIN, versions=None, default_grace_days=0)

    async def cancel(self, clock: Clock, member: MemberId) -> Any:
        return await cancel_plan_change(clock.database, clock.company, member, ADMIN, versions=None, default_grace_days=0)

    async def test_it_is_planned_with_its_history_and_no_version(self, clock: Clock) -> None:
        member = await local_member(clock)
        found = await self.ask(clock, member, PendingPlan("gold", today(), ago(-365)))

        assert (found.pending_plan, found.plan, found.version) == ("gold", "basic", 1)
        assert await history(clock) == [("SCHEDULED", "gold")]
        assert await clock.outbox() == []
        async with clock.database.transaction() as tx:
            (row,) = await list_plan_changes(tx, clock.company, member)
        assert (row.actor, row.correlation_id, row.effective_date_day) == ("key:test", "request", today())

    async def test_a_second_cancels_the_first(self, clock: Clock) -> None:
        member = await local_member(clock)
        await self.ask(clock, member, PendingPlan("gold", today() + DAY))
        await self.ask(clock, member, PendingPlan("silver", today() + DAY))
        # The same once more is nothing new.
        await self.ask(clock, member, PendingPlan("silver", today() + DAY))
        await self.cancel(clock, member)
        await self.cancel(clock, member)

        assert await history(clock) == [
            ("SCHEDULED", "gold"),
            ("CANCELLED", "gold"),
            ("SCHEDULED", "silver"),
            ("CANCELLED", "silver"),
        ]
        assert await begin_plans(clock) == {}

    async def test_the_plan_that_the_member_has_is_no_change(self, clock: Clock) -> None:
        member = await local_member(clock)
        await self.ask(clock, member, PendingPlan("basic", today()))
        assert await history(clock) == []

    async def test_what_the_source_owns_is_refused(self, clock: Clock) -> None:
        await clock.add_members(1, None)
        found = await self.ask(clock, await clock.member_id("m-0"), PendingPlan("gold", today()))
        assert isinstance(found, MemberRefused)
        assert "plan" in found.reason
        assert await history(clock) == []

    async def test_a_day_on_which_one_began_is_refused(self, clock: Clock) -> None:
        member = await local_member(clock)
        await self.ask(clock, member, PendingPlan("gold", today()))
        assert await begin_plans(clock) == {"total_found": 1, "applied": 1}

        found = await self.ask(clock, member, PendingPlan("silver", today()))
        assert isinstance(found, MemberRefused)
        ((planned,),) = await clock.fetch("select pending_plan from members")
        assert planned is None
        assert not isinstance(await self.ask(clock, member, PendingPlan("silver", today() + DAY)), MemberRefused)

    async def test_two_at_once_leave_one_and_a_history_without_gaps(self, clock: Clock) -> None:
        member = await local_member(clock)
        await asyncio.gather(*(self.ask(clock, member, PendingPlan(f"plan-{n}", today() + DAY)) for n in range(8)))

        ((planned,),) = await clock.fetch("select pending_plan from members")
        rows = await history(clock)
        assert rows[-1] == ("SCHEDULED", planned)
        assert [kind for kind, _ in rows] == ["SCHEDULED"] + ["CANCELLED", "SCHEDULED"] * 7
        assert all(rows[n] == ("CANCELLED", rows[n - 1][1]) for n in range(1, 15, 2))


class TestPass:
    async def test_plans_begin_with_audit_event_and_history(self, clock: Clock) -> None:
        await pending(clock, 3)
        await clock.add_members(1, ago(-30), local=True)

        assert await begin_plans(clock) == {"total_found": 3, "applied": 3}

        rows = await clock.members()
        assert Counter((row["plan"], row["pending_plan"], row["version"]) for row in rows) == {
            ("gold", None, 2): 3,
            ("basic", None, 1): 1,
        }
        told = [json.loads(row["body"]) for row in await clock.outbox() if row["type"] == "MEMBERSHIP_UPDATED"]
        assert {(body["reasonCode"], tuple(body["changedFields"]), body["plan"]) for body in told} == {
            ("PLAN_CHANGE", ("plan",), "gold")
        }
        (job,) = await clock.fetch("select id, correlation_id from jobs")
        applied = await clock.fetch("select * from plan_changes where change_type = 'APPLIED'")
        assert {(row["actor"], row["correlation_id"], row["effective_date_day"]) for row in applied} == {
            (f"job:{job['id']}", job["correlation_id"], today())
        }
        audited = await clock.fetch("select distinct correlation_id from member_events where version = 2")
        assert [row["correlation_id"] for row in audited] == [job["correlation_id"]]
        assert await begin_plans(clock) == {}

    async def test_an_expired_member_is_renewed(self, clock: Clock) -> None:
        await clock.add_members(1, ago(10), local=True, state="expired")
        await clock.fetch(
            "update members set pending_plan = 'gold', pending_start = $1, pending_expires_at = $2", today(), ago(-365)
        )
        assert await begin_plans(clock) == {"total_found": 1, "applied": 1}
        assert await clock.states() == {"active": 1}

    async def test_the_day_is_that_of_the_company_s_zone(self, clock: Clock) -> None:
        async with clock.database.transaction() as tx:
            # Between them it is never the same day.
            ahead = (await insert_company(tx, "Ahead", "Pacific/Kiritimati", None)).id
            behind = (await insert_company(tx, "Behind", "Etc/GMT+12", None)).id
        for company in (ahead, behind):
            await clock.add_members(1, ago(-30), local=True, company=company)
        there = (datetime.now(UTC) + timedelta(hours=14)).date()
        await clock.fetch("update members set pending_plan = 'gold', pending_start = $1", there)

        assert await begin_plans(clock) == {"total_found": 1, "applied": 1}
        ((company,),) = await clock.fetch("select company_id from members where plan = 'gold'")
        assert company == ahead

    async def test_a_company_whose_zone_is_none_is_reported_and_stops_no_other(self, clock: Clock) -> None:
        async with clock.database.transaction() as tx:
            odd = (await insert_company(tx, "Odd", "Europe/Atlantis", None)).id
        await clock.add_members(1, ago(-30), local=True, company=odd)
        await pending(clock, 2)
        assert await begin_plans(clock) == {"total_found": 3, "applied": 2, "errors": 1}

    async def test_a_member_whose_plan_another_instance_changes_is_skipped_and_counted(self, clock: Clock) -> None:
        await pending(clock, 3)
        ((held,), *_) = await clock.fetch("select id from members order by id")
        async with clock.database.transaction() as tx:
            assert await try_lock_plan_changes(tx, [held]) == {held}

            with capture_logs(processors=[add_ids]) as said:
                assert await begin_plans(clock) == {"total_found": 3, "applied": 2, "skipped_lock": 1}
        lines = {line["event"]: line for line in said}
        skipped = lines["plan change skipped, another instance has its lock"]
        assert (skipped["log_level"], skipped["member"]) == ("debug", str(held))
        done = lines["plan changes done"]
        counted = ("total_found", "applied", "skipped_lock", "duplicates", "no_longer_due", "errors")
        assert [done[name] for name in counted] == [3, 2, 1, 0, 0, 0]
        ((correlation_id,),) = await clock.fetch("select correlation_id from jobs")
        assert {line["correlation_id"] for line in said} == {correlation_id}
        # With the transaction the lock ends, whatever becomes of it.
        assert await begin_plans(clock) == {"total_found": 1, "applied": 1}

    async def test_a_lock_does_not_outlive_a_transaction_that_failed(self, clock: Clock) -> None:
        await pending(clock, 1)
        ((member,),) = await clock.fetch("select id from members")

        async def fail() -> None:
            async with clock.database.transaction() as tx:
                await try_lock_plan_changes(tx, [member])
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert await clock.fetch("select from pg_locks where locktype = 'advisory'") == []
        assert await begin_plans(clock) == {"total_found": 1, "applied": 1}

    async def test_one_that_began_that_day_already_is_a_duplicate_and_no_error(self, clock: Clock) -> None:
        await pending(clock, 2)
        assert await begin_plans(clock) == {"total_found": 2, "applied": 2}
        # As a restored row, or somebody's hand, would have it.
        await clock.fetch("update members set pending_plan = 'silver', pending_start = $1", today())

        assert await begin_plans(clock) == {"total_found": 2, "duplicates": 2}
        assert {row["plan"] for row in await clock.members()} == {"gold"}
        assert await clock.fetch(DUPLICATES) == []

    async def test_two_instances_at_once_begin_each_plan_once_and_their_totals_add_up(
        self, clock: Clock, database_url: str
    ) -> None:
        await pending(clock, 400)
        other = await Database.connect(database_url, name="the other instance", size=4)
        try:
            found = await asyncio.gather(
                begin_plans(clock, batch=20), begin_plans(clock, database=other, batch=20), begin_plans(clock, batch=33)
            )
        finally:
            await other.close()

        assert await clock.fetch(DUPLICATES) == []
        assert sum(counts.get("applied", 0) for counts in found) == 400
        for counts in found:
            assert counts.pop("total_found", 0) == sum(counts.values())
            assert "errors" not in counts
        assert {(row["plan"], row["version"]) for row in await clock.members()} == {("gold", 2)}

    async def test_one_that_fails_stops_no_other(self, clock: Clock) -> None:
        await pending(clock, 50)
        await clock.fetch("update members set pending_plan = repeat('x', 1000) where id = (select id from members limit 1)")
        assert await begin_plans(clock) == {"total_found": 50, "applied": 49, "errors": 1}

    @pytest.mark.parametrize("members", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
    async def test_killed_in_the_middle_and_run_again_it_is_as_if_nothing_had_happened(
        self, clock: Clock, database_url: str, members: int
    ) -> None:
        await pending(clock, members)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.clock_rig", cwd=ROOT, env={**os.environ, "DATABASE_URL": database_url}
        )
        try:
            async with asyncio.timeout(60):
                while not (done := await applied(clock)):
                    await asyncio.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == -signal.SIGKILL
        done = await applied(clock)
        assert 0 < done < members

        counts = await begin_plans(clock)

        assert counts == {"total_found": members - done, "applied": members - done}
        assert await clock.fetch(DUPLICATES) == []
        assert await applied(clock) == members
        rows = await clock.fetch("select plan, pending_plan, version, count(*) as n from members group by 1, 2, 3")
        assert [tuple(row.values()) for row in rows] == [("gold", None, 2, members)]
        ((events,),) = await clock.fetch("select count(*) from outbox where type = 'MEMBERSHIP_UPDATED'")
        assert events == members


async def applied(clock: Clock) -> int:
    ((count,),) = await clock.fetch("select count(*) from plan_changes where change_type = 'APPLIED'")
    return int(count)
