"""Apply, or foresee, what a comparison found: in batches, each with its counts and its problems in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from service import translation
from service.actions.apply_changes import apply_changes, foresee_changes
from service.actions.side_by_side import SideBySide
from service.domain.change import Change
from service.domain.directories.delta import Count, Difference, count_of
from service.domain.errors import Park
from service.domain.outcome import Result
from service.store.sync_delta import DeltaRow, read_delta
from service.store.sync_entries import NewEntry, insert_entries
from service.store.sync_log import add_counts
from service.translation import Snapshot

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database, Tx

__all__ = ["DeltaRun", "apply_delta"]

_BATCH: Final = 500
# While the database writes one batch, this process makes the next one ready.
_AT_ONCE: Final = 2
_PROBLEMS: Final = {Difference.INVALID: Count.INVALID, Difference.CONFLICTING: Count.CONFLICTING}
_ENTERED: Final = frozenset({Count.INVALID, Count.CONFLICTING})
_UNREMARKABLE: Final = frozenset({Count.VERIFIED, Count.LEFT_ALONE})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRun:
    """What is to be done with the differences of a snapshot."""

    snapshot: Snapshot
    log_id: UUID
    total: int
    default_grace_days: int
    dry_run: bool
    quiet: bool


@dataclass(slots=True)
class _Batch:
    """Differences as changes, those that are none with their reasons."""

    rows: dict[int, DeltaRow] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    entries: list[NewEntry] = field(default_factory=list)

    def row_of(self, change: Change) -> DeltaRow:
        return self.rows[id(change)]


async def apply_delta(db: Database, job: RunningJob, run: DeltaRun) -> Counter[Count]:
    """Bring every difference to its end and answer how many came to which; raises Retry errors and StopJob.

    A batch is committed with what is counted of it, while the job is this attempt's: whoever goes on later finds it done.
    """
    totals: Counter[Count] = Counter()
    began = monotonic()

    async def settle(rows: Sequence[DeltaRow]) -> None:
        batch = _translated(rows, run.snapshot)
        totals.update(await (_foresee(db, job, run, batch) if run.dry_run else _apply(db, job, run, batch)))
        rate = (done := totals.total()) / max(monotonic() - began, 0.001)
        await job.progress(
            phase="foresee" if run.dry_run else "apply",
            applied=done,
            to_apply=run.total,
            rate=round(rate, 1),
            eta_seconds=round((run.total - done) / rate, 1) if done else None,
        )

    async with SideBySide(_AT_ONCE) as batches:
        place = 0
        while rows := await _read(db, job, place):
            # What changes a national id may free what a later difference takes: in their order, one batch after the other. So
            # is what is only foreseen, of which somebody reads a list.
            await batches.run(settle(rows), alone=run.dry_run or not all(row.independent for row in rows))
            place = rows[-1].place
    return totals


async def _read(db: Database, job: RunningJob, place: int) -> list[DeltaRow]:
    async with db.transaction() as tx:
        return await read_delta(tx, job.id, place, _BATCH)


def _translated(rows: Sequence[DeltaRow], snapshot: Snapshot) -> _Batch:
    batch = _Batch()
    for row in rows:
        problem = _PROBLEMS.get(row.what)
        if problem is not None:
            batch.entries.append(_entry(row, problem, row.reason))
            continue
        try:
            change = translation.to_snapshot_change(row, snapshot)
        except Park as error:
            batch.entries.append(_entry(row, Count.INVALID, str(error)))
        else:
            batch.rows[id(change)] = row
            batch.changes.append(change)
    return batch


def _entry(row: DeltaRow, what: Count, reason: str | None) -> NewEntry:
    return NewEntry(what=what, external_id=row.external_id, member_id=row.member_id, reason=reason)


async def _apply(db: Database, job: RunningJob, run: DeltaRun, batch: _Batch) -> Counter[Count]:
    totals: Counter[Count] = Counter()

    async def note(tx: Tx, counts: Counter[Count], entries: Sequence[NewEntry]) -> None:
        await job.hold(tx)
        await insert_entries(tx, run.log_id, entries)
        await add_counts(tx, run.log_id, counts)

    async def alongside(tx: Tx, changes: Sequence[Change], results: Sequence[Result]) -> None:
        counts: Counter[Count] = Counter()
        entries = []
        for change, result in zip(changes, results, strict=True):
            row = batch.row_of(change)
            what = count_of(row.what, result, took_over_live=row.replaces_live)
            counts[what] += 1
            if what in _ENTERED:
                entries.append(_entry(row, what, result.reason or "it cannot be applied"))
        await note(tx, counts, entries)

    for change, result in zip(
        batch.changes,
        await apply_changes(db, batch.changes, default_grace_days=run.default_grace_days, alongside=alongside, quiet=run.quiet),
        strict=True,
    ):
        row = batch.row_of(change)
        totals[count_of(row.what, result, took_over_live=row.replaces_live)] += 1
    if batch.entries:
        counts = Counter(entry.what for entry in batch.entries)
        async with db.transaction() as tx:
            await note(tx, counts, batch.entries)
        totals += counts
    return totals


async def _foresee(db: Database, job: RunningJob, run: DeltaRun, batch: _Batch) -> Counter[Count]:
    counts = Counter(entry.what for entry in batch.entries)
    entries = list(batch.entries)
    foreseen = await foresee_changes(db, batch.changes, default_grace_days=run.default_grace_days)
    for change, one in zip(batch.changes, foreseen, strict=True):
        row = batch.row_of(change)
        what = count_of(row.what, one.result, took_over_live=row.replaces_live)
        counts[what] += 1
        if what not in _UNREMARKABLE:
            entries.append(
                NewEntry(
                    what=what,
                    external_id=row.external_id,
                    # Whose row it is, also where it is found by the national id; of somebody new nothing is there yet.
                    member_id=None if what is Count.ADDED else one.result.member_id,
                    reason=one.result.reason,
                    changes=_changes(one.changed),
                )
            )
    async with db.transaction() as tx:
        await job.hold(tx)
        await insert_entries(tx, run.log_id, entries)
        await add_counts(tx, run.log_id, counts)
    return counts


def _changes(changed: Mapping[str, tuple[Any, Any]]) -> dict[str, Any] | None:
    return {name: {"before": before, "after": after} for name, (before, after) in changed.items()} or None
