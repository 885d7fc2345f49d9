"""The database server itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["read_server_version"]

_SQL: Final = queries("server")


async def read_server_version(tx: Tx) -> int:
    """The major version."""
    number: int = await tx.fetchval(_SQL["read_server_version"].sql)
    return number // 10_000
