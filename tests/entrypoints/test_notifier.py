"""The notifier at work: what it sends, when it tries again, whom it leaves alone, and that nobody waits for anybody else."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4
from zlib import crc32

import pytest

from service.actions.configure_subscriber import rotate_subscriber_secret
from service.actions.find_webhook import SecretMissing
from service.actions.notify_subscriber import Keys
from service.actions.request_notifications import request_test, resend
from service.actions.switch_subscriber import pause_subscriber, resume_subscriber
from service.clients.notification_sender import SendLimits
from service.domain.notifications.delivery import DeliveryId, DeliveryState
from service.domain.notifications.slots import Slots
from service.domain.notifications.subscriber import DisabledBecause, SubscriberId, SubscriberState
from service.store.admin_events import list_admin_events
from service.store.deliveries import AttemptRow, DeliveryRow, list_attempts, list_deliveries, measure_deliveries
from service.store.secret_grants import revoke_secret
from service.store.subscriber_secrets import SigningSecret
from service.store.subscribers import SubscriberRow, show_subscriber
from service.telemetry.metric_names import NOTIFICATION_DURATION, NOTIFICATIONS_ENDED, SUBSCRIBERS_DISABLED, Stage
from service.telemetry.metrics import Metrics
from tests.notification_rig import QUICK, REFERENCE, SECRET, TRACEPARENT, Notified, notifying, open_notified
from tests.receiver import Answer, Receiver, Sent, receiving
from tests.relay_rig import eventually

WITHIN = 60.0
OTHER_SECRET = "whsec_NfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_REFERENCE = "env:ROLLCALL_SECRET_OTHER"


@pytest.fixture
async def notified(module_database_url: str) -> AsyncIterator[Notified]:
    async with open_notified(module_database_url) as notified:
        # What a test leaves undone is not for the next one's notifier.
        await notified.fetch("delete from delivery_attempts")
        await notified.fetch("delete from deliveries")
        yield notified


async def subscriber(notified: Notified, subscriber_id: SubscriberId) -> SubscriberRow:
    async with notified.database.transaction() as tx:
        row = await show_subscriber(tx, subscriber_id)
    assert row is not None
    return row


async def deliveries(notified: Notified, subscriber_id: SubscriberId) -> list[DeliveryRow]:
    async with notified.database.transaction() as tx:
        return list(reversed(await list_deliveries(tx, subscriber_id, limit=10_000)))


async def attempts(notified: Notified, delivery_id: DeliveryId) -> list[AttemptRow]:
    async with notified.database.transaction() as tx:
        return await list_attempts(tx, delivery_id)


async def until_ended(notified: Notified, subscriber_id: SubscriberId, *states: DeliveryState) -> list[DeliveryRow]:
    """All deliveries of a subscriber, as soon as all have ended."""
    found: list[DeliveryRow] = []

    async def ended() -> bool:
        found[:] = await deliveries(notified, subscriber_id)
        return all(row.finished_at is not None for row in found)

    await eventually(ended, within=WITHIN)
    return found


async def test_an_event_arrives_signed_as_a_cloud_event_that_continues_its_trace(notified: Notified) -> None:
    async with receiving() as receiver, notifying(notified.database):
        subscriber_id = await notified.subscribe(receiver.url)
        told = await notified.happen(reason="PLAN_CHANGE", changed=("plan",))
        await notified.tell(told)
        (delivery,) = await until_ended(notified, subscriber_id)

    (sent,) = receiver.sent
    sent.verify(SECRET)
    assert sent.headers["content-type"] == "application/cloudevents+json"
    assert sent.headers["traceparent"] == TRACEPARENT
    assert sent.id == sent.event["id"] == f"{told.member_id}:1"
    event = sent.event
    assert (event["specversion"], event["type"], event["source"]) == ("1.0", "MEMBERSHIP_UPDATED", "rollcall")
    assert (event["subject"], event["datacontenttype"]) == (str(told.member_id), "application/json")
    assert event["data"]["reasonCode"] == "PLAN_CHANGE"
    # Nothing of the person.
    assert "Anna" not in json.dumps(event)
    assert (delivery.state, delivery.attempts, delivery.last_status) == (DeliveryState.DELIVERED, 1, 204)
    (attempt,) = await attempts(notified, delivery.id)
    assert (attempt.number, attempt.outcome, attempt.status, attempt.error) == (1, "delivered", 204, None)


async def test_while_a_secret_is_replaced_both_sign(notified: Notified) -> None:
    secrets = {REFERENCE: SECRET, OTHER_REFERENCE: OTHER_SECRET}
    async with receiving() as receiver, notifying(notified.database, open_secret=secrets.__getitem__):
        subscriber_id = await notified.subscribe(receiver.url)
        for overlap in (timedelta(days=1), timedelta()):
            async with notified.database.transaction() as tx:
                await rotate_subscriber_secret(tx, notified.author, subscriber_id, OTHER_REFERENCE, overlap, by_operator=True)
            await notified.tell(await notified.happen())
            await until_ended(notified, subscriber_id)

    both, new = receiver.sent
    for secret in (SECRET, OTHER_SECRET):
        both.verify(secret)
    assert len(both.headers["webhook-signature"].split(" ")) == 2
    new.verify(OTHER_SECRET)
    assert len(new.headers["webhook-signature"].split(" ")) == 1


async def test_a_missing_secret_is_a_failed_attempt_that_says_which_and_mending_it_is_enough(notified: Notified) -> None:
    missing = True

    def open_secret(reference: str) -> str:
        if missing:
            raise SecretMissing(f"{reference} is not set")
        return SECRET

    options = replace(QUICK, delays=(timedelta(seconds=0.05),) * 1000)
    async with receiving() as receiver, notifying(notified.database, options, open_secret=open_secret):
        subscriber_id = await notified.subscribe(receiver.url)
        await notified.tell(await notified.happen())

        async def tried() -> bool:
            return (await deliveries(notified, subscriber_id))[0].attempts > 0

        await eventually(tried, within=WITHIN)
        missing = False
        (delivery,) = await until_ended(notified, subscriber_id)

    first, *_, last = await attempts(notified, delivery.id)
    assert (first.error_class, first.error) == ("no_secret", f"{REFERENCE} is not set")
    assert (last.outcome, len(receiver.sent)) == ("delivered", 1)


async def test_a_secret_that_was_revoked_signs_nothing(notified: Notified) -> None:
    async with receiving() as receiver, notifying(notified.database, replace(QUICK, delays=())):
        subscriber_id = await notified.subscribe(receiver.url)
        async with notified.database.transaction() as tx:
            await revoke_secret(tx, notified.company, REFERENCE)
        await notified.tell(await notified.happen())
        (delivery,) = await until_ended(notified, subscriber_id)

    assert (delivery.state, receiver.sent) == (DeliveryState.EXHAUSTED, [])
    assert "was revoked" in str(delivery.last_error)


async def test_what_fails_is_tried_again_under_the_same_id_and_with_the_same_body(notified: Notified) -> None:
    answers = [Answer(500, body=b"not yet"), Answer(raw=b""), Answer(302, {"location": "/elsewhere"}), Answer(200)]
    async with receiving(lambda _: answers.pop(0)) as receiver, notifying(notified.database):
        subscriber_id = await notified.subscribe(receiver.url)
        await notified.tell(await notified.happen())
        (delivery,) = await until_ended(notified, subscriber_id)

    assert len({(sent.id, sent.body) for sent in receiver.sent}) == 1
    for sent in receiver.sent:
        sent.verify(SECRET)
    log = await attempts(notified, delivery.id)
    assert [(one.number, one.outcome, one.error_class, one.status) for one in log] == [
        (1, "failed", "status", 500),
        (2, "failed", "broken", None),
        (3, "failed", "redirect", 302),
        (4, "delivered", None, 200),
    ]
    assert log[0].response == "not yet"
    row = await subscriber(notified, subscriber_id)
    assert (row.state, row.failing_since, row.undelivered) == (SubscriberState.ACTIVE, None, 0)


async def test_what_always_fails_ends_stays_and_can_be_sent_again(notified: Notified) -> None:
    metrics, answer = Metrics([Stage.NOTIFY]), Answer(500)
    async with receiving(lambda _: answer) as receiver, notifying(notified.database, metrics=metrics):
        subscriber_id = await notified.subscribe(receiver.url)
        await notified.tell(await notified.happen())
        (delivery,) = await until_ended(notified, subscriber_id)
        assert (delivery.state, delivery.attempts) == (DeliveryState.EXHAUSTED, len(QUICK.delays) + 1)
        assert (await subscriber(notified, subscriber_id)).failing_since is not None

        answer = Answer(200)
        async with notified.database.transaction() as tx:
            assert isinstance(await resend(tx, notified.author, subscriber_id, delivery.id), DeliveryRow)
        (delivery,) = await until_ended(notified, subscriber_id)

    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, len(QUICK.delays) + 2)
    assert len(set(receiver.ids)) == 1
    assert metrics.counted(NOTIFICATIONS_ENDED) == {("exhausted",): 1, ("delivered",): 1}
    assert metrics.counted(NOTIFICATION_DURATION) == {("failed",): len(QUICK.delays) + 1, ("delivered",): 1}


async def test_what_nobody_foresaw_is_an_attempt_that_counts_and_ends_some_time(notified: Notified) -> None:
    def broken(reference: str) -> str:
        raise ZeroDivisionError(f"{reference} is {SECRET}")

    metrics = Metrics([Stage.NOTIFY])
    async with receiving() as receiver, notifying(notified.database, open_secret=broken, metrics=metrics):
        subscriber_id = await notified.subscribe(receiver.url)
        await notified.tell(await notified.happen())
        (delivery,) = await until_ended(notified, subscriber_id)

    log = await attempts(notified, delivery.id)
    assert (delivery.state, len(log), receiver.sent) == (DeliveryState.EXHAUSTED, len(QUICK.delays) + 1, [])
    assert {(one.error_class, one.error) for one in log} == {("unexpected", "it could not be tried (ZeroDivisionError)")}
    assert metrics.counted(NOTIFICATION_DURATION) == {("failed",): len(QUICK.delays) + 1}


async def test_an_event_that_the_audit_has_no_more_is_given_up(notified: Notified) -> None:
    async with receiving() as receiver:
        subscriber_id = await notified.subscribe(receiver.url)
        told = await notified.happen()
        await notified.tell(told)
        await notified.fetch("delete from member_events where member_id = $1 returning 1", told.member_id)
        async with notifying(notified.database):
            (delivery,) = await until_ended(notified, subscriber_id)

    assert (delivery.state, receiver.sent) == (DeliveryState.EXHAUSTED, [])
    assert (await subscriber(notified, subscriber_id)).failing_since is None


async def test_410_disables_and_keeps_nothing_that_happens_from_then_on(notified: Notified) -> None:
    metrics = Metrics([Stage.NOTIFY])
    async with receiving(lambda _: Answer(410)) as receiver, notifying(notified.database, metrics=metrics):
        subscriber_id = await notified.subscribe(receiver.url)
        await notified.tell(await notified.happen())
        (delivery,) = await until_ended(notified, subscriber_id)
        assert await notified.tell(await notified.happen()) == 0

    row = await subscriber(notified, subscriber_id)
    assert (row.state, row.disabled_because) == (SubscriberState.DISABLED, DisabledBecause.GONE)
    assert (delivery.state, len(receiver.sent)) == (DeliveryState.EXHAUSTED, 1)
    assert metrics.counted(SUBSCRIBERS_DISABLED) == {("gone",): 1}
    async with notified.database.transaction() as tx:
        newest, *_ = await list_admin_events(tx, notified.company)
    assert (newest.action, newest.actor, newest.changes["because"]["after"]) == ("subscriber.disabled", "notifier", "gone")


async def test_failing_for_too_long_disables_and_what_waits_goes_on_when_somebody_says_so(notified: Notified) -> None:
    answer = Answer(500)
    options = replace(QUICK, failing_for=timedelta(seconds=0.3), delays=(timedelta(seconds=0.1),) * 1000)
    async with receiving(lambda _: answer) as receiver, notifying(notified.database, options):
        subscriber_id = await notified.subscribe(receiver.url)
        await notified.tell(*[await notified.happen() for _ in range(3)])

        async def disabled() -> bool:
            return (await subscriber(notified, subscriber_id)).disabled_because is DisabledBecause.FAILING

        await eventually(disabled, within=WITHIN)
        answer = Answer(200)
        async with notified.database.transaction() as tx:
            await resume_subscriber(tx, notified.author, subscriber_id)
        found = await until_ended(notified, subscriber_id)

    assert {row.state for row in found} == {DeliveryState.DELIVERED}


async def test_success_in_between_is_a_new_beginning(notified: Notified) -> None:
    async with receiving(lambda sent: Answer(200 if sent.event["data"]["newState"] == "active" else 500)) as receiver:
        subscriber_id = await notified.subscribe(receiver.url)
        async with notifying(notified.database, replace(QUICK, delays=())):
            await notified.tell(await notified.happen(state="expired"))
            await until_ended(notified, subscriber_id)
            await notified.fetch(
                "update subscribers set failing_since = now() - interval '119 hours' where id = $1 returning 1", subscriber_id
            )
            await notified.tell(await notified.happen())
            await until_ended(notified, subscriber_id)
            assert (await subscriber(notified, subscriber_id)).failing_since is None
            await notified.fetch(
                "update subscribers set failing_since = now() - interval '121 hours' where id = $1 returning 1", subscriber_id
            )
            await notified.tell(await notified.happen(state="expired"))
            await until_ended(notified, subscriber_id)

    assert (await subscriber(notified, subscriber_id)).disabled_because is DisabledBecause.FAILING


async def test_a_subscriber_that_asks_to_be_left_alone_is(notified: Notified) -> None:
    async with receiving(lambda _: Answer(429, {"retry-after": "3600"})) as receiver:
        subscriber_id = await notified.subscribe(receiver.url)
        async with notifying(notified.database, replace(QUICK, slots=Slots(each=1))):
            await notified.tell(*[await notified.happen() for _ in range(5)])

            async def asked() -> bool:
                return (await subscriber(notified, subscriber_id)).wait_until is not None

            await eventually(asked, within=WITHIN)
            calls = len(receiver.sent)
            other = await notified.subscribe(receiver.url.replace("hooks", "other"), wants={"newStates": ["expired"]})
            await notified.tell(await notified.happen(state="expired"))
            await eventually(lambda: any(sent.path == "/other" for sent in receiver.sent), within=WITHIN)

    assert other != subscriber_id
    assert [sent.path for sent in receiver.sent].count("/hooks") == calls == 1
    (waits, *_), (remaining,) = (
        await notified.fetch("select due_at - now() from deliveries where attempts = 1 and subscriber_id = $1", subscriber_id),
        await notified.fetch("select count(*) from deliveries where subscriber_id = $1 and state = 'pending'", subscriber_id),
    )
    assert waits[0] > timedelta(minutes=50)
    assert remaining[0] == 6


async def test_what_happens_while_a_subscriber_is_paused_comes_afterwards(notified: Notified) -> None:
    async with receiving() as receiver, notifying(notified.database):
        subscriber_id, other = await notified.subscribe(receiver.url), await notified.subscribe(receiver.url)
        async with notified.database.transaction() as tx:
            await pause_subscriber(tx, notified.author, subscriber_id)
        await notified.tell(await notified.happen())
        await until_ended(notified, other)
        assert [row.attempts for row in await deliveries(notified, subscriber_id)] == [0]

        async with notified.database.transaction() as tx:
            await resume_subscriber(tx, notified.author, subscriber_id)
        (delivery,) = await until_ended(notified, subscriber_id)

    assert delivery.state is DeliveryState.DELIVERED


@pytest.mark.parametrize("status", [200, 500])
async def test_a_test_is_signed_tried_once_and_says_nothing_of_the_subscriber(notified: Notified, status: int) -> None:
    async with receiving(lambda _: Answer(status)) as receiver, notifying(notified.database):
        subscriber_id = await notified.subscribe(receiver.url)
        async with notified.database.transaction() as tx:
            assert isinstance(await request_test(tx, notified.author, subscriber_id), int)
        (delivery,) = await until_ended(notified, subscriber_id)

    (sent,) = receiver.sent
    sent.verify(SECRET)
    assert (sent.event["type"], sent.event["data"]["subscriberId"]) == ("SUBSCRIBER_TEST", str(subscriber_id))
    assert sent.event["data"].keys() == {"subscriberId", "companyId", "requestedAt"}
    assert (delivery.state is DeliveryState.DELIVERED) is (status == 200)
    assert (await subscriber(notified, subscriber_id)).failing_since is None


async def test_a_test_goes_before_what_waits_and_makes_nothing_overdue_for_longer(notified: Notified) -> None:
    async with receiving() as receiver:
        subscriber_id = await notified.subscribe(receiver.url)
        await notified.tell(*[await notified.happen() for _ in range(5)])
        await notified.fetch("update deliveries set due_at = due_at - interval '1 hour' returning 1")
        async with notified.database.transaction() as tx:
            waits = (await measure_deliveries(tx, 100)).overdue
            await request_test(tx, notified.author, subscriber_id)
            waits_now = (await measure_deliveries(tx, 100)).overdue
        async with notifying(notified.database, replace(QUICK, slots=Slots(each=1))):
            await until_ended(notified, subscriber_id)

    assert receiver.sent[0].event["type"] == "SUBSCRIBER_TEST"
    assert len(receiver.sent) == 6
    assert waits is not None
    assert waits_now is not None
    assert timedelta(hours=1) <= waits <= waits_now < timedelta(hours=2)


async def test_a_secret_that_cannot_be_read_in_time_is_a_failed_attempt_that_says_so(notified: Notified) -> None:
    release = threading.Event()

    def open_secret(reference: str) -> str:
        release.wait()
        return SECRET

    keys = Keys(open_secret, within=timedelta(seconds=0.05))
    secret = SigningSecret(subscriber_id=SubscriberId(uuid4()), reference=REFERENCE, revoked=False)
    try:
        found = await asyncio.wait_for(keys.of([secret]), WITHIN)
    finally:
        release.set()

    assert found == ([], [f"{REFERENCE} could not be read within 0.05 s"])


async def test_order_per_member_holds_however_often_an_attempt_fails(notified: Notified) -> None:
    failures: defaultdict[str, int] = defaultdict(int)

    def flaky(sent: Sent) -> Answer:
        failures[sent.id] += 1
        # Of each event the first attempts fail, for some all of them.
        return Answer(200 if failures[sent.id] > crc32(sent.id.encode()) % 5 else 503)

    async with receiving(flaky) as receiver, notifying(notified.database), notifying(notified.database):
        subscriber_id = await notified.subscribe(receiver.url, in_order=True)
        members = [uuid4() for _ in range(5)]
        told = [await notified.happen(version, member) for version in range(1, 5) for member in members]
        # As two workers may take them from the queue.
        await asyncio.gather(notified.tell(*told[::2]), notified.tell(*reversed(told[1::2])))
        found = await until_ended(notified, subscriber_id)

    assert len(found) == len(told)
    ended = {(str(row.member_id), row.version): row.state for row in found}
    for member in map(str, members):
        versions = [sent.version for sent in receiver.sent if sent.member == member]
        assert versions == sorted(versions)
        assert set(versions) == set(range(1, 5))
    given_up = {key for key, state in ended.items() if state is DeliveryState.EXHAUSTED}
    assert all(failures[f"{member}:{version}"] == len(QUICK.delays) + 1 for member, version in given_up)


async def test_nobody_waits_for_a_subscriber_that_is_slow_dead_or_hangs(notified: Notified) -> None:
    """The healthy ones have everything while the others still have next to nothing; no time is measured."""
    events = 40
    release = asyncio.Event()

    async def blocked(receiver: Receiver) -> None:
        await eventually(lambda: receiver.connections > 0, within=WITHIN)

    limits = SendLimits(connect=timedelta(seconds=30), whole=timedelta(seconds=30))
    async with (
        receiving(lambda _: Answer(after=3600)) as hanging,
        receiving(lambda _: Answer(500)) as failing,
        receiving() as healthy,
        receiving() as closed,
    ):
        unreachable = closed.url
        options = replace(QUICK, slots=Slots(most=32, failing=4))
        async with notifying(notified.database, options, limits=limits):
            slow = [await notified.subscribe(f"{hanging.url}/{number}") for number in range(2)]
            dead = [await notified.subscribe(f"{failing.url}/{number}") for number in range(3)]
            dead += [await notified.subscribe(unreachable.replace(str(closed.port), "1")) for _ in range(2)]
            well = [await notified.subscribe(f"{healthy.url}/{number}") for number in range(5)]
            await notified.tell(*[await notified.happen() for _ in range(events)])
            await blocked(hanging)
            for one in well:
                found = await until_ended(notified, one)
                assert [row.state for row in found] == [DeliveryState.DELIVERED] * events
            still = [row for one in slow for row in await deliveries(notified, one) if row.finished_at is None]
            release.set()

    assert len(still) == 2 * events
    # Its own slots, and no more.
    assert hanging.most_at_once <= 2 * options.slots.each
    assert len(dead) == 5


async def test_those_that_fail_and_hang_have_their_part_together_and_no_more(notified: Notified) -> None:
    async with receiving(lambda _: Answer(after=3600)) as hanging, receiving() as healthy:
        failing = [await notified.subscribe(f"{hanging.url}/{number}", wants={"newStates": ["expired"]}) for number in range(3)]
        await notified.fetch("update subscribers set failing_since = now() where id = any ($1) returning 1", failing)
        well = await notified.subscribe(healthy.url)
        async with notifying(notified.database, replace(QUICK, slots=Slots(failing=1))):
            # The first of them is being asked and has nothing more due; whoever claims sees each time that the others have.
            await notified.tell(await notified.happen(state="expired"))
            await eventually(lambda: bool(hanging.sent), within=WITHIN)
            for _ in range(3):
                await notified.tell(await notified.happen())
                await until_ended(notified, well)
            assert hanging.connections == 1


async def test_what_a_notifier_held_when_it_was_cut_off_is_sent_by_another_under_the_same_id(notified: Notified) -> None:
    options = replace(QUICK, lease=timedelta(seconds=1))
    answers = [Answer(after=3600)]
    async with receiving(lambda _: answers.pop() if answers else Answer()) as receiver:
        subscriber_id = await notified.subscribe(receiver.url)
        async with notifying(notified.database, options):
            await notified.tell(await notified.happen())
            await eventually(lambda: bool(receiver.sent), within=WITHIN)
        (held,) = await deliveries(notified, subscriber_id)
        assert (held.state, held.attempts, held.claimed_at is not None) == (DeliveryState.PENDING, 0, True)
        async with notifying(notified.database, options):
            (delivery,) = await until_ended(notified, subscriber_id)

    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1


async def test_a_notifier_that_stops_gives_back_what_does_not_end(notified: Notified) -> None:
    async with receiving(lambda _: Answer(after=3600)) as receiver:
        subscriber_id = await notified.subscribe(receiver.url)
        async with notifying(notified.database) as notifier:
            await notified.tell(await notified.happen())
            await eventually(lambda: bool(receiver.sent), within=WITHIN)
            await notifier.stop()
        (row,) = await deliveries(notified, subscriber_id)

    assert (row.state, row.claimed_at) == (DeliveryState.PENDING, None)


async def test_an_attempt_that_outlived_its_lease_changes_nothing(notified: Notified) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    calls: list[Sent] = []

    def answer(sent: Sent) -> Answer:
        calls.append(sent)
        (first if len(calls) == 1 else second).set()
        return Answer(500, after=1.5) if len(calls) == 1 else Answer(200)

    options = replace(QUICK, lease=timedelta(seconds=0.3))
    async with receiving(answer) as receiver:
        subscriber_id = await notified.subscribe(receiver.url)
        async with notifying(notified.database, options), notifying(notified.database, options):
            await notified.tell(await notified.happen())
            (delivery,) = await until_ended(notified, subscriber_id)
            await asyncio.wait_for(second.wait(), WITHIN)
            await eventually(lambda: receiver.open_now == 0, within=WITHIN)
        (after,) = await deliveries(notified, subscriber_id)

    assert (after.state, after.attempts) == (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)
    assert len(await attempts(notified, delivery.id)) == 1


async def test_a_result_that_cannot_be_written_down_keeps_no_other_from_it(notified: Notified) -> None:
    await notified.fetch("alter table delivery_attempts add constraint nothing_of_this check (response <> 'poison')")
    try:
        async with receiving(lambda sent: Answer(500, body=b"poison") if sent.version == 2 else Answer(200)) as receiver:
            subscriber_id = await notified.subscribe(receiver.url)
            await notified.tell(*[await notified.happen(version) for version in (1, 2, 1, 1)])
            async with notifying(notified.database, replace(QUICK, slots=Slots(each=4))):

                async def settled() -> bool:
                    states = [row.state for row in await deliveries(notified, subscriber_id)]
                    return states.count(DeliveryState.DELIVERED) == 3

                await eventually(settled, within=WITHIN)
                # And what comes afterwards goes on as ever.
                await notified.tell(await notified.happen())
                await eventually(lambda: len(receiver.sent) == 5, within=WITHIN)
    finally:
        await notified.fetch("alter table delivery_attempts drop constraint nothing_of_this")


async def test_what_a_company_sees_of_an_attempt_shows_no_secret(notified: Notified, capfd: Any) -> None:
    async with receiving(lambda _: Answer(500)) as receiver, notifying(notified.database, replace(QUICK, delays=())):
        subscriber_id = await notified.subscribe(f"{receiver.url}?token=hunter2")
        await notified.tell(await notified.happen())
        (delivery,) = await until_ended(notified, subscriber_id)

    assert delivery.last_error == "127.0.0.1 answers 500"
    output = "".join(capfd.readouterr())
    assert SECRET not in output
    assert "hunter2" not in output
