"""Who is told of an event: each that wants it once, in order where that matters, whoever writes it down beside whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from service.actions.enqueue_deliveries import add_deliveries, enqueue_deliveries
from service.domain.notifications.subscriber import DisabledBecause, SubscriberState
from service.store.subscribers import switch_subscriber
from tests.notification_rig import Notified, open_notified


@pytest.fixture
async def notified(module_database_url: str) -> AsyncIterator[Notified]:
    async with open_notified(module_database_url) as notified:
        yield notified


async def test_each_subscriber_that_wants_an_event_gets_one_delivery_however_often_it_comes(notified: Notified) -> None:
    all_of_it = await notified.subscribe()
    expiries = await notified.subscribe(wants={"newStates": ["expired"]})
    joined, expired = await notified.happen(), await notified.happen(state="expired")

    assert await enqueue_deliveries(notified.database, [joined, expired]) == 3
    assert await enqueue_deliveries(notified.database, [expired, joined, joined]) == 0

    assert len(await notified.deliveries(all_of_it)) == 2
    assert await notified.deliveries(expiries) == [(1, "pending")]


async def test_a_company_without_subscribers_costs_nothing(notified: Notified) -> None:
    assert await enqueue_deliveries(notified.database, [await notified.happen()]) == 0


async def test_events_of_another_company_are_nobodys_here(notified: Notified, module_database_url: str) -> None:
    subscriber = await notified.subscribe()
    async with open_notified(module_database_url) as other:
        assert await enqueue_deliveries(notified.database, [await other.happen()]) == 0

    assert await notified.deliveries(subscriber) == []


@pytest.mark.parametrize(
    ("state", "because", "kept"),
    [
        (SubscriberState.PAUSED, None, True),
        (SubscriberState.DISABLED, DisabledBecause.GONE, False),
        (SubscriberState.REMOVED, None, False),
    ],
)
async def test_what_happens_waits_for_a_paused_subscriber_and_for_no_other_that_is_not_called(
    notified: Notified, state: SubscriberState, because: DisabledBecause | None, kept: bool
) -> None:
    subscriber = await notified.subscribe()
    async with notified.database.transaction() as tx:
        await switch_subscriber(tx, subscriber, state, "tests", because)

    assert await enqueue_deliveries(notified.database, [await notified.happen()]) == int(kept)


async def test_what_somebody_sends_again_is_for_those_who_were_there(notified: Notified) -> None:
    old = await notified.happen(ago=timedelta(minutes=1))
    subscriber = await notified.subscribe()

    # Kept for want of a queue, and new to all.
    assert await enqueue_deliveries(notified.database, [old]) == 1
    assert await enqueue_deliveries(notified.database, [replace(await notified.happen(ago=timedelta(hours=1)), replayed=True)]) == 0
    assert len(await notified.deliveries(subscriber)) == 1


async def test_where_order_matters_one_version_of_a_member_goes_at_a_time(notified: Notified) -> None:
    ordered, other = await notified.subscribe(in_order=True), await notified.subscribe()
    member = uuid4()
    told = [await notified.happen(version, member) for version in (1, 2, 3)]
    await enqueue_deliveries(notified.database, [*reversed(told), await notified.happen()])

    assert await notified.deliveries(ordered, member) == [(1, "pending"), (2, "waiting"), (3, "waiting")]
    assert {state for _, state in await notified.deliveries(other)} == {"pending"}
    assert len(await notified.deliveries(ordered)) == 4


async def test_a_version_that_was_overtaken_on_its_way_goes_first(notified: Notified) -> None:
    member = uuid4()
    await notified.happen(1, member, ago=timedelta(minutes=1))
    ordered = await notified.subscribe(in_order=True)
    told = [await notified.happen(version, member) for version in (2, 3, 4)]

    assert await enqueue_deliveries(notified.database, [told[2]]) == 3
    # What happened before it began was never meant for it.
    assert await notified.deliveries(ordered, member) == [(2, "pending"), (3, "waiting"), (4, "waiting")]
    assert await enqueue_deliveries(notified.database, told) == 0


async def test_an_overtaken_version_that_is_not_wanted_is_not_waited_for(notified: Notified) -> None:
    member = uuid4()
    ordered = await notified.subscribe(in_order=True, wants={"newStates": ["active"]})
    await notified.happen(1, member, state="pending")
    told = await notified.happen(2, member)

    assert await enqueue_deliveries(notified.database, [told]) == 1
    assert await notified.deliveries(ordered, member) == [(2, "pending")]


async def test_a_first_import_of_which_nobody_was_told_is_not_told_later(notified: Notified) -> None:
    member = uuid4()
    ordered = await notified.subscribe(in_order=True)
    await notified.happen(1, member)
    async with notified.database.transaction() as tx:
        connection = await tx.fetchval(
            "insert into connections (company_id, name, kind, version_kind, mapped_fields) "
            "values ($1, 'source', 'stream', 'sequence', '{name}') returning id",
            notified.company,
        )
        await tx.execute(
            "update member_events set correlation_id = 'import', connection_id = $2 where member_id = $1", member, connection
        )
        job = await tx.fetchval(
            "insert into jobs (id, kind, requested_by, correlation_id, state, resend_at) "
            "values (gen_random_uuid(), 'import', 'tests', 'import', 'queued', now()) returning id"
        )
        await tx.execute(
            "insert into sync_log (job_id, company_id, connection_id, type, mode, dry_run, baseline, correlation_id) "
            "values ($1, $2, $3, 'manual', 'full', false, true, 'import')",
            job,
            notified.company,
            connection,
        )

    assert await enqueue_deliveries(notified.database, [await notified.happen(2, member)]) == 1
    assert await notified.deliveries(ordered, member) == [(2, "pending")]


async def test_writers_side_by_side_leave_one_version_of_each_member_under_way(notified: Notified) -> None:
    ordered = await notified.subscribe(in_order=True)
    members = [uuid4() for _ in range(10)]
    told = [await notified.happen(version, member) for member in members for version in (1, 2, 3, 4)]

    await asyncio.gather(*(enqueue_deliveries(notified.database, told[start::8]) for start in range(8)))

    for member in members:
        found = dict(await notified.deliveries(ordered, member))
        assert found == {1: "pending", 2: "waiting", 3: "waiting", 4: "waiting"}


async def test_a_replay_is_a_delivery_of_its_own_in_its_own_order(notified: Notified) -> None:
    ordered, other = await notified.subscribe(in_order=True), await notified.subscribe()
    member = uuid4()
    told = [await notified.happen(version, member) for version in (1, 2)]
    await enqueue_deliveries(notified.database, told)

    async with notified.database.transaction() as tx:
        replay = uuid4()
        assert await add_deliveries(tx, told, only=ordered, replay_id=replay) == 2
        assert await add_deliveries(tx, told, only=ordered, replay_id=replay) == 0

    assert await notified.deliveries(ordered) == [(1, "pending"), (2, "waiting")] * 2
    assert len(await notified.deliveries(other)) == 2
