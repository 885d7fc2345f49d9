"""Look at what waits, and put it down where Prometheus sees it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from service.clients.queue_depths import queue_depths
from service.domain.buckets import BUCKETS
from service.store.deliveries import measure_deliveries
from service.store.leases import read_ownership
from service.store.outbox import measure_backlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aio_pika.abc import AbstractConnection

    from contracts.channels import QueueFamily
    from service.store.database import Database
    from service.telemetry.metrics import Metrics

__all__ = ["measure_outbox", "measure_queues"]

# A look costs 15 ms then, whatever lies behind.
_MOST_COUNTED: Final = 100_000


async def measure_outbox(database: Database, metrics: Metrics) -> None:
    """Events that wait, relays that could publish them, and notifications that wait; raises Retry errors."""
    async with database.transaction() as tx:
        backlog = await measure_backlog(tx, _MOST_COUNTED)
        ownership = await read_ownership(tx)
        deliveries = await measure_deliveries(tx, _MOST_COUNTED)
    metrics.outbox_seen(
        messages=backlog.messages,
        oldest_seconds=(backlog.oldest or timedelta()).total_seconds(),
        blocked_keys=backlog.blocked_keys,
        relays=ownership.relays,
        unowned=BUCKETS - ownership.owned,
        at=datetime.now(UTC),
    )
    metrics.notifications_seen(
        waiting=deliveries.waiting,
        overdue_seconds=(deliveries.overdue or timedelta()).total_seconds(),
        failing_subscribers=deliveries.failing,
    )


async def measure_queues(connection: AbstractConnection, families: Sequence[QueueFamily], metrics: Metrics) -> None:
    """Messages ready in each queue, and who consumes; raises the broker library's errors."""
    depths = await queue_depths(connection, [queue.name for family in families for queue in family.queues])
    messages = {
        (family.main.name, part): depths[queue.name].messages
        for family in families
        for part, queue in (("main", family.main), ("retry", family.retry), ("parked", family.parked))
        if queue.name in depths
    }
    consumers = {family.main.name: depths[family.main.name].consumers for family in families if family.main.name in depths}
    metrics.queues_seen(messages, consumers, datetime.now(UTC))
