"""Hands on jobs whose time has come: a retry, a silent worker, a lost message."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from service.actions.requeue_due_jobs import MOST_AT_ONCE, requeue_due_jobs
from service.entrypoints.loops.dependency import Dependency
from service.entrypoints.loops.waiting import until_answered
from service.telemetry.metrics import UNMEASURED, Metrics

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["JobsDue"]

_EVERY: Final = timedelta(seconds=1)


class JobsDue:
    """Looks every second, give or take half of it, until cancelled; any number of instances share the work."""

    def __init__(self, database: Database, *, name: str, every: timedelta = _EVERY, metrics: Metrics = UNMEASURED) -> None:
        self._database = database
        self._every = every.total_seconds()
        self._metrics = metrics
        self._state = Dependency("database", waits_for=f"{name}-jobs-due")

    async def run(self) -> None:
        """Look until cancelled; raises only what no waiting can mend."""
        while True:
            handed_on = await until_answered(self._state, lambda: requeue_due_jobs(self._database, metrics=self._metrics))
            if handed_on < MOST_AT_ONCE:
                # Instances that were started together shall not look together for ever.
                await asyncio.sleep(self._every * random.uniform(0.5, 1.5))  # noqa: S311  # spreads load, guards nothing
