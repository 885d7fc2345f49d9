"""The secrets of a connection's webhooks, by reference."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from service.domain.member import CompanyId, ConnectionId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["insert_webhook_secret", "retire_webhook_secrets"]

_SQL: Final = queries("webhook_secrets")


async def insert_webhook_secret(tx: Tx, connection_id: ConnectionId, company_id: CompanyId, reference: str) -> None:
    """Add a secret without an end; raises UnfitData where the company was not granted the reference."""
    await tx.execute(_SQL["insert_webhook_secret"].sql, connection_id, company_id, reference)


async def retire_webhook_secrets(tx: Tx, connection_id: ConnectionId, kept: str, after: timedelta) -> list[str]:
    """End all secrets but `kept` after so long, by the database's clock; answers their references."""
    return [record["reference"] for record in await tx.fetch(_SQL["retire_webhook_secrets"].sql, connection_id, kept, after)]
