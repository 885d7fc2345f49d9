"""What the tests of the admin API stand on: the API served for real, tenants with keys, and jobs run where a test waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid4

import httpx
from pydantic import SecretStr

from service.actions.audit_change import Author
from service.actions.bind_notifications import BindNotifications, Bound
from service.actions.issue_key import IssuedKey, issue_key
from service.actions.run_job import JobOptions, claim_job, run_job
from service.clients.directories.added import NO_SOURCES_ADDED, AddedSources
from service.domain.api_keys import KeyScope
from service.domain.jobs import JobId
from service.domain.member import CompanyId
from service.entrypoints.http.admin.app import admin_door
from service.entrypoints.http.admin.setting import AdminSetting
from service.entrypoints.http.health import health_routes
from service.entrypoints.http.server import HttpServer
from service.settings import Settings
from service.store.companies import insert_company
from service.store.database import Database
from service.store.jobs import JobRow, find_job
from service.telemetry.metric_names import Stage
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NO_TRACING, Tracing
from service.wiring.directories import described, opened_source
from service.wiring.extensions import load_extensions
from service.wiring.job_kinds import job_kinds
from service.wiring.scans import scan_providers

OPERATOR_KEY = "operator-key-of-the-tests"
SECRET = "env:ROLLCALL_SECRET_DIRECTORY"
SIGNING_SECRET = "env:ROLLCALL_SECRET_NOTIFICATIONS"
JOBS = JobOptions(lease=timedelta(seconds=30), look=timedelta(seconds=0.02))


@dataclass(frozen=True)
class Tenant:
    """A company, a key of it with all scopes, and keys with one scope each."""

    company_id: CompanyId
    name: str
    keys: Mapping[str, str]

    def headers(self, scope: str = "all") -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[scope]}"}


class Admin:
    """A served admin API."""

    def __init__(self, database: Database, settings: Settings, client: httpx.AsyncClient, metrics: Metrics) -> None:
        self.database, self.settings, self.client, self.metrics = database, settings, client, metrics

    @property
    def operator(self) -> dict[str, str]:
        return {"authorization": f"Bearer {OPERATOR_KEY}"}

    async def tenant(self, name: str | None = None) -> Tenant:
        name = name or f"company {uuid4()}"
        async with self.database.transaction() as tx:
            company = (await insert_company(tx, name, "UTC", None)).id
            scopes = {"all": tuple(KeyScope), **{scope.value: (scope,) for scope in KeyScope}}
            keys = {}
            for what, granted in scopes.items():
                issued = await issue_key(tx, Author(company, "tests"), what, granted)
                assert isinstance(issued, IssuedKey)
                keys[what] = issued.key
        return Tenant(company, name, keys)

    async def directory(self, tenant: Tenant, base_url: str, **given: Any) -> dict[str, Any]:
        """A directory of the operator's making, with its key granted."""
        body = {
            "name": "register",
            "kind": "django",
            "settings": {"baseUrl": f"{base_url}/page-number", "path": "/api/members/", "pageSize": 50},
            "secretReference": SECRET,
        }
        headers = {**self.operator, "rollcall-company": str(tenant.company_id)}
        answer = await self.client.post("/api/directory", json=body | given, headers=headers)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def subscriber(self, tenant: Tenant, **given: Any) -> dict[str, Any]:
        """A subscriber of the operator's making, with its secret granted."""
        body = {"name": "lists", "url": "https://lists.example.com/rollcall", "secretReference": SIGNING_SECRET}
        headers = {**self.operator, "rollcall-company": str(tenant.company_id)}
        answer = await self.client.post("/api/subscribers", json=body | given, headers=headers)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def delivery(self, tenant: Tenant, subscriber_id: str) -> dict[str, Any]:
        """A test that is on its way."""
        answer = await self.client.post(f"/api/subscribers/{subscriber_id}/test", headers=tenant.headers())
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def run(self, job_id: str | UUID) -> JobRow:
        """The next attempt of a job, by the real kinds, to its end."""
        identity = JobId(UUID(str(job_id)))
        claimed = await claim_job(self.database, identity, uuid4(), JOBS.lease)
        assert claimed is not None
        kind = job_kinds(self.settings, self.database)[claimed.kind]
        await run_job(self.database, claimed, kind, options=JOBS, jitter=lambda: 0.5)
        async with self.database.transaction() as tx:
            row = await find_job(tx, identity)
        assert row is not None
        return row

    async def sync(self, tenant: Tenant, path: str = "/sync", **asked: Any) -> JobRow:
        answer = await self.client.post(path, json=asked, headers=tenant.headers())
        assert answer.status_code == 202, answer.text
        return await self.run(answer.json()["jobId"])

    async def scan(self, tenant: Tenant) -> JobRow:
        answer = await self.client.post("/api/company/scan", headers=tenant.headers())
        assert answer.status_code == 202, answer.text
        return await self.run(answer.json()["jobId"])

    async def fetch(self, sql: str, *given: Any) -> list[Any]:
        async with self.database.transaction() as tx:
            return list(await tx.fetch(sql, *given))


async def _bound(company_id: CompanyId) -> Bound:
    """Where no broker is needed: what it is for is tested with one."""
    return Bound(company_id)


@asynccontextmanager
async def open_admin(
    database_url: str,
    *,
    operator_key: str | None = OPERATOR_KEY,
    tracing: Tracing = NO_TRACING,
    added: AddedSources = NO_SOURCES_ADDED,
    bind: BindNotifications | None = None,
    **given: Any,
) -> AsyncIterator[Admin]:
    settings = Settings.model_validate(
        {
            "database_url": database_url,
            "rabbitmq_url": "amqp://127.0.0.1:1/unused",
            "admin_api_key": operator_key,
            "allow_networks": (ip_network("127.0.0.0/8"),),
            **given,
        }
    )
    database = await Database.connect(database_url, name="tests", size=8)
    setting = AdminSetting(
        database=lambda: database,
        operator_key=None if operator_key is None else SecretStr(operator_key),
        default_grace_days=settings.grace_days,
        sync_enabled=settings.sync_enabled,
        opened=partial(opened_source, settings, added=added),
        described=partial(described, added=added),
        added=added,
        read_models=tuple(load_extensions().reconcilers),
        bind=bind or _bound,
        scan_providers=scan_providers(settings, load_extensions()),
    )

    async def no_problems() -> dict[str, dict[str, str]]:
        return {}

    metrics = Metrics((Stage.ADMIN,))
    server = HttpServer(health_routes(no_problems), "127.0.0.1", 0, admin=admin_door(setting, metrics, tracing))
    serving = asyncio.create_task(server.run())
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=30) as client:
            yield Admin(database, settings, client, metrics)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await database.close()
