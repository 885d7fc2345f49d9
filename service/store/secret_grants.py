"""Which of the operator's secrets a company may refer to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from service.domain.member import CompanyId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "HeldSecret",
    "SecretGrant",
    "grant_secret",
    "is_granted",
    "list_held_secrets",
    "list_secret_grants",
    "offer_secret",
    "revoke_secret",
]

_SQL: Final = queries("secret_grants")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretGrant:
    """What a company may refer to, or might until `revoked_at`; `holders` are such as `connection hooks`, `subscriber lists`."""

    company: str
    reference: str
    granted_at: datetime
    revoked_at: datetime | None
    holders: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSecret:
    """Who holds a reference: `holder` is a connection of the kind `directory`, a `subscriber`, or a `scan provider`."""

    company: str
    kind: str
    holder: str
    reference: str
    granted: bool


async def offer_secret(tx: Tx, company_id: CompanyId, reference: str) -> bool:
    """Let a company refer to a secret, and answer whether it may: not where that was revoked. Raises UnfitData for no reference."""
    return await tx.fetchval(_SQL["offer_secret"].sql, company_id, reference) is not None


async def is_granted(tx: Tx, company_id: CompanyId, reference: str) -> bool:
    """Whether a company may refer to a secret."""
    return await tx.fetchval(_SQL["is_granted"].sql, company_id, reference) is True


async def grant_secret(tx: Tx, company_id: CompanyId, reference: str) -> None:
    """Let a company refer to a secret, also after a revocation: the operator's decision. Raises UnfitData for no reference."""
    await tx.execute(_SQL["grant_secret"].sql, company_id, reference)


async def revoke_secret(tx: Tx, company_id: CompanyId, reference: str) -> bool:
    """Let a company refer to a secret no more; False where it might not before."""
    return await tx.fetchval(_SQL["revoke_secret"].sql, company_id, reference) is not None


async def list_secret_grants(tx: Tx, company_id: CompanyId | None = None) -> list[SecretGrant]:
    """What was granted and revoked, to all companies or to one."""
    return [SecretGrant(**record) for record in await tx.fetch(_SQL["list_secret_grants"].sql, company_id)]


async def list_held_secrets(tx: Tx) -> list[HeldSecret]:
    """The secrets of directories, subscribers and scan providers; those of webhooks have a list of their own."""
    return [HeldSecret(**record) for record in await tx.fetch(_SQL["list_held_secrets"].sql)]
