"""Ask for notifications by hand: a delivery once more, all events since a time once more, or a test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from uuid_utils.compat import uuid7

from service.actions.audit_change import Author, audit_change, differences
from service.actions.enqueue_job import AlreadyRunning, Enqueued, enqueue_job
from service.domain.notifications.delivery import DeliveryId
from service.domain.notifications.subscriber import SubscriberId, SubscriberState
from service.store.clock import read_clock
from service.store.deliveries import DeliveryRow, Line, insert_test, let_go, resend_delivery, show_delivery
from service.store.subscribers import lock_subscriber, show_subscriber
from service.telemetry.handling import handling

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["NOTIFICATION_REPLAY", "NotEnded", "NotInThePast", "SubscriberInactive", "request_replay", "request_test", "resend"]

NOTIFICATION_REPLAY: Final = "notification_replay"


@dataclass(frozen=True, slots=True)
class SubscriberInactive:
    """It is paused or disabled, so nothing would be sent."""

    state: SubscriberState


@dataclass(frozen=True, slots=True)
class NotEnded:
    """The delivery is still on its way."""


@dataclass(frozen=True, slots=True)
class NotInThePast:
    """There is nothing since then."""


ReplayRequest: TypeAlias = Enqueued | AlreadyRunning | SubscriberInactive | NotInThePast


async def request_test(tx: Tx, author: Author, subscriber_id: SubscriberId) -> DeliveryId | SubscriberInactive | None:
    """Send a subscriber something about nobody, signed like all else, with one attempt; None where the company has no such one."""
    found = await _usable(tx, author, subscriber_id)
    if found is not SubscriberState.ACTIVE:
        return None if found is None else SubscriberInactive(found)
    test_id, now = uuid7(), handling()
    correlation_id = now.correlation_id or str(test_id)
    delivery_id = await insert_test(tx, subscriber_id, test_id, correlation_id, now.traced.traceparent)
    await audit_change(tx, author, "subscriber.tested", subscriber_id)
    return delivery_id


async def resend(
    tx: Tx, author: Author, subscriber_id: SubscriberId, delivery_id: DeliveryId
) -> DeliveryRow | NotEnded | SubscriberInactive | None:
    """Let a delivery that ended begin anew, under the same id; None where the company's subscriber has no such one.

    Where order matters it waits for what is under way of its member, and is itself out of its order.
    """
    found = await _usable(tx, author, subscriber_id)
    if found is None or await show_delivery(tx, delivery_id, subscriber_id, author.company_id) is None:
        return None
    if found is SubscriberState.DISABLED:
        return SubscriberInactive(found)
    resent = await resend_delivery(tx, delivery_id, subscriber_id)
    if not resent:
        return NotEnded()
    if isinstance(resent, Line):
        await let_go(tx, [resent])
    await audit_change(tx, author, "delivery.resent", subscriber_id, differences({}, {"delivery": delivery_id}))
    return await show_delivery(tx, delivery_id, subscriber_id, author.company_id)


async def request_replay(tx: Tx, author: Author, subscriber_id: SubscriberId, since: datetime) -> ReplayRequest | None:
    """Queue a job that sends a subscriber all that it wants of what happened since then; None where the company has no such one."""
    found = await _usable(tx, author, subscriber_id)
    if found is None:
        return None
    if found is SubscriberState.DISABLED:
        return SubscriberInactive(found)
    now = await read_clock(tx)
    if since >= now:
        return NotInThePast()
    asked = await enqueue_job(
        tx,
        kind=NOTIFICATION_REPLAY,
        company_id=author.company_id,
        subject_id=subscriber_id,
        requested_by=author.actor,
        parameters={"since": since.isoformat(), "until": now.isoformat()},
    )
    if isinstance(asked, Enqueued):
        told = {"since": since.isoformat(), "job": str(asked.job_id)}
        await audit_change(tx, author, "subscriber.replay_requested", subscriber_id, differences({}, told))
    return asked


async def _usable(tx: Tx, author: Author, subscriber_id: SubscriberId) -> SubscriberState | None:
    """The state of a subscriber that nobody changes until the transaction ends."""
    if not await lock_subscriber(tx, subscriber_id, author.company_id):
        return None
    row = await show_subscriber(tx, subscriber_id, author.company_id)
    return None if row is None else row.state
