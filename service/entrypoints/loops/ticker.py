"""Says every few seconds that it is time to look which schedules are due; any number of tickers may."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from uuid_utils.compat import uuid7

from contracts.channels import SCHEDULE_TICK
from contracts.envelope import Envelope
from contracts.schedule_tick import ScheduleTickV1
from service.clients.inbound import InboundPublisher, NotDeliveredError
from service.domain.errors import Unavailable
from service.entrypoints.loops.dependency import Dependency
from service.telemetry import names
from service.telemetry.tracing import NO_TRACING, SpanKind, Tracing

__all__ = ["Ticker"]

_EVERY: Final = timedelta(seconds=10)
_SOURCE: Final = "urn:rollcall:ticker"

_log: Final = structlog.get_logger(__name__)


class Ticker:
    """Ticks about every ten seconds until cancelled; what is due is decided by the database, not by the clock here."""

    def __init__(self, broker_url: str, *, every: timedelta = _EVERY, tracing: Tracing = NO_TRACING) -> None:
        self._url = broker_url
        self._every = every.total_seconds()
        self._tracing = tracing
        self._broker = Dependency("broker", waits_for="ticker")

    @property
    def ready(self) -> bool:
        """Whether the last tick was taken."""
        return self._broker.ready

    async def run(self) -> None:
        """Tick until cancelled, over one connection for as long as it lasts; a tick that is not taken is not made up for."""
        while True:
            try:
                async with InboundPublisher.connected(self._url) as publisher:
                    while True:
                        await self._tick(publisher)
                        self._broker.up()
                        # Tickers that were started together shall not tick together for ever.
                        await asyncio.sleep(self._every * random.uniform(0.8, 1.2))  # noqa: S311  # spreads load, guards nothing
            except (Unavailable, NotDeliveredError) as error:
                await asyncio.sleep(self._broker.down(error))

    async def _tick(self, publisher: InboundPublisher) -> None:
        now, tick_id = datetime.now(UTC), str(uuid7())
        traced = self._tracing.start(names.send_span(SCHEDULE_TICK.exchange.name), SpanKind.PRODUCER, None)
        envelope = Envelope(
            id=tick_id,
            source=_SOURCE,
            type=SCHEDULE_TICK.message_type,
            time=now,
            traceparent=traced.traceparent,
            correlation_id=tick_id,
        )
        try:
            await publisher.publish(SCHEDULE_TICK, envelope, ScheduleTickV1(scheduled_for=now, origin="ticker").to_json())
        except BaseException as error:
            traced.end(type(error).__name__)
            raise
        traced.end()
