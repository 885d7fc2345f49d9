"""Members as scans look at them: live ones, in the order of their ids or by their addresses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from service.domain.member import CompanyId, MemberId
from service.store.bulk import SLOW_SECONDS, plan_for_bulk
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "MemberAt",
    "ScannedMember",
    "SharingMember",
    "count_live_members",
    "list_members_at",
    "list_members_outside",
    "list_scanned_members",
    "stream_members_sharing_email",
    "stream_members_sharing_national_id",
]

_SQL: Final = queries("scanned_members")


@dataclass(frozen=True, slots=True)
class ScannedMember:
    """A live member, as little of it as scans need."""

    id: MemberId
    email: str | None = field(repr=False)
    national_id: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class MemberAt(ScannedMember):
    """The same with the address, as it was asked for, that is the member's."""

    address: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SharingMember:
    """A member, how many live ones have the same value, itself among them, and one of the others."""

    id: MemberId
    sharing: int
    other: MemberId


async def count_live_members(tx: Tx, company_id: CompanyId) -> int:
    """How many members of the company have not left."""
    count: int = await tx.fetchval(_SQL["count_live_members"].sql, company_id, timeout=SLOW_SECONDS)
    return count


async def list_scanned_members(tx: Tx, company_id: CompanyId, after: MemberId | None, limit: int) -> list[ScannedMember]:
    """The next live members by id."""
    return [ScannedMember(**record) for record in await tx.fetch(_SQL["list_scanned_members"].sql, company_id, after, limit)]


async def list_members_outside(
    tx: Tx, company_id: CompanyId, domains: Collection[str], after: MemberId | None, limit: int
) -> list[ScannedMember]:
    """The next live members by id whose address is in none of these domains."""
    records = await tx.fetch(_SQL["list_members_outside"].sql, company_id, after, list(domains), limit, timeout=SLOW_SECONDS)
    return [ScannedMember(**record) for record in records]


async def list_members_at(tx: Tx, company_id: CompanyId, addresses: Collection[str]) -> list[MemberAt]:
    """Live members with one of these addresses, without case and blanks around them; once for each that is a member's."""
    return [MemberAt(**record) for record in await tx.fetch(_SQL["list_members_at"].sql, company_id, list(addresses))]


async def stream_members_sharing_email(tx: Tx, company_id: CompanyId, batch: int) -> AsyncGenerator[Sequence[SharingMember], None]:
    """Live members whose address another one has too, without case and blanks around it; to be read in its transaction."""
    await plan_for_bulk(tx)
    cursor = await tx.cursor(_SQL["stream_members_sharing_email"].sql, company_id, timeout=SLOW_SECONDS)
    while some := await cursor.fetch(batch, timeout=SLOW_SECONDS):
        yield [SharingMember(**record) for record in some]


async def stream_members_sharing_national_id(
    tx: Tx, company_id: CompanyId, batch: int
) -> AsyncGenerator[Sequence[SharingMember], None]:
    """The same of national ids, of which letters and digits count."""
    await plan_for_bulk(tx)
    cursor = await tx.cursor(_SQL["stream_members_sharing_national_id"].sql, company_id, timeout=SLOW_SECONDS)
    while some := await cursor.fetch(batch, timeout=SLOW_SECONDS):
        yield [SharingMember(**record) for record in some]
