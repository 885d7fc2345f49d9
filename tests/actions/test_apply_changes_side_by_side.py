from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import pytest

from service.domain.change import Change, UpstreamChange
from service.domain.errors import Contention, Retry, Unavailable
from service.domain.member import MemberId
from service.store.members import MemberKeys, insert_members, lock_members
from tests.apply_rig import Books, open_books
from tests.domain.samples import PERSON, member


def message_of(change: Change) -> str:
    assert isinstance(change, UpstreamChange)
    assert change.inbox_key is not None
    return f"{change.connection_id}/{change.inbox_key.message_id}"


async def deliver(books: Books, batches: Sequence[Sequence[UpstreamChange]], seen: Counter[tuple[str, str]]) -> None:
    """Apply each batch until it is through, as a consumer whose messages are redelivered; counts (message, outcome)."""
    for batch in batches:
        for _ in range(200):
            try:
                results = await books.apply(*batch)
            except Retry:
                await asyncio.sleep(0.02)
            else:
                seen.update((message_of(change), result.outcome.value) for change, result in zip(batch, results, strict=True))
                break
        else:
            pytest.fail("a batch never got through")


def history(books: Books, chance: random.Random, keys: int, versions: int) -> list[UpstreamChange]:
    """Versions of many members of both connections; the same numbers on both sides claim the same people."""
    changes: list[UpstreamChange] = []
    for connection in (books.connection, books.other):
        for key in range(keys):
            given = {"connection_id": connection, "external_id": f"ext-{key}"}
            for version in range(1, versions + 1):
                message = f"{key}/{version}"
                if chance.random() < 0.2:
                    changes.append(books.removal(version, message=message, **given))
                else:
                    fields = {"name": f"{key}.{version}", "national_id": f"id{key}" if key % 2 else None}
                    changes.append(books.upsert(version, fields, message=message, **given))
    return changes


async def test_many_at_once_over_the_same_members_lose_nothing(database_url: str) -> None:
    chance = random.Random(4)
    async with open_books(database_url, size=20) as books:
        changes = history(books, chance, keys=24, versions=6)
        seen: Counter[tuple[str, str]] = Counter()
        workers = []
        # Every message goes to two of twenty workers, each with an order of its own.
        shares: list[list[UpstreamChange]] = [[] for _ in range(20)]
        for change in changes:
            for share in chance.sample(shares, 2):
                share.append(change)
        for share in shares:
            chance.shuffle(share)
            workers.append(deliver(books, [share[at : at + 9] for at in range(0, len(share), 9)], seen))
        await asyncio.gather(*workers)

        await books.check()
        taken = await books.fetch("select connection_id, message_id from inbox")
        assert not {outcome for _, outcome in seen} - {"applied", "unchanged", "stale", "duplicate", "conflict"}
        settled = Counter(
            message for (message, outcome), count in seen.items() if outcome not in ("duplicate", "conflict") for _ in range(count)
        )
        # An effect once each; what is in the inbox is what took effect, and nothing else.
        assert set(settled.values()) == {1}
        assert set(settled) == {f"{connection}/{message}" for connection, message in taken}
        assert sum(count for (_, outcome), count in seen.items() if outcome == "applied") == len(await books.events())
        # A member that nobody else claims ends as its newest version says.
        newest = {(one.connection_id, one.external_id): one for one in changes if one.source_version == 6}
        for row in await books.members():
            if row["external_id"] is not None and int(row["external_id"].removeprefix("ext-")) % 2 == 0:
                change = newest[row["connection_id"], row["external_id"]]
                assert row["source_version"] == 6
                assert (row["state"] == "removed") is not hasattr(change, "fields")


async def test_one_person_from_several_connections_at_once_is_one_member(database_url: str) -> None:
    async with open_books(database_url, size=12) as books:
        sides = [(books.connection, "a"), (books.other, "b"), (books.other, "c")]
        for attempt in range(10):
            person = {"name": "Anna", "national_id": f"id{attempt}"}
            changes = [
                books.upsert(1, person, connection_id=connection, external_id=f"{name}{attempt}") for connection, name in sides
            ]
            outcomes = [outcome for (outcome,) in await asyncio.gather(*(books.outcomes(change) for change in changes * 2))]

            winners = {number % 3 for number, outcome in enumerate(outcomes) if outcome == "applied"}
            assert Counter(outcomes) == {"applied": 1, "unchanged": 1, "conflict": 4}, outcomes
            assert len(winners) == 1
        await books.check()


async def test_the_same_messages_twice_at_once_have_each_effect_once(database_url: str) -> None:
    async with open_books(database_url) as books:
        for attempt in range(10):
            batch = [
                books.upsert(version, {"name": f"{version}"}, external_id=f"{attempt}/{key}", message=f"{attempt}/{key}/{version}")
                for version in (1, 2)
                for key in range(20)
            ]
            first, second = await asyncio.gather(books.outcomes(*batch), books.outcomes(*batch))

            assert [sorted(pair) for pair in zip(first, second, strict=True)] == [["applied", "duplicate"]] * 40
        await books.check()


async def test_batches_in_opposite_order_never_deadlock(database_url: str) -> None:
    async with open_books(database_url) as books:
        keys = [f"{key}" for key in range(12)]
        await books.apply(*(books.upsert(0, external_id=key) for key in keys))
        before = books.database.transactions
        for attempt in range(200):
            there = [
                books.upsert(2 * attempt + 1, {"name": "there"}, external_id=key, message=f"{attempt}/{key}/1") for key in keys
            ]
            back = [
                books.upsert(2 * attempt + 2, {"name": "back"}, external_id=key, message=f"{attempt}/{key}/2")
                for key in reversed(keys)
            ]
            await asyncio.gather(books.apply(*there), books.apply(*back))

        # Not one had to be run again.
        assert books.database.transactions == before + 400
        assert {row["name"] for row in await books.members()} == {"back"}
        await books.check()


async def test_new_members_in_opposite_order_never_deadlock(database_url: str) -> None:
    async with open_books(database_url) as books:
        for attempt in range(50):
            people = [{"name": "Anna", "national_id": f"{attempt}/{key}" if key % 2 else None} for key in range(10)]
            there = [books.upsert(1, person, external_id=f"{attempt}/{key}") for key, person in enumerate(people)]
            await asyncio.gather(books.apply(*there), books.apply(*reversed(there)))
        await books.check()
    # The connections are closed: what they counted is there to be read.
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("select deadlocks from pg_stat_database where datname = current_database()") == 0
    await connection.close()


@pytest.mark.parametrize("by", ["key", "national_id", "id"])
async def test_a_row_that_was_altered_while_it_was_waited_for_is_read_as_it_is_now(database_url: str, by: str) -> None:
    async with open_books(database_url) as books:
        known = member(company_id=books.company, connection_id=books.connection, national_id="0101012345")
        async with books.database.transaction() as tx:
            await insert_members(tx, [known])
        keys = {
            "key": MemberKeys({(books.connection, "ext-1")}, set(), set()),
            "national_id": MemberKeys(set(), {(books.company, "0101012345")}, set()),
            "id": MemberKeys(set(), set(), {known.id}),
        }

        async def lock() -> list[tuple[int, str | None, str | None]]:
            async with books.database.transaction() as tx:
                return [(one.version, one.external_id, one.national_id) for one in await lock_members(tx, keys[by])]

        async with books.database.transaction() as tx:
            await tx.execute("update members set version = 2, external_id = 'moved', national_id = null")
            waiting = asyncio.create_task(lock())
            await asyncio.sleep(0.2)
            assert not waiting.done()

        assert await waiting == [(2, "moved", None)]


async def test_a_key_that_moved_away_while_it_was_waited_for_is_found_by_its_tombstone(database_url: str) -> None:
    async with open_books(database_url) as books:
        await books.apply(books.upsert(70, PERSON))
        move = books.upsert(1, PERSON, external_id="new", replaces_external_id="ext-1", from_snapshot=True)
        late = books.upsert(69, {"name": "Anna"})
        for _ in range(20):
            results = await asyncio.gather(books.outcomes(move), books.outcomes(late), books.outcomes(late))
            assert results[1:] == [["stale"], ["stale"]]
        assert {row["external_id"]: row["version"] for row in await books.members()} == {"ext-1": 0, "new": 2}


async def test_a_server_that_ends_connections_in_the_middle_leaves_nothing_half_written(database_url: str) -> None:
    chance = random.Random(7)
    async with open_books(database_url, size=6) as books:
        seen: Counter[tuple[str, str]] = Counter()
        batches = [
            [
                books.upsert(version, {"name": f"{version}"}, external_id=f"{worker}/{key}", message=f"{worker}/{version}/{key}")
                for key in range(40)
            ]
            for version in range(1, 9)
            for worker in range(4)
        ]
        work = asyncio.gather(*(deliver(books, batches[worker::4], seen) for worker in range(4)))
        killer = await asyncpg.connect(database_url)
        killed = 0
        for _ in range(15):
            await asyncio.sleep(chance.uniform(0.03, 0.1))
            killed += await killer.fetchval("""
                select count(pg_terminate_backend(pid)) from (
                    select pid from pg_stat_activity
                    where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'
                    order by random() limit 1
                ) as one
            """)
        await killer.close()
        await work

        assert killed > 0
        await books.check()
        assert {(row["version"], row["name"]) for row in await books.members()} == {(8, "8")}
        assert len(await books.members()) == 160
        assert len(await books.inbox()) == 4 * 8 * 40


async def test_who_stays_in_the_way_is_told_of(database_url: str) -> None:
    async with open_books(database_url) as books:
        await books.apply(books.upsert(1))
        async with books.database.transaction() as tx:
            # Somebody deletes what is applied each time, as nobody should: whole rows are written over the version that was read.
            await tx.execute("""
                create function undo() returns trigger language plpgsql as $$ begin return null; end $$;
                create trigger undo before update on members for each row execute function undo()
            """)

        with pytest.raises(Contention):
            await books.apply(books.upsert(2, {"plan": "gold"}, message="m1"))

        assert await books.counts() == (1, 1, 1, 0)


async def test_a_database_that_is_away_is_told_of(database_url: str) -> None:
    async with open_books(database_url) as books:
        await books.database.close()

        with pytest.raises(Unavailable):
            await books.apply(books.upsert(1))


async def test_nobody_is_locked_for_a_member_that_is_not_there(database_url: str) -> None:
    async with open_books(database_url) as books, books.database.transaction() as tx:
        assert await lock_members(tx, MemberKeys(set(), set(), {MemberId(UUID(int=5))})) == []
