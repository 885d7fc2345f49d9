"""Keeps the events of companies that have subscribers bound to the notifier's queue, also on a broker that has forgotten."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from service.clients.amqp_connection import connected
from service.clients.topology import bind_companies
from service.domain.errors import Retry, Unavailable
from service.entrypoints.loops.dependency import Dependency
from service.entrypoints.loops.waiting import within
from service.store.subscribers import list_listening_companies

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from service.store.database import Database

__all__ = ["NotificationBindings"]

_EVERY: Final = timedelta(seconds=10)
# A binding that somebody removed by hand is there again after so many looks.
_ANEW_EVERY: Final = 30


class NotificationBindings:
    """Binds with each connection anew, and what came since every few seconds, until cancelled.

    Whoever registers a subscriber binds its company first; this is for a broker that was replaced, and for what went wrong by hand.
    """

    def __init__(self, database: Database, broker_url: str, *, name: str, every: timedelta = _EVERY) -> None:
        self._database = database
        self._broker_url = broker_url
        self._every = every.total_seconds()
        self._again = asyncio.Event()
        self._state = Dependency("broker", waits_for=f"{name}-notification-bindings")

    def bind_again(self) -> None:
        """The queue may be another one than the one that was bound."""
        self._again.set()

    async def run(self) -> None:
        """Bind until cancelled; raises only what no waiting can mend."""
        while True:
            try:
                async with connected(self._broker_url) as connection:
                    await self._bind(connection)
            except Retry as error:
                await asyncio.sleep(self._state.down(error))

    async def _bind(self, connection: AbstractConnection) -> None:
        while True:
            bound: set[object] = set()
            self._again.clear()
            for _ in range(_ANEW_EVERY):
                async with self._database.statement() as tx:
                    companies = set(await list_listening_companies(tx))
                if new := companies - bound:
                    await bind_companies(connection, new)
                    bound |= new
                elif connection.is_closed:
                    raise Unavailable("the broker's connection was lost")
                self._state.up()
                await within(self._again, self._every)
                if self._again.is_set():
                    break
