"""The jobs that this process runs: so many at once, told to stop together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog

from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind, JobKinds, RunningJob
from service.domain.backoff import WHILE_AWAY
from service.domain.errors import Contention, Retry, RollcallError, Unavailable
from service.domain.jobs import JobId
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.traced import UNTRACED, Traced
from service.telemetry.tracing import NO_TRACING, Tracing

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["JobSlots", "UnknownKind"]

# A job that is interrupted in a transaction ends with its rollback.
_CANCELLED_WITHIN_SECONDS: Final = 0.5

_log: Final = structlog.get_logger(__name__)


class UnknownKind(Retry):
    """This release has no job of that kind; another worker's may."""


class JobSlots:
    """Claims jobs and runs each in a task of its own, which outlives the message that told of it."""

    def __init__(
        self,
        database: Callable[[], Database],
        kinds: Callable[[], JobKinds],
        *,
        most: int = 4,
        options: JobOptions | None = None,
        tracing: Tracing = NO_TRACING,
        metrics: Metrics = UNMEASURED,
    ) -> None:
        self._database = database
        self._kinds = kinds
        self._most = most
        self._options = options or JobOptions()
        self._tracing = tracing
        self._metrics = metrics
        self._holder = uuid4()
        self._running: dict[asyncio.Task[None], RunningJob] = {}
        self._free = asyncio.Event()
        self._free.set()
        self._stopping = False

    @property
    def full(self) -> bool:
        """Whether there is no slot for another job."""
        return not self._free.is_set()

    async def freed(self) -> None:
        """Wait until there is a slot."""
        await self._free.wait()

    async def begin(self, job_id: JobId, kind_name: str, traced: Traced = UNTRACED) -> bool:
        """Claim a job and let it run; answers no where it is another's or has ended. While the database is away this waits.

        Raises UnknownKind, and Retry errors of the database that waiting does not mend.
        """
        kind = self._kinds().get(kind_name)
        if kind is None:
            message = f"this release has no job of the kind {kind_name}"
            raise UnknownKind(message)
        job = await self._claim(job_id, traced)
        if job is None:
            return False
        if self._stopping:
            # Given back before it begins.
            job.stop()
        task = asyncio.create_task(self._run(job, kind), name=f"job {job_id}")
        self._running[task] = job
        # Not in the task itself: cancelled before its first step it would never get there.
        task.add_done_callback(self._ended)
        self._changed()
        return True

    async def stop(self) -> None:
        """Tell the jobs to stop, and wait until each is given back, or left to its lease where it goes on for too long.

        What has not `ended` then waits for a rollback, for as long as its database hangs.
        """
        told, self._stopping = self._stopping, True
        for job in self._running.values():
            job.stop()
        if self._running and not told:
            _log.info("jobs are given back", jobs=len(self._running))
            await asyncio.wait(self._running, timeout=self._options.stops_within.total_seconds())
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=_CANCELLED_WITHIN_SECONDS)

    @property
    def busy(self) -> bool:
        """Whether a job has not ended."""
        return bool(self._running)

    async def ended(self) -> None:
        """Wait until every job has ended, however."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _claim(self, job_id: JobId, traced: Traced) -> RunningJob | None:
        failures = 0
        while True:
            try:
                return await claim_job(self._database(), job_id, self._holder, self._options.lease, traced=traced)
            except (Unavailable, Contention) as error:
                failures += 1
                if failures == 1:
                    _log.warning("database away, holding a job's message", job=str(job_id), reason=str(error))
                await asyncio.sleep(WHILE_AWAY.after(failures).total_seconds())

    async def _run(self, job: RunningJob, kind: JobKind) -> None:
        try:
            await run_job(self._database(), job, kind, options=self._options, tracing=self._tracing, metrics=self._metrics)
        except Exception as error:  # noqa: BLE001  # one job's failure is nobody else's
            reason = str(error) if isinstance(error, RollcallError) else type(error).__name__
            _log.error("job left to its lease", job=str(job.id), kind=job.kind, reason=reason)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._changed()

    def _changed(self) -> None:
        if len(self._running) < self._most:
            self._free.set()
        else:
            self._free.clear()
        self._metrics.jobs_running(len(self._running))
