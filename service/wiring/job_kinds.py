"""Every kind of job that this release can do, by the name with which it is enqueued."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.actions.running_job import JobKinds

if TYPE_CHECKING:
    from service.settings import Settings
    from service.store.database import Database

__all__ = ["job_kinds"]


def job_kinds(settings: Settings, database: Database) -> JobKinds:
    """The kinds with what their functions need; the pool is the jobs' own, so that they take no connection from the changes."""
    return {}
