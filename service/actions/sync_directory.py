"""Bring a connection's members in step with its directory: read, compare, guard, apply; a dry run is the same without the last.

Nothing of the network happens inside a transaction. Whatever stops it, the next attempt reads the directory anew: what was applied
is then verified, not applied again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog

from service.actions.apply_delta import DeltaRun, apply_delta
from service.actions.compare_snapshot import Compared, Comparison, compare_directory, discard_comparison
from service.actions.request_sync import CONNECTION_REMOVAL, sync_obstacle
from service.actions.review_sync import supersede_syncs
from service.actions.running_job import JobCancelled
from service.actions.stage_snapshot import SNAPSHOT_LOST, Meaning
from service.clients.directories.source import Source
from service.domain.change import Cause, Reason, VersionKind
from service.domain.directories.configuration import Directory
from service.domain.directories.delta import Count, next_watermark
from service.domain.directories.sync_options import SyncMode, SyncOptions
from service.domain.errors import Park, Retry, SourceRefused, Unavailable
from service.domain.jobs import MOST_ATTEMPTS, JobResult
from service.domain.member import CompanyId, ConnectionId
from service.store.clock import read_clock
from service.store.connections import DirectoryRow, block_connection, find_directory, note_full_sync, note_incremental_sync
from service.store.jobs import find_active_job
from service.store.sync_entries import discard_entries, list_removals
from service.store.sync_log import (
    BegunSync,
    SyncStatus,
    add_counts,
    begin_sync,
    end_forsaken_syncs,
    finish_sync,
)
from service.translation import Snapshot

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database, Tx

__all__ = ["SyncSetting", "sync_directory"]

# Incremental syncs cannot see who is gone.
_FULL_EVERY: Final = timedelta(days=1)

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSetting:
    """What a sync needs from outside: how directories are opened and described, and the operator's switches."""

    opened: Callable[[DirectoryRow], AbstractAsyncContextManager[Source]]
    described: Callable[[DirectoryRow], Directory]
    default_grace_days: int
    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One attempt of a sync."""

    db: Database
    job: RunningJob
    setting: SyncSetting
    options: SyncOptions
    # None: all members; else those that changed since then.
    since: datetime | None
    row: DirectoryRow
    begun: BegunSync
    meaning: Meaning

    @property
    def connection_id(self) -> ConnectionId:
        return ConnectionId(self.row.connection_id)

    @property
    def applied_before(self) -> int:
        """By earlier attempts; a dry run applies nothing."""
        begun = self.begun
        return 0 if self.options.dry_run else begun.added + begun.updated + begun.reactivated


async def sync_directory(db: Database, job: RunningJob, setting: SyncSetting) -> JobResult:
    """One attempt of a `directory_sync` job, whose subject is a connection (semantics: Directory sync).

    Raises the source's errors, Park, Retry errors and StopJob.
    """
    run = await _begin(db, job, setting)
    # Whether all members are asked for; the source may not know another way.
    full = run.since is None
    try:
        run.meaning.check()
        async with setting.opened(run.row) as source:
            comparison = _comparison(run, source)
            full = comparison.full
            compared = await compare_directory(db, job, source, comparison)
        if compared.held is not None and not run.options.dry_run:
            return await _quarantine(run, comparison, compared)
        return await _apply(run, comparison, compared)
    except SourceRefused as error:
        await _fail(run, str(error), full=full, block=not run.options.dry_run)
        raise
    except Park as error:
        await _fail(run, str(error), full=full)
        raise
    except JobCancelled:
        await _fail(run, "it was cancelled", full=full)
        raise
    except Retry as error:
        if job.attempt >= MOST_ATTEMPTS and not isinstance(error, Unavailable):
            await _fail(run, str(error), full=full)
        raise
    finally:
        await _tidy(run)


async def _begin(db: Database, job: RunningJob, setting: SyncSetting) -> _Run:
    if job.subject_id is None:
        raise Park("a sync is of a connection, and the job names none")
    try:
        options = SyncOptions.from_parameters(job.parameters)
    except ValueError:
        raise Park("the job's parameters are not those of a sync") from None
    connection_id = ConnectionId(job.subject_id)
    async with db.transaction() as tx:
        await job.hold(tx)
        row = await find_directory(tx, connection_id)
        if row is None:
            raise Park("there is no such connection, or it has no directory")
        obstacle = sync_obstacle(row, dry_run=options.dry_run, enabled=setting.enabled)
        if obstacle is not None:
            raise Park(obstacle)
        if not options.dry_run and await find_active_job(tx, CONNECTION_REMOVAL, connection_id) is not None:
            raise Park("the members of the connection are being removed")
        meaning = Meaning(setting.described(row).mapping, VersionKind(row.version_kind), "national_id" in row.mapped_fields)
        await end_forsaken_syncs(tx, connection_id, job.id)
        begun = await begin_sync(tx, job.id, CompanyId(row.company_id), connection_id, options, job.correlation_id)
        await discard_entries(tx, begun.id)
        since = _since(options, row, await read_clock(tx))
    return _Run(db=db, job=job, setting=setting, options=options, since=since, row=row, begun=begun, meaning=meaning)


def _since(options: SyncOptions, row: DirectoryRow, now: datetime) -> datetime | None:
    """From when on to ask, where that was asked for, there is such an instant, and a full sync is not due."""
    if options.mode is SyncMode.FULL or row.last_full_sync_at is None or now - row.last_full_sync_at > _FULL_EVERY:
        return None
    return row.incremental_watermark


def _comparison(run: _Run, source: Source) -> Comparison:
    return Comparison(
        company_id=CompanyId(run.row.company_id),
        connection_id=run.connection_id,
        meaning=run.meaning,
        began_at=run.begun.snapshot_began_at,
        since=run.since if source.supports_since else None,
        removed_before=0 if run.options.dry_run else run.begun.removed,
        approved=run.options.approved,
    )


def _sees_everybody(comparison: Comparison, compared: Compared) -> bool:
    """Whether what an older sync found is found again, if it is still so."""
    return comparison.full and compared.withheld is None


async def _quarantine(run: _Run, comparison: Comparison, compared: Compared) -> JobResult:
    """Apply nothing, and leave the list of whom it would remove."""
    async with run.db.transaction() as tx:
        await run.job.hold(tx)
        await list_removals(tx, run.begun.id, run.job.id)
        await _finish(run, tx, SyncStatus.QUARANTINED, compared, full=comparison.full)
        if _sees_everybody(comparison, compared):
            await supersede_syncs(tx, run.connection_id, run.job.id)
    result = _result(run.begun.id, SyncStatus.QUARANTINED, Counter(), compared)
    _log.warning("sync is quarantined", job=str(run.job.id), connection_id=str(run.connection_id), reason=result["held"])
    return JobResult.quarantined(result)


async def _apply(run: _Run, comparison: Comparison, compared: Compared) -> JobResult:
    snapshot = Snapshot(
        company_id=comparison.company_id,
        connection_id=comparison.connection_id,
        version_kind=run.meaning.version_kind,
        began_at=comparison.began_at,
        cause=Cause(Reason.DIRECTORY_SYNC, f"connection:{comparison.connection_id}", run.job.correlation_id, run.job.traceparent),
    )
    if _sees_everybody(comparison, compared) and not run.options.dry_run:
        async with run.db.transaction() as tx:
            await run.job.hold(tx)
            await supersede_syncs(tx, run.connection_id, run.job.id)
    counts = await apply_delta(
        run.db,
        run.job,
        DeltaRun(
            snapshot=snapshot,
            log_id=run.begun.id,
            total=compared.to_apply,
            default_grace_days=run.setting.default_grace_days,
            dry_run=run.options.dry_run,
            quiet=run.options.baseline,
        ),
    )
    if counts.total() != compared.to_apply:
        raise Unavailable(SNAPSHOT_LOST)
    counts[Count.VERIFIED] += max(0, compared.equal - run.applied_before)
    problems = counts[Count.INVALID] + counts[Count.CONFLICTING]
    status = SyncStatus.PARTIAL if problems or compared.withheld is not None else SyncStatus.SUCCESS
    if compared.held is not None:
        status = SyncStatus.QUARANTINED
    async with run.db.transaction() as tx:
        await run.job.hold(tx)
        await add_counts(tx, run.begun.id, {Count.VERIFIED: max(0, compared.equal - run.applied_before)})
        await _finish(run, tx, status, compared, full=comparison.full)
        if not run.options.dry_run:
            await _note(run, tx, comparison, compared)
    for name, before in (("added", run.begun.added), ("updated", run.begun.updated), ("reactivated", run.begun.reactivated)):
        counts[Count(name)] += 0 if run.options.dry_run else before
    counts[Count.REMOVED] += comparison.removed_before
    result = _result(run.begun.id, status, counts, compared)
    return JobResult.partial(result) if status is SyncStatus.PARTIAL else JobResult.succeeded(result)


async def _note(run: _Run, tx: Tx, comparison: Comparison, compared: Compared) -> None:
    watermark = next_watermark(run.row.incremental_watermark, compared.first.newest_update, comparison.began_at)
    if not comparison.full:
        await note_incremental_sync(tx, run.connection_id, comparison.began_at, watermark)
    elif compared.withheld is None:
        await note_full_sync(tx, run.connection_id, comparison.began_at, watermark)


async def _finish(run: _Run, tx: Tx, status: SyncStatus, compared: Compared, *, full: bool) -> None:
    await finish_sync(
        tx,
        run.begun.id,
        status,
        mode=SyncMode.FULL if full else SyncMode.INCREMENTAL,
        fetched=compared.first.records,
        details=compared.details,
    )


def _result(log_id: UUID, status: SyncStatus, counts: Counter[Count], compared: Compared) -> dict[str, Any]:
    return {
        "syncLogId": str(log_id),
        "status": status.value,
        "fetched": compared.first.records,
        **{count.value: counts[count] for count in Count},
        **compared.details,
    }


async def _fail(run: _Run, reason: str, *, full: bool, block: bool = False) -> None:
    async with run.db.transaction() as tx:
        await run.job.hold(tx)
        mode = SyncMode.FULL if full else SyncMode.INCREMENTAL
        await finish_sync(tx, run.begun.id, SyncStatus.FAILED, mode=mode, fetched=0, error=reason, details={})
        if block:
            await block_connection(tx, run.connection_id)
    if block:
        _log.warning("connection is blocked", connection_id=str(run.connection_id), reason=reason)


async def _tidy(run: _Run) -> None:
    try:
        await discard_comparison(run.db, run.job)
    except Retry as error:
        # The next sync of any connection finds it.
        _log.warning("what a sync has read is left behind", job=str(run.job.id), reason=str(error))
