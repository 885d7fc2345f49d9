"""Members: locked in order, read whole, written whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.member import CompanyId, ConnectionId, Member, MemberId, Standing, UpstreamState
from service.store.bulk import SLOW_SECONDS, plan_for_bulk
from service.store.copying import COPY_FROM, copy_rows
from service.store.queries import queries
from service.store.rows import column_names, columns, tuples

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "MEMBER_COLUMNS",
    "MemberKeys",
    "count_live_members",
    "delete_tombstones",
    "insert_members",
    "lock_members",
    "read_members",
    "update_members",
]

_SQL: Final = queries("members")
_LOCK: Final = _SQL["lock_members"].sql
_READ: Final = _SQL["read_members"].sql
_INSERT: Final = _SQL["insert_members"].sql
_UPDATE: Final = _SQL["update_members"].sql
_DELETE_TOMBSTONES: Final = _SQL["delete_tombstones"].sql

MEMBER_COLUMNS: Final = column_names(Member)
_STATE: Final = MEMBER_COLUMNS.index("state")
_UPSTREAM_STATE: Final = MEMBER_COLUMNS.index("upstream_state")


@dataclass(frozen=True, slots=True)
class MemberKeys:
    """What names the members that a batch is about."""

    external: set[tuple[ConnectionId, str]]
    national: set[tuple[CompanyId, str]]
    ids: set[MemberId]


async def lock_members(tx: Tx, keys: MemberKeys) -> list[Member]:
    """The rows that the keys name, locked in the order of their ids until the transaction ends."""
    return [_member(list(record.values())) for record in await tx.fetch(_LOCK, *_arguments(keys))]


async def read_members(tx: Tx, keys: MemberKeys) -> list[Member]:
    """The rows that the keys name, as they are now; nobody who wants to change them waits."""
    return [_member(list(record.values())) for record in await tx.fetch(_READ, *_arguments(keys))]


async def count_live_members(tx: Tx, connection_id: ConnectionId) -> int:
    """How many members of a connection its source still has, as far as is known."""
    await plan_for_bulk(tx)
    live: int = await tx.fetchval(_SQL["count_live_members"].sql, connection_id, timeout=SLOW_SECONDS)
    return live


def _arguments(keys: MemberKeys) -> tuple[list[Any], ...]:
    return (
        [connection for connection, _ in keys.external],
        [external_id for _, external_id in keys.external],
        [company for company, _ in keys.national],
        [national_id for _, national_id in keys.national],
        list(keys.ids),
    )


def _member(values: list[Any]) -> Member:
    values[_STATE] = Standing(values[_STATE])
    values[_UPSTREAM_STATE] = UpstreamState(values[_UPSTREAM_STATE])
    return Member(**dict(zip(MEMBER_COLUMNS, values, strict=True)))


async def insert_members(tx: Tx, members: Sequence[Member]) -> None:
    """Store new members and tombstones; raises Contention when somebody else stored one of the keys meanwhile."""
    ordered = sorted(members, key=_unique_keys)
    if len(ordered) < COPY_FROM:
        await tx.execute(_INSERT, *columns(MEMBER_COLUMNS, ordered))
    else:
        await copy_rows(tx, "members", MEMBER_COLUMNS, tuples(MEMBER_COLUMNS, ordered))


def _unique_keys(member: Member) -> tuple[bool, tuple[CompanyId, str | None], tuple[UUID, str]]:
    """An order of new rows in which transactions that store the same ones wait for each other instead of being deadlocked."""
    key = (member.connection_id or member.id, member.external_id or "")
    return member.national_id is None, (member.company_id, member.national_id), key


async def update_members(tx: Tx, members: Sequence[Member], read_versions: Sequence[int]) -> int:
    """Write whole rows over the versions that were read; answers how many rows were still at theirs."""
    changed: int = await tx.fetchval(_UPDATE, *columns(MEMBER_COLUMNS, members), list(read_versions))
    return changed


async def delete_tombstones(tx: Tx, ids: Sequence[MemberId]) -> None:
    """Remove tombstones whose place a member took."""
    await tx.execute(_DELETE_TOMBSTONES, list(ids))
