"""Look at a directory's first page: whether it can be read, and what its records would mean."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from contracts.errors import describe
from contracts.member_changed import UpstreamMember
from service.actions.audit_change import Author, audit_change
from service.clients.directories.source import Health, Source
from service.domain.change import is_own_national_id
from service.domain.directories.configuration import Directory
from service.domain.directories.mapping import MappedRecord, Unmappable, mapped_record
from service.domain.errors import SourceBroken, SourceRefused, SourceUnavailable
from service.domain.identity import NATIONAL_ID_AS_KEY
from service.domain.member import CompanyId, ConnectionId
from service.store.connections import DirectoryRow, release_connection

if TYPE_CHECKING:
    from service.store.database import Database, Tx

__all__ = ["Probe", "SeenRecord", "probe_directory", "release_by_probe", "release_probed"]


@dataclass(frozen=True, slots=True)
class SeenRecord:
    """What a record would mean: a member, a departure (`member` None), or nothing, for the reason that `unfit` tells."""

    external_id: str | None
    unfit: str | None = None
    updated_at: datetime | None = None
    version: int | None = None
    member: dict[str, object] | None = field(default=None, repr=False)

    @property
    def left(self) -> bool:
        """Whether the source says that the member is gone."""
        return self.unfit is None and self.member is None


@dataclass(frozen=True, slots=True)
class Probe:
    """What a look found; `released` where the connection was blocked and is no longer."""

    health: Health
    records: list[SeenRecord] = field(default_factory=list, repr=False)
    released: bool = False

    @property
    def fit(self) -> int:
        """How many records of the first page would be taken."""
        return sum(record.unfit is None for record in self.records)

    @property
    def problem(self) -> str | None:
        """Why the directory cannot be synced as it is; None where it can."""
        if self.health.problem is not None or self.health.page is None:
            return self.health.problem or "the directory shows no page"
        return "no record fits the mapping; the preview shows why" if self.records and not self.fit else None


async def probe_directory(
    row: DirectoryRow,
    opened: Callable[[DirectoryRow], AbstractAsyncContextManager[Source]],
    described: Callable[[DirectoryRow], Directory],
) -> Probe:
    """Ask for the first page; what is wrong with the directory is said in the answer."""
    try:
        mapping = described(row).mapping
        async with opened(row) as source:
            health = await source.health()
    except SourceRefused as error:
        return Probe(Health(reachable=True, authorised=False, shape=None, problem=str(error)))
    except SourceUnavailable as error:
        return Probe(Health(reachable=False, authorised=None, shape=None, problem=str(error)))
    except SourceBroken as error:
        return Probe(Health(reachable=True, authorised=None, shape=False, problem=str(error)))
    records = () if health.page is None else health.page.records
    return Probe(health, [_seen(mapped_record(mapping, record)) for record in records])


async def release_by_probe(
    db: Database,
    actor: str,
    row: DirectoryRow,
    opened: Callable[[DirectoryRow], AbstractAsyncContextManager[Source]],
    described: Callable[[DirectoryRow], Directory],
) -> Probe:
    """Ask for the first page and, where the directory can be synced, release the connection from its block; raises Retry errors."""
    probe = await probe_directory(row, opened, described)
    async with db.transaction() as tx:
        return await release_probed(tx, actor, row, probe)


async def release_probed(tx: Tx, actor: str, row: DirectoryRow, probe: Probe) -> Probe:
    """Release the connection from its block, where the look at its directory found that it can be synced."""
    if probe.problem is not None:
        return probe
    released = await release_connection(tx, ConnectionId(row.connection_id))
    if released:
        told: dict[str, Any] = {"status": {"before": "blocked", "after": "active"}}
        await audit_change(tx, Author(CompanyId(row.company_id), actor), "directory.released", row.connection_id, told)
    return Probe(probe.health, probe.records, released)


def _seen(result: MappedRecord | Unmappable) -> SeenRecord:
    if isinstance(result, Unmappable):
        return SeenRecord(result.external_id, result.reason)
    if not result.left:
        try:
            member = UpstreamMember.from_json(orjson.dumps(result.member))
        except ValidationError as error:
            return SeenRecord(result.external_id, describe(error))
        if member.name is None:
            return SeenRecord(result.external_id, "name: a new member needs one")
        if is_own_national_id(result.external_id, member.national_id):
            return SeenRecord(result.external_id, NATIONAL_ID_AS_KEY)
    return SeenRecord(result.external_id, None, result.updated_at, result.version, result.member)
