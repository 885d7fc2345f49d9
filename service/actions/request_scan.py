"""Ask for a scan of a company, in the transaction of whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from service.actions.enqueue_job import AlreadyRunning, Enqueued, enqueue_job
from service.actions.scan_company import SCAN
from service.domain.member import CompanyId
from service.store.companies import lock_company

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["NoProviders", "ScanRequest", "request_scan"]


@dataclass(frozen=True, slots=True)
class NoProviders:
    """Nobody is configured who would look."""


ScanRequest: TypeAlias = Enqueued | AlreadyRunning | NoProviders


async def request_scan(tx: Tx, company_id: CompanyId, *, requested_by: str) -> ScanRequest | None:
    """Queue a scan; None where there is no such company. Raises Retry errors."""
    # Locked, so that nobody takes its providers away in this moment.
    company = await lock_company(tx, company_id)
    if company is None:
        return None
    if not company.scan_providers:
        return NoProviders()
    return await enqueue_job(tx, kind=SCAN, company_id=company_id, subject_id=company_id, requested_by=requested_by)
