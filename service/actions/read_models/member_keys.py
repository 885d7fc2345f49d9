"""Every member, or an even sample of them, as the keys of a read model."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING
from uuid import UUID

from service.domain.drift import ReconciliationMode, sample_places, sample_size
from service.store.audited_members import count_keys, page_members, sample_members

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["member_keys"]


async def member_keys(
    reading: Callable[[], AbstractAsyncContextManager[Tx]],
    mode: ReconciliationMode,
    budget: int,
    offset: Callable[[], float] = random.random,
) -> AsyncGenerator[Sequence[str], None]:
    """Members' ids in batches of at most `budget`, tombstones among them; raises Retry errors.

    All in their order by keyset, so that who comes or goes hides nobody else; or a sample, shifted by `offset()` in [0, 1).
    """
    if mode is ReconciliationMode.SAMPLED:
        async with reading() as tx:
            population = await count_keys(tx)
            chosen = await sample_members(tx, sample_places(population, sample_size(population), offset()))
        for first in range(0, len(chosen), budget):
            yield [str(found) for found in chosen[first : first + budget]]
        return
    last: UUID | None = None
    while page := await _page(reading, last, budget):
        yield [str(found) for found in page]
        last = page[-1]


async def _page(reading: Callable[[], AbstractAsyncContextManager[Tx]], last: UUID | None, most: int) -> list[UUID]:
    async with reading() as tx:
        return await page_members(tx, last, most)
