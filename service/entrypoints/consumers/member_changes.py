"""MEMBER_CHANGED: one upstream change of one member."""

from __future__ import annotations

from typing import Annotated

from faststream.rabbit import Channel, RabbitBroker, RabbitQueue, RabbitRouter

from contracts.channels import MEMBER_CHANGED, MEMBER_CHANGES
from contracts.member_changed import MemberChangedV1
from service import translation
from service.actions.group_commit import GroupCommit
from service.domain.errors import Park
from service.entrypoints.consumers.delivery import Delivery, DocumentedAs, decoder
from service.entrypoints.consumers.failures import LoneHandling, ParkOrRetry
from service.telemetry import names
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["member_changes_router"]


def member_changes_router(
    broker: RabbitBroker,
    changes: GroupCommit,
    lone_handling: LoneHandling,
    *,
    channel: Channel,
    tracing: Tracing = NO_TRACING,
    metrics: Metrics = UNMEASURED,
) -> RabbitRouter:
    """The consumer of member changes; the prefetch of its `channel` bounds what is in flight, and so a group commit."""
    router = RabbitRouter(middlewares=[ParkOrRetry.of(broker, MEMBER_CHANGES, lone_handling, metrics, tracing)])

    @router.subscriber(
        # Declared before, with its whole family: a consumer only looks that it is there.
        RabbitQueue(MEMBER_CHANGES.main.name, declare=False, durable=True),
        channel=channel,
        decoder=decoder(MEMBER_CHANGED, MemberChangedV1),
        title=MEMBER_CHANGED.message_type,
        description=MEMBER_CHANGED.summary,
    )
    async def on_member_changed(delivery: Annotated[Delivery[MemberChangedV1], DocumentedAs(MemberChangedV1)]) -> None:
        """Apply one upstream change."""
        change = translation.to_change(delivery.body, delivery.envelope)
        result = await changes.submit(change, order=delivery.tag, traced=delivery.traced)
        delivery.traced.note({names.OUTCOME: result.outcome})
        if not result.settled:
            message = f"{result.outcome}: {result.reason}"
            raise Park(message)

    return router
