"""Issue a key of the admin API, or revoke one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from uuid_utils.compat import uuid7

from service.actions.audit_change import Author, audit_change, differences
from service.domain.api_keys import ApiKeyId, KeyScope, digest, new_secret, written_key
from service.store.api_keys import ApiKeyRow, insert_api_key, revoke_api_key, show_api_key
from service.store.clock import read_clock

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["IssuedKey", "KeyRefused", "issue_key", "revoke_key"]


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key, and the one time that it is shown."""

    row: ApiKeyRow
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """It is not issued; `lacking` are scopes that nobody can grant who lacks them, none where its end is past already."""

    lacking: frozenset[KeyScope]


async def issue_key(
    tx: Tx,
    author: Author,
    name: str,
    scopes: Collection[KeyScope],
    expires_at: datetime | None = None,
    *,
    granting: Collection[KeyScope] = tuple(KeyScope),
) -> IssuedKey | KeyRefused:
    """Make a key for the author's company, whose scopes are among those that the author may grant."""
    if lacking := frozenset(scopes).difference(granting):
        return KeyRefused(lacking)
    if expires_at is not None and expires_at <= await read_clock(tx):
        return KeyRefused(frozenset())
    key_id, secret = ApiKeyId(uuid7()), new_secret()
    row = await insert_api_key(tx, key_id, author.company_id, name, digest(secret), set(scopes), author.actor, expires_at)
    told = {"name": name, "scopes": row.scopes, "expiresAt": None if expires_at is None else expires_at.isoformat()}
    await audit_change(tx, author, "key.issued", row.id, differences({}, told))
    return IssuedKey(row, written_key(key_id, secret))


async def revoke_key(tx: Tx, author: Author, key_id: ApiKeyId) -> bool:
    """Let a key open nothing from now on; False where the company has no such key. Revoked before, it stays as it was."""
    if await revoke_api_key(tx, key_id, author.company_id, author.actor):
        await audit_change(tx, author, "key.revoked", key_id)
        return True
    return await show_api_key(tx, key_id, author.company_id) is not None
