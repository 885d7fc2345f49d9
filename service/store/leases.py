"""Fenced leases on the database's clock: who owns which bucket of the outbox, which relays live, who alone does what one may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from service.domain.buckets import BUCKETS
from service.store.queries import queries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from uuid import UUID

    from service.store.database import Tx

__all__ = [
    "Ownership",
    "announce_relay",
    "find_lapsed_buckets",
    "insert_bucket_leases",
    "live_relays",
    "read_ownership",
    "release_buckets",
    "release_lease",
    "renew_buckets",
    "renew_lease",
    "take_buckets",
    "take_lease",
    "withdraw_relay",
]

_SQL: Final = queries("leases")
_PREFIX: Final = "relay/"
_RESOURCES: Final = [f"{_PREFIX}{number}" for number in range(BUCKETS)]


def _number(resource: str) -> int:
    return int(resource.removeprefix(_PREFIX))


def _columns(fences: Mapping[int, int]) -> tuple[list[str], list[int]]:
    return [_RESOURCES[number] for number in fences], list(fences.values())


async def insert_bucket_leases(tx: Tx) -> None:
    """Make the lease of every bucket exist."""
    await tx.execute(_SQL["insert_bucket_leases"].sql, _RESOURCES)


async def announce_relay(tx: Tx, holder: UUID, ttl: timedelta) -> bool:
    """Say that this relay lives for `ttl` more; answers whether that is news."""
    is_new: bool = await tx.fetchval(_SQL["announce_relay"].sql, holder, ttl)
    return is_new


async def live_relays(tx: Tx) -> list[UUID]:
    """The holders that live; the remains of those that do not are removed."""
    await tx.execute(_SQL["delete_expired_relays"].sql)
    return [row["holder"] for row in await tx.fetch(_SQL["select_live_relays"].sql)]


async def renew_buckets(tx: Tx, holder: UUID, fences: Mapping[int, int], ttl: timedelta) -> set[int]:
    """Hold these buckets, given with their fences, for `ttl` more; returns those that are still this holder's."""
    if not fences:
        return set()
    rows = await tx.fetch(_SQL["renew_buckets"].sql, holder, *_columns(fences), ttl)
    return {_number(row["resource"]) for row in rows}


async def find_lapsed_buckets(tx: Tx) -> set[int]:
    """Buckets that their holder has neither renewed in time nor given back."""
    return {_number(row["resource"]) for row in await tx.fetch(_SQL["find_lapsed_buckets"].sql, _RESOURCES)}


async def take_buckets(tx: Tx, holder: UUID, count: int, ttl: timedelta) -> dict[int, int]:
    """Take up to `count` free or expired buckets; returns their new fences."""
    rows = await tx.fetch(_SQL["take_buckets"].sql, holder, _RESOURCES, count, ttl)
    return {_number(row["resource"]): row["fence"] for row in rows}


async def release_buckets(tx: Tx, holder: UUID, fences: Mapping[int, int]) -> set[int]:
    """Free these buckets for others; returns those that were still this holder's."""
    if not fences:
        return set()
    rows = await tx.fetch(_SQL["release_buckets"].sql, holder, *_columns(fences))
    return {_number(row["resource"]) for row in rows}


async def withdraw_relay(tx: Tx, holder: UUID) -> None:
    """Say that this relay has ended."""
    await tx.execute(_SQL["withdraw_relay"].sql, holder)


@dataclass(frozen=True, slots=True)
class Ownership:
    """How many relays live, and how many buckets have an owner."""

    relays: int
    owned: int


async def read_ownership(tx: Tx) -> Ownership:
    """Who could publish now."""
    (record,) = await tx.fetch(_SQL["read_ownership"].sql)
    return Ownership(**record)


async def take_lease(tx: Tx, resource: str, holder: UUID, ttl: timedelta) -> int | None:
    """Hold a lease for `ttl`, or anew where this holder has it; answers the fence, None where somebody else holds it."""
    fence: int | None = await tx.fetchval(_SQL["take_lease"].sql, resource, holder, ttl)
    return fence


async def renew_lease(tx: Tx, resource: str, holder: UUID, fence: int, ttl: timedelta) -> bool:
    """Hold a lease for `ttl` more; answers no where it is another's."""
    return await tx.fetchval(_SQL["renew_lease"].sql, resource, holder, fence, ttl) is not None


async def release_lease(tx: Tx, resource: str, holder: UUID, fence: int) -> None:
    """Give a lease back, where it still is this holder's."""
    await tx.execute(_SQL["release_lease"].sql, resource, holder, fence)
