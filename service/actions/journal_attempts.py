"""The journal of lone attempts: written before the handling begins, so that a killed process leaves a trace of its culprit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from service.domain.backoff import WHILE_AWAY
from service.domain.errors import Contention, Retry, Unavailable
from service.store.database import Database
from service.store.lone_attempts import begin_attempt, end_attempts, forget_attempts

__all__ = ["AttemptJournal"]

_log: Final = structlog.get_logger(__name__)
_FORGET_AFTER: Final = timedelta(days=14)


class AttemptJournal:
    """Counts attempts that were begun and never ended, over all workers and their restarts."""

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database
        self.available = True

    async def begin(self, message: bytes) -> int:
        """Write an attempt down and answer how many earlier ones never ended; waits while the database is away."""
        failures = 0
        while True:
            try:
                async with self._database().transaction() as tx:
                    await forget_attempts(tx, _FORGET_AFTER)
                    unfinished = await begin_attempt(tx, message)
            except (Unavailable, Contention) as error:
                if self.available:
                    _log.warning("database away, holding a message that came back unanswered", reason=str(error))
                self.available = False
                failures += 1
                await asyncio.sleep(WHILE_AWAY.after(failures).total_seconds())
            else:
                self.available = True
                return unfinished - 1

    async def end(self, message: bytes) -> None:
        """The process outlived it. A note that cannot be taken back counts against the message only if it comes back once more."""
        try:
            async with self._database().transaction() as tx:
                await end_attempts(tx, message)
        except Retry as error:
            _log.warning("the end of a lone attempt is not noted", reason=str(error))
