"""Forget old scans and findings that are over, and end those of companies that nobody scans any more."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from service.store.companies import lock_company
from service.store.findings import resolve_pointless
from service.store.retention import discard_ended_findings, discard_old_scans, list_unscanned_companies

if TYPE_CHECKING:
    from uuid import UUID

    from service.actions.running_job import RunningJob
    from service.store.database import Database

__all__ = ["discard_scans"]

# After they were resolved.
_FINDINGS: Final = timedelta(days=365)
# Of each company the newest stays.
_SCANS: Final = timedelta(days=90)
_COMPANIES: Final = 100


async def discard_scans(db: Database, job: RunningJob, rows: int) -> Counter[str]:
    """So many rows at a time; answers how many `findings` and `scans` went. Raises Retry errors and StopJob."""
    await _end_unscanned(db, job, rows)
    gone: Counter[str] = Counter()
    for what, discard, age in (("findings", discard_ended_findings, _FINDINGS), ("scans", discard_old_scans, _SCANS)):
        while True:
            async with db.transaction() as tx:
                await job.hold(tx)
                some = await discard(tx, age, rows)
            gone[what] += some
            await job.progress(phase=what, discarded=gone[what])
            if some < rows:
                break
    return gone


async def _end_unscanned(db: Database, job: RunningJob, rows: int) -> None:
    """Resolve what stays open where no scan would."""
    while True:
        async with db.transaction() as tx:
            companies = await list_unscanned_companies(tx, _COMPANIES)
        for company_id in companies:
            after: UUID | None = None
            while True:
                async with db.transaction() as tx:
                    await job.hold(tx)
                    company = await lock_company(tx, company_id)
                    if company is None or company.scan_providers:
                        # It is scanned again, meanwhile.
                        break
                    looked = await resolve_pointless(tx, company_id, (), after, rows)
                await job.progress(phase="findings of nobody")
                if looked.last is None:
                    break
                after = looked.last
        if len(companies) < _COMPANIES:
            return
