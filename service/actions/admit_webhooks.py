"""How many webhooks a source may send: one bucket for all instances, in the database, drawn from in portions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from service.domain.errors import Retry
from service.domain.member import ConnectionId
from service.store.database import Database
from service.store.rate_limits import take_tokens

__all__ = ["SourceLimits", "draw_tokens"]

# How many tokens of how many a second were to be had; raises Retry errors.
Draw: TypeAlias = Callable[[ConnectionId, int, int], Awaitable[int]]

_PORTIONS_PER_SECOND: Final = 10
_BURST_SECONDS: Final = 2
_WITHIN_SECONDS: Final = 0.3
_AWAY_SECONDS: Final = 1.0
_MOST_DRAWS: Final = 20


async def draw_tokens(db: Database, connection_id: ConnectionId, most: int, per_second: int) -> int:
    """Take up to `most` tokens of the bucket that all instances share; raises Retry errors."""
    async with db.transaction() as tx:
        return await take_tokens(
            tx, f"webhook/{connection_id}", most, per_second=per_second, burst=max(1, per_second * _BURST_SECONDS)
        )


@dataclass(slots=True)
class _Allowance:
    tokens: int = 0
    # Until then there is no use in asking.
    empty_until: float = 0.0
    # Until then the database is not asked: it did not answer.
    away_until: float = 0.0
    drawing: asyncio.Task[None] | None = None


class SourceLimits:
    """Admits a source's webhooks; while the database is away each instance admits the whole rate by itself."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._allowances: dict[ConnectionId, _Allowance] = {}

    async def admit(self, connection_id: ConnectionId, per_second: int) -> bool:
        """Whether one more may come now."""
        allowance = self._allowances.setdefault(connection_id, _Allowance())
        clock = asyncio.get_running_loop().time
        # More may wait for a portion than it has tokens: those left over draw the next one.
        for _ in range(_MOST_DRAWS):
            if allowance.tokens:
                allowance.tokens -= 1
                return True
            if clock() < allowance.empty_until:
                break
            if allowance.drawing is None:
                allowance.drawing = asyncio.create_task(self._refill(connection_id, allowance, per_second), name="webhook tokens")
            await asyncio.shield(allowance.drawing)
        return False

    async def _refill(self, connection_id: ConnectionId, allowance: _Allowance, per_second: int) -> None:
        clock = asyncio.get_running_loop().time
        portion = max(1, per_second // _PORTIONS_PER_SECOND)
        granted: int | None = None
        try:
            if clock() >= allowance.away_until:
                async with asyncio.timeout(_WITHIN_SECONDS):
                    granted = await self._draw(connection_id, portion, per_second)
        except (Retry, TimeoutError):
            allowance.away_until = clock() + _AWAY_SECONDS
        finally:
            allowance.drawing = None
        if not granted:
            allowance.empty_until = clock() + portion / per_second
        allowance.tokens += portion if granted is None else granted
