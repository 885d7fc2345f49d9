from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from service.domain.buckets import BUCKETS
from service.store import leases
from service.store.database import Database
from tests.relay_rig import open_database

TTL = timedelta(seconds=30)
LAPSED = timedelta(seconds=-1)
ME, OTHER = uuid4(), uuid4()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as database:
        async with database.transaction() as tx:
            await leases.insert_bucket_leases(tx)
            await leases.insert_bucket_leases(tx)
        yield database


async def test_all_buckets_can_be_taken_once(database: Database) -> None:
    async with database.transaction() as tx:
        mine = await leases.take_buckets(tx, ME, 40, TTL)
        others = await leases.take_buckets(tx, OTHER, BUCKETS, TTL)

    assert len(mine) == 40
    assert mine.keys() | others.keys() == set(range(BUCKETS))
    assert not mine.keys() & others.keys()
    assert set(mine.values()) == {1}


async def test_a_lapsed_lease_goes_to_another_under_a_higher_fence(database: Database) -> None:
    async with database.transaction() as tx:
        mine = await leases.take_buckets(tx, ME, BUCKETS, LAPSED)
        taken = await leases.take_buckets(tx, OTHER, BUCKETS, TTL)

        assert taken == {number: fence + 1 for number, fence in mine.items()}
        assert await leases.renew_buckets(tx, ME, mine, TTL) == set()


async def test_a_lapsed_lease_that_nobody_took_can_be_renewed(database: Database) -> None:
    async with database.transaction() as tx:
        mine = await leases.take_buckets(tx, ME, 3, LAPSED)

        assert await leases.renew_buckets(tx, ME, mine, TTL) == set(mine)
        assert not mine.keys() & (await leases.take_buckets(tx, OTHER, BUCKETS, TTL)).keys()


async def test_an_old_fence_renews_nothing(database: Database) -> None:
    async with database.transaction() as tx:
        (number,) = await leases.take_buckets(tx, ME, 1, TTL)

        assert await leases.renew_buckets(tx, ME, {number: 0}, TTL) == set()


async def test_a_released_bucket_is_free_at_once(database: Database) -> None:
    async with database.transaction() as tx:
        mine = await leases.take_buckets(tx, ME, BUCKETS, TTL)
        number, fence = next(iter(mine.items()))

        assert await leases.release_buckets(tx, ME, {number: fence}) == {number}
        assert await leases.take_buckets(tx, OTHER, BUCKETS, TTL) == {number: fence + 1}


async def test_nobody_releases_what_another_holds(database: Database) -> None:
    async with database.transaction() as tx:
        mine = await leases.take_buckets(tx, ME, 1, TTL)

        assert await leases.release_buckets(tx, OTHER, mine) == set()
        assert await leases.renew_buckets(tx, ME, mine, TTL) == set(mine)


async def test_relays_see_who_lives_and_who_ended(database: Database) -> None:
    async with database.transaction() as tx:
        assert await leases.announce_relay(tx, ME, TTL)
        assert await leases.announce_relay(tx, OTHER, TTL)
        assert not await leases.announce_relay(tx, ME, TTL)
        assert set(await leases.live_relays(tx)) == {ME, OTHER}

        await leases.withdraw_relay(tx, OTHER)
        assert await leases.live_relays(tx) == [ME]


async def test_what_a_dead_relay_left_is_removed(database: Database) -> None:
    async with database.transaction() as tx:
        await leases.announce_relay(tx, OTHER, LAPSED)
        await leases.announce_relay(tx, ME, TTL)

        assert await leases.live_relays(tx) == [ME]
        assert await tx.fetchval("select count(*) from leases where resource like 'relay-instance/%'") == 1


async def test_a_lease_being_taken_by_another_is_passed_over(database: Database) -> None:
    async with database.transaction() as tx, database.transaction() as other:
        taken = await leases.take_buckets(other, OTHER, 10, TTL)

        mine = await leases.take_buckets(tx, ME, BUCKETS, TTL)

        assert len(mine) == BUCKETS - 10
        assert not mine.keys() & taken.keys()
