"""Members: locked in order, read whole, written whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service.domain.member import CompanyId, ConnectionId, Member, MemberId, Standing, UpstreamState, member_of
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
    "lock_free_members",
    "lock_members",
    "read_members",
    "update_members",
]

_SQL: Final = queries("members")
_LOCK: Final = _SQL["lock_members"].sql
_READ: Final = _SQL["read_members"].sql
_INSERT: Final = _SQL["insert_members"].sql
_UPDATE: Final = _SQL["update_members"].sql
_UPDATE_STANDINGS: Final = _SQL["update_standings"].sql
_DELETE_TOMBSTONES: Final = _SQL["delete_tombstones"].sql

MEMBER_COLUMNS: Final = column_names(Member)
_STATE: Final = MEMBER_COLUMNS.index("state")
_UPSTREAM_STATE: Final = MEMBER_COLUMNS.index("upstream_state")
_STANDINGS: Final = {standing.value: standing for standing in Standing}
_UPSTREAM_STATES: Final = {state.value: state for state in UpstreamState}
# All that time alone leaves as it is.
_FACTS: Final = attrgetter(*(name for name in MEMBER_COLUMNS if name not in ("state", "version")))


@dataclass(frozen=True, slots=True)
class MemberKeys:
    """What names the members that a batch is about."""

    external: set[tuple[ConnectionId, str]]
    national: set[tuple[CompanyId, str]]
    ids: set[MemberId]


async def lock_members(tx: Tx, keys: MemberKeys) -> list[Member]:
    """The rows that the keys name, locked in the order of their ids until the transaction ends."""
    return [_member(list(record.values())) for record in await tx.fetch(_LOCK, *_arguments(keys))]


async def lock_free_members(tx: Tx, ids: Collection[MemberId]) -> list[Member]:
    """Those of the members that nobody else has locked, locked in the order of their ids until the transaction ends."""
    return [_member(list(record.values())) for record in await tx.fetch(_SQL["lock_free_members"].sql, list(ids))]


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
    values[_STATE] = _STANDINGS[values[_STATE]]
    values[_UPSTREAM_STATE] = _UPSTREAM_STATES[values[_UPSTREAM_STATE]]
    return member_of(values)


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


async def update_members(tx: Tx, updated: Sequence[tuple[Member, Member]]) -> int:
    """Write members, each over what was read of it; answers how many rows were still at the version that was read.

    Of whom nothing but the standing is another, nothing else is written: two dozen arrays cost more than the rows.
    """
    changed = 0
    restated = [one for one in updated if _is_restated(*one)]
    if restated:
        ids, states = [member.id for member, _ in restated], [member.state for member, _ in restated]
        versions, read_versions = [member.version for member, _ in restated], [read.version for _, read in restated]
        changed += await tx.fetchval(_UPDATE_STANDINGS, ids, states, versions, read_versions)
    others = [one for one in updated if not _is_restated(*one)] if restated else updated
    if others:
        whole = columns(MEMBER_COLUMNS, [member for member, _ in others])
        changed += await tx.fetchval(_UPDATE, *whole, [read.version for _, read in others])
    return changed


def _is_restated(member: Member, read: Member) -> bool:
    """Whether all but standing and version are the very values that were read: to Python, a true that was a 1 would be equal."""
    return all(map(is_, _FACTS(member), _FACTS(read)))


async def delete_tombstones(tx: Tx, ids: Sequence[MemberId]) -> None:
    """Remove tombstones whose place a member took."""
    await tx.execute(_DELETE_TOMBSTONES, list(ids))
