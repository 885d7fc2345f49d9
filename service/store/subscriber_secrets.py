"""The secrets that notifications are signed with, by reference."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from service.domain.member import CompanyId
from service.domain.notifications.subscriber import SubscriberId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "SigningSecret",
    "discard_retired_secrets",
    "insert_subscriber_secret",
    "list_signing_secrets",
    "retire_subscriber_secrets",
]

_SQL: Final = queries("subscriber_secrets")


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningSecret:
    """What a subscriber is signed with now; `revoked` where its company may not refer to it any more."""

    subscriber_id: SubscriberId
    reference: str
    revoked: bool


async def insert_subscriber_secret(tx: Tx, subscriber_id: SubscriberId, company_id: CompanyId, reference: str) -> None:
    """Add a secret without an end; raises UnfitData where the company was never granted the reference."""
    await tx.execute(_SQL["insert_subscriber_secret"].sql, subscriber_id, company_id, reference)


async def retire_subscriber_secrets(tx: Tx, subscriber_id: SubscriberId, kept: str, after: timedelta) -> list[str]:
    """End all secrets but `kept` after so long, by the database's clock; answers their references."""
    return [record["reference"] for record in await tx.fetch(_SQL["retire_subscriber_secrets"].sql, subscriber_id, kept, after)]


async def discard_retired_secrets(tx: Tx, subscriber_id: SubscriberId) -> None:
    """Forget those that sign no more."""
    await tx.execute(_SQL["discard_retired_secrets"].sql, subscriber_id)


async def list_signing_secrets(tx: Tx, subscribers: Collection[SubscriberId]) -> list[SigningSecret]:
    """What these subscribers are signed with now, the newest of each first."""
    return [SigningSecret(**record) for record in await tx.fetch(_SQL["list_signing_secrets"].sql, list(subscribers))]
