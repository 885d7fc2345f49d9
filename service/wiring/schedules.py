"""Schedules by the settings: those of every installation, and what a tick does."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from service.actions.apply_plan_changes import PLAN_CHANGES
from service.actions.discard_outdated import RETENTION
from service.actions.expire_memberships import EXPIRY
from service.actions.reconcile_drift import DRIFT_FULL, DRIFT_SAMPLED
from service.actions.register_drift import register_drift
from service.actions.register_schedules import register_schedules
from service.actions.request_sync import DIRECTORY_SYNC
from service.actions.run_due_schedules import Begun, Switches, run_due_schedules
from service.actions.scan_company import SCAN
from service.settings import Settings, without_password
from service.store.database import Database
from service.wiring.waiting import until_there

__all__ = ["SCHEDULED_KINDS", "add_schedules", "run_due"]

# What this release can do by itself; a schedule of another kind waits for a worker that knows it.
SCHEDULED_KINDS: Final = (DIRECTORY_SYNC, EXPIRY, PLAN_CHANGES, RETENTION, DRIFT_SAMPLED, DRIFT_FULL, SCAN)
# Midnight comes on a quarter of an hour everywhere.
_PLAN_CHANGES_EVERY: Final = timedelta(minutes=15)
_RETENTION_EVERY: Final = timedelta(hours=6)


async def run_due(settings: Settings, db: Database) -> list[Begun] | None:
    """One tick; None where schedules are switched off. Raises Retry errors."""
    if not settings.cron_enabled:
        return None
    return await run_due_schedules(db, SCHEDULED_KINDS, Switches(sync=settings.sync_enabled))


async def add_schedules(settings: Settings, db: Database) -> None:
    """Make the schedules that every installation has, waiting for the database."""
    intervals = {
        EXPIRY: timedelta(milliseconds=settings.reconciliation_interval_ms),
        PLAN_CHANGES: _PLAN_CHANGES_EVERY,
        RETENTION: _RETENTION_EVERY,
    }

    async def add() -> None:
        await register_schedules(db, intervals)
        await register_drift(db)

    await until_there("the database", without_password(settings.database_url.get_secret_value()), add)
