"""Looks at the outbox and the queues every few seconds, so that a scrape costs them nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

from service.actions.measure_backlog import measure_outbox, measure_queues
from service.clients.amqp_connection import BROKER_ERRORS, connected, says_closed
from service.domain.errors import Retry, Unavailable
from service.entrypoints.loops.dependency import Dependency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aio_pika.abc import AbstractConnection

    from contracts.channels import QueueFamily
    from service.store.database import Database
    from service.telemetry.metrics import Metrics

__all__ = ["BacklogWatch"]

_EVERY: Final = timedelta(seconds=15)
_LOOK_SECONDS: Final = 10.0
# A look that is slow takes at most a twentieth of the time, and comes back for all that.
_SHARE: Final = 20
_LONGEST_PAUSE_SECONDS: Final = 120.0


class BacklogWatch:
    """Runs until cancelled; while the database or the broker cannot be asked, their gauges are gone rather than old."""

    def __init__(
        self,
        database: Database,
        broker_url: str,
        families: Sequence[QueueFamily],
        metrics: Metrics,
        *,
        name: str,
        every: timedelta = _EVERY,
    ) -> None:
        self._database = database
        self._broker_url = broker_url
        self._families = families
        self._metrics = metrics
        self._every = every.total_seconds()
        self._database_state = Dependency("database", waits_for=f"{name}-backlog-watch")
        self._broker_state = Dependency("broker", waits_for=f"{name}-backlog-watch")

    async def run(self) -> None:
        """Look until cancelled; raises only what no waiting can mend."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_outbox(), name="outbox watch")
            group.create_task(self._watch_queues(), name="queue watch")

    async def _watch_outbox(self) -> None:
        while True:
            began = monotonic()
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await measure_outbox(self._database, self._metrics)
            except (Retry, TimeoutError) as error:
                self._metrics.outbox_unseen()
                await asyncio.sleep(self._database_state.down(_reason(error)))
            else:
                self._database_state.up()
                await asyncio.sleep(max(self._every, min(_LONGEST_PAUSE_SECONDS, _SHARE * (monotonic() - began))))

    async def _watch_queues(self) -> None:
        while True:
            try:
                async with connected(self._broker_url) as connection:
                    while True:
                        await self._look(connection)
                        self._broker_state.up()
                        await asyncio.sleep(self._every)
            except (Unavailable, *BROKER_ERRORS) as error:
                self._metrics.queues_unseen()
                await asyncio.sleep(self._broker_state.down(_reason(error)))

    async def _look(self, connection: AbstractConnection) -> None:
        # In a task of its own: the library ends a question with CancelledError when the connection is closed under it.
        look = asyncio.ensure_future(measure_queues(connection, self._families, self._metrics))
        try:
            await asyncio.wait({look}, timeout=_LOOK_SECONDS)
            if look.cancelled() or not look.done():
                message = "the broker does not answer"
                raise Unavailable(message)
            look.result()
        except RuntimeError as error:
            if not says_closed(error):
                raise
            # The connection was lost between two looks.
            message = "the broker's connection was lost"
            raise Unavailable(message) from None
        finally:
            look.cancel()
            # What it ends with when nobody waits for it any more is for the next look to find.
            look.add_done_callback(lambda done: done.cancelled() or done.exception())


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, Retry) else type(error).__name__
