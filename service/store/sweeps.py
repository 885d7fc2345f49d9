"""How far the audit was searched for events of which no message reached the notifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["begin_sweep"]

_SQL: Final = queries("sweeps")


async def begin_sweep(tx: Tx) -> None:
    """Search from here on, unless it is searched already."""
    await tx.execute(_SQL["begin_sweep"].sql)
