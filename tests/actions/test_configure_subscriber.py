"""Subscribers as they are administered: only what fits is stored, only the company's own is found, all of it is in the audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aio_pika
import pytest

from contracts.channels import EVENTS, NOTIFICATIONS, membership_updated_routing_key
from service.actions.audit_change import Author
from service.actions.bind_notifications import Bound, bind_notifications
from service.actions.configure_subscriber import (
    MOST_SUBSCRIBERS,
    NewSubscriber,
    SubscriberNameTaken,
    SubscriberRefused,
    register_subscriber,
    revise_subscriber,
    rotate_subscriber_secret,
)
from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.request_notifications import (
    NotEnded,
    NotInThePast,
    SubscriberInactive,
    request_replay,
    request_test,
    resend,
)
from service.actions.switch_subscriber import (
    Resumed,
    SubscriberDisabled,
    pause_subscriber,
    remove_subscriber,
    resume_subscriber,
)
from service.domain.errors import Unavailable
from service.domain.member import CompanyId
from service.domain.notifications.delivery import DeliveryId, DeliveryState
from service.domain.notifications.subscriber import DisabledBecause, EventFilter, SubscriberId, SubscriberState
from service.store.admin_events import list_admin_events
from service.store.companies import insert_company
from service.store.database import Database
from service.store.deliveries import list_deliveries
from service.store.secret_grants import grant_secret, list_secret_grants, revoke_secret
from service.store.subscribers import SubscriberRow, list_subscribers, show_subscriber, switch_subscriber
from tests.service_rig import clean_broker, depth

ACTOR = "key:tests"
SECRET, OTHER_SECRET = "env:ROLLCALL_SECRET_ONE", "env:ROLLCALL_SECRET_TWO"
NEW = NewSubscriber(name="the lists", url="https://lists.example/hooks?key=1", secret_reference=SECRET)


@pytest.fixture
async def db(module_database_url: str) -> AsyncIterator[Database]:
    db = await Database.connect(module_database_url, name="tests", size=2)
    yield db
    await db.close()


@pytest.fixture
async def author(db: Database) -> Author:
    async with db.transaction() as tx:
        company = await insert_company(tx, f"company {uuid4()}", "UTC", None)
        for reference in (SECRET, OTHER_SECRET):
            await grant_secret(tx, company.id, reference)
    return Author(company.id, ACTOR)


async def register(db: Database, author: Author, new: NewSubscriber = NEW, *, by_operator: bool = False) -> Any:
    async with db.transaction() as tx:
        return await register_subscriber(tx, author, new, Bound(author.company_id), by_operator=by_operator)


async def registered(db: Database, author: Author, new: NewSubscriber = NEW) -> SubscriberRow:
    row = await register(db, author, new)
    assert isinstance(row, SubscriberRow)
    return row


async def audited(db: Database, author: Author) -> list[tuple[str, dict[str, Any]]]:
    async with db.transaction() as tx:
        events = await list_admin_events(tx, author.company_id)
    assert {event.actor for event in events} == {ACTOR}
    return [(event.action, dict(event.changes)) for event in reversed(events)]


async def test_a_subscriber_is_stored_with_its_secret_and_audited_without_what_opens_its_address(
    db: Database, author: Author
) -> None:
    row = await registered(db, author, replace(NEW, wants={"newStates": ["expired", "active"]}, in_order=True))

    assert (row.name, row.url, row.in_order, row.state) == ("the lists", NEW.url, True, SubscriberState.ACTIVE)
    assert row.wants == EventFilter(new_states=frozenset({"active", "expired"}))
    assert (row.secret_references, row.retired_references, row.undelivered) == ([SECRET], [], 0)
    ((action, changes),) = await audited(db, author)
    assert (action, changes["url"]["after"]) == ("subscriber.registered", "https://lists.example/hooks")
    assert changes["secretReferences"]["after"] == [SECRET]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"url": "ftp://lists.example"}, "url"),
        ({"wants": {"newStates": ["gone"]}}, "newStates"),
        ({"secret_reference": "hunter2"}, "secretReference"),
        ({"secret_reference": "env:ROLLCALL_SECRET_OF_OTHERS"}, "secretReference"),
    ],
)
async def test_what_does_not_fit_is_refused_and_leaves_nothing(
    db: Database, author: Author, given: dict[str, Any], where: str
) -> None:
    refused = await register(db, author, replace(NEW, **given))

    assert isinstance(refused, SubscriberRefused)
    assert refused.where == where
    async with db.transaction() as tx:
        assert await list_subscribers(tx, author.company_id) == []


async def test_the_operator_grants_the_secret_in_passing_but_not_one_that_was_revoked(db: Database, author: Author) -> None:
    reference = "env:ROLLCALL_SECRET_NEW"
    row = await register(db, author, replace(NEW, secret_reference=reference), by_operator=True)
    assert isinstance(row, SubscriberRow)
    async with db.transaction() as tx:
        await revoke_secret(tx, author.company_id, reference)

    refused = await register(db, author, replace(NEW, name="another", secret_reference=reference), by_operator=True)

    assert isinstance(refused, SubscriberRefused)


async def test_a_name_is_one_subscribers_until_that_is_removed(db: Database, author: Author) -> None:
    first = await registered(db, author)
    assert await register(db, author) == SubscriberNameTaken()
    async with db.transaction() as tx:
        assert await remove_subscriber(tx, author, first.id)

    assert (await registered(db, author)).id != first.id


async def test_a_company_has_no_more_than_so_many(db: Database, author: Author) -> None:
    for number in range(MOST_SUBSCRIBERS):
        await registered(db, author, replace(NEW, name=f"number {number}"))

    assert isinstance(await register(db, author), SubscriberRefused)


async def test_events_are_bound_for_the_company_that_registers(db: Database, author: Author) -> None:
    async with db.transaction() as tx:
        with pytest.raises(ValueError, match="another company"):
            await register_subscriber(tx, author, NEW, Bound(CompanyId(uuid4())), by_operator=False)


async def test_what_is_given_is_changed_and_the_rest_stays(db: Database, author: Author) -> None:
    row = await registered(db, author, replace(NEW, wants={"reasonCodes": ["ADMIN"]}))
    async with db.transaction() as tx:
        changed = await revise_subscriber(tx, author, row.id, {"url": "https://new.example/", "in_order": True})

    assert isinstance(changed, SubscriberRow)
    assert (changed.url, changed.in_order, changed.name) == ("https://new.example/", True, "the lists")
    assert changed.wants == EventFilter(reason_codes=frozenset({"ADMIN"}))
    (_, (action, changes)) = await audited(db, author)
    assert (action, sorted(changes)) == ("subscriber.changed", ["inOrder", "url", "urlQuery"])


async def test_that_the_query_of_an_address_is_another_is_in_the_audit_and_not_which(db: Database, author: Author) -> None:
    row = await registered(db, author)
    for url in ("https://lists.example/hooks?key=2", "https://lists.example/hooks"):
        async with db.transaction() as tx:
            await revise_subscriber(tx, author, row.id, {"url": url})

    assert (await audited(db, author))[1:] == [
        ("subscriber.changed", {"urlQuery": {"before": "?…", "after": "?…"}}),
        ("subscriber.changed", {"urlQuery": {"before": "?…", "after": None}}),
    ]


async def test_a_change_that_does_not_fit_changes_nothing(db: Database, author: Author) -> None:
    row, other = await registered(db, author), await registered(db, author, replace(NEW, name="other"))
    async with db.transaction() as tx:
        assert isinstance(await revise_subscriber(tx, author, row.id, {"url": "nowhere"}), SubscriberRefused)
        assert await revise_subscriber(tx, author, row.id, {"name": "other"}) == SubscriberNameTaken()
        assert await revise_subscriber(tx, author, row.id, {"name": row.name}) == row
        assert await show_subscriber(tx, other.id) == other


async def test_secrets_overlap_while_they_are_rotated(db: Database, author: Author) -> None:
    row = await registered(db, author)
    async with db.transaction() as tx:
        rotated = await rotate_subscriber_secret(tx, author, row.id, OTHER_SECRET, timedelta(hours=1), by_operator=False)
    assert isinstance(rotated, SubscriberRow)
    assert (rotated.secret_references, rotated.retired_references) == ([OTHER_SECRET, SECRET], [SECRET])

    async with db.transaction() as tx:
        back = await rotate_subscriber_secret(tx, author, row.id, SECRET, timedelta(), by_operator=False)
    assert isinstance(back, SubscriberRow)
    assert (back.secret_references, back.retired_references) == ([SECRET], [])
    assert [action for action, _ in await audited(db, author)][1:] == ["subscriber.secret_rotated"] * 2


async def test_a_rotation_that_does_not_fit_leaves_the_secret(db: Database, author: Author) -> None:
    row = await registered(db, author)
    async with db.transaction() as tx:
        for reference, overlap in (
            (OTHER_SECRET, timedelta(days=31)),
            (OTHER_SECRET, timedelta(seconds=-1)),
            ("env:X", timedelta()),
        ):
            refused = await rotate_subscriber_secret(tx, author, row.id, reference, overlap, by_operator=False)
            assert isinstance(refused, SubscriberRefused)
        assert await show_subscriber(tx, row.id) == row


async def test_a_subscriber_is_paused_and_goes_on(db: Database, author: Author) -> None:
    row = await registered(db, author)
    async with db.transaction() as tx:
        paused = await pause_subscriber(tx, author, row.id)
        assert isinstance(paused, SubscriberRow)
        assert (paused.state, paused.state_changed_by) == (SubscriberState.PAUSED, ACTOR)
        assert await pause_subscriber(tx, author, row.id) == paused
        resumed = await resume_subscriber(tx, author, row.id)

    assert isinstance(resumed, Resumed)
    assert (resumed.row.state, resumed.missed_since) == (SubscriberState.ACTIVE, None)
    assert [action for action, _ in await audited(db, author)][1:] == ["subscriber.paused", "subscriber.resumed"]


@pytest.mark.parametrize("before", [timedelta(hours=1), timedelta()])
async def test_a_disabled_one_says_since_when_it_missed_something_with_what_was_on_its_way(
    db: Database, author: Author, before: timedelta
) -> None:
    row = await registered(db, author)
    async with db.transaction() as tx:
        await tx.execute("update subscribers set created_at = created_at - $2::interval where id = $1", row.id, before)
        await switch_subscriber(tx, row.id, SubscriberState.DISABLED, "notifier", DisabledBecause.FAILING)
        disabled = await show_subscriber(tx, row.id)
        assert await pause_subscriber(tx, author, row.id) == SubscriberDisabled()
        assert await request_test(tx, author, row.id) == SubscriberInactive(SubscriberState.DISABLED)
        resumed = await resume_subscriber(tx, author, row.id)

    assert disabled is not None
    assert isinstance(resumed, Resumed)
    assert resumed.row.disabled_because is None
    # Nothing that happened before it was there was missed.
    on_its_way = disabled.state_changed_at - timedelta(minutes=5)
    assert resumed.missed_since == (on_its_way if before else disabled.created_at)


async def test_a_removed_subscriber_is_nowhere(db: Database, author: Author) -> None:
    row = await registered(db, author)
    async with db.transaction() as tx:
        assert await remove_subscriber(tx, author, row.id)
        assert not await remove_subscriber(tx, author, row.id)
        assert await show_subscriber(tx, row.id, author.company_id) is None
        assert await list_subscribers(tx, author.company_id) == []


async def test_another_company_finds_nothing(db: Database, author: Author) -> None:
    row = await registered(db, author)
    async with db.transaction() as tx:
        other = Author((await insert_company(tx, f"company {uuid4()}", "UTC", None)).id, ACTOR)
        delivery = await request_test(tx, author, row.id)
        assert isinstance(delivery, int)
        assert await revise_subscriber(tx, other, row.id, {"name": "mine"}) is None
        assert await rotate_subscriber_secret(tx, other, row.id, SECRET, timedelta(), by_operator=True) is None
        assert await pause_subscriber(tx, other, row.id) is None
        assert await resume_subscriber(tx, other, row.id) is None
        assert not await remove_subscriber(tx, other, row.id)
        assert await request_test(tx, other, row.id) is None
        assert await resend(tx, other, row.id, delivery) is None
        assert await request_replay(tx, other, row.id, datetime(2026, 1, 1, tzinfo=UTC)) is None
        assert await show_subscriber(tx, row.id, other.company_id) is None
        assert await show_subscriber(tx, row.id, author.company_id) is not None


async def test_a_test_is_a_delivery_about_nobody_and_a_delivery_on_its_way_is_not_sent_again(db: Database, author: Author) -> None:
    row = await registered(db, author)
    async with db.transaction() as tx:
        tests = [await request_test(tx, author, row.id) for _ in range(2)]
        found = await list_deliveries(tx, row.id)
        assert [delivery.id for delivery in reversed(found)] == tests
        assert {(delivery.member_id, delivery.state) for delivery in found} == {(None, DeliveryState.PENDING)}
        assert await resend(tx, author, row.id, found[0].id) == NotEnded()
        assert await resend(tx, author, row.id, DeliveryId(10**9)) is None


async def test_a_delivery_that_ended_begins_anew(db: Database, author: Author) -> None:
    row = await registered(db, author)
    async with db.transaction() as tx:
        delivery = await request_test(tx, author, row.id)
        assert isinstance(delivery, int)
        await tx.execute(
            "update deliveries set state = 'exhausted', due_at = null, finished_at = now(), attempts = 8, attempts_of_round = 8"
        )
        resent = await resend(tx, author, row.id, DeliveryId(delivery))
        assert await tx.fetchval("select attempts_of_round from deliveries where id = $1", delivery) == 0

    assert not isinstance(resent, NotEnded | SubscriberInactive | None)
    assert (resent.state, resent.attempts, resent.finished_at) == (DeliveryState.PENDING, 8, None)


async def test_a_replay_is_one_job_at_a_time_about_the_past(db: Database, author: Author) -> None:
    row = await registered(db, author)
    since = datetime.now(UTC) - timedelta(days=1)
    async with db.transaction() as tx:
        asked = await request_replay(tx, author, row.id, since)
        assert isinstance(asked, Enqueued)
        assert await request_replay(tx, author, row.id, since) == AlreadyRunning(asked.job_id)
        assert await request_replay(tx, author, row.id, since + timedelta(days=2)) == NotInThePast()
        assert await request_replay(tx, author, SubscriberId(uuid4()), since) is None


async def test_binding_makes_events_of_that_company_alone_reach_the_notifier(rabbitmq_url: str) -> None:
    async with clean_broker(rabbitmq_url) as channel:
        company, other = CompanyId(uuid4()), CompanyId(uuid4())
        assert await bind_notifications(rabbitmq_url, company) == Bound(company)
        assert await bind_notifications(rabbitmq_url, company) == Bound(company)
        exchange = await channel.get_exchange(EVENTS.name, ensure=False)

        for one in (other, company):
            await exchange.publish(aio_pika.Message(b"{}"), membership_updated_routing_key(one), mandatory=False)

        assert await depth(channel, NOTIFICATIONS.main.name) == 1
        queue = await channel.get_queue(NOTIFICATIONS.main.name)
        await queue.unbind(EVENTS.name, membership_updated_routing_key(company))


async def test_without_a_broker_nobody_is_bound() -> None:
    with pytest.raises(Unavailable):
        await bind_notifications("amqp://127.0.0.1:1/", CompanyId(uuid4()))


async def test_who_looks_at_a_secret_sees_the_subscribers_that_it_signs(db: Database, author: Author) -> None:
    row = await registered(db, author)
    async with db.transaction() as tx:
        assert {grant.reference: grant.holders for grant in await list_secret_grants(tx, author.company_id)} == {
            SECRET: ["subscriber the lists"],
            OTHER_SECRET: [],
        }
        await remove_subscriber(tx, author, row.id)
        assert {tuple(grant.holders) for grant in await list_secret_grants(tx, author.company_id)} == {()}
