"""Run one attempt of a job: claimed under a fenced lease, kept alive by a heartbeat, and ended by one guarded step.

The claim commits before the message is acknowledged, and the attempt outlives the message. Whatever happens to this process then,
the row has the job: the lease runs out, and `requeue_due_jobs` hands it on.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never
from uuid import UUID

import structlog

from service.actions.move_jobs import move_jobs as move
from service.actions.running_job import JobCancelled, JobKind, LeaseLost, RunningJob, WorkerStops
from service.domain import jobs
from service.domain.backoff import WHILE_AWAY
from service.domain.errors import Park, Retry, RollcallError, Unavailable, UnfitData, said
from service.domain.jobs import Job, JobId, JobResult, JobState, Transition
from service.store.jobs import claim_job as claim
from service.store.jobs import lock_job, renew_job
from service.telemetry import names
from service.telemetry.handling import Handling, handled
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.traced import UNTRACED, Traced
from service.telemetry.tracing import NO_TRACING, SpanKind, Tracing

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["JobOptions", "claim_job", "run_job"]

# The local clock may drift: what it calls held ends before the database's lease does.
_SURELY_HELD: Final = 0.9

_Decide: TypeAlias = Callable[[Job], Transition]

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """How long a lease lasts without a heartbeat, how often it beats, and how long a function may take to its next stop point."""

    lease: timedelta = timedelta(seconds=30)
    beat: timedelta = timedelta(seconds=2)
    # Between two looks at the function; also the least time between two writes of its progress.
    look: timedelta = timedelta(seconds=1)
    # After a cancellation; what does not stop by itself is interrupted where it waits.
    stop_within: timedelta = timedelta(seconds=10)
    # After an interruption; what goes on even then is left to itself, without its lease.
    end_within: timedelta = timedelta(seconds=5)

    @property
    def stops_within(self) -> timedelta:
        """When a job that was told to stop has been given back, or is left to its lease: its end takes a moment to write."""
        return self.stop_within + self.end_within + 2 * self.look


class _Interruption(Enum):
    """Why a function was interrupted where it waited."""

    LEASE_LOST = "its lease is lost"
    CANCELLED = "cancelled"
    WORKER_STOPS = "the worker stops"
    TOO_LONG = "takes too long"


async def claim_job(db: Database, job_id: JobId, holder: UUID, lease: timedelta, *, traced: Traced = UNTRACED) -> RunningJob | None:
    """Begin an attempt; None where the job is another's, has ended, or waits for its retry. Raises Retry errors."""
    # Read before the query is sent: the local deadline is never later than the database's.
    held_until = monotonic() + lease.total_seconds() * _SURELY_HELD
    async with db.transaction() as tx:
        claimed = await claim(tx, job_id, holder, lease)
    return None if claimed is None else RunningJob(claimed, held_until, traced)


async def run_job(
    db: Database,
    job: RunningJob,
    kind: JobKind,
    *,
    options: JobOptions,
    jitter: Callable[[], float] = random.random,
    tracing: Tracing = NO_TRACING,
    metrics: Metrics = UNMEASURED,
) -> JobState | None:
    """Run a claimed job to the end of this attempt and answer the state it went to; None where it is another's by then.

    Never raises for what the function did. Cancelled itself, it leaves the job to its lease.
    """
    began = monotonic()
    # Below its consumer's span, or else where it was asked for.
    remote = job.traced.span is None
    traced = tracing.start(names.job_span(job.kind), SpanKind.INTERNAL, job.traceparent, remote=remote)
    traced.note({names.JOB_ID: str(job.id), names.JOB_KIND: job.kind, names.JOB_ATTEMPT: job.attempt})
    job.traced = traced
    state: JobState | None = None
    try:
        # Also for the function: what it logs and what it sends belongs to the run.
        with handled(Handling(job.correlation_id, traced)):
            _log.info("job begins", job=str(job.id), kind=job.kind, attempt=job.attempt)
            decide = await _attempt(db, job, kind, options, jitter)
            transition = None if decide is None else await _settle(db, job, decide)
            _tell(job, transition, monotonic() - began)
        state = None if transition is None else transition.state
        return state
    finally:
        outcome = _outcome(state)
        traced.note({names.OUTCOME: outcome})
        traced.end(outcome if state in (None, JobState.FAILED) else None)
        metrics.job_ended(job.kind, outcome, monotonic() - began)


async def _attempt(
    db: Database, job: RunningJob, kind: JobKind, options: JobOptions, jitter: Callable[[], float]
) -> _Decide | None:
    """Run the function under its heartbeat; answers how the job goes on, None where it is another's or the function hangs on."""
    if job.worker_stops:
        return jobs.given_back
    work = asyncio.ensure_future(kind.run(job))
    try:
        interruption = await _supervise(db, job, work, kind.longest, options)
    except RollcallError as error:
        # What was told of the progress cannot be stored: a defect of the function.
        ended = await _interrupt(job, work, options)
        return partial(jobs.attempt_failed, error=said(error), may_retry=False, jitter=jitter) if ended else None
    finally:
        # Where this is cancelled; nothing otherwise.
        work.cancel()
    if interruption is not None and not await _interrupt(job, work, options):
        return None
    # Interrupted, it may still have come to its end.
    if interruption is None or not work.cancelled():
        return _after(job, work, jitter)
    match interruption:
        case _Interruption.LEASE_LOST:
            return None
        case _Interruption.CANCELLED:
            return jobs.stopped
        case _Interruption.WORKER_STOPS:
            return jobs.given_back
        case _Interruption.TOO_LONG:
            return partial(jobs.attempt_failed, error=f"it did not end within {kind.longest}", may_retry=True, jitter=jitter)
        case _:
            assert_never(interruption)


def _after(job: RunningJob, work: asyncio.Future[JobResult], jitter: Callable[[], float]) -> _Decide | None:
    """How it goes on after what the function returned or raised; None where it noticed that the lease is lost."""
    failed = partial(jobs.attempt_failed, jitter=jitter)
    try:
        return partial(jobs.ended, result=work.result())
    except LeaseLost:
        return None
    except JobCancelled:
        return jobs.stopped
    except WorkerStops:
        return jobs.given_back
    except Unavailable as error:
        return partial(jobs.put_off, error=said(error))
    except Park as error:
        return partial(failed, error=said(error), may_retry=False)
    except Retry as error:
        asked: object = getattr(error, "retry_after", None)
        retry_after = asked if isinstance(asked, timedelta) else None
        return partial(failed, error=said(error), may_retry=True, retry_after=retry_after)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whatever it is, the job answers for it
        # The text of an error without a rule here may quote a member's data.
        _log.error("job failed in a way that has no rule", job=str(job.id), error=type(error).__name__, where=_where(error))
        return partial(failed, error=type(error).__name__, may_retry=True)


async def _supervise(
    db: Database, job: RunningJob, work: asyncio.Future[JobResult], longest: timedelta, options: JobOptions
) -> _Interruption | None:
    """Keep the lease while the function runs; answers None when it has ended, or why it must be interrupted."""
    began = renewed = monotonic()
    stop_by: float | None = None
    while True:
        await asyncio.wait({work}, timeout=options.look.total_seconds())
        if work.done():
            return None
        now = monotonic()
        if job.has_news or now - renewed >= options.beat.total_seconds():
            await _renew(db, job, options.lease)
            renewed = now
        if not job.lease_is_held:
            return _Interruption.LEASE_LOST
        if now - began >= longest.total_seconds():
            return _Interruption.TOO_LONG
        if job.cancelled or job.worker_stops:
            stop_by = now + options.stop_within.total_seconds() if stop_by is None else stop_by
            if now >= stop_by:
                return _Interruption.CANCELLED if job.cancelled else _Interruption.WORKER_STOPS


async def _renew(db: Database, job: RunningJob, lease: timedelta) -> None:
    """One heartbeat, with the progress that is new; one that fails is made up for by the next, while the lease lasts."""
    held_until = monotonic() + lease.total_seconds() * _SURELY_HELD
    news = job.take_news()
    try:
        async with asyncio.timeout(job.held_for), db.statement() as tx:
            cancelled = await renew_job(tx, job.id, job.fence, lease, news)
    except (Retry, TimeoutError) as error:
        if news is not None:
            job.keep_news()
        reason = str(error) if isinstance(error, Retry) else "no answer while the lease lasted"
        _log.warning("job's heartbeat failed", job=str(job.id), reason=reason)
        return
    if cancelled is None:
        job.lose()
    else:
        job.renewed(held_until, cancelled=cancelled)


async def _interrupt(job: RunningJob, work: asyncio.Future[JobResult], options: JobOptions) -> bool:
    """Cancel the function where it waits; answers whether it has ended."""
    work.cancel()
    await asyncio.wait({work}, timeout=options.end_within.total_seconds())
    if work.done():
        return True
    # Nobody renews its lease any more; what it still writes under it is refused once another has the job.
    _log.error("job does not stop, its lease runs out", job=str(job.id), kind=job.kind)
    work.add_done_callback(_retrieve)
    return False


async def _settle(db: Database, job: RunningJob, decide: _Decide) -> Transition | None:
    """Write how the job goes on, and its next message where there is one; None where the job is another's by now."""
    failures = 0
    while True:
        try:
            async with db.transaction() as tx:
                # Decided under the lock: a cancellation that came since the last heartbeat counts.
                now = await lock_job(tx, job.id)
                if now is None or now.fence != job.fence or now.state is not JobState.RUNNING:
                    return None
                transition = decide(now)
                await move(tx, [transition])
        except UnfitData as error:
            # The result cannot be stored; the reason surely can.
            decide = partial(jobs.attempt_failed, error=f"its result: {error}", may_retry=False, jitter=random.random)
        except Retry as error:
            # For as long as it takes: what was done is done, and the fence decides whether it may still be said.
            failures += 1
            if failures == 1:
                _log.warning("job's end cannot be written yet", job=str(job.id), reason=str(error))
            await asyncio.sleep(WHILE_AWAY.after(failures).total_seconds())
        else:
            return transition


def _tell(job: RunningJob, transition: Transition | None, seconds: float) -> None:
    said: dict[str, object] = {"job": str(job.id), "kind": job.kind, "attempt": job.attempt, "seconds": round(seconds, 3)}
    if transition is None:
        _log.warning("job lost, its lease went to another worker or will", **said)
    elif transition.error is not None:
        retry = None if transition.wait is None else round(transition.wait.total_seconds())
        _log.warning("job attempt failed", state=transition.state, reason=transition.error, retry_in_seconds=retry, **said)
    elif transition.state is JobState.QUEUED:
        _log.info("job given back", **said)
    else:
        _log.info("job ended", state=transition.state, **said)


def _outcome(state: JobState | None) -> str:
    """What became of the attempt."""
    if state is None:
        return names.LOST
    return names.REQUEUED if state is JobState.QUEUED else state.value


def _where(error: BaseException) -> str:
    """The innermost place in the code, without the values that the text of an error may quote."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "unknown"


def _retrieve(work: asyncio.Future[JobResult]) -> None:
    # What comes of it is nobody's any more; unretrieved, its text would be logged.
    if not work.cancelled():
        work.exception()
