"""Events that are in flight are written down together, one transaction after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from service.domain.backoff import WHILE_AWAY
from service.domain.errors import Unavailable
from service.domain.notifications.subscriber import Told
from service.telemetry import names
from service.telemetry.traced import UNTRACED, Traced
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["Enqueue", "GatherNotifications"]

# How many deliveries were added; raises Retry errors.
Enqueue: TypeAlias = Callable[[Sequence[Told]], Awaitable[int]]

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    told: Told
    done: asyncio.Future[None]
    traced: Traced


class GatherNotifications:
    """Collects events while one batch commits, and commits them as the next; while the database is away they are held.

    In what order they come is all the same: where it matters to a subscriber, the audit says what came before.
    """

    def __init__(self, enqueue: Enqueue, added: Callable[[], None], *, most: int = 500, tracing: Tracing = NO_TRACING) -> None:
        self._enqueue = enqueue
        self._added = added
        self._most = most
        self._tracing = tracing
        self._waiting: list[_Waiting] = []
        self._work = asyncio.Event()
        self.available = True

    async def submit(self, told: Told, *, traced: Traced = UNTRACED) -> None:
        """Write down one event with those that are in flight; raises what writing down this very one raised."""
        waiting = _Waiting(told, asyncio.get_running_loop().create_future(), traced)
        self._waiting.append(waiting)
        self._work.set()
        await waiting.done

    async def run(self) -> None:
        """Commit batches until cancelled; what was not committed by then is not answered: its message stays unacked."""
        while True:
            await self._work.wait()
            # Whoever gave up waiting has lost its message, which comes again.
            self._waiting = [waiting for waiting in self._waiting if not waiting.done.done()]
            batch = self._waiting[: self._most]
            del self._waiting[: len(batch)]
            if not self._waiting:
                self._work.clear()
            if batch:
                await self._settle(batch)

    async def _settle(self, batch: Sequence[_Waiting]) -> None:
        try:
            with self._tracing.over(names.ENQUEUE_DELIVERIES, [waiting.traced for waiting in batch]):
                added = await self._enqueue_when_available([waiting.told for waiting in batch])
        except Exception as error:  # noqa: BLE001  # each message answers for itself, whatever its event did
            if len(batch) == 1:
                if not batch[0].done.done():
                    batch[0].done.set_exception(error)
                return
            _log.warning("batch failed, writing its events down one by one", events=len(batch), error=type(error).__name__)
            for waiting in batch:
                await self._settle([waiting])
        else:
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_result(None)
            if added:
                self._added()

    async def _enqueue_when_available(self, told: Sequence[Told]) -> int:
        """Holding what is here while the database is away spends no attempts, and the prefetch bounds it."""
        failures = 0
        while True:
            try:
                added = await self._enqueue(told)
            except Unavailable as error:
                if self.available:
                    _log.warning("database away, holding the events in flight", held=len(told), reason=str(error))
                self.available = False
                failures += 1
                await asyncio.sleep(WHILE_AWAY.after(failures).total_seconds())
            else:
                if not self.available:
                    _log.info("database back")
                self.available = True
                return added
