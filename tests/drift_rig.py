"""What the tests of drift stand on: read models whose drift the test decides, members with their audit, and runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from service.actions.enqueue_job import Enqueued, enqueue_job
from service.actions.read_models.audit import AuditReconciler
from service.actions.read_models.reconciler import Registry
from service.actions.reconcile_drift import DRIFT_FULL, DRIFT_SAMPLED, reconcile_drift
from service.actions.running_job import RunningJob
from service.domain.drift import ReconciliationMode, SampleResult, sample_places, sample_size
from service.domain.jobs import JobId, JobResult
from service.store.drift_findings import DriftFinding, list_drift_findings
from service.store.drift_runs import DriftRunRow, list_drift_runs
from service.store.drift_streaks import set_healing
from service.store.jobs import JobRow
from service.telemetry.metric_names import Stage
from service.telemetry.metrics import Metrics
from tests.apply_rig import open_books
from tests.clock_rig import Clock


@dataclass
class Shelf:
    """A read model of plain keys, some of which drift and some of which cannot be compared; it notes what it was asked."""

    name: str = "shelf"
    keys: list[str] = field(default_factory=lambda: [f"k{number:04}" for number in range(20)])
    drifting: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    # Raised before the first key.
    broken: Exception | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def read_model_name(self) -> str:
        return self.name

    async def list_sample_keys(self, mode: ReconciliationMode, budget: int) -> AsyncGenerator[Sequence[str], None]:
        if self.broken is not None:
            raise self.broken
        chosen = self.keys
        if mode is ReconciliationMode.SAMPLED:
            chosen = [self.keys[place] for place in sample_places(len(self.keys), sample_size(len(self.keys)), 0.5)]
        for first in range(0, len(chosen), budget):
            yield chosen[first : first + budget]

    async def reconcile(self, key: str) -> SampleResult | None:
        self.asked.append(key)
        if key in self.failing:
            raise RuntimeError("010101-1234 cannot be read")
        if key in self.gone:
            return None
        return SampleResult(key, key not in self.drifting, "differs in plan" if key in self.drifting else None)


class BatchShelf(Shelf):
    """The same, asked in batches: one failing key spoils its batch."""

    async def reconcile_many(self, keys: Sequence[str]) -> Sequence[SampleResult]:
        found = [await self.reconcile(key) for key in keys]
        return [one for one in found if one is not None]


class Drift(Clock):
    """Members with their audit, and drift runs."""

    metrics: Metrics

    async def enqueue(self, *, full: bool = True, **parameters: Any) -> JobId:
        async with self.database.transaction() as tx:
            asked = await enqueue_job(
                tx,
                kind=DRIFT_FULL if full else DRIFT_SAMPLED,
                company_id=None,
                subject_id=None,
                requested_by="tests",
                parameters=parameters,
            )
        assert isinstance(asked, Enqueued)
        return asked.job_id

    async def compare(self, *registry: Any, full: bool = True, budget: int = 2000, **parameters: Any) -> JobRow:
        """A drift run of these read models, or of the audit, to its end."""
        return await self.run_drift(await self.enqueue(full=full, **parameters), registry or (self.audit(),), budget=budget)

    async def run_drift(self, job_id: JobId, registry: Registry, *, budget: int = 2000) -> JobRow:
        async def run(job: RunningJob) -> JobResult:
            return await reconcile_drift(self.database, job, registry, default_grace_days=0, metrics=self.metrics, budget=budget)

        return await self.run(job_id, run)

    def audit(self) -> AuditReconciler:
        return AuditReconciler(self.database, lambda: 0.5)

    async def runs(self) -> list[DriftRunRow]:
        """The oldest first."""
        async with self.database.transaction() as tx:
            return (await list_drift_runs(tx, limit=1000))[::-1]

    async def findings(self) -> list[DriftFinding]:
        """Of the last run."""
        last = (await self.runs())[-1]
        async with self.database.transaction() as tx:
            return await list_drift_findings(tx, last.id)

    async def heal(self, read_model: str = "audit") -> None:
        async with self.database.transaction() as tx:
            await set_healing(tx, read_model, heals=True)

    async def told(self) -> list[Any]:
        """The messages of promotions."""
        return [row for row in await self.outbox() if row["type"] == "DRIFT_PROMOTED"]


@asynccontextmanager
async def open_drift(url: str, *, size: int = 8) -> AsyncIterator[Drift]:
    async with open_books(url, size=size) as books:
        async with books.database.transaction() as tx:
            await tx.execute("truncate leases, drift_streaks")
        drift = Drift(books.database, books.company, books.connection, books.other)
        drift.metrics = Metrics((Stage.JOBS,))
        yield drift
