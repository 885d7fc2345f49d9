"""Let a company's members be looked at by providers, again and again or only when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from service.actions.audit_change import Author, audit_change, differences
from service.actions.refer_to_secret import refer_to_secret
from service.actions.scan_company import SCAN
from service.actions.scan_providers.provider import ScanProviders
from service.actions.schedule_sync import SHORTEST_SYNC_INTERVAL
from service.domain.scans import InvalidProviderSettings
from service.store.companies import CompanyRow, find_company, lock_company, set_scan_providers
from service.store.schedules import set_interval, stop_schedule

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["SHORTEST_SCAN_INTERVAL", "ScansRefused", "configure_scans"]

# In minutes.
SHORTEST_SCAN_INTERVAL: Final = SHORTEST_SYNC_INTERVAL
_SECRET: Final = "secretReference"  # noqa: S105  # the name of a setting
_MINUTE: Final = timedelta(minutes=1)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class ScansRefused:
    """It cannot be so; `where` is the setting that does not fit, `reason` says why and shows no secret."""

    where: str
    reason: str


async def configure_scans(
    tx: Tx, author: Author, given: Mapping[str, Any], installed: ScanProviders, *, by_operator: bool
) -> CompanyRow | ScansRefused | None:
    """Set `scan_providers` (each with its settings) and `scan_interval_minutes`, those that are given; None for no such company.

    A company is scanned after each interval as long as it has providers, at first at once; None: no more by itself. Raises
    ValueError for fewer than five minutes, and Retry errors.
    """
    before = await lock_company(tx, author.company_id)
    if before is None:
        return None
    if "scan_providers" in given:
        wanted: Mapping[str, Mapping[str, Any]] = given["scan_providers"] or {}
        for name, settings in wanted.items():
            # What nobody touches stays, also where its provider is not installed here or its secret was revoked since.
            if settings != before.scan_providers.get(name):
                refused = await _refused(tx, author, name, settings, installed, by_operator=by_operator)
                if refused is not None:
                    return ScansRefused(f"scanProviders.{name}", refused)
        await set_scan_providers(tx, before.id, wanted)
    if "scan_interval_minutes" in given:
        await _schedule(tx, author, given["scan_interval_minutes"])
    after = await find_company(tx, str(before.id))
    if after is not None and (changed := _changes(before, after)):
        await audit_change(tx, author, "company.scans_configured", before.id, changed)
    return after


async def _refused(
    tx: Tx, author: Author, name: str, settings: Mapping[str, Any], installed: ScanProviders, *, by_operator: bool
) -> str | None:
    provider = installed.get(name)
    if provider is None:
        return f"there is no such provider; there are {', '.join(sorted(installed))}"
    try:
        provider.check(settings)
    except InvalidProviderSettings as error:
        return str(error).strip() or "the provider refuses these settings, and does not say why"
    except Exception as error:  # noqa: BLE001  # a provider may be anybody's
        # Its text may quote a setting.
        return f"the provider fails on these settings ({type(error).__name__})"
    reference = settings.get(_SECRET)
    if reference is None:
        return None
    if not isinstance(reference, str):
        return f"{_SECRET} must be a text"
    refused = await refer_to_secret(tx, author.company_id, reference, by_operator=by_operator)
    return None if refused is None else f"{_SECRET} {refused}"


async def _schedule(tx: Tx, author: Author, minutes: int | None) -> None:
    if minutes is None:
        await stop_schedule(tx, SCAN, author.company_id)
    elif minutes < SHORTEST_SCAN_INTERVAL:
        message = f"an interval is {SHORTEST_SCAN_INTERVAL} minutes or more"
        raise ValueError(message)
    else:
        await set_interval(tx, SCAN, minutes * _MINUTE, author.company_id, author.company_id)


def _changes(before: CompanyRow, after: CompanyRow) -> dict[str, Any]:
    """What the audit tells: of a provider's settings only that they changed, as they may be anybody's."""
    changed = differences(_told(before), _told(after))
    both = before.scan_providers.keys() & after.scan_providers.keys()
    revised = sorted(name for name in both if before.scan_providers[name] != after.scan_providers[name])
    return changed | {f"scanProviders.{name}": {"before": None, "after": None} for name in revised}


def _told(row: CompanyRow) -> dict[str, Any]:
    interval = row.scan_interval_ms
    return {
        "scanProviders": sorted(row.scan_providers),
        "scanIntervalMinutes": None if interval is None else interval * _MILLISECOND // _MINUTE,
    }
