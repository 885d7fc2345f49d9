"""What attempts leave behind: once each, in order whatever is wanted now, and without forgetting that somebody asked for rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from service.actions.claim_notifications import claim_notifications
from service.actions.configure_subscriber import revise_subscriber
from service.actions.request_notifications import resend
from service.actions.settle_notifications import Finished, settle_notifications
from service.domain.notifications.delivery import Attempt, Delivered, DeliveryId, DeliveryState, ErrorClass, Failed, Gone, Outcome
from service.domain.notifications.subscriber import DisabledBecause, SubscriberId, SubscriberState
from service.store.deliveries import ClaimedDelivery, list_attempts, list_deliveries
from service.store.subscribers import SubscriberRow, show_subscriber
from tests.notification_rig import Notified, open_notified
from tests.relay_rig import eventually

URL, ELSEWHERE = "https://lists.example/", "https://moved.example/"
DELIVERED = Delivered(204)
FAILED = Failed(ErrorClass.STATUS, "answers 500", 500)
BUSY = Failed(ErrorClass.STATUS, "answers 429", 429, timedelta(minutes=20))


@pytest.fixture
async def notified(module_database_url: str) -> AsyncIterator[Notified]:
    async with open_notified(module_database_url) as notified:
        yield notified


async def claimed(notified: Notified, subscriber: SubscriberId, slots: int = 8) -> list[ClaimedDelivery]:
    """What is due of one subscriber, in the order of its ids."""
    due = await claim_notifications(notified.database, lambda _: {subscriber: slots}, timedelta(seconds=60))
    return sorted((one.claimed for one in due), key=lambda one: one.id)


def finished(one: ClaimedDelivery, outcome: Outcome) -> Finished:
    return Finished(one, Attempt(outcome=outcome, started_at=datetime.now(UTC), duration=timedelta(seconds=0.1)), URL)


async def settle(notified: Notified, *pairs: tuple[ClaimedDelivery, Outcome]) -> None:
    await settle_notifications(notified.database, [finished(*pair) for pair in pairs])


async def shown(notified: Notified, subscriber: SubscriberId) -> SubscriberRow:
    async with notified.database.transaction() as tx:
        row = await show_subscriber(tx, subscriber)
    assert row is not None
    return row


async def move(notified: Notified, subscriber: SubscriberId) -> None:
    async with notified.database.transaction() as tx:
        assert isinstance(await revise_subscriber(tx, notified.author, subscriber, {"url": ELSEWHERE}), SubscriberRow)


async def want_order(notified: Notified, subscriber: SubscriberId, *, wanted: bool) -> None:
    async with notified.database.transaction() as tx:
        assert isinstance(await revise_subscriber(tx, notified.author, subscriber, {"in_order": wanted}), SubscriberRow)


async def test_a_result_that_is_written_twice_counts_once(notified: Notified) -> None:
    """As where the answer to the commit is lost."""
    subscriber = await notified.subscribe()
    await notified.tell(await notified.happen())
    (one,) = await claimed(notified, subscriber)

    for _ in range(2):
        await settle(notified, (one, FAILED))

    async with notified.database.transaction() as tx:
        (row,) = await list_deliveries(tx, subscriber)
        log = await list_attempts(tx, row.id)
    assert (row.state, row.attempts, len(log)) == (DeliveryState.PENDING, 1, 1)


async def test_who_no_longer_wants_order_still_gets_what_waited(notified: Notified) -> None:
    subscriber, member = await notified.subscribe(in_order=True), uuid4()
    await notified.tell(*[await notified.happen(version, member) for version in (1, 2)])
    (first,) = await claimed(notified, subscriber)

    await want_order(notified, subscriber, wanted=False)
    await notified.tell(await notified.happen(3, member))
    assert await notified.deliveries(subscriber) == [(1, "pending"), (2, "waiting"), (3, "pending")]
    await settle(notified, (first, DELIVERED))

    assert await notified.deliveries(subscriber) == [(1, "delivered"), (2, "pending"), (3, "pending")]


async def test_who_begins_to_want_order_has_it_for_what_is_written_down_from_then_on(notified: Notified) -> None:
    subscriber, member = await notified.subscribe(), uuid4()
    await notified.tell(await notified.happen(1, member))
    await want_order(notified, subscriber, wanted=True)
    await notified.tell(*[await notified.happen(version, member) for version in (2, 3)])

    assert await notified.deliveries(subscriber) == [(1, "pending"), (2, "pending"), (3, "waiting")]
    first, second = await claimed(notified, subscriber)
    await settle(notified, (first, DELIVERED))
    assert await notified.deliveries(subscriber) == [(1, "delivered"), (2, "pending"), (3, "waiting")]
    await settle(notified, (second, DELIVERED))
    assert await notified.deliveries(subscriber) == [(1, "delivered"), (2, "delivered"), (3, "pending")]


async def test_what_is_sent_again_while_the_one_before_it_ends_is_not_left_waiting(notified: Notified) -> None:
    """Also of a subscriber that does not want order any more."""
    subscriber, member = await notified.subscribe(in_order=True), uuid4()
    await notified.tell(*[await notified.happen(version, member) for version in (1, 2)])
    (first,) = await claimed(notified, subscriber)
    await settle(notified, (first, DELIVERED))
    (second,) = await claimed(notified, subscriber)
    await want_order(notified, subscriber, wanted=False)

    async with notified.database.transaction() as tx:
        await resend(tx, notified.author, subscriber, DeliveryId(first.id))
        pid = await tx.fetchval("select pg_backend_pid()")
        task = asyncio.create_task(settle(notified, (second, DELIVERED)))

        async def waits_for_us() -> bool:
            blocked = "select from pg_stat_activity where $1 = any (pg_blocking_pids(pid)) limit 1"
            return task.done() or bool(await notified.fetch(blocked, pid))

        await eventually(waits_for_us)
    await task

    assert await notified.deliveries(subscriber) == [(1, "pending"), (2, "delivered")]


@pytest.mark.parametrize("together", [True, False])
async def test_a_success_beside_it_does_not_end_the_rest_that_was_asked_for(notified: Notified, together: bool) -> None:
    subscriber = await notified.subscribe()
    await notified.tell(*[await notified.happen() for _ in range(3)])
    one, two, three = await claimed(notified, subscriber)
    await settle(notified, (one, FAILED))

    if together:
        await settle(notified, (two, BUSY), (three, DELIVERED))
    else:
        await settle(notified, (two, BUSY))
        await settle(notified, (three, DELIVERED))

    row = await shown(notified, subscriber)
    assert row.failing_since is None
    assert row.wait_until is not None
    assert row.wait_until > datetime.now(UTC) + timedelta(minutes=10)


async def test_a_rest_that_is_over_is_forgotten(notified: Notified) -> None:
    subscriber = await notified.subscribe()
    await notified.fetch("update subscribers set wait_until = now() - interval '1 s' where id = $1 returning 1", subscriber)
    await notified.tell(await notified.happen())
    (one,) = await claimed(notified, subscriber)
    await settle(notified, (one, DELIVERED))

    assert (await shown(notified, subscriber)).wait_until is None


@pytest.mark.parametrize("outcome", [Gone(), BUSY, FAILED], ids=["gone", "busy", "failed"])
async def test_what_an_old_address_answers_is_not_held_against_the_new_one(notified: Notified, outcome: Outcome) -> None:
    subscriber = await notified.subscribe(URL)
    await notified.tell(await notified.happen())
    (one,) = await claimed(notified, subscriber)
    await move(notified, subscriber)

    await settle(notified, (one, outcome))

    row = await shown(notified, subscriber)
    assert (row.state, row.failing_since, row.wait_until) == (SubscriberState.ACTIVE, None, None)
    # At once, at the new address, with all the attempts that there are.
    (again,) = await claimed(notified, subscriber)
    assert (again.id, again.attempts, again.attempts_of_round) == (one.id, 1, 0)


async def test_whoever_says_that_it_is_gone_where_it_is_is_called_no_more(notified: Notified) -> None:
    subscriber = await notified.subscribe(URL)
    await notified.tell(await notified.happen())
    (one,) = await claimed(notified, subscriber)

    await settle(notified, (one, Gone()))

    row = await shown(notified, subscriber)
    assert (row.state, row.disabled_because) == (SubscriberState.DISABLED, DisabledBecause.GONE)
