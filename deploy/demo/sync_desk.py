"""Asking for syncs and deciding what becomes of them, as an operator does at the admin API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from service.actions.enqueue_job import Enqueued
from service.actions.request_sync import request_sync
from service.actions.review_job import Rejected
from service.actions.review_sync import approve_sync, reject_sync
from service.domain.directories.delta import Count
from service.domain.directories.sync_options import SyncOptions
from service.domain.errors import RollcallError
from service.domain.jobs import ENDED, JobId
from service.domain.member import ConnectionId
from service.store.database import Database
from service.store.jobs import find_job
from service.store.sync_entries import SyncEntry, list_entries
from service.store.sync_log import SyncLogRow, find_last_sync_of_job, list_syncs

__all__ = ["Follow", "SyncDesk", "SyncEnded"]

# Called while a sync runs with how far it is.
Follow = Callable[[Mapping[str, Any]], Awaitable[None]]

_WHO: Final = "demo"
_SAMPLED: Final = (Count.ADDED, Count.UPDATED, Count.REMOVED)
_LOOK_SECONDS: Final = 0.1
_SECONDS: Final = 60.0


class SyncWentWrong(RollcallError):
    """A sync did not come to the end that it had to; the text says what became of it."""


@dataclass(frozen=True, slots=True)
class SyncEnded:
    """A sync that ended, well or held back."""

    job_id: JobId
    run: SyncLogRow


class SyncDesk:
    """The syncs of one connection; raises SyncWentWrong."""

    def __init__(self, db: Database, connection_id: ConnectionId) -> None:
        self._db = db
        self._connection_id = connection_id

    @classmethod
    @asynccontextmanager
    async def opened(cls, database_url: str, connection_id: ConnectionId) -> AsyncIterator[Self]:
        """Connect; raises Unavailable."""
        db = await Database.connect(database_url, name="rollcall demo", size=1)
        try:
            yield cls(db, connection_id)
        finally:
            await db.close()

    async def sync(self, follow: Follow, *, dry_run: bool = False) -> SyncEnded:
        """Ask for a sync, and wait for its end."""
        async with self._db.transaction() as tx:
            answer = await request_sync(tx, self._connection_id, SyncOptions(dry_run=dry_run), requested_by=_WHO, enabled=True)
        if not isinstance(answer, Enqueued):
            message = f"a sync was asked for and answered {answer}"
            raise SyncWentWrong(message)
        return await self._ended(answer.job_id, follow)

    async def approve(self, held: SyncEnded, follow: Follow) -> SyncEnded:
        """Let it remove whom it listed, and wait for its end."""
        async with self._db.transaction() as tx:
            answer = await approve_sync(tx, held.job_id, None, _WHO, enabled=True)
        if not isinstance(answer, Enqueued):
            message = f"the approval of a sync was answered {answer}"
            raise SyncWentWrong(message)
        return await self._ended(held.job_id, follow)

    async def reject(self, held: SyncEnded) -> None:
        """Let nothing come of it."""
        async with self._db.transaction() as tx:
            answer = await reject_sync(tx, held.job_id, None, _WHO)
        if not isinstance(answer, Rejected):
            message = f"the rejection of a sync was answered {answer}"
            raise SyncWentWrong(message)

    async def samples(self, ended: SyncEnded) -> Sequence[SyncEntry]:
        """The first member of each kind that it said something of."""
        async with self._db.transaction() as tx:
            return [entry for what in _SAMPLED for entry in await list_entries(tx, ended.run.id, what=what, limit=1)]

    async def runs(self) -> Sequence[SyncLogRow]:
        """All of them, the newest first."""
        async with self._db.transaction() as tx:
            return await list_syncs(tx, connection_id=self._connection_id)

    async def _ended(self, job_id: JobId, follow: Follow) -> SyncEnded:
        try:
            async with asyncio.timeout(_SECONDS):
                while True:
                    async with self._db.transaction() as tx:
                        job, run = await find_job(tx, job_id), await find_last_sync_of_job(tx, job_id)
                    if job is None:
                        raise SyncWentWrong("the job of a sync is gone")
                    if job.state in ENDED and run is not None:
                        return SyncEnded(job_id, run)
                    if job.state in ENDED or job.next_attempt_at is not None:
                        message = f"a sync is {job.state.value}: {job.error}"
                        raise SyncWentWrong(message)
                    await follow(job.progress or {})
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            message = f"a sync did not end in {_SECONDS:.0f} s"
            raise SyncWentWrong(message) from None
