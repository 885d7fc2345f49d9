"""Publish what time has made of members: memberships that ended, and graces that are over (semantics: Expiry reconciliation).

Every read works the standing out anew, so that nobody waits for this; it is what subscribers are told by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog

from service.actions.apply_changes import Admitted
from service.actions.apply_due import DueCount, apply_due, due_result
from service.actions.begin_plans import HELD_ELSEWHERE, admit_due_plans
from service.actions.side_by_side import SideBySide
from service.domain.change import Cause, Change, PendingPlan, Reason, TimePassed, UpstreamRemoval, UpstreamUpsert
from service.domain.errors import Retry
from service.domain.jobs import JobResult
from service.domain.member import MemberId
from service.domain.plans import InvalidPlanChange, today_in, zone_of
from service.store.clock import read_clock
from service.store.due_members import DueMember, list_ended_graces, list_ended_memberships
from service.store.leases import release_lease, renew_lease, take_lease
from service.store.members import lock_free_members
from service.store.plan_changes import list_applied_plan_changes

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database, Tx

__all__ = ["EXPIRY", "STATUS_LEASE", "expire_memberships"]

EXPIRY: Final = "expiry"
STATUS_LEASE: Final = "cron:status-sync:global"
_LEASE: Final = timedelta(seconds=60)
_BATCH: Final = 1000
# While the database writes one batch, this process makes the next one ready; nobody is in two of them.
_AT_ONCE: Final = 2

_Find: TypeAlias = Callable[["Tx", "DueMember | None"], Awaitable[list[DueMember]]]

_log: Final = structlog.get_logger(__name__)


async def expire_memberships(db: Database, job: RunningJob, *, default_grace_days: int, batch: int = _BATCH) -> JobResult:
    """One pass of an `expiry` job over all members that are due as it begins; raises Unavailable and StopJob.

    Where another instance is at it, nothing is done.
    """
    async with db.transaction() as tx:
        fence = await take_lease(tx, STATUS_LEASE, job.id, _LEASE)
        began_at = await read_clock(tx)
    if fence is None:
        _log.info("expiry skipped, another instance is at it", job=str(job.id))
        return due_result({}, skipped=True)

    async def ended(tx: Tx, after: DueMember | None) -> list[DueMember]:
        return await list_ended_memberships(tx, began_at, batch, after)

    async def out_of_grace(tx: Tx, after: DueMember | None) -> list[DueMember]:
        return await list_ended_graces(tx, began_at, batch, default_grace_days, after)

    expiry = _Pass(db, job, default_grace_days, fence, began_at)
    try:
        await expiry.run("expiry", ended)
        await expiry.run("grace", out_of_grace)
    finally:
        await _release(db, job, fence)
    _log.info("expiry done", job=str(job.id), **{count.value: expiry.counts[count] for count in DueCount})
    return due_result(expiry.counts)


class _Pass:
    """One pass: its lease, and what was counted."""

    def __init__(self, db: Database, job: RunningJob, default_grace_days: int, fence: int, began_at: datetime) -> None:
        self.counts: Counter[DueCount] = Counter()
        self._db, self._job, self._default_grace_days = db, job, default_grace_days
        self._fence, self._began_at = fence, began_at
        self._cause = Cause(Reason.EXPIRY_RECONCILIATION, f"job:{job.id}", job.correlation_id, job.traceparent)

    async def run(self, phase: str, find: _Find) -> None:
        """Batch after batch, each from where the one before it ended; a stop between two of them."""

        async def settle(changes: Sequence[TimePassed]) -> None:
            self.counts.update(
                await apply_due(self._db, self._job, changes, default_grace_days=self._default_grace_days, admission=_admission)
            )

        after: DueMember | None = None
        async with SideBySide(_AT_ONCE) as batches:
            while True:
                await self._job.progress(
                    phase=phase, found=self.counts[DueCount.TOTAL_FOUND], applied=self.counts[DueCount.APPLIED]
                )
                async with self._db.transaction() as tx:
                    if not await renew_lease(tx, STATUS_LEASE, self._job.id, self._fence, _LEASE):
                        # Nothing is done twice by two of them; one too many only costs.
                        _log.warning("expiry stops, another instance has taken it over", job=str(self._job.id))
                        return
                    found = await find(tx, after)
                    plans = await self._due_plans(tx, found)
                if not found:
                    return
                after = found[-1]
                await batches.run(
                    settle(
                        [
                            TimePassed(member_id=one.id, read_version=one.version, cause=self._cause, due=plans.get(one.id))
                            for one in found
                        ]
                    )
                )

    async def _due_plans(self, tx: Tx, found: Sequence[DueMember]) -> Mapping[MemberId, PendingPlan]:
        """The plans that begin first, and may renew the membership."""
        due = {one.id: plan for one in found if one.plan_is_ours and (plan := self._due_plan(one)) is not None}
        if not due:
            return {}
        begun = await list_applied_plan_changes(tx, {member_id: plan.starts_on for member_id, plan in due.items()})
        return {member_id: plan for member_id, plan in due.items() if member_id not in begun}

    def _due_plan(self, one: DueMember) -> PendingPlan | None:
        if one.pending_plan is None or one.pending_start is None:
            return None
        try:
            today = today_in(zone_of(one.time_zone), self._began_at)
        except InvalidPlanChange:
            # The pass of the plans reports it.
            return None
        return PendingPlan(one.pending_plan, one.pending_start, one.pending_expires_at) if one.pending_start <= today else None


async def _release(db: Database, job: RunningJob, fence: int) -> None:
    try:
        async with db.transaction() as tx:
            await release_lease(tx, STATUS_LEASE, job.id, fence)
    except Retry as error:
        # It runs out by itself.
        _log.warning("expiry cannot give its lease back", job=str(job.id), reason=str(error))


async def _admission(tx: Tx, changes: Sequence[Change]) -> Admitted:
    """Whom somebody else changes at this moment nobody waits for."""
    withheld = (await admit_due_plans(tx, changes)).withheld
    ids = {change.member_id for change in changes if not isinstance(change, UpstreamUpsert | UpstreamRemoval)}
    locked = await lock_free_members(tx, ids - withheld.keys())
    held = ids.difference(member.id for member in locked)
    return Admitted(dict.fromkeys(held, HELD_ELSEWHERE) | dict(withheld), locked)
