"""Keys of the admin API: who may use it for which company."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from service.domain.api_keys import ApiKeyId, KeyScope
from service.domain.member import CompanyId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "ApiKeyRow",
    "UsableKey",
    "find_api_key",
    "insert_api_key",
    "list_api_keys",
    "note_api_key_use",
    "revoke_api_key",
    "show_api_key",
]

_SQL: Final = queries("api_keys")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRow:
    """A key as people see it, without what would let them use it."""

    id: ApiKeyId
    company_id: CompanyId
    name: str
    scopes: list[str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsableKey:
    """A key that is neither revoked nor expired; `is_stale` where its last use was not noted within the hour."""

    id: ApiKeyId
    company_id: CompanyId
    sha256: bytes = field(repr=False)
    scopes: list[str]
    is_stale: bool


async def insert_api_key(
    tx: Tx,
    key_id: ApiKeyId,
    company_id: CompanyId,
    name: str,
    sha256: bytes,
    scopes: Collection[KeyScope],
    created_by: str,
    expires_at: datetime | None,
) -> ApiKeyRow:
    """Add a key."""
    (record,) = await tx.fetch(_SQL["insert_api_key"].sql, key_id, company_id, name, sha256, sorted(scopes), created_by, expires_at)
    return ApiKeyRow(**record)


async def find_api_key(tx: Tx, key_id: ApiKeyId) -> UsableKey | None:
    """A key that may be used now."""
    record = await tx.fetchrow(_SQL["find_api_key"].sql, key_id)
    return None if record is None else UsableKey(**record)


async def note_api_key_use(tx: Tx, key_id: ApiKeyId) -> None:
    """Note that it was used, to the hour."""
    await tx.execute(_SQL["note_api_key_use"].sql, key_id)


async def list_api_keys(tx: Tx, company_id: CompanyId, *, after: tuple[datetime, ApiKeyId] | None, limit: int) -> list[ApiKeyRow]:
    """A company's keys, the newest first, the revoked among them."""
    created_at, key_id = after or (None, None)
    return [ApiKeyRow(**record) for record in await tx.fetch(_SQL["list_api_keys"].sql, company_id, created_at, key_id, limit)]


async def show_api_key(tx: Tx, key_id: ApiKeyId, company_id: CompanyId | None = None) -> ApiKeyRow | None:
    """A key, of this company where one is given."""
    record = await tx.fetchrow(_SQL["show_api_key"].sql, key_id, company_id)
    return None if record is None else ApiKeyRow(**record)


async def revoke_api_key(tx: Tx, key_id: ApiKeyId, company_id: CompanyId, revoked_by: str) -> bool:
    """Let nobody use a key any more; False where nobody could."""
    return await tx.fetchval(_SQL["revoke_api_key"].sql, key_id, company_id, revoked_by) is not None
