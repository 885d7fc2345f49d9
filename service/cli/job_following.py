"""Following a job to its end, and running it here where no worker takes it."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final
from uuid import uuid4

from rich.console import Console

from service.actions.run_job import JobOptions, claim_job, run_job
from service.domain.errors import RollcallError
from service.domain.jobs import ENDED, JobId, JobState
from service.settings import Settings
from service.store.database import Database
from service.store.jobs import JobRow, find_job
from service.wiring.job_kinds import job_kinds

__all__ = ["follow_job"]

_LOOK_SECONDS: Final = 0.2


async def follow_job(settings: Settings, db: Database, job_id: JobId, wait: float) -> JobRow:
    """The job when it has ended or waits for a retry; run in this process where no worker takes it within `wait` seconds."""
    began = monotonic()
    while True:
        async with db.transaction() as tx:
            job = await find_job(tx, job_id)
        if job is None:
            message = f"job {job_id} is gone"
            raise RollcallError(message)
        if job.state in ENDED or job.next_attempt_at is not None:
            return job
        if job.state is JobState.QUEUED and monotonic() - began >= wait:
            options = JobOptions()
            claimed = await claim_job(db, job_id, uuid4(), options.lease)
            if claimed is not None:
                Console(stderr=True, highlight=False).print("no worker has taken it: running it here", style="dim")
                await run_job(db, claimed, job_kinds(settings, db)[claimed.kind], options=options)
        else:
            await asyncio.sleep(_LOOK_SECONDS)
