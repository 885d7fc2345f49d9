"""The database's clock, which all instances share."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["read_clock"]

_READ: Final = queries("clock")["read_clock"].sql


async def read_clock(tx: Tx) -> datetime:
    """The time now, in UTC, by the database."""
    now: datetime = await tx.fetchval(_READ)
    return now
