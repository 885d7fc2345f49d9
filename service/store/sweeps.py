"""How far the audit was searched for events of which no message reached the notifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.store.member_events import PastEvent
from service.store.queries import queries

if TYPE_CHECKING:
    from datetime import timedelta

    from service.store.database import Tx

__all__ = ["begin_sweep", "end_sweep", "find_sweep_end", "list_missed_events", "lock_sweep"]

_SQL: Final = queries("sweeps")


async def begin_sweep(tx: Tx) -> None:
    """Search from here on, unless it is searched already."""
    await tx.execute(_SQL["begin_sweep"].sql)


async def lock_sweep(tx: Tx) -> int | None:
    """Up to which version it was searched, by id; None where another instance searches, or there is nothing to search for."""
    swept_to: int | None = await tx.fetchval(_SQL["lock_sweep"].sql)
    return swept_to


async def find_sweep_end(tx: Tx, swept_to: int, most: int, on_its_way: timedelta) -> int:
    """Up to which version to search next: of at most so many, those that happened longer ago; the same again where none did."""
    end: int = await tx.fetchval(_SQL["find_sweep_end"].sql, swept_to, most, on_its_way)
    return end


async def list_missed_events(tx: Tx, after: int, up_to: int) -> list[PastEvent]:
    """Versions that a subscriber wants and was not told of."""
    return [PastEvent(**record) for record in await tx.fetch(_SQL["list_missed_events"].sql, after, up_to)]


async def end_sweep(tx: Tx, swept_to: int) -> None:
    """Search from there on the next time."""
    await tx.execute(_SQL["end_sweep"].sql, swept_to)
