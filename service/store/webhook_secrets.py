"""The secrets of a connection's webhooks, by reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from service.domain.member import CompanyId, ConnectionId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["WebhookSecret", "insert_webhook_secret", "list_webhook_secrets", "retire_webhook_secrets"]

_SQL: Final = queries("webhook_secrets")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSecret:
    """A secret of a connection, or that it has none; `holds_for` is None where it has no end, and negative where it has ended."""

    company: str
    connection_id: ConnectionId
    connection: str
    scheme: str
    settings: Mapping[str, Any]
    reference: str | None
    holds_for: timedelta | None
    revoked: bool


async def insert_webhook_secret(tx: Tx, connection_id: ConnectionId, company_id: CompanyId, reference: str) -> None:
    """Add a secret without an end; raises UnfitData where the company was never granted the reference."""
    await tx.execute(_SQL["insert_webhook_secret"].sql, connection_id, company_id, reference)


async def retire_webhook_secrets(tx: Tx, connection_id: ConnectionId, kept: str, after: timedelta) -> list[str]:
    """End all secrets but `kept` after so long, by the database's clock; answers their references."""
    return [record["reference"] for record in await tx.fetch(_SQL["retire_webhook_secrets"].sql, connection_id, kept, after)]


async def list_webhook_secrets(tx: Tx) -> list[WebhookSecret]:
    """The secrets of all connections that take webhooks, by company and connection, newest first."""
    return [WebhookSecret(**record) for record in await tx.fetch(_SQL["list_webhook_secrets"].sql)]
