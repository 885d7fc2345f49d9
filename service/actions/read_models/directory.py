"""Whether a connection's members are what its directory says of them (semantics: Drift).

The directory is read and compared as a sync does it, up to the point where a sync would apply something. Besides what differs,
every record that says what was last told is compared with its row: somebody may have altered that past the apply path.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import structlog

from service import translation
from service.actions.compare_snapshot import Comparison, compare_directory, discard_comparison
from service.actions.stage_snapshot import Keep, Meaning
from service.clients.directories.source import Source
from service.domain.change import Cause, Reason, Rules, VersionKind
from service.domain.directories.configuration import Directory
from service.domain.directories.delta import Difference
from service.domain.directories.record_drift import record_drift
from service.domain.drift import ReconciliationMode, SampleResult, sample_places, sample_size
from service.domain.errors import Park, Retry
from service.domain.member import CompanyId, ConnectionId, Member
from service.store.clock import read_clock
from service.store.connections import DirectoryRow, rules_of_connections
from service.store.directory_drift import add_those_equal, count_records, read_records_at
from service.store.members import MemberKeys, read_members
from service.store.sync_delta import DeltaRow
from service.translation import REMOVAL_HASH, Snapshot

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database, Tx

__all__ = ["DIRECTORY", "DirectoryAccess", "DirectoryReconciler"]

DIRECTORY: Final = "directory"
_PROBLEMS: Final = frozenset({Difference.INVALID, Difference.CONFLICTING})

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryAccess:
    """How directories are opened and described."""

    opened: Callable[[DirectoryRow], AbstractAsyncContextManager[Source]]
    described: Callable[[DirectoryRow], Directory]
    default_grace_days: int


class DirectoryReconciler:
    """Compares the members of one connection with one reading of its directory; keys are external ids.

    For one run: it remembers when the reading began, and the records of the batch that is being compared.
    """

    def __init__(
        self,
        db: Database,
        job: RunningJob,
        row: DirectoryRow,
        access: DirectoryAccess,
        offset: Callable[[], float] = random.random,
    ) -> None:
        self._db, self._job, self._row, self._access, self._offset = db, job, row, access, offset
        self._connection_id = ConnectionId(row.connection_id)
        self._batch: dict[str, DeltaRow] = {}
        self._snapshot: Snapshot | None = None

    @property
    def read_model_name(self) -> str:
        """One for each connection."""
        return f"{DIRECTORY}:{self._connection_id}"

    async def list_sample_keys(self, mode: ReconciliationMode, budget: int) -> AsyncGenerator[Sequence[str], None]:
        """Read the directory, and then name all keys that it or the members have, or a sample; raises the source's errors."""
        try:
            last = await self._compare()
            if mode is ReconciliationMode.SAMPLED:
                places: Sequence[int] = [place + 1 for place in sample_places(last, sample_size(last), self._offset())]
            else:
                places = range(1, last + 1)
            for first in range(0, last if mode is ReconciliationMode.FULL else len(places), budget):
                async with self._db.statement() as tx:
                    rows = await read_records_at(tx, self._job.id, list(places[first : first + budget]))
                self._batch = {row.external_id: row for row in rows if row.external_id is not None}
                yield list(self._batch)
        finally:
            await self._tidy()

    async def reconcile(self, key: str) -> SampleResult | None:
        """Compare one key of the batch that was listed last; raises Park where its record cannot be read."""
        return next(iter(await self.reconcile_many([key])), None)

    async def reconcile_many(self, keys: Sequence[str]) -> Sequence[SampleResult]:
        """Compare keys of the batch that was listed last; raises Park where one of the records cannot be read."""
        snapshot = self._read_so_far()
        async with self._db.transaction() as tx:
            rules, now, members = await self._read(tx, keys)
        results = []
        for key in keys:
            row, member = self._batch[key], members.get(key)
            if self._is_in_flight(row, member, snapshot):
                continue
            if row.what in _PROBLEMS:
                raise Park(row.reason or "the record cannot be read")
            reason = record_drift(member, translation.to_snapshot_change(row, snapshot), now, rules)
            results.append(SampleResult(key, reason is None, reason))
        return results

    async def _compare(self) -> int:
        """Leave every record in the table of differences; answers the last place."""
        row, kind = self._row, VersionKind(self._row.version_kind)
        meaning = Meaning(self._access.described(row).mapping, kind, "national_id" in row.mapped_fields)
        meaning.check()
        async with self._db.transaction() as tx:
            began_at = await read_clock(tx)
        comparison = Comparison(
            company_id=CompanyId(row.company_id),
            connection_id=self._connection_id,
            meaning=meaning,
            began_at=began_at,
            since=None,
            removed_before=0,
            approved=None,
            keep=Keep.EVERYTHING,
        )
        async with self._access.opened(row) as source:
            await compare_directory(self._db, self._job, source, comparison)
        self._snapshot = Snapshot(
            company_id=comparison.company_id,
            connection_id=self._connection_id,
            version_kind=kind,
            began_at=began_at,
            # For the form's sake: nothing of it is applied.
            cause=Cause(Reason.DIRECTORY_SYNC, f"job:{self._job.id}", self._job.correlation_id),
        )
        async with self._db.transaction() as tx:
            await self._job.hold(tx)
            await add_those_equal(tx, self._job.id, self._connection_id, REMOVAL_HASH)
            return await count_records(tx, self._job.id)

    async def _read(self, tx: Tx, keys: Sequence[str]) -> tuple[Rules, datetime, Mapping[str, Member]]:
        rules = await rules_of_connections(tx, {self._connection_id}, self._access.default_grace_days)
        members = await read_members(tx, MemberKeys({(self._connection_id, key) for key in keys}, set(), set()))
        known = {member.external_id: member for member in members if member.external_id is not None}
        return rules[self._connection_id], await read_clock(tx), known

    def _is_in_flight(self, row: DeltaRow, member: Member | None, snapshot: Snapshot) -> bool:
        """Whether it is too early to compare: the stream was faster than the reading, or the source is newer than the last sync."""
        if member is not None and member.upstream_applied_at is not None and member.upstream_applied_at >= snapshot.began_at:
            return True
        synced_at = max(filter(None, (self._row.last_full_sync_at, self._row.last_incremental_sync_at)), default=None)
        equal = member is not None and row.source_hash is not None and row.source_hash == member.source_hash
        return not equal and row.updated_at is not None and synced_at is not None and row.updated_at >= synced_at

    def _read_so_far(self) -> Snapshot:
        if self._snapshot is None:
            raise RuntimeError("keys are listed before they are compared")
        return self._snapshot

    async def _tidy(self) -> None:
        self._batch = {}
        try:
            await discard_comparison(self._db, self._job)
        except Retry as error:
            # The next sync or drift run of any connection finds it.
            _log.warning("what a drift run has read is left behind", job=str(self._job.id), reason=str(error))
