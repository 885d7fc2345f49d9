"""A replay sends a subscriber what it wants of a time, once more and under the same ids."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest

from service.actions.enqueue_job import Enqueued
from service.actions.replay_notifications import replay_notifications
from service.actions.request_notifications import NOTIFICATION_REPLAY, request_replay
from service.actions.run_job import JobOptions, claim_job, run_job
from service.actions.running_job import JobKind
from service.domain.jobs import JobState
from service.domain.notifications.subscriber import SubscriberId
from service.store.jobs import JobRow, find_job
from service.store.member_events import list_events_since
from tests.notification_rig import Notified, open_notified


@pytest.fixture
async def notified(module_database_url: str) -> AsyncIterator[Notified]:
    async with open_notified(module_database_url) as notified:
        yield notified


async def replay(notified: Notified, subscriber: SubscriberId, since: timedelta) -> JobRow:
    async with notified.database.transaction() as tx:
        asked = await request_replay(tx, notified.author, subscriber, datetime.now(UTC) - since)
    assert isinstance(asked, Enqueued)
    claimed = await claim_job(notified.database, asked.job_id, uuid4(), timedelta(seconds=60))
    assert claimed is not None
    await run_job(notified.database, claimed, JobKind(partial(replay_notifications, notified.database)), options=JobOptions())
    async with notified.database.transaction() as tx:
        row = await find_job(tx, asked.job_id)
    assert row is not None
    return row


async def test_what_is_wanted_of_a_time_is_delivered_once_more_in_order(notified: Notified) -> None:
    member = uuid4()
    for version, ago in ((1, 10), (2, 3), (3, 2), (4, 1)):
        await notified.happen(version, member, ago=timedelta(hours=ago))
    await notified.happen(ago=timedelta(hours=1), state="expired")
    subscriber = await notified.subscribe(in_order=True, wants={"newStates": ["active"]})
    other = await notified.subscribe()

    row = await replay(notified, subscriber, timedelta(hours=5))

    assert (row.kind, row.state, row.result) == (NOTIFICATION_REPLAY, JobState.SUCCEEDED, {"events": 4, "deliveries": 3})
    assert await notified.deliveries(subscriber) == [(2, "pending"), (3, "waiting"), (4, "waiting")]
    assert await notified.deliveries(other) == []
    # Another replay is another delivery of each.
    await replay(notified, subscriber, timedelta(hours=5))
    assert len(await notified.deliveries(subscriber)) == 6


async def test_no_page_looks_at_more_than_so_many_whoevers_they_are(notified: Notified, module_database_url: str) -> None:
    async with notified.database.transaction() as tx:
        start = await tx.fetchval("select coalesce(max(id), 0) from member_events")
    async with open_notified(module_database_url) as other:
        for _ in range(5):
            await other.happen()
    mine = [await notified.happen() for _ in range(3)]

    found, last, pages = [], start, 0
    now = datetime.now(UTC)
    async with notified.database.transaction() as tx:
        while last is not None:
            before = last
            page = await list_events_since(
                tx, last, now - timedelta(hours=1), now + timedelta(hours=1), notified.company, 2, most=3
            )
            found += [event.member_id for event in page.events]
            last = page.last
            if last is not None:
                looked_at = await tx.fetchval("select count(*) from member_events where id > $1 and id <= $2", before, last)
                assert 0 < looked_at <= 3
                pages += 1

    assert found == [told.member_id for told in mine]
    assert pages == 3


async def test_many_are_written_down_page_by_page(notified: Notified) -> None:
    subscriber = await notified.subscribe()
    member = await notified.happen(ago=timedelta(minutes=5))
    await notified.fetch(
        "insert into member_events (member_id, version, company_id, occurred_at, reason_code, new_state, changed_fields, before, "
        "after, actor, correlation_id) select $1, n, $2, now() - interval '1 minute', 'ADMIN', 'active', '{name}', '{}', '{}', "
        "'tests', 'run' from generate_series(2, 1201) n",
        member.member_id,
        notified.company,
    )

    row = await replay(notified, subscriber, timedelta(minutes=2))

    assert row.result == {"events": 1200, "deliveries": 1200}
