"""Apply what time asks for, in batches of a job: one change that fails is counted and reported, and stops no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import structlog

from service.actions.apply_changes import Admission, apply_changes
from service.actions.begin_plans import HELD_ELSEWHERE, note_begun_plans
from service.actions.running_job import StopJob
from service.domain.change import Change, PlanChangeDue, TimePassed
from service.domain.errors import RollcallError, Unavailable
from service.domain.jobs import JobResult
from service.domain.outcome import Outcome, Result

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database, Tx

__all__ = ["DueCount", "apply_due", "due_result"]

_log: Final = structlog.get_logger(__name__)


class DueCount(StrEnum):
    """What becomes of the members that a pass finds; all but the first add up to the first."""

    TOTAL_FOUND = "total_found"
    APPLIED = "applied"
    # Somebody else had them locked: they, or the next pass, do it.
    SKIPPED_LOCK = "skipped_lock"
    DUPLICATES = "duplicates"
    # By the time they were looked at under their lock nothing was to be done.
    NO_LONGER_DUE = "no_longer_due"
    ERRORS = "errors"


async def apply_due(
    db: Database,
    job: RunningJob,
    changes: Sequence[PlanChangeDue | TimePassed],
    *,
    default_grace_days: int,
    admission: Admission,
) -> Counter[DueCount]:
    """Apply a batch while the job is this attempt's, and count; raises Unavailable and StopJob."""

    async def alongside(tx: Tx, applied: Sequence[Change], results: Sequence[Result]) -> None:
        await job.hold(tx)
        await note_begun_plans(tx, applied, results)

    async def results_of(some: Sequence[PlanChangeDue | TimePassed]) -> list[Result]:
        try:
            return await apply_changes(
                db, some, default_grace_days=default_grace_days, admission=admission, alongside=alongside, gives_up=True
            )
        except (Unavailable, StopJob):
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the others must not wait for it
            if len(some) == 1:
                # The text of an error without a rule here may quote a member's data.
                return [Result(Outcome.REFUSED, str(error) if isinstance(error, RollcallError) else type(error).__name__)]
        middle = len(some) // 2
        return [*await results_of(some[:middle]), *await results_of(some[middle:])]

    counts = Counter({DueCount.TOTAL_FOUND: len(changes)})
    for change, result in zip(changes, await results_of(changes) if changes else [], strict=True):
        what = _count_of(result, begins=isinstance(change, PlanChangeDue))
        counts[what] += 1
        if what is DueCount.ERRORS:
            _log.error("what was due cannot be applied", member=str(change.member_id), reason=result.reason)
    return counts


def _count_of(result: Result, *, begins: bool) -> DueCount:
    match result.outcome:
        case Outcome.APPLIED:
            return DueCount.APPLIED
        case Outcome.UNCHANGED:
            # A plan that was the member's already has begun.
            return DueCount.APPLIED if begins else DueCount.NO_LONGER_DUE
        case Outcome.STALE:
            return DueCount.SKIPPED_LOCK if result == HELD_ELSEWHERE else DueCount.NO_LONGER_DUE
        case Outcome.DUPLICATE:
            return DueCount.DUPLICATES
        case Outcome.CONFLICT | Outcome.REFUSED:
            return DueCount.ERRORS


def due_result(counts: Mapping[DueCount, int], **more: Any) -> JobResult:
    """What a pass came to."""
    result = {count.value: counts.get(count, 0) for count in DueCount} | more
    return JobResult.partial(result) if counts.get(DueCount.ERRORS) else JobResult.succeeded(result)
