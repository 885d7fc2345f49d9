"""What an operator does in the club of the fourth chapter, and what the database says of its clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID, uuid4

from uuid_utils.compat import uuid7

from deploy.demo.clock_scenario import ENDING, PLANNED, RENEWED
from service.actions.apply_changes import apply_changes
from service.actions.apply_plan_changes import PLAN_CHANGES
from service.actions.audit_change import Author
from service.actions.change_member import MemberRefused
from service.actions.enqueue_job import Enqueued, enqueue_job
from service.actions.request_plan_change import request_plan_change
from service.actions.schedule_sync import SHORTEST_SYNC_INTERVAL, Scheduled, schedule_sync
from service.domain.change import Cause, MemberCreated, MemberEdited, PendingPlan, Reason
from service.domain.errors import RollcallError
from service.domain.jobs import JobId
from service.domain.member import CompanyId, ConnectionId, MemberId
from service.domain.outcome import Outcome, Result
from service.store.clock import read_clock
from service.store.database import Database

__all__ = ["ClockDesk", "ClockMember", "Job"]

_WHO: Final = "demo"
# Nobody shall end before he is there: so long, and longer where the machine is slow.
_ENDS_IN: Final = timedelta(seconds=1)
_AS_LONG_AS_JOINING: Final = 4
_YEAR: Final = timedelta(days=365)
_CONNECTIONS: Final = 4
_LOOK_SECONDS: Final = 0.05

_MEMBERS: Final = "select id, external_id, name, state, plan, version from members where company_id = $1"
_JOBS: Final = (
    "select kind, state, schedule_id, result from jobs where created_at >= $1 and (company_id is null or company_id = $2)"
)
_SLOTS_TWICE: Final = """
select count(*) from (select from jobs where schedule_id is not null group by schedule_id, slot having count(*) > 1) s
"""
_PLANS_TWICE: Final = """
select count(*) from (
    select from plan_changes where change_type = 'APPLIED' group by member_id, effective_date_day having count(*) > 1
) p
"""
_NEXT_SYNC: Final = "select next_run_at from schedules where kind = 'directory_sync' and subject_id = $1"


class ClockWentWrong(RollcallError):
    """What the operator asked for was refused; the text says what."""


@dataclass(frozen=True, slots=True)
class ClockMember:
    """A member as stored."""

    id: UUID
    external_id: str | None
    name: str | None
    state: str
    plan: str | None
    version: int


@dataclass(frozen=True, slots=True)
class Job:
    """A job, and what it said that it came to."""

    kind: str
    state: str
    schedule_id: UUID | None
    result: Mapping[str, Any] | None


class ClockDesk:
    """One company's desk; raises ClockWentWrong and Retry errors."""

    def __init__(self, db: Database, company_id: CompanyId, began_at: datetime) -> None:
        self._db = db
        self._company_id = company_id
        self._began_at = began_at
        self._cause = Cause(Reason.ADMIN, _WHO, str(uuid7()))
        self._ids: list[MemberId] = []

    @classmethod
    @asynccontextmanager
    async def opened(cls, database_url: str, company_id: CompanyId) -> AsyncIterator[Self]:
        """Connect; raises Unavailable."""
        db = await Database.connect(database_url, name="rollcall demo", size=_CONNECTIONS)
        try:
            async with db.transaction() as tx:
                began_at = await read_clock(tx)
            yield cls(db, company_id, began_at)
        finally:
            await db.close()

    async def add_members(self) -> datetime:
        """Everybody joins, those last whose memberships end; answers when they do."""
        planned = [self._joins(number, None) for number in PLANNED]
        began = time.monotonic()
        _all_applied(await apply_changes(self._db, planned, default_grace_days=0))
        took = timedelta(seconds=time.monotonic() - began)
        async with self._db.transaction() as tx:
            ends_at = await read_clock(tx) + max(_ENDS_IN, took * _AS_LONG_AS_JOINING)
        ending = [self._joins(number, ends_at) for number in ENDING]
        _all_applied(await apply_changes(self._db, ending, default_grace_days=0))
        self._ids = [change.member_id for change in (*ending, *planned)]
        return ends_at

    async def renew(self) -> None:
        """Some renew before anybody notices that they have ended."""
        later = self._began_at + _YEAR
        renewals = [
            MemberEdited(
                member_id=self._ids[number],
                read_version=1,
                cause=self._cause,
                company_id=self._company_id,
                fields={"expires_at": later},
            )
            for number in RENEWED
        ]
        _all_applied(await apply_changes(self._db, renewals, default_grace_days=0))

    async def plan(self) -> None:
        """Another plan for each, from today on."""
        # The club's clocks show UTC.
        planned = PendingPlan("gold", self._began_at.date())
        waiting = iter([self._ids[number] for number in PLANNED])

        async def ask(member_ids: Iterator[MemberId]) -> None:
            for member_id in member_ids:
                answer = await request_plan_change(
                    self._db, self._company_id, member_id, planned, self._cause, versions=None, default_grace_days=0
                )
                if isinstance(answer, MemberRefused):
                    message = f"a plan was refused: {answer.reason}"
                    raise ClockWentWrong(message)

        with _one_failure():
            async with asyncio.TaskGroup() as group:
                for _ in range(_CONNECTIONS):
                    group.create_task(ask(waiting))

    async def begin_plans_twice(self) -> list[JobId]:
        """Two passes over the plans at the same moment; the schedule would let one run at a time."""
        jobs = []
        async with self._db.transaction() as tx:
            for _ in range(2):
                asked = await enqueue_job(tx, kind=PLAN_CHANGES, company_id=None, subject_id=uuid4(), requested_by=_WHO)
                if not isinstance(asked, Enqueued):
                    message = f"a pass of the plans was asked for and answered {asked}"
                    raise ClockWentWrong(message)
                jobs.append(asked.job_id)
        return jobs

    async def sync_again_and_again(self, connection_id: ConnectionId) -> None:
        """Let a directory be asked as often as may be."""
        async with self._db.transaction() as tx:
            answer = await schedule_sync(tx, Author(self._company_id, _WHO), connection_id, SHORTEST_SYNC_INTERVAL)
        if not isinstance(answer, Scheduled):
            message = f"an interval was refused: {answer}"
            raise ClockWentWrong(message)

    async def next_sync(self, connection_id: ConnectionId) -> datetime:
        """When the directory is asked next."""
        async with self._db.transaction() as tx:
            next_run_at: datetime = await tx.fetchval(_NEXT_SYNC, connection_id)
        return next_run_at

    async def until(self, moment: datetime) -> None:
        """Wait until the database's clock has passed it."""
        while True:
            async with self._db.transaction() as tx:
                left = (moment - await read_clock(tx)).total_seconds()
            if left < 0:
                return
            await asyncio.sleep(left + _LOOK_SECONDS)

    async def members(self) -> Sequence[ClockMember]:
        """Every member of the company."""
        async with self._db.transaction() as tx:
            return [ClockMember(**row) for row in await tx.fetch(_MEMBERS, self._company_id)]

    async def jobs(self) -> Sequence[Job]:
        """The jobs of this chapter."""
        async with self._db.transaction() as tx:
            return [Job(**row) for row in await tx.fetch(_JOBS, self._began_at, self._company_id)]

    async def twice(self) -> int:
        """Slots that had two jobs, and plans that began twice on one day."""
        async with self._db.transaction() as tx:
            return int(await tx.fetchval(_SLOTS_TWICE)) + int(await tx.fetchval(_PLANS_TWICE))

    def _joins(self, number: int, ends_at: datetime | None) -> MemberCreated:
        return MemberCreated(
            company_id=self._company_id,
            member_id=MemberId(uuid7()),
            cause=self._cause,
            fields={"name": f"Climber {number}", "plan": "basic", "expires_at": ends_at},
        )


def _all_applied(results: Collection[Result]) -> None:
    if wrong := [result for result in results if result.outcome is not Outcome.APPLIED]:
        message = f"{len(wrong)} of {len(results)} changes were not applied: {wrong[0].reason}"
        raise ClockWentWrong(message)


@contextmanager
def _one_failure() -> Iterator[None]:
    """Raise the first of what a group failed with, whose text is for people."""
    try:
        yield
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
