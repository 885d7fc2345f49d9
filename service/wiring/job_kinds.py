"""Every kind of job that this release can do, by the name with which it is enqueued."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from service.actions.apply_plan_changes import PLAN_CHANGES, apply_plan_changes
from service.actions.discard_outdated import RETENTION, discard_outdated
from service.actions.expire_memberships import EXPIRY, expire_memberships
from service.actions.read_models.directory import DirectoryAccess
from service.actions.read_models.registry import built_in_read_models
from service.actions.reconcile_drift import DRIFT_FULL, DRIFT_SAMPLED, reconcile_drift
from service.actions.remove_connection import remove_connection
from service.actions.replay_notifications import replay_notifications
from service.actions.request_notifications import NOTIFICATION_REPLAY
from service.actions.request_sync import CONNECTION_REMOVAL, DIRECTORY_SYNC
from service.actions.running_job import JobKind, JobKinds, RunningJob
from service.actions.scan_company import SCAN, scan_company
from service.actions.sync_directory import SyncSetting, sync_directory
from service.domain.jobs import JobResult
from service.telemetry.metrics import UNMEASURED, Metrics
from service.wiring.directories import described, opened_source
from service.wiring.extensions import Extensions, load_extensions, made_reconcilers, say_unusable
from service.wiring.scans import scan_access, scan_providers

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.database import Database

__all__ = ["job_kinds"]


def job_kinds(
    settings: Settings, database: Database, metrics: Metrics = UNMEASURED, extensions: Extensions | None = None
) -> JobKinds:
    """The kinds with what their functions need; the pool is the jobs' own, so that they take no connection from the changes.

    Without `extensions` those that are installed are loaded.
    """
    extensions = load_extensions() if extensions is None else extensions
    added, unusable = made_reconcilers(extensions, settings, database)
    say_unusable(unusable)
    setting = SyncSetting(
        opened=partial(opened_source, settings, added=extensions.sources),
        described=partial(described, added=extensions.sources),
        default_grace_days=settings.grace_days,
        enabled=settings.sync_enabled,
    )

    async def sync(job: RunningJob) -> JobResult:
        return await sync_directory(database, job, setting)

    async def remove(job: RunningJob) -> JobResult:
        return await remove_connection(database, job, default_grace_days=settings.grace_days)

    async def expire(job: RunningJob) -> JobResult:
        return await expire_memberships(database, job, default_grace_days=settings.grace_days)

    async def begin_plans(job: RunningJob) -> JobResult:
        return await apply_plan_changes(database, job, default_grace_days=settings.grace_days)

    access = DirectoryAccess(opened=setting.opened, described=setting.described, default_grace_days=settings.grace_days)

    async def compare(job: RunningJob) -> JobResult:
        read_models = (*await built_in_read_models(database, job, access), *added)
        return await reconcile_drift(database, job, read_models, default_grace_days=settings.grace_days, metrics=metrics)

    providers, scanning = scan_providers(settings, extensions), scan_access(settings)

    async def scan(job: RunningJob) -> JobResult:
        return await scan_company(database, job, providers, scanning, metrics=metrics)

    return {
        DIRECTORY_SYNC: JobKind(sync),
        CONNECTION_REMOVAL: JobKind(remove),
        EXPIRY: JobKind(expire),
        PLAN_CHANGES: JobKind(begin_plans),
        NOTIFICATION_REPLAY: JobKind(partial(replay_notifications, database)),
        RETENTION: JobKind(partial(discard_outdated, database)),
        DRIFT_SAMPLED: JobKind(compare),
        DRIFT_FULL: JobKind(compare),
        SCAN: JobKind(scan),
    }
