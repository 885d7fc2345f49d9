"""From a change to the subscriber's web server, through real processes: in one trace, and through the death of the notifier."""

from __future__ import annotations

from collections import defaultdict

import asyncpg
import pytest

from service.actions.audit_change import Author
from service.actions.bind_notifications import bind_notifications
from service.actions.configure_subscriber import NewSubscriber, register_subscriber
from service.clients.inbound import InboundPublisher
from service.domain.member import CompanyId
from service.store.database import Database
from service.store.subscribers import SubscriberRow
from tests.notification_rig import ENVIRONMENT, REFERENCE, SECRET
from tests.otlp_receiver import otlp_receiver
from tests.receiver import Answer, receiving
from tests.relay_rig import eventually
from tests.service_rig import Upstream, clean_broker, publish, running_module, running_service
from tests.trace_rig import check_whole, new_traceparent, one, publish_one


async def subscribe(database_url: str, rabbitmq_url: str, upstream: Upstream, url: str, *, in_order: bool = False) -> SubscriberRow:
    company = CompanyId(upstream.company_id)
    bound = await bind_notifications(rabbitmq_url, company)
    new = NewSubscriber(name=f"at {url}", url=url, secret_reference=REFERENCE, in_order=in_order)
    db = await Database.connect(database_url, name="test", size=1)
    try:
        async with db.transaction() as tx:
            row = await register_subscriber(tx, Author(company, "cli"), new, bound, by_operator=True)
    finally:
        await db.close()
    assert isinstance(row, SubscriberRow)
    return row


async def undelivered(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval("select count(*) from deliveries where state <> 'delivered'"))
    finally:
        await connection.close()


async def test_one_trace_leads_from_the_change_to_the_subscriber(database_url: str, rabbitmq_url: str) -> None:
    upstream, traceparent = await Upstream.register(database_url), new_traceparent()
    with otlp_receiver() as collector:
        environment = {**ENVIRONMENT, **collector.environment("http/protobuf")}
        async with (
            clean_broker(rabbitmq_url),
            receiving() as receiver,
            running_service(database_url, rabbitmq_url, "worker", "relay", **environment) as service,
            InboundPublisher.connected(rabbitmq_url) as publisher,
        ):
            await service.says("worker takes messages")
            await subscribe(database_url, rabbitmq_url, upstream, receiver.url)
            await publish_one(publisher, upstream.upsert("ada", 1, email="ada@personal.example"), traceparent)
            await eventually(lambda: bool(receiver.sent), within=60)
            await eventually(lambda: _all_delivered(database_url), within=60)
            assert await service.terminate() == 0
        everything = list(collector.spans)
    check_whole(everything)
    spans = [span for span in everything if span.trace_id == traceparent.split("-")[1]]

    (sent,) = receiver.sent
    sent.verify(SECRET)
    published, heard = one(spans, "send rollcall.events"), one(spans, "process rollcall.notifications")
    told = one(spans, "notify subscriber")
    assert (heard.kind, heard.parent_id) == ("CONSUMER", published.span_id)
    assert (told.kind, told.parent_id) == ("CLIENT", heard.span_id)
    assert sent.headers["traceparent"].split("-")[1:3] == [told.trace_id, told.span_id]
    assert sent.event["data"]["externalId"] == "ada"
    texts = str([span.attributes for span in spans])
    assert "personal.example" not in texts
    assert SECRET not in texts


async def _all_delivered(database_url: str) -> bool:
    return await undelivered(database_url) == 0


@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.slow)])
async def test_a_notifier_that_is_killed_loses_nothing_and_repeats_under_the_same_id(
    database_url: str, rabbitmq_url: str, kills: int
) -> None:
    upstream, members, versions = await Upstream.register(database_url), 25 * kills, 3
    total = members * versions
    bodies = [
        upstream.upsert(f"m{member}", version, plan=f"p{version}")
        for version in range(1, versions + 1)
        for member in range(members)
    ]
    async with (
        clean_broker(rabbitmq_url),
        receiving(lambda _: Answer(after=0.05)) as receiver,
        receiving(lambda _: Answer(after=0.02)) as ordered,
        running_service(database_url, rabbitmq_url, "relay"),
        InboundPublisher.connected(rabbitmq_url) as publisher,
    ):
        for one_of, in_order in ((receiver, False), (ordered, True)):
            await subscribe(database_url, rabbitmq_url, upstream, one_of.url, in_order=in_order)
        for kill_at in [total * kill // (kills + 2) for kill in range(1, kills + 1)]:
            async with running_module(database_url, rabbitmq_url, "tests.notification_rig", **ENVIRONMENT) as worker:
                await worker.says("worker takes messages")
                if bodies:
                    await publish(publisher, bodies)
                    bodies = []
                await eventually(lambda at=kill_at: len(set(receiver.ids)) >= at, within=120)
                worker.kill()
                await worker.process.wait()
        async with running_module(database_url, rabbitmq_url, "tests.notification_rig", **ENVIRONMENT):

            async def all_there() -> bool:
                return len(set(receiver.ids)) == len(set(ordered.ids)) == total and await undelivered(database_url) == 0

            await eventually(all_there, within=180)

    for one_of in (receiver, ordered):
        bodies_of = defaultdict(set)
        for sent in one_of.sent:
            sent.verify(SECRET)
            bodies_of[sent.id].add(sent.body)
        assert all(len(found) == 1 for found in bodies_of.values())
    for member in {sent.member for sent in ordered.sent}:
        came = [sent.version for sent in ordered.sent if sent.member == member]
        # What was in the hands of the one that was killed comes again, and nothing goes before it.
        assert came == sorted(came)
        assert set(came) == set(range(1, versions + 1))


@pytest.mark.slow
async def test_a_queue_that_was_deleted_is_there_and_bound_again(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    async with (
        clean_broker(rabbitmq_url) as channel,
        receiving() as receiver,
        running_service(database_url, rabbitmq_url, "worker", "relay", **ENVIRONMENT) as worker,
        InboundPublisher.connected(rabbitmq_url) as publisher,
    ):
        await subscribe(database_url, rabbitmq_url, upstream, receiver.url)
        await publish(publisher, [upstream.upsert(f"m{number}", 1) for number in range(20)])
        await worker.says("worker takes messages")
        await eventually(lambda: len(set(receiver.ids)) == 20, within=60)
        await channel.queue_delete("rollcall.notifications")
        await publish(publisher, [upstream.upsert(f"m{number}", 2, plan="gold") for number in range(20)])
        await eventually(lambda: len(set(receiver.ids)) == 40, within=120)
