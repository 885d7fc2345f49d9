"""Read a directory and find where it and the members differ, who may be called absent, and whether somebody must be asked first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

from service.actions.stage_snapshot import Keep, Meaning, Staged, check_held, stage_snapshot
from service.clients.directories.source import Source
from service.domain.directories.delta import Difference, Reading, must_read_again, withheld
from service.domain.directories.guard import Held, guard_removals
from service.domain.member import CompanyId, ConnectionId
from service.store.connections import removal_limits
from service.store.members import count_live_members
from service.store.sync_delta import (
    DeltaCount,
    analyze_delta,
    compare_kept,
    count_delta,
    count_unlisted_removals,
    digest_members,
    discard_delta,
    drop_absent,
    drop_those_present,
    drop_those_replaced,
    find_absent,
    pair_by_national_id,
    unpair_those_present,
)
from service.store.sync_pages import discard_pages
from service.store.sync_scratch import empty_scratch
from service.store.sync_staging import discard_staging
from service.translation import REMOVAL_HASH

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database, Tx

__all__ = ["Compared", "Comparison", "compare_directory", "discard_comparison"]

# One kept record of so many members: to look it up costs what it costs to read as many members through.
_FEW: Final = 8

_Delta: TypeAlias = dict[Difference, DeltaCount]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is compared, and by which rules."""

    company_id: CompanyId
    connection_id: ConnectionId
    meaning: Meaning
    # By the database's clock.
    began_at: datetime
    # None: all members; else those that changed since then.
    since: datetime | None
    # By earlier attempts of this very run.
    removed_before: int
    # The quarantined run whose list was approved.
    approved: UUID | None
    # Whether what says the same as is remembered is kept, too.
    keep: Keep = Keep.NEWS

    @property
    def full(self) -> bool:
        """Whether the directory tells of all members."""
        return self.since is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What the directory was found to hold, and what may be done about it."""

    first: Reading
    second: Reading | None
    # Why nobody is called absent, where that could have been.
    withheld: str | None
    # Why nothing may be applied yet.
    held: Held | None
    delta: _Delta
    removals: int

    @property
    def to_apply(self) -> int:
        """How many differences there are."""
        return sum(count.records for count in self.delta.values())

    @property
    def equal(self) -> int:
        """How many records say what is known."""
        differing = sum(count.records for what, count in self.delta.items() if what is not Difference.ABSENT)
        return self.first.keys + self.first.keyless - differing

    @property
    def details(self) -> dict[str, Any]:
        """What the counts do not tell, as JSON."""
        found: dict[str, Any] = {"pages": self.first.pages}
        if (repeated := self.first.records - self.first.keys - self.first.keyless) > 0:
            found["repeated"] = repeated
        if self.second is not None:
            found["lookedAgain"] = self.second.records
        if self.withheld is not None:
            found["withheld"] = self.withheld
        if self.held is not None:
            found |= {"held": self.held.reason, "removals": self.removals}
        return found


async def compare_directory(db: Database, job: RunningJob, source: Source, comparison: Comparison) -> Compared:
    """Read the source, once or twice, and leave the differences in their table; raises its errors, Retry errors and StopJob."""
    await discard_comparison(db, job)
    staged = await _stage(db, job, source, comparison, comparison.keep)
    first = staged.reading
    await job.progress(phase="compare")
    delta = await _differences(db, job, comparison, staged)
    candidates = sum(count.replacing + (count.records if what is Difference.ABSENT else 0) for what, count in delta.items())
    again: Staged | None = None
    if must_read_again(first, candidates, pages_shift=source.pages_shift):
        again = await _stage(db, job, source, comparison, Keep.NOTHING)
    second = None if again is None else again.reading
    reason = withheld(first, second) if comparison.full else None
    async with db.transaction() as tx:
        await job.hold(tx)
        # The differences lie where the first reading does: what took the one away took the other.
        await check_held(tx, job, 1, staged.held)
        if again is not None:
            await check_held(tx, job, 2, again.held)
            await drop_those_present(tx, job.id, 2)
            await unpair_those_present(tx, job.id, 2)
        if reason is not None:
            await drop_absent(tx, job.id)
        elif candidates:
            await drop_those_replaced(tx, job.id)
        delta = await count_delta(tx, job.id)
        removals = sum(delta[what].live for what in (Difference.LEFT, Difference.ABSENT) if what in delta)
        held = await _guard(tx, job, comparison, removals, source_is_empty=comparison.full and first.records == 0)
    await job.progress(phase="compare", compared=first.records)
    return Compared(first=first, second=second, withheld=reason, held=held, delta=delta, removals=removals)


async def discard_comparison(db: Database, job: RunningJob) -> None:
    """Throw away what was read and compared, while the job is this attempt's: another one's is not ours to touch."""
    async with db.transaction() as tx:
        await job.hold(tx)
        if not await empty_scratch(tx, job.id):
            await discard_pages(tx, job.id)
            await discard_staging(tx, job.id)
            await discard_delta(tx, job.id)


async def _stage(db: Database, job: RunningJob, source: Source, comparison: Comparison, keep: Keep) -> Staged:
    since = None if keep is Keep.NOTHING else comparison.since
    return await stage_snapshot(
        db, job, source, comparison.meaning, comparison.connection_id, keep=keep, since=since, began_at=comparison.began_at
    )


async def _differences(db: Database, job: RunningJob, comparison: Comparison, first: Staged) -> _Delta:
    absence_counts = comparison.full and not first.reading.keyless
    async with db.transaction() as tx:
        await job.hold(tx)
        if first.held.kept:
            few = first.seen is not None and first.held.kept * _FEW < first.seen.members
            await compare_kept(tx, job.id, comparison.connection_id, REMOVAL_HASH, few=few)
        if absence_counts and not await _all_present(tx, comparison, first):
            await find_absent(tx, job.id, comparison.connection_id, comparison.began_at)
        await check_held(tx, job, 1, first.held)
        delta = await count_delta(tx, job.id)
    if not delta:
        return delta
    async with db.transaction() as tx:
        await analyze_delta(tx)
    if Difference.ADDED not in delta or not absence_counts or not comparison.meaning.national_ids:
        return delta
    async with db.transaction() as tx:
        await job.hold(tx)
        await check_held(tx, job, 1, first.held)
        await pair_by_national_id(tx, job.id, comparison.company_id, comparison.connection_id, comparison.began_at)
        await unpair_those_present(tx, job.id, 1)
        return await count_delta(tx, job.id)


async def _all_present(tx: Tx, comparison: Comparison, first: Staged) -> bool:
    """Whether everybody is named who could be absent, without looking for each of them; what changed meanwhile makes it doubt."""
    if first.seen is None:
        return False
    return await digest_members(tx, comparison.connection_id, comparison.began_at, first.seed) == first.seen


async def _guard(tx: Tx, job: RunningJob, comparison: Comparison, removals: int, *, source_is_empty: bool) -> Held | None:
    if not removals:
        return None
    before = comparison.removed_before
    verdict = guard_removals(
        live=before + await count_live_members(tx, comparison.connection_id),
        removals=before + removals,
        source_is_empty=source_is_empty,
        limits=await removal_limits(tx, comparison.connection_id),
    )
    if not isinstance(verdict, Held):
        return None
    if comparison.approved is None:
        return verdict
    unlisted = await count_unlisted_removals(tx, job.id, comparison.approved)
    return Held(f"{unlisted:,} of {removals:,} removals are not on the list that was approved") if unlisted else None
