"""The edge: the webhook door and the admin API, with what stands behind them."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from service.actions.admit_webhooks import SourceLimits, draw_tokens
from service.actions.find_webhook import LastKnown, SecretMissing, WebhookSource, find_webhook_source
from service.actions.run_due_schedules import Begun
from service.domain.errors import Unavailable
from service.domain.member import ConnectionId
from service.entrypoints.http.webhooks import WebhookDoor, WebhookLimits
from service.entrypoints.loops.publish_windows import WindowedPublisher
from service.settings import SecretUnavailable, Settings, resolve_secret
from service.store.database import Database
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing
from service.wiring.directories import described, opened_source
from service.wiring.extensions import Extensions, load_extensions
from service.wiring.notifications import bound_notifications
from service.wiring.resources import declared_topology, open_database
from service.wiring.scans import scan_providers
from service.wiring.schedules import run_due

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["Edge"]

# Shorter than the door's own limit, so that a connection that does not answer is given up, and the next request gets a new one.
_PUBLISH_WITHIN: Final = timedelta(seconds=2.1)

_log: Final = structlog.get_logger(__name__)


class Edge:
    """Takes webhooks and serves the admin API; `door` and `admin` answer 503 until all is there."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics = UNMEASURED,
        tracing: Tracing = NO_TRACING,
        extensions: Extensions | None = None,
    ) -> None:
        self._settings = settings
        self._extensions = load_extensions() if extensions is None else extensions
        self._db: Database | None = None
        # A pool of its own: whoever reads a million members keeps no webhook waiting.
        self._admin_db: Database | None = None
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
        self.admin = self._admin_door(metrics, tracing)

    def _admin_door(self, metrics: Metrics, tracing: Tracing) -> ASGIApp:
        # Here and not above: framework and routes take half a second to import, and no other role and no command needs them.
        from service.entrypoints.http.admin.app import admin_door
        from service.entrypoints.http.admin.setting import AdminSetting

        added = self._extensions.sources
        setting = AdminSetting(
            database=self._administered,
            operator_key=self._settings.admin_api_key,
            default_grace_days=self._settings.grace_days,
            sync_enabled=self._settings.sync_enabled,
            opened=partial(opened_source, self._settings, added=added),
            described=partial(described, added=added),
            added=added,
            read_models=tuple(self._extensions.reconcilers),
            bind=partial(bound_notifications, self._settings),
            scan_providers=scan_providers(self._settings, self._extensions),
        )
        return admin_door(setting, metrics, tracing)

    async def run(self) -> None:
        """Wait for the database and the broker, and take webhooks until cancelled, whatever becomes of the database meanwhile."""
        db = await open_database(self._settings, "edge")
        try:
            if self._settings.admin_api_key is not None:
                self._admin_db = await open_database(self._settings, "edge admin")
            await declared_topology(self._settings)
            self._db = db
            _log.info("edge takes webhooks")
            await self._publisher.run()
        finally:
            self._db = None
            await db.close()
            if self._admin_db is not None:
                await self._admin_db.close()
                self._admin_db = None

    def problems(self) -> dict[str, str]:
        """What keeps webhooks from being taken, by dependency; a database that went away later does not."""
        found = {}
        if self._db is None:
            found["database"] = "not connected yet"
        if not self._publisher.ready:
            found["broker"] = "away or blocks publishing"
        return found

    async def run_due(self) -> list[Begun] | None:
        """One tick; None where schedules are switched off. Raises Retry errors."""
        return await run_due(self._settings, self._database)

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

    def _administered(self) -> Database:
        if self._admin_db is None:
            raise Unavailable("the edge is not connected to its database yet")
        return self._admin_db

    def _open_secret(self, reference: str) -> str:
        try:
            return resolve_secret(reference, self._settings.secrets_dir).get_secret_value()
        except SecretUnavailable as error:
            raise SecretMissing(str(error)) from None
