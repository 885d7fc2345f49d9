"""Group commit: the changes in flight are applied together, in the order of their arrival, one transaction after the other."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from service.domain.change import Change
from service.domain.errors import Unavailable
from service.domain.outcome import Outcome, Result

__all__ = ["Apply", "GroupCommit"]

Apply: TypeAlias = Callable[[Sequence[Change]], Awaitable[list[Result]]]

_log: Final = structlog.get_logger(__name__)
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    order: int
    change: Change
    result: asyncio.Future[Result]


class GroupCommit:
    """Collects submitted changes while one batch commits, and commits them as the next.

    There is one transaction at a time, so that a member's changes are applied in the order in which they arrived: transactions
    side by side overtake each other, and the overtaken version would leave neither audit nor event.
    """

    def __init__(self, apply: Apply, *, most: int = 500) -> None:
        self._apply = apply
        self._most = most
        self._waiting: list[_Waiting] = []
        self._work = asyncio.Event()
        self.available = True
        # What became of the changes so far.
        self.outcomes: Counter[Outcome] = Counter()

    async def submit(self, change: Change, *, order: int) -> Result:
        """Apply one change with those that are in flight; `order` is its place among them.

        While the database is away this waits. Raises what applying this very change raised, and nothing that its neighbours did.
        """
        waiting = _Waiting(order, change, asyncio.get_running_loop().create_future())
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
                self.outcomes[result.outcome] += 1
                _answer(waiting, result)

    async def _apply_when_available(self, changes: Sequence[Change]) -> list[Result]:
        """Apply, and while the database is away hold what is here: that spends no attempts, and the prefetch bounds it."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                results = await self._apply(changes)
            except Unavailable as error:
                if self.available:
                    _log.warning("database away, holding the messages in flight", held=len(changes), reason=str(error))
                self.available = False
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # spreads retries, no secret
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                if not self.available:
                    _log.info("database back")
                self.available = True
                return results


def _answer(waiting: _Waiting, answer: Result | Exception) -> None:
    if waiting.result.done():  # cancelled by its consumer, whose channel is gone
        return
    if isinstance(answer, Exception):
        waiting.result.set_exception(answer)
    else:
        waiting.result.set_result(answer)
