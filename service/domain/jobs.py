"""What a job can be, and each way from one state to the next; pure.

    queued ──► running ──► succeeded | partial | quarantined     the function said so
      ▲  │        ├──────► failed       no further attempt can help, or there were five
      │  │        ├──────► cancelled    asked for, and the function has stopped
      │  └────────│──────► cancelled    asked for before it began
      └───────────┘  a retry, given back, infrastructure away, or its worker died

A quarantined job is queued again once somebody approved it, or cancelled once somebody rejected it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Literal, NewType, Self, TypeAlias
from uuid import UUID

__all__ = [
    "ENDED",
    "JITTER",
    "MOST_ATTEMPTS",
    "RESEND_AFTER",
    "RETRY_DELAYS",
    "CancelAsked",
    "Cancellation",
    "Ended",
    "Job",
    "JobId",
    "JobResult",
    "JobState",
    "Transition",
    "approved",
    "attempt_failed",
    "cancelled",
    "ended",
    "given_back",
    "overdue",
    "put_off",
    "rejected",
    "retry_delay",
    "stopped",
]

JobId = NewType("JobId", UUID)

RETRY_DELAYS: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60))
JITTER: Final = 0.2
MOST_ATTEMPTS: Final = len(RETRY_DELAYS) + 1
# Whatever a source asks for, somebody should see within a day that nothing comes of it.
_LONGEST_RETRY_AFTER: Final = timedelta(days=1)
_SHORTEST_RETRY_AFTER: Final = timedelta(seconds=1)
_WHILE_AWAY: Final = timedelta(minutes=1)
# A message that was not taken by then is lost or parked, or the queue is long: one more does no harm.
RESEND_AFTER: Final = timedelta(minutes=15)
# Where a worker went silent another may have frozen with the message in its hands.
_RESEND_AFTER_SILENCE: Final = timedelta(minutes=1)


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


ENDED: Final = frozenset(JobState) - {JobState.QUEUED, JobState.RUNNING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What decides where a job goes next; `attempts` counts the present one, `fence` is that of its last claim."""

    id: JobId
    state: JobState
    attempts: int
    fence: int
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job's function came to; `result` is plain JSON without personal data, `error` a sentence without values."""

    state: Literal[JobState.SUCCEEDED, JobState.PARTIAL, JobState.QUARANTINED, JobState.FAILED]
    result: Mapping[str, Any]
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.state is JobState.FAILED) != bool(self.error):
            raise ValueError("a failed job, and no other, says why")

    @classmethod
    def succeeded(cls, result: Mapping[str, Any]) -> Self:
        """All was done."""
        return cls(JobState.SUCCEEDED, result)

    @classmethod
    def partial(cls, result: Mapping[str, Any]) -> Self:
        """Some of it could not be done, and trying again would not help; the result says what."""
        return cls(JobState.PARTIAL, result)

    @classmethod
    def quarantined(cls, result: Mapping[str, Any]) -> Self:
        """Nothing was done: somebody must approve it first."""
        return cls(JobState.QUARANTINED, result)

    @classmethod
    def failed(cls, error: str, result: Mapping[str, Any] | None = None) -> Self:
        """It cannot be done until somebody acts; there is no retry. To be tried again, raise a Retry error instead."""
        return cls(JobState.FAILED, result or {}, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One step of one job, possible only while it is still in `was` under this fence.

    A job that becomes queued waits for `wait`, or else its message is sent with the step, and again after `resend_after`.
    """

    id: JobId
    fence: int
    was: JobState
    state: JobState
    attempts: int
    wait: timedelta | None = None
    resend_after: timedelta | None = None
    result: Mapping[str, Any] | None = None
    error: str | None = None

    @property
    def sends_message(self) -> bool:
        """Whether a worker is to be told now."""
        return self.state is JobState.QUEUED and self.wait is None


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """The job runs: its worker stops it at the next step."""


@dataclass(frozen=True, slots=True)
class Ended:
    """There is nothing left to cancel."""

    state: JobState


Cancellation: TypeAlias = Transition | CancelAsked | Ended


def retry_delay(attempts: int, retry_after: timedelta | None, jitter: Callable[[], float]) -> timedelta | None:
    """The wait after the `attempts`-th attempt failed, None where it was the last; `jitter` in [0, 1) spreads it by ±20%.

    What the source asked for wins, between a second and a day.
    """
    if attempts >= MOST_ATTEMPTS:
        return None
    if retry_after is not None:
        return min(max(retry_after, _SHORTEST_RETRY_AFTER), _LONGEST_RETRY_AFTER)
    return RETRY_DELAYS[max(attempts, 1) - 1] * (1 + JITTER * (2 * jitter() - 1))


def ended(job: Job, result: JobResult) -> Transition:
    """The function returned; a cancellation that came too late changes nothing of what was done."""
    return _step(job, result.state, result=result.result, error=result.error)


def attempt_failed(
    job: Job, error: str, *, may_retry: bool, retry_after: timedelta | None = None, jitter: Callable[[], float]
) -> Transition:
    """The function raised: tried again later, unless that cannot help, it was the last attempt, or nobody wants it any more."""
    if job.cancel_requested:
        return _step(job, JobState.CANCELLED, error=error)
    wait = retry_delay(job.attempts, retry_after, jitter) if may_retry else None
    if wait is None:
        return _step(job, JobState.FAILED, error=error)
    return _step(job, JobState.QUEUED, wait=wait, error=error)


def put_off(job: Job, error: str) -> Transition:
    """Infrastructure is away: once more in a minute, and the attempt does not count."""
    if job.cancel_requested:
        return _step(job, JobState.CANCELLED, error=error)
    return _step(job, JobState.QUEUED, attempts=job.attempts - 1, wait=_WHILE_AWAY, error=error)


def given_back(job: Job) -> Transition:
    """The worker ends before the job does: another one takes it at once, and the attempt does not count."""
    if job.cancel_requested:
        return _step(job, JobState.CANCELLED)
    return _step(job, JobState.QUEUED, attempts=job.attempts - 1)


def stopped(job: Job) -> Transition:
    """The function stopped because it was asked to."""
    return _step(job, JobState.CANCELLED)


def overdue(job: Job) -> Transition:
    """Its lease ran out, its retry is due, or its message is lost: another message, unless its workers died five times."""
    if job.state is JobState.RUNNING:
        if job.cancel_requested:
            return _step(job, JobState.CANCELLED, error="its worker ended without a word")
        if job.attempts >= MOST_ATTEMPTS:
            return _step(job, JobState.FAILED, error=f"its worker ended without a word, the last of {job.attempts} attempts")
        return _step(job, JobState.QUEUED, resend_after=_RESEND_AFTER_SILENCE)
    return _step(job, JobState.QUEUED)


def cancelled(job: Job) -> Cancellation:
    """Somebody does not want it any more."""
    if job.state in ENDED:
        return Ended(job.state)
    return CancelAsked() if job.state is JobState.RUNNING else _step(job, JobState.CANCELLED)


def approved(job: Job) -> Transition | None:
    """Somebody approved what it found: it starts anew; None where it is not quarantined."""
    return _step(job, JobState.QUEUED, attempts=0) if job.state is JobState.QUARANTINED else None


def rejected(job: Job, error: str) -> Transition | None:
    """Somebody rejected what it found, or a newer job makes it pointless; None where it is not quarantined."""
    return _step(job, JobState.CANCELLED, error=error) if job.state is JobState.QUARANTINED else None


def _step(
    job: Job,
    state: JobState,
    *,
    attempts: int | None = None,
    wait: timedelta | None = None,
    resend_after: timedelta = RESEND_AFTER,
    result: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> Transition:
    return Transition(
        id=job.id,
        fence=job.fence,
        was=job.state,
        state=state,
        attempts=job.attempts if attempts is None else attempts,
        wait=wait,
        resend_after=resend_after if state is JobState.QUEUED and wait is None else None,
        result=result,
        error=error,
    )
