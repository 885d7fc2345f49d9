"""Webhooks: how a connection's are signed, how many may come, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from service.domain.member import CompanyId, ConnectionId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["WebhookRow", "find_webhook", "insert_webhook"]

_SQL: Final = queries("webhooks")
_FIND: Final = _SQL["find_webhook"].sql


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRow:
    """A connection's webhooks; `secret_references` and `not_afters` belong together, newest first."""

    connection_id: ConnectionId
    company_id: CompanyId
    scheme: str
    settings: Mapping[str, Any]
    mapping: Mapping[str, Any] | None
    rate_per_second: int
    secret_references: list[str]
    not_afters: list[datetime | None]


async def insert_webhook(
    tx: Tx,
    connection_id: ConnectionId,
    company_id: CompanyId,
    *,
    scheme: str,
    settings: Mapping[str, Any],
    mapping: Mapping[str, Any] | None,
    rate_per_second: int,
) -> None:
    """Let a connection receive webhooks; raises Contention where it does already."""
    await tx.execute(_SQL["insert_webhook"].sql, connection_id, company_id, scheme, settings, mapping, rate_per_second)


async def find_webhook(tx: Tx, connection_id: ConnectionId) -> WebhookRow | None:
    """The webhooks of a connection that is not archived."""
    record = await tx.fetchrow(_FIND, connection_id)
    return WebhookRow(**record) if record else None
