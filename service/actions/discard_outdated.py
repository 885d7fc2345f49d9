"""Forget what was kept for its time: the inbox's keys, what syncs said of single records, deliveries, scans."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from service.actions.discard_deliveries import discard_deliveries
from service.actions.discard_scans import discard_scans
from service.domain.jobs import JobResult
from service.store.retention import count_inbox_pages, discard_messages, discard_sync_entries, list_outdated_syncs

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database

__all__ = ["RETENTION", "discard_outdated"]

RETENTION: Final = "retention"
# Longer than any sender repeats a message; behind it the member's source version guards for ever.
_INBOX: Final = timedelta(days=14)
# The differences of dry runs hold personal data.
_SYNC_ENTRIES: Final = timedelta(days=30)
# 4 MB, some 40,000 keys: the locks of a moment.
_PAGES: Final = 512
_ROWS: Final = 5000
_SYNCS: Final = 100
_TOLD: Final = {
    "inbox": "inbox",
    "sync_entries": "syncEntries",
    "deliveries": "deliveries",
    "findings": "findings",
    "scans": "scans",
}

_log: Final = structlog.get_logger(__name__)


async def discard_outdated(db: Database, job: RunningJob, *, pages: int = _PAGES, rows: int = _ROWS) -> JobResult:
    """One pass of a `retention` job, in small transactions; raises Retry errors and StopJob."""
    gone: Counter[str] = Counter()
    async with db.transaction() as tx:
        total = await count_inbox_pages(tx)
    for first in range(0, total, pages):
        async with db.transaction() as tx:
            await job.hold(tx)
            gone["inbox"] += await discard_messages(tx, first, first + pages, _INBOX)
        await job.progress(phase="inbox", pages=min(first + pages, total), of=total, discarded=gone["inbox"])
    while True:
        async with db.transaction() as tx:
            syncs = await list_outdated_syncs(tx, _SYNC_ENTRIES, _SYNCS)
        if not syncs:
            break
        for log_id in syncs:
            while True:
                async with db.transaction() as tx:
                    await job.hold(tx)
                    some = await discard_sync_entries(tx, log_id, rows)
                gone["sync_entries"] += some
                await job.progress(phase="sync entries", discarded=gone["sync_entries"])
                if some < rows:
                    break
    gone["deliveries"] = await discard_deliveries(db, job, rows)
    gone.update(await discard_scans(db, job, rows))
    _log.info("outdated rows are discarded", job=str(job.id), **gone)
    return JobResult.succeeded({told: gone[what] for what, told in _TOLD.items()})
