"""Compare read models with their sources, judge what was found, tell of it once, and repair it where that was asked for.

A read model that cannot be compared says nothing and stops no other. What is counted, the streak and the message of a promotion
commit together, once for each job and read model, whatever attempts it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog

from service.actions.compare_keys import Findings, compare_keys
from service.actions.heal_drift import heal_drift
from service.actions.read_models.reconciler import ReadModelReconciler, Registry
from service.actions.running_job import LeaseLost, StopJob
from service.domain.drift import DriftTally, Judged, ReconciliationMode, Verdict, family_of, judge
from service.domain.errors import Park, Retry, RollcallError, Unavailable, said
from service.domain.jobs import JobResult
from service.store.drift_findings import insert_drift_findings
from service.store.drift_runs import begin_drift_run, finish_drift_run
from service.store.drift_streaks import lock_drift_streak, save_drift_streak
from service.store.leases import release_lease, renew_lease, take_lease
from service.store.outbox import insert_outbox
from service.telemetry.metrics import UNMEASURED, Metrics
from service.translation import Promotion, to_drift_promoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.actions.running_job import RunningJob
    from service.store.database import Database

__all__ = ["DRIFT_FULL", "DRIFT_SAMPLED", "reconcile_drift"]

DRIFT_SAMPLED: Final = "drift_sampled"
DRIFT_FULL: Final = "drift_full"
_MODES: Final = {DRIFT_SAMPLED: ReconciliationMode.SAMPLED, DRIFT_FULL: ReconciliationMode.FULL}
# Keys in memory at a time.
_BUDGET: Final = 2000
_LEASE: Final = timedelta(seconds=60)

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One read model's run under its lease."""

    id: UUID
    job: RunningJob
    reconciler: ReadModelReconciler
    mode: ReconciliationMode
    fence: int
    budget: int
    # The keys to look at; None: as many as there are.
    most: int | None

    @property
    def name(self) -> str:
        return self.reconciler.read_model_name


class _TakenOverError(Exception):
    """Another instance compares the read model by now; the job goes on with the next one."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was looked at; `error` is why it ended early."""

    findings: Findings
    truncated: bool
    error: str | None

    @property
    def verdict(self) -> Verdict:
        return Verdict.INCONCLUSIVE if self.error is not None else self.findings.tally.verdict


async def reconcile_drift(
    db: Database,
    job: RunningJob,
    registry: Registry,
    *,
    default_grace_days: int,
    metrics: Metrics = UNMEASURED,
    budget: int = _BUDGET,
) -> JobResult:
    """One attempt of a `drift_sampled` or `drift_full` job: all read models, or the one that its parameters name.

    Raises Park where they name none that there is, Unavailable and StopJob.
    """
    most = job.parameters.get("most")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise Park("the job's parameters are not those of a drift run")
    results: dict[str, Any] = {}
    for reconciler in _chosen(registry, job.parameters.get("readModel")):
        results[reconciler.read_model_name] = await _reconcile(
            db, job, reconciler, most, budget, default_grace_days=default_grace_days, metrics=metrics
        )
    unsure = any(one.get("verdict") == Verdict.INCONCLUSIVE for one in results.values())
    result = {"readModels": results}
    return JobResult.partial(result) if unsure else JobResult.succeeded(result)


def _chosen(registry: Registry, name: object) -> Sequence[ReadModelReconciler]:
    if name is None:
        return registry
    chosen = [reconciler for reconciler in registry if reconciler.read_model_name == name]
    if not chosen:
        raise Park("there is no such read model")
    return chosen


async def _reconcile(
    db: Database,
    job: RunningJob,
    reconciler: ReadModelReconciler,
    most: int | None,
    budget: int,
    *,
    default_grace_days: int,
    metrics: Metrics,
) -> Mapping[str, Any]:
    name, mode, began = reconciler.read_model_name, _MODES[job.kind], monotonic()
    async with db.transaction() as tx:
        await job.hold(tx)
        fence = await take_lease(tx, _resource(name), job.id, _LEASE)
        run_id = None if fence is None else await begin_drift_run(tx, job.id, name, mode, job.correlation_id)
    if fence is None:
        _log.info("drift run skipped, another instance is at it", read_model=name, job=str(job.id))
        return {"skipped": True}
    try:
        if run_id is None:
            # By an earlier attempt: a streak counts a run once.
            return {"done": True}
        run = _Run(id=run_id, job=job, reconciler=reconciler, mode=mode, fence=fence, budget=budget, most=most)
        seen = await _look(db, run)
        judged = await _judge(db, run, seen)
        tally, verdict = seen.findings.tally, seen.verdict
        metrics.read_model_reconciled(
            family_of(name),
            mode,
            monotonic() - began,
            compared=tally.compared,
            drifted=tally.out_of_sync,
            breach=verdict is Verdict.BREACH,
            promoted=judged.promotes,
        )
        healed = await heal_drift(db, job, run.id, reconciler, seen.findings.drifted, default_grace_days=default_grace_days)
    except _TakenOverError:
        _log.warning("drift run stops, another instance has taken it over", read_model=name, job=str(job.id))
        return {"skipped": True}
    finally:
        await _release(db, job, name, fence)
    return {"runId": str(run_id), **_told(seen, judged), "healed": healed}


async def _look(db: Database, run: _Run) -> _Seen:
    """Look at key after key; what goes wrong with the read model as a whole ends it, and is no drift."""
    findings, truncated = Findings(), False
    try:
        # Closed at once, whatever happens: it may hold something open.
        async with _kept_lease(db, run) as lost, aclosing(run.reconciler.list_sample_keys(run.mode, run.budget)) as batches:
            async for batch in batches:
                room = len(batch) if run.most is None else run.most - findings.looked_at
                if batch and room < 1:
                    truncated = True
                    break
                truncated = len(batch) > room
                await compare_keys(run.reconciler, batch[:room], findings)
                await run.job.progress(phase=run.name, compared=findings.tally.compared, out_of_sync=findings.tally.out_of_sync)
                _check_ours(lost)
                if truncated:
                    break
    except (Unavailable, StopJob, _TakenOverError):
        raise
    except RollcallError as error:
        return _Seen(findings, truncated, said(error))
    except Exception as error:  # noqa: BLE001  # a reconciler may be anybody's: whatever it raises must not stop the others
        # Its text may quote a member's data.
        return _Seen(findings, truncated, type(error).__name__)
    return _Seen(findings, truncated, None)


async def _judge(db: Database, run: _Run, seen: _Seen) -> Judged:
    """Count the run, once, and tell of it where it is the one to tell of."""
    tally, verdict, job = seen.findings.tally, seen.verdict, run.job
    async with db.transaction() as tx:
        await job.hold(tx)
        if not await renew_lease(tx, _resource(run.name), job.id, run.fence, _LEASE):
            raise _TakenOverError
        before = await lock_drift_streak(tx, run.name)
        judged = judge(before.streak, verdict)
        at = await finish_drift_run(tx, run.id, tally, verdict, judged, truncated=seen.truncated, error=seen.error)
        if at is None:
            raise LeaseLost("the run was ended by another attempt")
        await save_drift_streak(tx, run.name, judged.streak)
        await insert_drift_findings(tx, run.id, seen.findings.kept)
        if judged.promotes:
            promotion = Promotion(
                run_id=run.id,
                read_model=run.name,
                mode=run.mode,
                tally=tally,
                streak=judged.streak.breaches,
                at=at,
                correlation_id=job.correlation_id,
                traceparent=job.traceparent,
            )
            await insert_outbox(tx, [to_drift_promoted(promotion)])
    told = _told(seen, judged)
    if judged.promotes:
        _log.error("a read model drifts", read_model=run.name, run=str(run.id), **told)
    else:
        _log.info("drift run done", read_model=run.name, run=str(run.id), **told)
    return judged


def _check_ours(lost: asyncio.Event) -> None:
    if lost.is_set():
        raise _TakenOverError


@asynccontextmanager
async def _kept_lease(db: Database, run: _Run) -> AsyncIterator[asyncio.Event]:
    """Renew the lease beside the work, which may read a whole directory before its first key; the event says that it was lost."""
    lost = asyncio.Event()
    keeping = asyncio.create_task(_keep(db, run, lost), name="drift lease")
    try:
        yield lost
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _keep(db: Database, run: _Run, lost: asyncio.Event) -> None:
    while not lost.is_set():
        await asyncio.sleep(_LEASE.total_seconds() / 4)
        try:
            async with db.statement() as tx:
                if not await renew_lease(tx, _resource(run.name), run.job.id, run.fence, _LEASE):
                    lost.set()
        except Retry as error:
            # The next look may be in time; the verdict is counted under the lease in any case.
            _log.warning("drift run cannot renew its lease", read_model=run.name, reason=str(error))


async def _release(db: Database, job: RunningJob, name: str, fence: int) -> None:
    try:
        async with db.transaction() as tx:
            await release_lease(tx, _resource(name), job.id, fence)
    except Retry as error:
        # It runs out by itself.
        _log.warning("drift run cannot give its lease back", read_model=name, reason=str(error))


def _resource(name: str) -> str:
    return f"drift:{name}"


def _told(seen: _Seen, judged: Judged) -> dict[str, Any]:
    tally: DriftTally = seen.findings.tally
    told: dict[str, Any] = {
        "verdict": seen.verdict.value,
        "compared": tally.compared,
        "outOfSync": tally.out_of_sync,
        "errors": tally.errors,
        "streak": judged.streak.breaches,
        "promoted": judged.promotes,
        "truncated": seen.truncated,
    }
    return told if seen.error is None else {**told, "error": seen.error}
