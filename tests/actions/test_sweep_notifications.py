"""No event is lost with its message: what subscribers were not told of is found in the audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from service.actions.sweep_notifications import sweep_notifications
from tests.notification_rig import Notified, open_notified

LATE, YOUNG = timedelta(minutes=6), timedelta(minutes=4)


@pytest.fixture
async def notified(module_database_url: str) -> AsyncIterator[Notified]:
    async with open_notified(module_database_url) as notified:
        await notified.fetch("truncate notification_sweep")
        yield notified


async def long_ago(notified: Notified) -> None:
    await notified.fetch("update subscribers set begins_at = now() - interval '1 day' where company_id = $1", notified.company)


async def test_what_no_message_told_of_is_told_once_it_is_late(notified: Notified) -> None:
    subscriber = await notified.subscribe()
    expiries = await notified.subscribe(wants={"newStates": ["expired"]})
    await long_ago(notified)
    told, late = await notified.happen(ago=LATE), await notified.happen(ago=LATE)
    await notified.happen(ago=YOUNG)
    await notified.tell(told)

    assert await sweep_notifications(notified.database) == (False, 1)
    assert await sweep_notifications(notified.database) == (False, 0)
    assert len(await notified.deliveries(subscriber)) == 2
    assert await notified.deliveries(subscriber, late.member_id) == [(1, "pending")]
    assert await notified.deliveries(expiries) == []
    # What is still on its way is looked at later, and then it has arrived or not.
    assert await sweep_notifications(notified.database, on_its_way=timedelta()) == (False, 1)


async def test_what_happened_before_the_first_subscriber_is_nobodys(notified: Notified) -> None:
    await notified.happen(ago=LATE)
    subscriber = await notified.subscribe()
    await notified.happen(ago=LATE)

    assert await sweep_notifications(notified.database) == (False, 0)
    assert await notified.deliveries(subscriber) == []


async def test_it_goes_on_where_it_ended_and_keeps_the_order(notified: Notified) -> None:
    subscriber = await notified.subscribe(in_order=True)
    await long_ago(notified)
    member = uuid4()
    for version in range(1, 6):
        await notified.happen(version, member, ago=LATE)

    sweeps = [await sweep_notifications(notified.database, most=2) for _ in range(4)]

    assert sweeps == [(True, 2), (True, 2), (False, 1), (False, 0)]
    assert await notified.deliveries(subscriber) == [(1, "pending"), *((version, "waiting") for version in range(2, 6))]


async def test_without_any_subscriber_it_looks_at_nothing(notified: Notified) -> None:
    await notified.happen(ago=LATE)

    assert await sweep_notifications(notified.database) == (False, 0)


async def test_one_instance_looks_at_a_time(notified: Notified) -> None:
    await notified.subscribe()
    await long_ago(notified)
    await notified.happen(ago=LATE)
    async with notified.database.transaction() as tx:
        await tx.execute("select from notification_sweep for update")
        assert await sweep_notifications(notified.database) == (False, 0)

    assert await sweep_notifications(notified.database) == (False, 1)
