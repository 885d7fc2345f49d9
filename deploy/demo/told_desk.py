"""What is done in the club of the fifth chapter, by an operator and behind the operator's back, and what the database says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

from uuid_utils.compat import uuid7

from deploy.demo.told_scenario import CHANGES, CHANGING, EDITED, JOIN
from service.actions.apply_changes import apply_changes
from service.actions.audit_change import Author
from service.actions.configure_subscriber import NewSubscriber, register_subscriber
from service.actions.enqueue_job import AlreadyRunning, enqueue_job
from service.actions.read_models.audit import AUDIT
from service.actions.reconcile_drift import DRIFT_FULL
from service.domain.change import Cause, Change, MemberCreated, MemberEdited, Reason
from service.domain.errors import RollcallError
from service.domain.jobs import ENDED, JobId
from service.domain.member import CompanyId, MemberId
from service.domain.outcome import Outcome
from service.settings import Settings
from service.store.companies import insert_company
from service.store.database import Database
from service.store.drift_runs import DriftRunRow, list_drift_runs
from service.store.drift_streaks import set_healing
from service.store.jobs import find_job
from service.store.subscribers import SubscriberRow
from service.wiring.notifications import bound_notifications

__all__ = ["ToldDesk"]

_WHO: Final = "demo"
_SIGNED_BY: Final = "mailing-lists"
_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.05

_EDIT: Final = "update members set plan = 'lifetime' where id = any ($1::uuid[])"
_LEFT: Final = "select count(*) from members where company_id = $1 and plan = 'lifetime'"
_NOT_ENDED: Final = """
select count(*) from deliveries d join subscribers s on s.id = d.subscriber_id
where s.company_id = $1 and d.state not in ('delivered', 'exhausted')
"""
_WRITTEN_DOWN: Final = "select count(*) from deliveries d join subscribers s on s.id = d.subscriber_id where s.company_id = $1"


class ToldWentWrong(RollcallError):
    """What the operator asked for was refused, or did not end; the text says what."""


class ToldDesk:
    """One company's desk; raises ToldWentWrong and Retry errors."""

    def __init__(self, db: Database, company_id: CompanyId) -> None:
        self._db = db
        self.company_id = company_id
        self._cause = Cause(Reason.ADMIN, _WHO, str(uuid7()))
        self._ids: list[MemberId] = []

    @classmethod
    @asynccontextmanager
    async def opened(cls, database_url: str) -> AsyncIterator[Self]:
        """Connect, and found the company; raises Unavailable."""
        db = await Database.connect(database_url, name="rollcall demo", size=1)
        try:
            async with db.transaction() as tx:
                company = await insert_company(tx, "Demo Rambling Club", "UTC", 0)
            yield cls(db, company.id)
        finally:
            await db.close()

    async def subscribe(self, settings: Settings, secrets_dir: Path, url: str, secret: str) -> None:
        """Let a system be told, in order; its secret lies in a file below `secrets_dir`."""
        (secrets_dir / _SIGNED_BY).write_text(secret, encoding="utf-8")
        bound = await bound_notifications(settings, self.company_id)
        new = NewSubscriber(name="mailing lists", url=url, secret_reference=f"file:{_SIGNED_BY}", in_order=True)
        async with self._db.transaction() as tx:
            answer = await register_subscriber(tx, Author(self.company_id, _WHO), new, bound, by_operator=True)
        if not isinstance(answer, SubscriberRow):
            message = f"a subscriber was refused: {answer}"
            raise ToldWentWrong(message)

    async def join(self) -> None:
        """Everybody joins."""
        joining = [
            MemberCreated(
                company_id=self.company_id,
                member_id=MemberId(uuid7()),
                cause=self._cause,
                fields={"name": f"Rambler {number}", "plan": "basic"},
            )
            for number in range(JOIN)
        ]
        await self._apply(joining)
        self._ids = [change.member_id for change in joining]

    async def change(self) -> None:
        """Some have another plan, again and again."""
        for version in range(1, CHANGES + 1):
            await self._apply(
                MemberEdited(
                    member_id=self._ids[number],
                    read_version=version,
                    cause=self._cause,
                    company_id=self.company_id,
                    fields={"plan": f"plan {version}"},
                )
                for number in CHANGING
            )

    async def edit_behind_our_back(self) -> None:
        """What a script does that knows the table and nothing else: no version, no audit, no event."""
        async with self._db.transaction() as tx:
            await tx.execute(_EDIT, [self._ids[number] for number in EDITED])

    async def compare(self) -> DriftRunRow:
        """A run over every member, by a worker; raises ToldWentWrong where it does not end in time."""
        job_id = await self._enqueue()
        await self._until_ended(job_id)
        async with self._db.transaction() as tx:
            runs = await list_drift_runs(tx, job_id=job_id, limit=1)
        if not runs:
            raise ToldWentWrong("a drift run left no trace")
        return runs[0]

    async def heal_from_now_on(self) -> None:
        """Let runs repair what they find."""
        async with self._db.transaction() as tx:
            await set_healing(tx, AUDIT, heals=True)

    async def edits_left(self) -> int:
        """Rows that still hold what somebody wrote into them."""
        return await self._count(_LEFT)

    async def not_ended(self) -> int:
        """Deliveries on their way."""
        return await self._count(_NOT_ENDED)

    async def written_down(self) -> int:
        """Deliveries, whatever has come of them."""
        return await self._count(_WRITTEN_DOWN)

    async def _apply(self, changes: Iterable[Change]) -> None:
        results = await apply_changes(self._db, list(changes), default_grace_days=0)
        if wrong := [result for result in results if result.outcome is not Outcome.APPLIED]:
            message = f"{len(wrong)} of {len(results)} changes were not applied: {wrong[0].reason}"
            raise ToldWentWrong(message)

    async def _enqueue(self) -> JobId:
        while True:
            async with self._db.transaction() as tx:
                asked = await enqueue_job(
                    tx, kind=DRIFT_FULL, company_id=None, subject_id=None, requested_by=_WHO, parameters={"readModel": AUDIT}
                )
            if not isinstance(asked, AlreadyRunning):
                return asked.job_id
            # Whoever runs the demo at night: the clock has begun one.
            await self._until_ended(asked.job_id)

    async def _until_ended(self, job_id: JobId) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            async with self._db.transaction() as tx:
                job = await find_job(tx, job_id)
            if job is None or job.state in ENDED:
                return
            if time.monotonic() > deadline:
                message = f"a drift run did not end within {_SECONDS:.0f} s: it is {job.state.value}"
                raise ToldWentWrong(message)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _count(self, sql: str) -> int:
        async with self._db.transaction() as tx:
            return int(await tx.fetchval(sql, self.company_id))
