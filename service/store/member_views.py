"""Members as people see them: read alone, listed by keyset, filtered and searched, with what holds now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.member import CompanyId, ConnectionId, MemberId, Standing
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["MemberFilter", "MemberView", "VerifiedMember", "find_member", "list_members"]

_SQL: Final = queries("member_views")
_PLAN: Final = _SQL["plan_for_filters"].sql
_ALL: Final = _SQL["list_members"].sql
_BY_NATIONAL_ID: Final = _SQL["list_members_by_national_id"].sql
_BY_PLAN: Final = _SQL["list_members_by_plan"].sql
_BY_STATE: Final = _SQL["list_members_by_state"].sql
_OF_CONNECTION: Final = _SQL["list_members_of_connection"].sql
_SEARCH: Final = _SQL["search_members"].sql

# Below every id.
_NOBODY: Final = UUID(int=0)
_LIKE: Final = re.compile(r"[\\%_]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberView:
    """A member at `read_at`; `state` is its standing then, whatever was last published."""

    id: MemberId
    connection_id: ConnectionId | None
    external_id: str | None
    national_id: str | None = field(repr=False)
    name: str | None = field(repr=False)
    email: str | None = field(repr=False)
    phone: str | None = field(repr=False)
    metadata: Mapping[str, Any] = field(repr=False)
    upstream_state: str
    hold: str | None = field(repr=False)
    held_at: datetime | None
    plan: str | None
    pending_plan: str | None
    pending_start: date | None
    pending_expires_at: datetime | None
    starts_at: datetime | None
    expires_at: datetime | None
    removed_at: datetime | None
    version: int
    created_at: datetime
    state: str
    read_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedMember(MemberView):
    """The same, and when its source was last known to say so; None where it never was, or has none."""

    verified_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFilter:
    """Whom a list holds: all that is given must fit."""

    state: Standing | None = None
    plan: str | None = None
    connection_id: ConnectionId | None = None
    # Normalised.
    national_id: str | None = field(default=None, repr=False)
    # Beginnings of words of a name, the beginning of an e-mail address, or an external id.
    text: str | None = field(default=None, repr=False)


async def find_member(tx: Tx, company_id: CompanyId, member_id: MemberId, default_grace_days: int) -> VerifiedMember | None:
    """A member of the company; None where it has no such member."""
    record = await tx.fetchrow(_SQL["find_member"].sql, member_id, company_id, default_grace_days)
    return None if record is None else VerifiedMember(**record)


async def list_members(
    tx: Tx,
    company_id: CompanyId,
    wanted: MemberFilter,
    *,
    after: MemberId | None = None,
    limit: int,
    default_grace_days: int,
) -> list[MemberView]:
    """Members of the company in the order of their ids, which is about that of their joining, above `after`."""
    days = await tx.fetchval(_SQL["grace_of_company"].sql, company_id, default_grace_days)
    if days is None:
        return []
    await tx.execute(_PLAN)
    given: list[Any] = [company_id, after or _NOBODY, timedelta(days=days), limit]
    given += [wanted.plan, wanted.connection_id, wanted.national_id, wanted.state]
    # By what finds the fewest; the other filters are asked of those.
    if wanted.text is not None:
        records = await tx.fetch(_SEARCH, *given, wanted.text, _LIKE.sub(r"\\\g<0>", wanted.text) + "%")
    elif wanted.national_id is not None:
        records = await tx.fetch(_BY_NATIONAL_ID, *given)
    elif wanted.state not in (None, Standing.ACTIVE):
        records = await tx.fetch(_BY_STATE, *given)
    elif wanted.plan is not None:
        records = await tx.fetch(_BY_PLAN, *given)
    elif wanted.connection_id is not None:
        records = await tx.fetch(_OF_CONNECTION, *given)
    elif wanted.state is not None:
        records = await tx.fetch(_BY_STATE, *given)
    else:
        records = await tx.fetch(_ALL, *given)
    return [MemberView(**record) for record in records]
