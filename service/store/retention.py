"""What is kept for a time and then goes, a little at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.domain.member import CompanyId
from service.store.deliveries import Line
from service.store.queries import queries

if TYPE_CHECKING:
    from datetime import timedelta

    from service.store.database import Tx

__all__ = [
    "count_inbox_pages",
    "discard_abandoned_deliveries",
    "discard_ended_deliveries",
    "discard_ended_findings",
    "discard_messages",
    "discard_old_scans",
    "discard_sync_entries",
    "list_outdated_syncs",
    "list_unscanned_companies",
]

_SQL: Final = queries("retention")


async def count_inbox_pages(tx: Tx) -> int:
    """How many pages there are to look through."""
    pages: int = await tx.fetchval(_SQL["count_inbox_pages"].sql)
    return pages


async def discard_messages(tx: Tx, first_page: int, last_page: int, older_than: timedelta) -> int:
    """Forget what was taken in so long ago, in the pages up to and without the last; answers how many."""
    gone: int = await tx.fetchval(_SQL["discard_messages"].sql, first_page, last_page, older_than)
    return gone


async def list_outdated_syncs(tx: Tx, older_than: timedelta, most: int) -> list[UUID]:
    """Syncs that ended so long ago, of which there are entries."""
    return [record["id"] for record in await tx.fetch(_SQL["list_outdated_syncs"].sql, older_than, most)]


async def discard_sync_entries(tx: Tx, log_id: UUID, most: int) -> int:
    """Forget up to so many entries of a sync; answers how many."""
    gone: int = await tx.fetchval(_SQL["discard_sync_entries"].sql, log_id, most)
    return gone


async def discard_ended_deliveries(tx: Tx, older_than: timedelta, most: int) -> int:
    """Forget up to so many deliveries that ended so long ago, with their attempts; answers how many."""
    gone: int = await tx.fetchval(_SQL["discard_ended_deliveries"].sql, older_than, most)
    return gone


async def discard_abandoned_deliveries(tx: Tx, older_than: timedelta, most: int) -> tuple[int, set[Line]]:
    """Forget up to so many deliveries of removed subscribers, and of those that nobody has called for so long.

    Answers how many, and of which subscribers' members others may wait for them.
    """
    records = await tx.fetch(_SQL["discard_abandoned_deliveries"].sql, older_than, most)
    return len(records), {Line(one["subscriber_id"], one["member_id"], one["replay_id"]) for one in records if one["in_order"]}


async def discard_ended_findings(tx: Tx, older_than: timedelta, most: int) -> int:
    """Forget up to so many findings that were resolved so long ago; answers how many."""
    gone: int = await tx.fetchval(_SQL["discard_ended_findings"].sql, older_than, most)
    return gone


async def discard_old_scans(tx: Tx, older_than: timedelta, most: int) -> int:
    """Forget up to so many scans that began so long ago, but none that is its company's newest; answers how many."""
    gone: int = await tx.fetchval(_SQL["discard_old_scans"].sql, older_than, most)
    return gone


async def list_unscanned_companies(tx: Tx, most: int) -> list[CompanyId]:
    """Companies without scan providers of which findings are open."""
    return [CompanyId(record["id"]) for record in await tx.fetch(_SQL["list_unscanned_companies"].sql, most)]
