"""Attempts to handle a message alone that were begun and have not ended: what ended a process is found among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.store.queries import queries

if TYPE_CHECKING:
    from datetime import timedelta

    from service.store.database import Tx

__all__ = ["begin_attempt", "end_attempts", "forget_attempts"]

_SQL: Final = queries("lone_attempts")


async def begin_attempt(tx: Tx, message: bytes) -> int:
    """Write down one more attempt; answers how many have not ended, this one among them. `message` is a digest."""
    unfinished: int = await tx.fetchval(_SQL["begin_attempt"].sql, message)
    return unfinished


async def end_attempts(tx: Tx, message: bytes) -> None:
    """Forget the attempts of a message that came to an end."""
    await tx.execute(_SQL["end_attempts"].sql, message)


async def forget_attempts(tx: Tx, older_than: timedelta) -> None:
    """Forget the attempts of messages that were not seen for so long."""
    await tx.execute(_SQL["forget_attempts"].sql, older_than)
