"""Handling a message alone: nothing else of this process is in anybody's hands meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Isolation"]


class Isolation:
    """Lets many messages be handled together, or one alone; first come, first served, so that their order stays."""

    def __init__(self) -> None:
        self._inside = 0
        self._one_alone = False
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """With whatever else is handled together."""
        await self._enter(alone=False)
        try:
            yield
        finally:
            self._leave()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """When all before it have left, and before any after it enters."""
        await self._enter(alone=True)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, *, alone: bool) -> None:
        if not self._waiting and self._fits(alone=alone):
            self._admit(alone=alone)
            return
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((alone, gate))
        try:
            await gate
        except asyncio.CancelledError:
            if gate.cancelled():
                # It may have stood first, before others that fit.
                self._let_in()
            else:
                self._leave()
            raise

    def _leave(self) -> None:
        self._inside -= 1
        self._one_alone = False
        self._let_in()

    def _fits(self, *, alone: bool) -> bool:
        return not self._one_alone and not (alone and self._inside)

    def _admit(self, *, alone: bool) -> None:
        self._inside += 1
        self._one_alone = alone

    def _let_in(self) -> None:
        while self._waiting:
            alone, gate = self._waiting[0]
            if gate.cancelled():
                self._waiting.popleft()
                continue
            if not self._fits(alone=alone):
                return
            self._waiting.popleft()
            self._admit(alone=alone)
            gate.set_result(None)
