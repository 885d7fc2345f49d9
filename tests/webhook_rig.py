"""What the webhook tests stand on: a connection with its secret, senders that sign, an edge in this process and its queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import aio_pika
import httpx

from contracts.channels import WEBHOOKS
from service.domain.change import SOURCE_FIELDS, VersionKind
from service.domain.member import CompanyId, ConnectionId
from service.domain.webhooks.schemes import SchemeName, scheme
from service.domain.webhooks.signatures import sign
from service.entrypoints.http.health import health_routes
from service.entrypoints.http.server import HttpServer
from service.settings import Settings, load_settings
from service.store.companies import insert_company
from service.store.connections import insert_connection
from service.store.database import Database
from service.store.secret_grants import grant_secret
from service.store.webhook_secrets import insert_webhook_secret
from service.store.webhooks import insert_webhook
from service.telemetry.metric_names import WEBHOOKS_REFUSED, Stage
from service.telemetry.metrics import Metrics
from service.wiring.edge import Edge
from tests.relay_rig import eventually
from tests.service_rig import empty

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_NfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
JSON = {"content-type": "application/json"}


def payload(external_id: str = "ada", **given: Any) -> dict[str, Any]:
    body = {"id": external_id, "action": "update", "updated_at": "2026-11-01T12:00:00Z", "name": f"Member {external_id}"}
    return body | given


@dataclass(frozen=True)
class Sender:
    """A source that sends webhooks of one connection, signed by its scheme."""

    company_id: UUID
    connection_id: UUID
    scheme_name: SchemeName
    settings: dict[str, Any]

    @classmethod
    async def register(
        cls,
        database_url: str,
        name: SchemeName = SchemeName.STANDARD_WEBHOOKS,
        *,
        references: tuple[str, ...] = ("file:current",),
        settings: dict[str, Any] | None = None,
        mapping: dict[str, Any] | None = None,
        rate_per_second: int = 10_000,
    ) -> Self:
        db = await Database.connect(database_url, name="test", size=1)
        try:
            async with db.transaction() as tx:
                company = CompanyId((await insert_company(tx, f"company {uuid4()}", "UTC", None)).id)
                row = await insert_connection(tx, company, "hooks", "stream", VersionKind.UPDATED_AT, sorted(SOURCE_FIELDS))
                connection = ConnectionId(row.id)
                await insert_webhook(
                    tx,
                    connection,
                    company,
                    scheme=name.value,
                    settings=settings or {},
                    mapping=mapping,
                    rate_per_second=rate_per_second,
                )
                for reference in references:
                    await grant_secret(tx, company, reference)
                    await insert_webhook_secret(tx, connection, company, reference)
        finally:
            await db.close()
        return cls(company, connection, name, settings or {})

    @property
    def path(self) -> str:
        return f"/webhooks/{self.connection_id}"

    def headers(
        self, body: bytes, *, message_id: str | None = None, secret: str = SECRET, at: datetime | None = None
    ) -> dict[str, str]:
        by = scheme(self.scheme_name, self.settings)
        signed = sign(by, by.key(secret), body, message_id=message_id or f"msg_{uuid4().hex}", now=at or datetime.now(UTC))
        return {**JSON, **dict(signed)}


class Door:
    """An edge that listens, a client for it, and the queue behind it."""

    def __init__(self, edge: Edge, server: HttpServer, client: httpx.AsyncClient, channel: Any, metrics: Metrics) -> None:
        self.edge, self.port, self.client, self.channel, self.metrics = edge, server.port, client, channel, metrics

    def refused(self) -> dict[tuple[str, ...], float]:
        """How often, by status and cause."""
        return self.metrics.counted(WEBHOOKS_REFUSED)

    def forgets_after(self, seconds: float) -> None:
        """How long the edge believes what it knows of a connection, from what it learns next on; otherwise five seconds."""
        self.edge._sources._fresh = seconds

    async def post(
        self, sender: Sender, body: bytes | dict[str, Any], headers: dict[str, str] | None = None, **signing: Any
    ) -> httpx.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(sender.path, content=raw, headers=headers or sender.headers(raw, **signing))

    async def messages(self, count: int, *, within: float = 30) -> list[Any]:
        """Take so many out of the queue; fails where more are there."""
        queue = await self.channel.get_queue(WEBHOOKS.main.name)
        taken: list[Any] = []
        async with asyncio.timeout(within):
            while len(taken) < count:
                if (message := await queue.get(fail=False)) is None:
                    await asyncio.sleep(0.02)
                    continue
                await message.ack()
                taken.append(message)
        assert await queue.get(fail=False) is None
        return taken


def edge_settings(database_url: str, rabbitmq_url: str, secrets: Path, **given: Any) -> Settings:
    return load_settings(database_url=database_url, rabbitmq_url=rabbitmq_url, secrets_dir=secrets, **given)


def write_secrets(folder: Path) -> Path:
    (folder / "current").write_text(SECRET + "\n")
    (folder / "next").write_text(OTHER_SECRET)
    return folder


@asynccontextmanager
async def open_edge(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[tuple[Edge, HttpServer]]:
    edge = Edge(settings, metrics or Metrics((Stage.WEBHOOKS,)))

    async def problems() -> dict[str, dict[str, str]]:
        return {"edge": found} if (found := edge.problems()) else {}

    server = HttpServer(health_routes(problems), "127.0.0.1", 0, webhooks=edge.door)
    running = asyncio.create_task(edge.run())
    serving = asyncio.create_task(server.run())
    try:
        await eventually(lambda: not edge.problems() or running.done(), within=20)
        yield edge, server
    finally:
        for task in (serving, running):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def open_door(
    database_url: str, rabbitmq_url: str, secrets: Path, *, edge_broker: str | None = None, **given: Any
) -> AsyncIterator[Door]:
    """Everything up; the queue of webhooks is emptied before and after. The edge may have another way to the broker."""
    await empty(rabbitmq_url)
    settings = edge_settings(database_url, edge_broker or rabbitmq_url, write_secrets(secrets), **given)
    connection = await aio_pika.connect(rabbitmq_url)
    metrics = Metrics((Stage.WEBHOOKS,))
    async with (
        connection,
        open_edge(settings, metrics) as (edge, server),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client,
    ):
        yield Door(edge, server, client, await connection.channel(), metrics)
    await empty(rabbitmq_url)
