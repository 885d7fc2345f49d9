"""What the tests of the clock stand on: members whose dates do the work, and passes as a worker would run them.

`python -m tests.clock_rig` is a pass of plan changes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from service.actions.apply_plan_changes import PLAN_CHANGES, apply_plan_changes
from service.actions.enqueue_job import Enqueued, enqueue_job
from service.actions.expire_memberships import EXPIRY, expire_memberships
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobFunction, JobKind
from service.domain.jobs import JobId
from service.domain.member import CompanyId, ConnectionId
from service.store.database import Database
from service.store.jobs import JobRow, find_job
from tests.apply_rig import Books, CountingDatabase, open_books

DAY = timedelta(days=1)

# Members with all that belongs to them: an audit row and the message of their first version.
MEMBERS = """
with added as (
    insert into members (
        id, company_id, connection_id, external_id, name, upstream_state, state, expires_at, plan, version, hold, held_at
    )
    select gen_random_uuid(), $1, $2, $3 || n, 'Anna', 'active', $4, $5::timestamptz - n * interval '1 second', 'basic', 1, $8,
        case when $8::text is not null then now() end
    from generate_series($6::integer, $6::integer + $7::integer - 1) n
    returning *
), audited as (
    insert into member_events (
        member_id, version, company_id, connection_id, external_id, occurred_at, reason_code, new_state, changed_fields, plan,
        expires_at, before, after, actor, correlation_id
    )
    select id, 1, company_id, connection_id, external_id, now(), 'ADMIN', state, '{}', plan, expires_at, '{}', '{}', 'tests', ''
    from added
)
select count(*) from added
"""


class Clock(Books):
    """One company, its members, and the passes of the clock."""

    def __init__(self, database: CountingDatabase, company: CompanyId, connection: ConnectionId, other: ConnectionId) -> None:
        super().__init__(database, company, connection, other)
        self.added = 0

    async def add_members(
        self,
        count: int,
        expires_at: datetime | None,
        *,
        state: str = "active",
        local: bool = False,
        company: UUID | None = None,
        hold: str | None = None,
    ) -> None:
        """So many, each ending a second before the last; without a connection where `local`."""
        first, self.added = self.added, self.added + count
        connection = None if local else self.connection
        ((made,),) = await self.fetch(
            MEMBERS, company or self.company, connection, None if local else "m-", state, expires_at, first, count, hold
        )
        assert made == count

    async def states(self) -> dict[str, int]:
        return {row["state"]: row["n"] for row in await self.fetch("select state, count(*) as n from members group by state")}

    async def pass_of(
        self, kind: str, function: JobFunction, *, database: Database | None = None, subject: UUID | None = None
    ) -> JobRow:
        """A job of the kind, run to its end."""
        async with self.database.transaction() as tx:
            asked = await enqueue_job(tx, kind=kind, company_id=None, subject_id=subject, requested_by="tests")
        assert isinstance(asked, Enqueued)
        return await self.run(asked.job_id, function)

    async def run(self, job_id: JobId, function: JobFunction) -> JobRow:
        options = JobOptions()
        claimed = await claim_job(self.database, job_id, uuid4(), options.lease)
        assert claimed is not None
        await run_job(self.database, claimed, JobKind(function), options=options)
        return await self.job(job_id)

    async def job(self, job_id: JobId) -> JobRow:
        async with self.database.transaction() as tx:
            found = await find_job(tx, job_id)
        assert found is not None
        return found

    async def expire(self, *, grace_days: int = 0, batch: int = 1000, subject: UUID | None = None) -> dict[str, Any]:
        """One pass of expiry; answers its counts, zeros left out."""
        row = await self.pass_of(
            EXPIRY, partial(expire_memberships, self.database, default_grace_days=grace_days, batch=batch), subject=subject
        )
        assert row.result is not None, row
        return {name: value for name, value in row.result.items() if value}


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


@asynccontextmanager
async def open_clock(url: str, *, size: int = 8) -> AsyncIterator[Clock]:
    async with open_books(url, size=size) as books:
        async with books.database.transaction() as tx:
            await tx.execute("truncate schedules, leases")
        yield Clock(books.database, books.company, books.connection, books.other)


async def main() -> None:
    """A pass of plan changes in a process of its own, to be killed."""
    database = await CountingDatabase.connect(os.environ["DATABASE_URL"], name="tests", size=4)
    async with database.transaction() as tx:
        asked = await enqueue_job(tx, kind=PLAN_CHANGES, company_id=None, subject_id=uuid4(), requested_by="tests")
    assert isinstance(asked, Enqueued)
    options = JobOptions()
    claimed = await claim_job(database, asked.job_id, uuid4(), options.lease)
    assert claimed is not None
    function = partial(apply_plan_changes, database, default_grace_days=0)
    await run_job(database, claimed, JobKind(function), options=options)


if __name__ == "__main__":
    asyncio.run(main())
