"""Looks every few seconds for events of which no message came."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from service.actions.sweep_notifications import sweep_notifications
from service.entrypoints.loops.dependency import Dependency
from service.entrypoints.loops.waiting import until_answered

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["NotificationSweep"]

_EVERY: Final = timedelta(seconds=15)


class NotificationSweep:
    """Looks until cancelled; any number of instances share the work, and what is found the notifiers find by themselves."""

    def __init__(self, database: Database, *, name: str, every: timedelta = _EVERY) -> None:
        self._database = database
        self._every = every.total_seconds()
        self._state = Dependency("database", waits_for=f"{name}-notification-sweep")

    async def run(self) -> None:
        """Look until cancelled; raises only what no waiting can mend."""
        while True:
            more, _ = await until_answered(self._state, lambda: sweep_notifications(self._database))
            if not more:
                # Instances that were started together shall not look together for ever.
                await asyncio.sleep(self._every * random.uniform(0.5, 1.5))  # noqa: S311  # spreads load, guards nothing
