"""What tests of scans stand on: a company with members, providers of the tests' own, and scans as a worker would run them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr

from service.actions.enqueue_job import Enqueued
from service.actions.request_scan import request_scan
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind, RunningJob
from service.actions.scan_company import SCAN, scan_company
from service.actions.scan_providers.company_scan import CompanyScan, ScanAccess
from service.actions.scan_providers.provider import ScanProvider
from service.actions.scan_providers.registry import built_in_scan_providers, by_name
from service.clients.outside import Outside
from service.domain.jobs import JobId, JobResult
from service.domain.member import CompanyId, MemberId
from service.domain.scans import Found, InvalidProviderSettings, Severity
from service.store.companies import insert_company, set_scan_providers
from service.store.database import Database
from service.store.jobs import JobRow, find_job
from service.telemetry.metric_names import Stage
from service.telemetry.metrics import Metrics
from tests.breach_rig import API_KEY
from tests.directory_rig import LOOPBACK, QUICK

JOBS = JobOptions(lease=timedelta(seconds=30), look=timedelta(seconds=0.02))
REFERENCE = "env:ROLLCALL_SECRET_HIBP"


class Scripted:
    """A provider that finds what it is told to; an exception among that is raised there."""

    def __init__(self, name: str = "scripted") -> None:
        self.name = name
        self.finds: Sequence[Any] = ()
        self.asked = 0
        self.before: Callable[[], Any] = lambda: None

    def check(self, settings: Mapping[str, Any]) -> None:
        if settings:
            raise InvalidProviderSettings("there is nothing to set")

    async def find(self, scan: CompanyScan) -> AsyncGenerator[Sequence[Found], None]:
        self.asked += 1
        for some in self.finds:
            if isinstance(some, BaseException):
                raise some
            yield some
        if (waits := self.before()) is not None:
            await waits


def found(member: MemberId, kind: str = "odd", key: str = "", severity: Severity = Severity.LOW, **detail: Any) -> Found:
    return Found(member, kind, severity, key, detail)


class Scans:
    """Scans of one company in a real database."""

    def __init__(self, database: Database, company: CompanyId, breach_api: str) -> None:
        self.database, self.company = database, company
        self.providers: dict[str, ScanProvider] = dict(by_name(built_in_scan_providers(breach_api=breach_api)))
        self.access = ScanAccess(secret=lambda _: SecretStr(API_KEY), outside=Outside(LOOPBACK, limits=QUICK))
        self.metrics = Metrics((Stage.JOBS,))
        self.patience = timedelta(minutes=1)
        self.options = JOBS

    async def fetch(self, sql: str, *given: Any) -> list[Any]:
        async with self.database.transaction() as tx:
            return list(await tx.fetch(sql, *given))

    async def configure(self, **providers: Mapping[str, Any]) -> None:
        async with self.database.transaction() as tx:
            await set_scan_providers(tx, self.company, providers)

    def scripted(self, name: str = "scripted") -> Scripted:
        self.providers[name] = provider = Scripted(name)
        return provider

    async def member(self, email: str | None = None, national_id: str | None = None, company: UUID | None = None) -> MemberId:
        identity = MemberId(uuid4())
        await self.fetch(
            "insert into members (id, company_id, name, email, national_id, upstream_state, state, version) "
            "values ($1, $2, 'Anna', $3, $4, 'active', 'active', 1) returning id",
            identity,
            company or self.company,
            email,
            national_id,
        )
        return identity

    async def leaves(self, member: MemberId) -> None:
        await self.fetch(
            "update members set upstream_state = 'removed', state = 'removed', removed_at = now() where id = $1 returning id",
            member,
        )

    async def enqueue(self) -> JobId:
        async with self.database.transaction() as tx:
            asked = await request_scan(tx, self.company, requested_by="tests")
        assert isinstance(asked, Enqueued), asked
        return asked.job_id

    async def attempt(self, job_id: JobId) -> JobRow:
        """The next attempt of a scan, whenever its retry is due."""
        await self.fetch(
            "update jobs set next_attempt_at = null, resend_at = now() where id = $1 and next_attempt_at is not null returning id",
            job_id,
        )
        claimed = await claim_job(self.database, job_id, uuid4(), self.options.lease)
        assert claimed is not None

        async def work(job: RunningJob) -> JobResult:
            return await scan_company(self.database, job, self.providers, self.access, metrics=self.metrics, patience=self.patience)

        await run_job(self.database, claimed, JobKind(work), options=self.options, jitter=lambda: 0.5)
        async with self.database.transaction() as tx:
            row = await find_job(tx, job_id)
        assert row is not None
        assert row.kind == SCAN
        return row

    async def scan(self) -> JobRow:
        return await self.attempt(await self.enqueue())

    async def findings(self, state: str = "open", **like: Any) -> list[dict[str, Any]]:
        rows = [dict(row) for row in await self.fetch("select * from findings where state = $1 order by id", state)]
        return [row for row in rows if all(row[name] == value for name, value in like.items())]

    async def parts(self) -> dict[str, dict[str, Any]]:
        """Those of the last scan."""
        rows = await self.fetch(
            "select * from scan_parts where scan_id = (select id from scans order by number desc limit 1) order by provider"
        )
        return {row["provider"]: dict(row) for row in rows}


@asynccontextmanager
async def open_scans(url: str, *, breach_api: str = "http://127.0.0.1:1") -> AsyncIterator[Scans]:
    database = await Database.connect(url, name="tests", size=8)
    try:
        async with database.transaction() as tx:
            company = await insert_company(tx, f"company {uuid4()}", "UTC", None)
        yield Scans(database, company.id, breach_api)
    finally:
        await database.close()
