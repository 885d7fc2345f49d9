"""MEMBERSHIP_UPDATED: an event of a company that has subscribers."""

from __future__ import annotations

from typing import Annotated

from faststream.rabbit import Channel, RabbitBroker, RabbitQueue, RabbitRouter

from contracts.channels import MEMBERSHIP_UPDATED, NOTIFICATIONS
from contracts.membership_updated import MembershipUpdatedV1
from service import translation
from service.actions.gather_notifications import GatherNotifications
from service.entrypoints.consumers.delivery import Delivery, DocumentedAs, decoder
from service.entrypoints.consumers.failures import LoneHandling, ParkOrRetry
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["notifications_router"]


def notifications_router(
    broker: RabbitBroker,
    notifications: GatherNotifications,
    lone_handling: LoneHandling,
    *,
    channel: Channel,
    tracing: Tracing = NO_TRACING,
    metrics: Metrics = UNMEASURED,
) -> RabbitRouter:
    """The consumer of events; what is sent to subscribers is sent later, so that none of them can hold up this queue."""
    router = RabbitRouter(middlewares=[ParkOrRetry.of(broker, NOTIFICATIONS, lone_handling, metrics, tracing)])

    @router.subscriber(
        RabbitQueue(NOTIFICATIONS.main.name, declare=False, durable=True),
        channel=channel,
        decoder=decoder(MEMBERSHIP_UPDATED, MembershipUpdatedV1),
        title=MEMBERSHIP_UPDATED.message_type,
        description=MEMBERSHIP_UPDATED.summary,
    )
    async def on_membership_updated(
        delivery: Annotated[Delivery[MembershipUpdatedV1], DocumentedAs(MembershipUpdatedV1)],
    ) -> None:
        """Write down who is to be told of it."""
        told = translation.to_heard(delivery.body, delivery.envelope, replayed=delivery.replayed)
        await notifications.submit(told, traced=delivery.traced)

    return router
