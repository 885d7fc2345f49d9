"""One tick: start what is due by the database's clock, each slot once, however many tick at the same moment.

A slot is a unique row: the job of (schedule, slot), written in the transaction that lets the schedule go on at its next slot. Locks
keep ticks from waiting for each other; without them a slot would have one job all the same.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from service import translation
from service.actions.request_sync import DIRECTORY_SYNC
from service.domain.jobs import JobId
from service.domain.schedule import InvalidSchedule, advance
from service.store.jobs import NewJob, insert_jobs, list_run_slots
from service.store.outbox import insert_outbox
from service.store.schedules import Advanced, DueSchedule, advance_schedules, claim_due_schedules, disable_schedules
from service.telemetry.handling import handling

if TYPE_CHECKING:
    from service.store.database import Database, Tx

__all__ = ["Begun", "Switches", "run_due_schedules"]

_BATCH: Final = 500

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """What the operator lets run by itself: CRON_ENABLED is about all schedules, SYNC_ENABLED about syncs."""

    cron: bool = True
    sync: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A job that a tick enqueued for a slot; `skipped` slots after it passed without one."""

    job_id: JobId
    schedule_id: UUID
    kind: str
    subject_id: UUID | None
    slot: datetime
    skipped: int


async def run_due_schedules(db: Database, kinds: Collection[str], switches: Switches, *, batch: int = _BATCH) -> list[Begun]:
    """Enqueue a job for every schedule of these kinds that is due, and answer them; raises Retry errors.

    What was enqueued before an error stays, and is not due again.
    """
    if not switches.cron:
        return []
    wanted = [kind for kind in kinds if switches.sync or kind != DIRECTORY_SYNC]
    begun: list[Begun] = []
    while True:
        async with db.transaction() as tx:
            due = await claim_due_schedules(tx, wanted, batch)
            some = await _begin(tx, due) if due else []
        begun += some
        if some:
            # Each of them stands in its job.
            _log.info("schedules due", kinds=dict(Tally(one.kind for one in some)), skipped=sum(one.skipped for one in some))
        # Of a page of which nothing could begin the next tick may have better luck.
        if len(due) < batch or not some:
            return begun


async def _begin(tx: Tx, due: Sequence[DueSchedule]) -> list[Begun]:
    ahead = await _advance(tx, due)
    jobs = [_job(one) for one in due if one.id in ahead]
    schedules = {job.id: one for job, one in zip(jobs, (one for one in due if one.id in ahead), strict=True)}
    queued = await insert_jobs(tx, jobs)
    await insert_outbox(tx, [translation.to_job_requested(notice) for notice in queued])
    begun = [
        Begun(
            job_id=JobId(notice.id),
            schedule_id=(one := schedules[JobId(notice.id)]).id,
            kind=one.kind,
            subject_id=one.subject_id,
            slot=one.next_run_at,
            skipped=ahead[one.id].skipped,
        )
        for notice in queued
    ]
    settled = {one.schedule_id for one in begun}
    if missing := {one.id: one.next_run_at for one in due if one.id in ahead.keys() - settled}:
        # Somebody asked for the same by hand at this moment, which is waited for; or the slot has had its job, which is not.
        settled |= await list_run_slots(tx, missing)
    await advance_schedules(tx, [ahead[schedule_id] for schedule_id in settled])
    return begun


async def _advance(tx: Tx, due: Sequence[DueSchedule]) -> dict[UUID, Advanced]:
    """Where each goes on; one of which nobody can tell runs no more, and keeps no other from running."""
    found, broken = {}, []
    for one in due:
        try:
            ahead = advance(one.rhythm, one.next_run_at, one.claimed_at)
        except InvalidSchedule as error:
            broken.append(one.id)
            _log.error("schedule is switched off, nobody can tell when it is due", schedule=str(one.id), reason=str(error))
        else:
            found[one.id] = Advanced(id=one.id, next_run_at=ahead.next_run_at, skipped=ahead.skipped)
    if broken:
        await disable_schedules(tx, broken)
    return found


def _job(one: DueSchedule) -> NewJob:
    job_id, now = JobId(uuid7()), handling()
    return NewJob(
        id=job_id,
        company_id=one.company_id,
        kind=one.kind,
        subject_id=one.subject_id,
        parameters=one.parameters,
        schedule_id=one.id,
        slot=one.next_run_at,
        requested_by=f"schedule:{one.id}",
        correlation_id=now.correlation_id or str(job_id),
        traceparent=now.traced.traceparent,
    )
