"""SCHEDULE_TICK: it is time to look which schedules are due, whoever says so and however often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeAlias

import structlog
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue, RabbitRouter

from contracts.channels import SCHEDULE_TICK, TICKS
from contracts.schedule_tick import ScheduleTickV1
from service.domain.backoff import WHILE_AWAY
from service.domain.errors import Unavailable
from service.entrypoints.consumers.delivery import Delivery, DocumentedAs, decoder
from service.entrypoints.consumers.failures import LoneHandling, ParkOrRetry
from service.telemetry import names
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing

__all__ = ["ticks_router"]

# How many jobs it enqueued; raises Retry errors.
RunDue: TypeAlias = Callable[[], Awaitable[int]]

_log: Final = structlog.get_logger(__name__)


def ticks_router(
    broker: RabbitBroker,
    run_due: RunDue,
    lone_handling: LoneHandling,
    *,
    channel: Channel,
    tracing: Tracing = NO_TRACING,
    metrics: Metrics = UNMEASURED,
) -> RabbitRouter:
    """The consumer of ticks; the body says nothing that counts, the database's clock does."""
    router = RabbitRouter(middlewares=[ParkOrRetry.of(broker, TICKS, lone_handling, metrics, tracing)])

    @router.subscriber(
        RabbitQueue(TICKS.main.name, declare=False, durable=True),
        channel=channel,
        decoder=decoder(SCHEDULE_TICK, ScheduleTickV1),
        title=SCHEDULE_TICK.message_type,
        description=SCHEDULE_TICK.summary,
    )
    async def on_schedule_tick(delivery: Annotated[Delivery[ScheduleTickV1], DocumentedAs(ScheduleTickV1)]) -> None:
        """Begin what is due; while the database is away the tick is held, and no attempt is spent."""
        failures = 0
        while True:
            try:
                enqueued = await run_due()
            except Unavailable as error:
                failures += 1
                if failures == 1:
                    _log.warning("tick held, the database is away", reason=str(error))
                await asyncio.sleep(WHILE_AWAY.after(failures).total_seconds())
            else:
                delivery.traced.note({names.SCHEDULES_BEGUN: enqueued})
                return

    return router
