from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from uuid import UUID, uuid4

import pytest

from service.actions.hold_buckets import hold_buckets, prepare_buckets, release_buckets
from service.domain.backlog import Backlog
from service.domain.buckets import BUCKETS
from service.store.database import Database
from service.telemetry.metric_names import RELAY_BUCKETS, RELAY_LEASES, Stage
from service.telemetry.metrics import UNMEASURED, Metrics
from tests.relay_rig import open_database, open_outbox

TTL = timedelta(seconds=30)


@dataclass
class Member:
    """One of several relays, reduced to its buckets."""

    database: Database
    holder: UUID = field(default_factory=uuid4)
    backlog: Backlog = field(default_factory=lambda: Backlog(100))
    metrics: Metrics = UNMEASURED

    async def hold(self) -> bool:
        return await hold_buckets(self.database, self.backlog, self.holder, TTL, monotonic, self.metrics)

    @property
    def owned(self) -> set[int]:
        return set(self.backlog.buckets)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as database:
        await prepare_buckets(database)
        yield database


async def settle(*members: Member) -> list[int]:
    """Rounds until nothing moves; sorted shares. Nobody ever owns what another owns."""
    for _ in range(4):
        for member in members:
            await member.hold()
            owned = [bucket for other in members for bucket in other.owned]
            assert len(owned) == len(set(owned))
    return sorted(len(member.owned) for member in members)


async def test_shares_follow_the_relays_that_come_and_go(database: Database) -> None:
    a, b, c, d = (Member(database) for _ in range(4))

    assert await settle(a) == [64]
    assert await settle(a, b, c, d) == [16, 16, 16, 16]
    for leaver in (a, c):
        await release_buckets(database, leaver.backlog, leaver.holder)
        assert leaver.owned == set()
    assert await settle(b, d) == [32, 32]
    assert b.owned | d.owned == set(range(BUCKETS))


async def test_uneven_shares_differ_by_one(database: Database) -> None:
    assert await settle(*(Member(database) for _ in range(3))) == [21, 21, 22]


async def test_a_busy_bucket_is_shed_only_when_its_message_has_ended(database: Database) -> None:
    first, second = Member(database), Member(database)
    await settle(first)
    for number in first.owned:
        first.backlog.find(number, uuid4(), 1, 1)
    flying = first.backlog.take(BUCKETS, monotonic())

    await settle(first, second)
    assert (len(first.owned), len(second.owned)) == (64, 0)

    for key in flying:
        first.backlog.published(key, 1)
    assert await settle(first, second) == [32, 32]


async def test_what_an_owner_in_a_pause_held_is_taken_over_and_it_notices(database: Database, database_url: str) -> None:
    paused, heir = Member(database), Member(database)
    await settle(paused)
    old = {number: bucket.fence for number, bucket in paused.backlog.buckets.items()}
    async with open_outbox(database_url, "") as outbox:
        await outbox.connection.execute(
            "update leases set expires_at = clock_timestamp() - interval '1 ms' where holder is not null"
        )

    await heir.hold()
    assert {number: bucket.fence for number, bucket in heir.backlog.buckets.items()} == {n: f + 1 for n, f in old.items()}

    await paused.hold()
    assert paused.owned == set()


async def test_the_local_deadline_is_earlier_than_the_lease_in_the_database(database: Database, database_url: str) -> None:
    member = Member(database)
    await member.hold()
    async with open_outbox(database_url, "") as outbox:
        left = await outbox.connection.fetchval(
            "select min(expires_at) - clock_timestamp() from leases where resource like 'relay/%'"
        )

    assert all(bucket.held_until - monotonic() < left.total_seconds() for bucket in member.backlog.buckets.values())


async def test_a_round_in_which_nothing_changes_wakes_nobody(database: Database, database_url: str) -> None:
    member = Member(database)
    woken: list[str] = []
    async with open_outbox(database_url, "") as outbox:
        await outbox.connection.add_listener("rollcall_outbox", lambda *_: woken.append("x"))
        await member.hold()
        await outbox.connection.fetchval("select 1")
        assert len(woken) == 1

        await member.hold()
        await member.hold()
        await outbox.connection.fetchval("select 1")
        assert len(woken) == 1


async def test_a_bucket_with_a_message_in_flight_is_left_to_expire_at_the_end(database: Database) -> None:
    leaver, heir = Member(database), Member(database)
    await settle(leaver)
    leaver.backlog.find(5, uuid4(), 1, 1)
    leaver.backlog.take(1, monotonic())

    await release_buckets(database, leaver.backlog, leaver.holder)

    await settle(heir)
    assert heir.owned == set(range(BUCKETS)) - {5}


async def test_what_happens_to_the_leases_is_counted(database: Database, database_url: str) -> None:
    first, second = Metrics((Stage.RELAY,)), Metrics((Stage.RELAY,))
    a, b = Member(database, metrics=first), Member(database, metrics=second)
    await settle(a)
    assert first.counted(RELAY_LEASES) == {("taken",): 64}
    assert first.counted(RELAY_BUCKETS) == {(): 64}

    await settle(a, b)
    assert first.counted(RELAY_LEASES) == {("taken",): 64, ("released",): 32}
    assert second.counted(RELAY_LEASES) == {("taken",): 32}

    # The first one stands still for longer than its lease.
    async with open_outbox(database_url, "nowhere") as outbox:
        await outbox.connection.execute("update leases set expires_at = now() - interval '1 s' where holder = $1", a.holder)
        await outbox.connection.execute("delete from leases where resource = 'relay-instance/' || $1::text", str(a.holder))
    await b.hold()
    assert second.counted(RELAY_LEASES) == {("taken",): 32, ("taken_over",): 32}
    assert second.counted(RELAY_BUCKETS) == {(): 64}

    await a.hold()
    assert first.counted(RELAY_LEASES) == {("taken",): 64, ("released",): 32, ("lost",): 32}
    await release_buckets(database, b.backlog, b.holder, second)
    assert second.counted(RELAY_LEASES) == {("taken",): 32, ("taken_over",): 32, ("released",): 64}
    assert second.counted(RELAY_BUCKETS) == {}
