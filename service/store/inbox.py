"""The inbox: which messages were taken in."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from service.domain.change import InboxKey
from service.domain.member import ConnectionId
from service.store.queries import queries
from service.store.rows import column_names, columns

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["claim_messages", "release_messages"]

_SQL: Final = queries("inbox")
_CLAIM: Final = _SQL["claim_messages"].sql
_RELEASE: Final = _SQL["release_messages"].sql
_COLUMNS: Final = column_names(InboxKey)


async def claim_messages(tx: Tx, keys: Collection[InboxKey]) -> set[InboxKey]:
    """Take the keys in and answer the new ones; the others were taken in before."""
    records = await tx.fetch(_CLAIM, *columns(_COLUMNS, list(keys)))
    return {InboxKey(ConnectionId(connection), source, message) for connection, source, message in records}


async def release_messages(tx: Tx, keys: Collection[InboxKey]) -> None:
    """Forget keys that this transaction took in and then did not apply."""
    await tx.execute(_RELEASE, *columns(_COLUMNS, list(keys)))
