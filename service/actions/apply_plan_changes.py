"""Let plans begin whose day has come, by the clocks of each company (semantics: Plan changes)."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from service.actions.apply_due import DueCount, apply_due, due_result
from service.actions.begin_plans import admit_due_plans
from service.domain.change import Cause, PendingPlan, PlanChangeDue, Reason
from service.domain.jobs import JobResult
from service.domain.plans import InvalidPlanChange, today_in, zone_of
from service.store.clock import read_clock
from service.store.due_members import PendingMember, list_pending_plans

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database

__all__ = ["PLAN_CHANGES", "apply_plan_changes"]

PLAN_CHANGES: Final = "plan_changes"
# Each member's lock stands in the table of locks of the server, which has room for some thousands.
_BATCH: Final = 200
# Nowhere is it later than 14 hours after UTC.
_FURTHEST_AHEAD: Final = timedelta(hours=14)

_log: Final = structlog.get_logger(__name__)


async def apply_plan_changes(db: Database, job: RunningJob, *, default_grace_days: int, batch: int = _BATCH) -> JobResult:
    """One pass of a `plan_changes` job over all plans that are due as it begins; raises Unavailable and StopJob.

    Any number may be at it at once: who finds a member in another's hands leaves it there.
    """
    async with db.transaction() as tx:
        began_at = await read_clock(tx)
    cause = Cause(Reason.PLAN_CHANGE, f"job:{job.id}", job.correlation_id, job.traceparent)
    counts: Counter[DueCount] = Counter()
    after: PendingMember | None = None
    while True:
        await job.progress(found=counts[DueCount.TOTAL_FOUND], applied=counts[DueCount.APPLIED])
        async with db.transaction() as tx:
            found = await list_pending_plans(tx, (began_at + _FURTHEST_AHEAD).astimezone(UTC).date(), batch, after)
        if not found:
            break
        after = found[-1]
        due = []
        for one in found:
            try:
                begins = one.pending_start <= today_in(zone_of(one.time_zone), began_at)
            except InvalidPlanChange as error:
                counts.update({DueCount.TOTAL_FOUND: 1, DueCount.ERRORS: 1})
                _log.error("what was due cannot be applied", member=str(one.id), reason=str(error))
            else:
                due += [_change(one, cause)] if begins else []
        counts.update(await apply_due(db, job, due, default_grace_days=default_grace_days, admission=admit_due_plans))
    _log.info("plan changes done", job=str(job.id), **{count.value: counts[count] for count in DueCount})
    return due_result(counts)


def _change(one: PendingMember, cause: Cause) -> PlanChangeDue:
    due = PendingPlan(one.pending_plan, one.pending_start, one.pending_expires_at)
    return PlanChangeDue(member_id=one.id, read_version=one.version, cause=cause, due=due)
