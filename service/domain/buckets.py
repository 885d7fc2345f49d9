"""How the buckets of the outbox are shared among the relays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

__all__ = ["BUCKETS", "fair_share"]

# The modulus of the generated column outbox.bucket: a new number needs a migration.
BUCKETS: Final = 64


def fair_share(live: Collection[UUID], holder: UUID) -> int:
    """How many buckets `holder` owns when `live` relays run; the shares of all of them add up to BUCKETS."""
    ranks = sorted({*live, holder})
    share, rest = divmod(BUCKETS, len(ranks))
    return share + (ranks.index(holder) < rest)
