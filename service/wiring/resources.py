"""What every role shares: the database, migrated, and the topology, declared."""

from __future__ import annotations

from typing import Final

import aio_pika

from service.clients.topology import declare_topology
from service.domain.errors import Unavailable
from service.settings import Settings, without_password
from service.store.database import Database
from service.store.migrate import pending_migrations
from service.wiring.waiting import until_there

__all__ = ["declared_topology", "open_database"]

_CONNECT_SECONDS: Final = 10.0


async def open_database(settings: Settings, name: str) -> Database:
    """Connect, waiting for the database and for its migrations as long as it takes."""
    url = settings.database_url.get_secret_value()
    where = without_password(url)
    db = await until_there(
        "the database", where, lambda: Database.connect(url, name=f"rollcall {name}", behind_pooler=settings.behind_pooler)
    )

    async def migrated() -> None:
        async with db.transaction() as tx:
            if pending := await pending_migrations(tx):
                message = f"`rollcall migrate` must apply {', '.join(pending)}"
                raise Unavailable(message)

    try:
        await until_there("the database's migrations", where, migrated)
    except BaseException:
        await db.close()
        raise
    return db


async def declared_topology(settings: Settings) -> None:
    """Declare exchanges, queues and bindings, waiting for the broker as long as it takes."""
    url = settings.rabbitmq_url.get_secret_value()

    async def declare() -> None:
        connection = await aio_pika.connect(url, timeout=_CONNECT_SECONDS)
        async with connection:
            await declare_topology(await connection.channel())

    await until_there("the broker", without_password(url), declare)
