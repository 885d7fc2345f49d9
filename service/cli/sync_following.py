"""Following a sync to its end with a bar, and running it here where no worker takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final
from uuid import uuid4

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import RunningJob
from service.domain.errors import RollcallError
from service.domain.jobs import ENDED, JobId, JobState
from service.settings import Settings
from service.store.database import Database
from service.store.jobs import JobRow, find_job
from service.store.sync_log import SyncLogRow, find_last_sync_of_job
from service.wiring.job_kinds import job_kinds

__all__ = ["Followed", "follow_sync", "progress_bar", "show_progress"]

_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Followed:
    """How a job ended, or what it waits for; `run` is None where it never began."""

    job: JobRow
    run: SyncLogRow | None


async def follow_sync(settings: Settings, db: Database, job_id: JobId, wait: float) -> Followed:
    """Show how far the sync is until it has ended or waits for a retry; `wait` seconds after which it is run in this process.

    Interrupted, a sync that a worker runs goes on, and one that is run here is given back for a worker to take.
    """
    console = Console(stderr=True, highlight=False)
    began = monotonic()
    running: asyncio.Task[None] | None = None
    here: list[RunningJob] = []
    with progress_bar(console) as bar:
        shown = bar.add_task("waiting for a worker", total=None, speed="")
        try:
            while True:
                job = await _job(db, job_id)
                show_progress(bar, shown, job.state, job.progress or {})
                if job.state in ENDED or job.next_attempt_at is not None:
                    break
                if running is None and job.state is JobState.QUEUED and monotonic() - began >= wait:
                    running = asyncio.create_task(_run_here(settings, db, job_id, console, here))
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for claimed in here:
                # Where it has not ended: it is given back at its next stop point, for a worker to take.
                claimed.stop()
            if running is not None:
                await running
    async with db.transaction() as tx:
        return Followed(job, await find_last_sync_of_job(tx, job_id))


def progress_bar(console: Console) -> Progress:
    """A bar with its phase, its share and its speed; nothing where nobody sits before the screen."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[speed]}"))
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


async def _run_here(settings: Settings, db: Database, job_id: JobId, console: Console, here: list[RunningJob]) -> None:
    options = JobOptions()
    claimed = await claim_job(db, job_id, uuid4(), options.lease)
    if claimed is None:
        # A worker was faster.
        return
    here.append(claimed)
    console.print("no worker has taken it: running it here", style="dim")
    await run_job(db, claimed, job_kinds(settings, db)[claimed.kind], options=options)


async def _job(db: Database, job_id: JobId) -> JobRow:
    async with db.transaction() as tx:
        job = await find_job(tx, job_id)
    if job is None:
        message = f"job {job_id} is gone"
        raise RollcallError(message)
    return job


def show_progress(bar: Progress, shown: TaskID, state: JobState, told: Mapping[str, Any]) -> None:
    """Let the bar say what a job last told of itself."""
    phase = str(told.get("phase", ""))
    if state is JobState.QUEUED or not phase:
        return
    applying = phase in ("apply", "foresee")
    done, total = (told.get("applied"), told.get("to_apply")) if applying else (told.get("fetched"), told.get("of"))
    rate, eta = told.get("rate"), told.get("eta_seconds")
    speed = "" if not rate else f"{done or 0:,} at {rate:,.0f}/s" + ("" if eta is None else f", {eta:,.0f} s left")
    bar.update(shown, description=phase, completed=done or 0, total=total, speed=speed)
