"""Group commit: the changes in flight are applied together, in the order of their arrival, one transaction after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final, TypeAlias

import structlog

from service.domain.backoff import WHILE_AWAY
from service.domain.change import Change
from service.domain.errors import Unavailable
from service.domain.outcome import Result
from service.telemetry import names
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.traced import UNTRACED, Traced
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["Apply", "GroupCommit"]

Apply: TypeAlias = Callable[[Sequence[Change]], Awaitable[list[Result]]]

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    order: int
    change: Change
    result: asyncio.Future[Result]
    traced: Traced


class GroupCommit:
    """Collects submitted changes while one batch commits, and commits them as the next.

    There is one transaction at a time, so that a member's changes are applied in the order in which they arrived: transactions
    side by side overtake each other, and the overtaken version would leave neither audit nor event.
    """

    def __init__(self, apply: Apply, *, most: int = 500, tracing: Tracing = NO_TRACING, metrics: Metrics = UNMEASURED) -> None:
        self._apply = apply
        self._metrics = metrics
        self._tracing = tracing
        self._most = most
        self._waiting: list[_Waiting] = []
        self._work = asyncio.Event()
        self.available = True

    async def submit(self, change: Change, *, order: int, traced: Traced = UNTRACED) -> Result:
        """Apply one change with those that are in flight; `order` is its place among them, `traced` its message's in a trace.

        While the database is away this waits. Raises what applying this very change raised, and nothing that its neighbours did.
        """
        waiting = _Waiting(order, change, asyncio.get_running_loop().create_future(), traced)
        self._waiting.append(waiting)
        self._work.set()
        return await waiting.result

    async def run(self) -> None:
        """Commit batches until cancelled; what was not committed by then is not answered: its message stays unacked."""
        while True:
            await self._work.wait()
            if batch := self._next_batch():
                await self._settle(batch)

    def _next_batch(self) -> list[_Waiting]:
        # Handlers start in the order of delivery, but nothing promises it: the order given is what counts.
        self._waiting.sort(key=lambda waiting: waiting.order)
        # Whoever gave up waiting has lost its message, which comes again in its new place.
        self._waiting = [waiting for waiting in self._waiting if not waiting.result.done()]
        batch = self._waiting[: self._most]
        del self._waiting[: len(batch)]
        if not self._waiting:
            self._work.clear()
        return batch

    async def _settle(self, batch: Sequence[_Waiting]) -> None:
        try:
            with self._tracing.over(names.APPLY_CHANGES, [waiting.traced for waiting in batch]):
                results = await self._apply_when_available([waiting.change for waiting in batch])
        except Exception as error:  # noqa: BLE001  # each message answers for itself, whatever its change did
            if len(batch) == 1:
                _answer(batch[0], error)
                return
            # Not a failure that applying knows how to split: one by one, so that only the culprit fails.
            _log.warning("batch failed, applying its changes one by one", changes=len(batch), error=type(error).__name__)
            for waiting in batch:
                await self._settle([waiting])
        else:
            for waiting, result in zip(batch, results, strict=True):
                _answer(waiting, result)

    async def _apply_when_available(self, changes: Sequence[Change]) -> list[Result]:
        """Apply, and while the database is away hold what is here: that spends no attempts, and the prefetch bounds it."""
        failures = 0
        while True:
            try:
                results = await self._measured(changes)
            except Unavailable as error:
                if self.available:
                    _log.warning("database away, holding the messages in flight", held=len(changes), reason=str(error))
                self.available = False
                failures += 1
                await asyncio.sleep(WHILE_AWAY.after(failures).total_seconds())
            else:
                if not self.available:
                    _log.info("database back")
                self.available = True
                return results

    async def _measured(self, changes: Sequence[Change]) -> list[Result]:
        began = perf_counter()
        try:
            results = await self._apply(changes)
        except Exception as error:
            self._metrics.applying_failed(perf_counter() - began, unavailable=isinstance(error, Unavailable))
            raise
        self._metrics.changes_applied((result.outcome for result in results), perf_counter() - began)
        return results


def _answer(waiting: _Waiting, answer: Result | Exception) -> None:
    if waiting.result.done():  # cancelled by its consumer, whose channel is gone
        return
    if isinstance(answer, Exception):
        waiting.result.set_exception(answer)
    else:
        waiting.result.set_result(answer)
