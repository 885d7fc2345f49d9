"""What a member was: its versions as they are read, and what is taken out of them and of everything else when it is erased."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from service.domain.member import CompanyId, ConnectionId, MemberId
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["PastVersion", "erase_history", "list_history"]

_SQL: Final = queries("member_history")


@dataclass(frozen=True, slots=True, kw_only=True)
class PastVersion:
    """One version: who made it, why, and what it changed; `before` and `after` hold the changed fields, which are personal."""

    version: int
    occurred_at: datetime
    reason_code: str
    actor: str
    correlation_id: str
    previous_state: str | None
    new_state: str
    changed_fields: list[str]
    before: Mapping[str, Any] = field(repr=False)
    after: Mapping[str, Any] = field(repr=False)
    connection_id: ConnectionId | None
    external_id: str | None
    plan: str | None
    starts_at: datetime | None
    expires_at: datetime | None


async def list_history(
    tx: Tx, company_id: CompanyId, member_id: MemberId, *, below: int | None = None, limit: int
) -> list[PastVersion]:
    """Versions of a member of the company, the newest first, below the version `below`."""
    return [PastVersion(**record) for record in await tx.fetch(_SQL["list_history"].sql, member_id, company_id, below, limit)]


async def erase_history(tx: Tx, member_id: MemberId, fields: Collection[str]) -> None:
    """Blank these fields, by their names in the contract, in all that is kept of what the member was."""
    await tx.execute(_SQL["erase_history"].sql, member_id, list(fields))
    await tx.execute(_SQL["erase_entries"].sql, member_id, list(fields))
    # In the order in which a sync clears up, so that neither waits for the other in a ring.
    await tx.execute(_SQL["erase_pages"].sql)
    await tx.execute(_SQL["erase_staged"].sql, member_id)
    await tx.execute(_SQL["erase_differences"].sql, member_id)
