"""Token buckets that all instances share, on the database's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["take_tokens"]

_TAKE: Final = queries("rate_limits")["take_tokens"].sql


async def take_tokens(tx: Tx, bucket: str, most: int, *, per_second: float, burst: float) -> int:
    """Take up to `most` tokens and answer how many there were; a bucket not seen before is full."""
    granted: int = await tx.fetchval(_TAKE, bucket, float(most), float(per_second), float(burst))
    return granted
