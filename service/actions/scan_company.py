"""Let a company's providers look at its members, and keep what they find.

Each provider is a part of its own: one that fails keeps the others from nothing, and what it found before stays open. What may go
well later is left to the next attempt of the job, which asks only those that have not come to their end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog

from service.actions.running_job import StopJob
from service.actions.scan_providers.company_scan import CompanyScan, ScanAccess
from service.actions.scan_providers.provider import ScanProvider, ScanProviders
from service.clients.directories.answers import translated
from service.domain.errors import Park, Retry, SourceBroken, SourceUnavailable, Unavailable, said
from service.domain.jobs import MOST_ATTEMPTS, JobResult
from service.domain.member import CompanyId
from service.domain.scans import BATCH, Found, InvalidProviderSettings, PartState
from service.store.companies import find_company
from service.store.findings import Resolved, record_findings, resolve_pointless, resolve_unseen
from service.store.scan_parts import ScanPartRow, begin_part, count_in_part, finish_part, give_up_parts, list_parts
from service.store.scanned_members import count_live_members
from service.store.scans import BegunScan, ScanStatus, begin_scan, finish_scan
from service.telemetry.metrics import UNMEASURED, Metrics

if TYPE_CHECKING:
    from service.actions.running_job import RunningJob
    from service.store.database import Database, Tx

__all__ = ["SCAN", "scan_company"]

SCAN: Final = "scan"
# Between two batches of one provider.
_PATIENCE: Final = timedelta(minutes=30)
_LOOKED_AT: Final = 5000
# In metrics, whatever somebody has written into a company's settings.
_UNKNOWN: Final = "unknown"

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """One attempt of a scan."""

    db: Database
    job: RunningJob
    company_id: CompanyId
    begun: BegunScan
    metrics: Metrics
    patience: timedelta


@dataclass(frozen=True, slots=True)
class _End:
    """How a part ended; `retry_after` is what was asked for, where it waits."""

    state: PartState
    error: str | None = None
    retry_after: timedelta | None = None


async def scan_company(
    db: Database,
    job: RunningJob,
    providers: ScanProviders,
    access: ScanAccess,
    *,
    metrics: Metrics = UNMEASURED,
    patience: timedelta = _PATIENCE,
) -> JobResult:
    """One attempt of a `scan` job, whose subject is the company.

    Raises SourceUnavailable where providers are to be asked again, Park where there is nobody to ask, Unavailable and StopJob.
    """
    scan, wanted = await _begin(db, job, metrics, patience)
    if scan.begun.status is None:
        waiting: dict[str, _End] = {}
        for name, settings in sorted(wanted.items()):
            company_scan = CompanyScan(scan.company_id, settings, db, access)
            end = await _part(scan, name, providers.get(name), company_scan)
            if end is not None and end.state is PartState.WAITING:
                waiting[name] = end
        await _resolve(scan, lambda tx, after: resolve_pointless(tx, scan.company_id, wanted.keys(), after, _LOOKED_AT))
        if waiting and job.attempt < MOST_ATTEMPTS:
            waits = [end.retry_after for end in waiting.values() if end.retry_after is not None]
            told = "; ".join(f"{name}: {end.error}" for name, end in waiting.items())
            raise SourceUnavailable(told, max(waits, default=None))
    return await _end(scan)


async def _begin(
    db: Database, job: RunningJob, metrics: Metrics, patience: timedelta
) -> tuple[_Scan, Mapping[str, Mapping[str, Any]]]:
    company_id = job.company_id
    if company_id is None:
        raise Park("a scan is of one company")
    async with db.transaction() as tx:
        await job.hold(tx)
        company = await find_company(tx, str(company_id))
        if company is None or not company.scan_providers:
            raise Park("the company has no scan providers; PATCH /api/company with scanProviders sets them")
        members = await count_live_members(tx, company_id)
        begun = await begin_scan(tx, job.id, company_id, members, job.correlation_id)
    scan = _Scan(db=db, job=job, company_id=company_id, begun=begun, metrics=metrics, patience=patience)
    return scan, company.scan_providers


async def _part(scan: _Scan, name: str, provider: ScanProvider | None, company_scan: CompanyScan) -> _End | None:
    """One provider's part to its end; None where an earlier attempt came to it."""
    began = monotonic()
    async with scan.db.transaction() as tx:
        await scan.job.hold(tx)
        if not await begin_part(tx, scan.begun.id, name):
            return None
    end = await _asked(scan, name, provider, company_scan)
    async with scan.db.transaction() as tx:
        await scan.job.hold(tx)
        await finish_part(tx, scan.begun.id, name, end.state, end.error)
    scan.metrics.scan_part_ended(name if provider is not None else _UNKNOWN, end.state, monotonic() - began)
    if end.error is None:
        _log.info("scan part done", provider=name, scan=str(scan.begun.id))
    else:
        _log.warning("scan part failed", provider=name, scan=str(scan.begun.id), state=end.state.value, reason=end.error)
    return end


async def _asked(scan: _Scan, name: str, provider: ScanProvider | None, company_scan: CompanyScan) -> _End:
    """Ask a provider for all it finds and keep that; whatever goes wrong with it is its own."""
    if provider is None:
        return _End(PartState.FAILED, "no provider of this name is installed where the scan runs")
    try:
        with translated():
            provider.check(company_scan.settings)
            async with aclosing(_batches(provider, company_scan, scan.patience)) as batches:
                async for some in batches:
                    await _record(scan, name, some)
        # Only what was looked at to its end says that something is no more.
        await _resolve(
            scan,
            lambda tx, after: resolve_unseen(tx, scan.company_id, name, scan.begun.number, after, _LOOKED_AT),
            of=name,
        )
    except (StopJob, Unavailable):
        raise
    except Retry as error:
        asked: object = error.retry_after if isinstance(error, SourceUnavailable) else None
        return _End(PartState.WAITING, said(error), asked if isinstance(asked, timedelta) else None)
    except (Park, InvalidProviderSettings) as error:
        return _End(PartState.FAILED, said(error))
    except Exception as error:  # noqa: BLE001  # a provider may be anybody's: whatever it raises must not stop the others
        # Its text may quote a member's data.
        return _End(PartState.FAILED, f"it failed in a way that has no rule ({type(error).__name__})")
    return _End(PartState.SUCCEEDED)


async def _batches(provider: ScanProvider, company_scan: CompanyScan, patience: timedelta) -> AsyncGenerator[Sequence[Found], None]:
    async with aclosing(provider.find(company_scan)) as batches:
        while True:
            budget = asyncio.timeout(patience.total_seconds())
            try:
                async with budget:
                    some = await anext(batches)
            except StopAsyncIteration:
                # Its end and nothing else: what is taken for it by mistake would resolve what is still so.
                return
            except TimeoutError as error:
                own = f"it ran into a time limit of its own ({type(error).__name__})"
                message = f"it found nothing more within {patience} and did not end" if budget.expired() else own
                raise SourceUnavailable(message) from None
            if not isinstance(some, Sequence):
                raise SourceBroken("it answers what is no batch of findings")
            for first in range(0, len(some), BATCH):
                yield some[first : first + BATCH]


async def _record(scan: _Scan, provider: str, found: Sequence[Found]) -> None:
    if any(not isinstance(one, Found) for one in found):
        raise SourceBroken("it finds what is no finding")
    async with scan.db.transaction() as tx:
        await scan.job.hold(tx)
        recorded = await record_findings(tx, scan.company_id, provider, scan.begun.number, found)
        await count_in_part(tx, scan.begun.id, provider, found=recorded.found, opened=recorded.opened)
    scan.metrics.findings_changed(provider, opened=recorded.opened)
    await scan.job.progress(phase=provider)


async def _resolve(scan: _Scan, look: Callable[[Tx, UUID | None], Any], *, of: str | None = None) -> None:
    """Go through open findings in the order of their ids, a few thousand in a transaction."""
    after: UUID | None = None
    while True:
        async with scan.db.transaction() as tx:
            await scan.job.hold(tx)
            looked: Resolved = await look(tx, after)
            if of is not None and looked.resolved:
                await count_in_part(tx, scan.begun.id, of, resolved=looked.resolved)
        if of is not None:
            scan.metrics.findings_changed(of, resolved=looked.resolved)
        if looked.last is None:
            return
        after = looked.last
        await scan.job.progress(phase="resolving")


async def _end(scan: _Scan) -> JobResult:
    async with scan.db.transaction() as tx:
        await scan.job.hold(tx)
        await give_up_parts(tx, scan.begun.id)
        parts = await list_parts(tx, [scan.begun.id])
        failed = [part for part in parts if part.state != PartState.SUCCEEDED]
        status = ScanStatus.SUCCEEDED if not failed else ScanStatus.PARTIAL if len(failed) < len(parts) else ScanStatus.FAILED
        await finish_scan(tx, scan.begun.id, status)
    result = {"scanId": str(scan.begun.id), "providers": {part.provider: _told(part) for part in parts}}
    _log.info("scan done", scan=str(scan.begun.id), status=status.value)
    if status is ScanStatus.FAILED:
        return JobResult.failed("; ".join(f"{part.provider}: {part.error}" for part in failed), result)
    return JobResult.succeeded(result) if status is ScanStatus.SUCCEEDED else JobResult.partial(result)


def _told(part: ScanPartRow) -> dict[str, Any]:
    told: dict[str, Any] = {"state": part.state, "found": part.found, "opened": part.opened, "resolved": part.resolved}
    return told if part.error is None else {**told, "error": part.error}
