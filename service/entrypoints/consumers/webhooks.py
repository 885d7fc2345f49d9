"""WEBHOOK_RECEIVED: a webhook that was signed, to be mapped to a change of a member."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

from faststream.rabbit import Channel, RabbitBroker, RabbitQueue, RabbitRouter

from contracts.channels import WEBHOOK_RECEIVED, WEBHOOKS
from contracts.webhook_received import WebhookReceivedV1
from service import translation
from service.actions.group_commit import GroupCommit
from service.domain.errors import Park
from service.domain.member import ConnectionId
from service.domain.webhooks.mapping import Ignored, WebhookMapping
from service.entrypoints.consumers.delivery import Delivery, DocumentedAs, decoder
from service.entrypoints.consumers.failures import LoneHandling, ParkOrRetry
from service.telemetry import names
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["webhooks_router"]

# None for a connection that takes no webhooks; waits while the database is away.
FindMapping: TypeAlias = Callable[[ConnectionId], Awaitable[WebhookMapping | None]]


def webhooks_router(
    broker: RabbitBroker,
    changes: GroupCommit,
    find_mapping: FindMapping,
    lone_handling: LoneHandling,
    *,
    channel: Channel,
    tracing: Tracing = NO_TRACING,
    metrics: Metrics = UNMEASURED,
) -> RabbitRouter:
    """The consumer of webhooks; it shares the group commit, and so its `channel`, with that of member changes."""
    router = RabbitRouter(middlewares=[ParkOrRetry.of(broker, WEBHOOKS, lone_handling, metrics, tracing)])

    @router.subscriber(
        RabbitQueue(WEBHOOKS.main.name, declare=False, durable=True),
        channel=channel,
        decoder=decoder(WEBHOOK_RECEIVED, WebhookReceivedV1),
        title=WEBHOOK_RECEIVED.message_type,
        description=WEBHOOK_RECEIVED.summary,
    )
    async def on_webhook_received(delivery: Annotated[Delivery[WebhookReceivedV1], DocumentedAs(WebhookReceivedV1)]) -> None:
        """Apply the change that a webhook means."""
        mapping = await find_mapping(ConnectionId(delivery.body.connection_id))
        if mapping is None:
            raise Park("refused: the connection takes no webhooks")
        change = translation.to_mapped_change(delivery.body, delivery.envelope, mapping)
        if isinstance(change, Ignored):
            delivery.traced.note({names.OUTCOME: names.IGNORED})
            return
        result = await changes.submit(change, order=delivery.tag, traced=delivery.traced)
        delivery.traced.note({names.OUTCOME: result.outcome})
        if not result.settled:
            message = f"{result.outcome}: {result.reason}"
            raise Park(message)

    return router
