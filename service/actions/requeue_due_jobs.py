"""Hand on what waits: jobs whose retry is due, whose worker went silent, or whose message is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from service.actions.move_jobs import move_jobs
from service.domain.jobs import JobState, overdue
from service.store.jobs import lock_due_jobs
from service.telemetry.metrics import UNMEASURED, Metrics

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["MOST_AT_ONCE", "requeue_due_jobs"]

MOST_AT_ONCE: Final = 100

_log: Final = structlog.get_logger(__name__)


async def requeue_due_jobs(db: Database, *, most: int = MOST_AT_ONCE, metrics: Metrics = UNMEASURED) -> int:
    """Queue up to `most` due jobs anew and answer how many were due; callers at once get different ones. Raises Retry errors."""
    async with db.transaction() as tx:
        # What another instance has locked is in its hands.
        due = await lock_due_jobs(tx, most)
        if due:
            await move_jobs(tx, [overdue(job) for job in due])
    abandoned = [job for job in due if job.state is JobState.RUNNING]
    for job in abandoned:
        _log.warning("job's worker went silent", job=str(job.id), attempt=job.attempts, state=overdue(job).state)
    metrics.jobs_handed_on(abandoned=len(abandoned), waited=len(due) - len(abandoned))
    return len(due)
