"""Repair what a drift run has found, by the one apply path, where that is switched on for the read model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from service.actions.apply_changes import apply_changes
from service.actions.read_models.reconciler import HealingReconciler, ReadModelReconciler
from service.domain.change import Cause, Change, Reason
from service.domain.outcome import Outcome, Result
from service.store.drift_runs import count_healed
from service.store.drift_streaks import lock_drift_streak

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database, Tx

__all__ = ["heal_drift"]

_BATCH: Final = 200

_log: Final = structlog.get_logger(__name__)


async def heal_drift(
    db: Database, job: RunningJob, run_id: UUID, reconciler: ReadModelReconciler, keys: Sequence[str], *, default_grace_days: int
) -> int:
    """Bring these keys back in step and answer how many were; raises Retry errors and StopJob.

    What somebody has changed since it was compared is left alone, and what cannot be repaired is logged: the next run finds it.
    """
    if not keys or not isinstance(reconciler, HealingReconciler):
        return 0
    async with db.transaction() as tx:
        if not (await lock_drift_streak(tx, reconciler.read_model_name)).heals:
            return 0
    cause = Cause(Reason.DRIFT_REPAIR, f"job:{job.id}", job.correlation_id, job.traceparent)
    healed = 0

    async def alongside(tx: Tx, _: Sequence[Change], results: Sequence[Result]) -> None:
        await job.hold(tx)
        await count_healed(tx, run_id, _applied(results))

    for first in range(0, len(keys), _BATCH):
        job.stop_point()
        changes = await reconciler.repairs(keys[first : first + _BATCH], cause)
        results = await apply_changes(db, changes, default_grace_days=default_grace_days, alongside=alongside)
        healed += _applied(results)
        for result in results:
            if result.outcome is Outcome.REFUSED:
                _log.error("drift cannot be repaired", member=str(result.member_id), reason=result.reason)
    return healed


def _applied(results: Sequence[Result]) -> int:
    return sum(result.outcome is Outcome.APPLIED for result in results)
