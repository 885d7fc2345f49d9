"""The edge: the webhook door with what stands behind it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from service.actions.admit_webhooks import SourceLimits, draw_tokens
from service.actions.find_webhook import LastKnown, SecretMissing, WebhookSource, find_webhook_source
from service.domain.errors import Unavailable
from service.domain.member import ConnectionId
from service.entrypoints.http.webhooks import WebhookDoor, WebhookLimits
from service.entrypoints.loops.publish_windows import WindowedPublisher
from service.settings import SecretUnavailable, Settings, resolve_secret
from service.store.database import Database
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing
from service.wiring.resources import declared_topology, open_database

__all__ = ["Edge"]

# Shorter than the door's own limit, so that a connection that does not answer is given up, and the next request gets a new one.
_PUBLISH_WITHIN: Final = timedelta(seconds=2.1)

_log: Final = structlog.get_logger(__name__)


class Edge:
    """Takes webhooks; `door` answers 503 until all is there."""

    def __init__(self, settings: Settings, metrics: Metrics = UNMEASURED, tracing: Tracing = NO_TRACING) -> None:
        self._settings = settings
        self._db: Database | None = None
        self._sources: LastKnown[WebhookSource] = LastKnown(self._load)
        self._publisher = WindowedPublisher(settings.rabbitmq_url.get_secret_value(), name="edge", within=_PUBLISH_WITHIN)
        self.door = WebhookDoor(
            self._find,
            SourceLimits(self._draw).admit,
            self._publisher.publish,
            WebhookLimits(forged_per_second=settings.forged_webhooks_per_second),
            metrics=metrics,
            tracing=tracing,
        )

    async def run(self) -> None:
        """Wait for the database and the broker, and take webhooks until cancelled, whatever becomes of the database meanwhile."""
        db = await open_database(self._settings, "edge")
        try:
            await declared_topology(self._settings)
            self._db = db
            _log.info("edge takes webhooks")
            await self._publisher.run()
        finally:
            self._db = None
            await db.close()

    def problems(self) -> dict[str, str]:
        """What keeps webhooks from being taken, by dependency; a database that went away later does not."""
        found = {}
        if self._db is None:
            found["database"] = "not connected yet"
        if not self._publisher.ready:
            found["broker"] = "away or blocks publishing"
        return found

    async def _find(self, connection_id: ConnectionId) -> WebhookSource | None:
        if self._db is None:
            raise Unavailable("the edge is not connected to its database yet")
        return await self._sources.find(connection_id)

    async def _load(self, connection_id: ConnectionId) -> WebhookSource | None:
        return await find_webhook_source(self._database, connection_id, self._open_secret)

    async def _draw(self, connection_id: ConnectionId, most: int, per_second: int) -> int:
        return await draw_tokens(self._database, connection_id, most, per_second)

    @property
    def _database(self) -> Database:
        if self._db is None:
            raise Unavailable("the edge is not connected to its database")
        return self._db

    def _open_secret(self, reference: str) -> str:
        try:
            return resolve_secret(reference, self._settings.secrets_dir).get_secret_value()
        except SecretUnavailable as error:
            raise SecretMissing(str(error)) from None
