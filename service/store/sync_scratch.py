"""What a sync has read and found thrown away as files: a million deleted rows take longer, and their room stays full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

from service.domain.jobs import JobId
from service.store.bulk import SLOW_SECONDS, plan_for_bulk
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["empty_scratch"]

_SQL: Final = queries("sync_scratch")
# Below it, new files cost more than what is in the old ones.
_LARGE_BYTES: Final = 32 * 1024 * 1024


async def empty_scratch(tx: Tx, job_id: JobId) -> bool:
    """Throw everything away where there is much and no other sync runs; answers whether it did. Nobody is waited for."""
    if await tx.fetchval(_SQL["measure_scratch"].sql) < _LARGE_BYTES:
        return False
    await plan_for_bulk(tx)
    attempt = tx.transaction()
    await attempt.start()
    try:
        await tx.execute(_SQL["lock_scratch"].sql)
        # Under the lock: nobody is about to commit others.
        alone = not await tx.fetchval(_SQL["is_scratch_of_others"].sql, job_id, timeout=SLOW_SECONDS)
    except asyncpg.LockNotAvailableError:
        alone = False
    if not alone:
        # Gives the lock back, where it was had: the rows are deleted one by one, and others go on meanwhile.
        await attempt.rollback()
        return False
    await tx.execute(_SQL["empty_scratch"].sql)
    await attempt.commit()
    return True
