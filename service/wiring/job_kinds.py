"""Every kind of job that this release can do, by the name with which it is enqueued."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from service.actions.request_sync import DIRECTORY_SYNC
from service.actions.running_job import JobKind, JobKinds, RunningJob
from service.actions.sync_directory import SyncSetting, sync_directory
from service.domain.jobs import JobResult
from service.wiring.directories import described, opened_source

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.database import Database

__all__ = ["job_kinds"]


def job_kinds(settings: Settings, database: Database) -> JobKinds:
    """The kinds with what their functions need; the pool is the jobs' own, so that they take no connection from the changes."""
    setting = SyncSetting(
        opened=partial(opened_source, settings),
        described=described,
        default_grace_days=settings.grace_days,
        enabled=settings.sync_enabled,
    )

    async def sync(job: RunningJob) -> JobResult:
        return await sync_directory(database, job, setting)

    return {DIRECTORY_SYNC: JobKind(sync)}
