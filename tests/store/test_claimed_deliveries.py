"""However the server plans it, no subscriber has more claimed than it has slots."""

from __future__ import annotations

from datetime import timedelta

from service.store.deliveries import claim_deliveries
from tests.notification_rig import open_notified


async def test_as_many_are_claimed_as_there_are_slots_also_by_the_plan_of_an_empty_table(module_database_url: str) -> None:
    async with open_notified(module_database_url) as notified:
        one, other = await notified.subscribe(), await notified.subscribe()
        await notified.tell(*[await notified.happen() for _ in range(5)])
        await notified.fetch("delete from deliveries")
        # As autovacuum may at any time: the table is then planned to be read first, with the search beside each of its rows.
        await notified.fetch("analyze deliveries")
        await notified.tell(*[await notified.happen() for _ in range(5)])
        async with notified.database.transaction() as tx:
            claimed = await claim_deliveries(tx, {one: 1, other: 3}, timedelta(minutes=1))
    assert sorted(row.subscriber_id for row in claimed) == sorted([one, other, other, other])
