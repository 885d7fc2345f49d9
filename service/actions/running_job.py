"""A job in the hands of its function: what it is asked to do, where it says how far it is, and where it learns to stop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

from service.domain.jobs import JobId, JobResult
from service.domain.member import CompanyId
from service.store.jobs import ClaimedJob, hold_job
from service.telemetry.traced import UNTRACED, Traced

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["JobCancelled", "JobFunction", "JobKind", "JobKinds", "LeaseLost", "RunningJob", "StopJob", "WorkerStops"]

_LONGEST: Final = timedelta(hours=6)

# A count, a rate, a share, or the name of a phase: never a member's data.
ProgressValue: TypeAlias = int | float | str | None


class StopJob(Exception):
    """Raised at a stop point for the function to end with; what it has committed stays, and a next attempt goes on from there."""


class JobCancelled(StopJob):
    """Nobody wants it any more."""


class WorkerStops(StopJob):
    """The process ends; another worker takes the job over at once."""


class LeaseLost(StopJob):
    """Another worker has the job, or may have it by now."""


class RunningJob:
    """One attempt of a job under its lease."""

    def __init__(self, claimed: ClaimedJob, held_until: float, traced: Traced = UNTRACED) -> None:
        self._claimed = claimed
        self._held_until = held_until
        self._progress: dict[str, ProgressValue] = dict(claimed.progress or {})
        self._untold = False
        self._cancelled = False
        self._worker_stops = False
        self._lost = False
        self.traced = traced

    @property
    def id(self) -> JobId:
        """Its id."""
        return JobId(self._claimed.id)

    @property
    def kind(self) -> str:
        """The kind by which its function was found."""
        return self._claimed.kind

    @property
    def company_id(self) -> CompanyId | None:
        """Whose it is; None for a job of the whole installation."""
        return None if self._claimed.company_id is None else CompanyId(self._claimed.company_id)

    @property
    def subject_id(self) -> UUID | None:
        """What it is about, such as a connection."""
        return self._claimed.subject_id

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What was asked for, as it was enqueued."""
        return self._claimed.parameters

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1 to 5; one that was given back is not counted."""
        return self._claimed.attempts

    @property
    def requested_by(self) -> str:
        """Who asked for it: `schedule:<id>`, `key:<id>`, `cli` or alike."""
        return self._claimed.requested_by

    @property
    def correlation_id(self) -> str:
        """Of the run: it belongs into every log line, audit row and event that comes of it."""
        return self._claimed.correlation_id

    @property
    def traceparent(self) -> str | None:
        """Where what comes of it belongs in the trace."""
        return self.traced.traceparent or self._claimed.traceparent

    @property
    def told(self) -> Mapping[str, ProgressValue]:
        """The progress that was last told, by this or an earlier attempt."""
        return self._progress

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked to cancel it."""
        return self._cancelled

    @property
    def lease_is_held(self) -> bool:
        """Whether the lease surely lasts, by this process's clock; only `hold` proves it to the database."""
        return not self._lost and monotonic() < self._held_until

    def stop_point(self) -> None:
        """To be called between steps; raises LeaseLost, JobCancelled or WorkerStops."""
        if not self.lease_is_held:
            raise LeaseLost("the lease ran out")
        if self._cancelled:
            raise JobCancelled("cancelled")
        if self._worker_stops:
            raise WorkerStops("the worker stops")

    async def progress(self, **values: ProgressValue) -> None:
        """Say how far it is, as often as one likes: the row gets the latest values at most once a second; a stop point."""
        self._progress.update(values)
        self._untold = True
        self.stop_point()

    async def hold(self, tx: Tx) -> None:
        """Let this transaction commit only while the job is this attempt's: none takes it over before its end; raises LeaseLost."""
        if not await hold_job(tx, self.id, self.fence):
            raise LeaseLost("another worker has the job")

    # What follows is for whoever runs the function.

    @property
    def fence(self) -> int:
        """The number of this claim."""
        return self._claimed.lease_fence

    @property
    def held_for(self) -> float:
        """The seconds for which the lease surely lasts."""
        return 0.0 if self._lost else max(0.0, self._held_until - monotonic())

    @property
    def has_news(self) -> bool:
        """Whether there is progress that the row does not have."""
        return self._untold

    def take_news(self) -> Mapping[str, ProgressValue] | None:
        """The progress to be written now; None where there is no news."""
        if not self._untold:
            return None
        self._untold = False
        return dict(self._progress)

    def keep_news(self) -> None:
        """It could not be written."""
        self._untold = True

    def renewed(self, held_until: float, *, cancelled: bool) -> None:
        """The lease lasts until then, on the monotonic clock."""
        self._held_until = held_until
        self._cancelled = cancelled

    def lose(self) -> None:
        """The lease is another's."""
        self._lost = True

    def stop(self) -> None:
        """The worker stops."""
        self._worker_stops = True

    @property
    def worker_stops(self) -> bool:
        """Whether the worker stops."""
        return self._worker_stops


JobFunction: TypeAlias = Callable[[RunningJob], Awaitable[JobResult]]


@dataclass(frozen=True, slots=True)
class JobKind:
    """How a kind of job is done; an attempt that takes longer than `longest` has failed.

    The function returns, or raises: Retry errors for another attempt (a `retry_after` of theirs wins over the schedule), Park
    errors for none, Unavailable where infrastructure is away. Whatever else it raises is tried again, and only its class is told.
    """

    run: JobFunction
    longest: timedelta = _LONGEST


JobKinds: TypeAlias = Mapping[str, JobKind]
