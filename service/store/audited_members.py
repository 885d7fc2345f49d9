"""Members beside what their audit ends in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.domain.member import MemberId, Standing, UpstreamState
from service.store.bulk import SLOW_SECONDS, plan_for_bulk
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["AuditDifference", "AuditedMember", "compare_with_audit", "count_keys", "list_audited", "page_members", "sample_members"]

_SQL: Final = queries("audited_members")
# Before every other.
_FIRST: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class AuditDifference:
    """In which audited fields a member's row and the audit differ; none where they agree."""

    id: MemberId
    differing: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedMember:
    """What a member's audit ends in; `upstream_state` None: it never said."""

    id: MemberId
    # Of the row, as it was read.
    read_version: int
    version: int
    state: Standing
    plan: str | None
    starts_at: datetime | None
    expires_at: datetime | None
    upstream_state: UpstreamState | None


async def count_keys(tx: Tx) -> int:
    """How many rows there are, tombstones among them."""
    await plan_for_bulk(tx)
    rows: int = await tx.fetchval(_SQL["count_keys"].sql, timeout=SLOW_SECONDS)
    return rows


async def sample_members(tx: Tx, places: Sequence[int]) -> list[UUID]:
    """Who stands at these places in the order of the ids."""
    await plan_for_bulk(tx)
    return [record["id"] for record in await tx.fetch(_SQL["sample_members"].sql, places, timeout=SLOW_SECONDS)]


async def page_members(tx: Tx, after: UUID | None, most: int) -> list[UUID]:
    """The next ids behind `after`."""
    return [record["id"] for record in await tx.fetch(_SQL["page_members"].sql, after or _FIRST, most)]


async def compare_with_audit(tx: Tx, ids: Sequence[UUID]) -> list[AuditDifference]:
    """Compare rows with their audit; those that are gone are missing."""
    return [AuditDifference(**record) for record in await tx.fetch(_SQL["compare_with_audit"].sql, ids)]


async def list_audited(tx: Tx, ids: Sequence[UUID]) -> list[AuditedMember]:
    """What the audit of these members ends in; those without any are missing."""
    found = []
    for record in await tx.fetch(_SQL["list_audited"].sql, ids):
        upstream = record["upstream_state"]
        enums = {"state": Standing(record["state"]), "upstream_state": None if upstream is None else UpstreamState(upstream)}
        found.append(AuditedMember(**{**dict(record), **enums}))
    return found
