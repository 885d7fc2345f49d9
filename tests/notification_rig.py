"""What the tests of notifications stand on: a company with members whose events are in the audit, and its subscribers.

`python -m tests.notification_rig` is a worker whose leases of deliveries are short.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from service.actions.audit_change import Author
from service.actions.bind_notifications import Bound
from service.actions.configure_subscriber import NewSubscriber, register_subscriber
from service.actions.enqueue_deliveries import enqueue_deliveries
from service.actions.find_webhook import OpenSecret
from service.actions.notify_subscriber import Keys
from service.clients.notification_sender import NotificationSender, SendLimits
from service.domain.addresses import LOOPBACK
from service.domain.member import CompanyId, MemberId
from service.domain.notifications.subscriber import SubscriberId, Told
from service.entrypoints.loops.notifier import Notifier, NotifierOptions
from service.settings import load_settings
from service.store.companies import insert_company
from service.store.database import Database
from service.store.member_events import list_events_at
from service.store.secret_grants import grant_secret
from service.store.subscribers import SubscriberRow
from service.telemetry.logs import configure_logs
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing
from service.translation import to_told
from service.wiring.worker import Worker

REFERENCE: Final = "env:ROLLCALL_SECRET_NOTIFICATIONS"
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

_MEMBER: Final = """
insert into members (id, company_id, name, upstream_state, state, version) values ($1, $2, 'Anna', 'active', 'active', $3)
on conflict (id) do update set version = excluded.version
"""
_EVENT: Final = """
insert into member_events (
    member_id, version, company_id, occurred_at, reason_code, previous_state, new_state, changed_fields, before, after, actor,
    correlation_id, traceparent
)
values ($1, $2, $3, clock_timestamp() - $4::interval, $5, $6, $7, $8, '{}', '{}', 'tests', 'run', $9)
"""


class Notified:
    """One company in a real database, whose members change as a test says."""

    def __init__(self, database: Database, company: CompanyId) -> None:
        self.database, self.company = database, company
        self.author = Author(company, "key:tests")

    async def subscribe(self, url: str = "https://lists.example/", /, **given: Any) -> SubscriberId:
        new = NewSubscriber(**{"name": f"subscriber {uuid4()}", "url": url, "secret_reference": REFERENCE, **given})
        async with self.database.transaction() as tx:
            row = await register_subscriber(tx, self.author, new, Bound(self.company), by_operator=True)
        assert isinstance(row, SubscriberRow), row
        return row.id

    async def happen(
        self,
        version: int = 1,
        member: UUID | None = None,
        *,
        ago: timedelta = timedelta(),
        reason: str = "UPSTREAM_CHANGE",
        state: str = "active",
        changed: Sequence[str] = ("name",),
        traceparent: str | None = TRACEPARENT,
    ) -> Told:
        """A version of a member in the audit, and what its event tells."""
        member_id = MemberId(member or uuid4())
        previous = None if version == 1 else "active"
        async with self.database.transaction() as tx:
            await tx.execute(_MEMBER, member_id, self.company, version)
            await tx.execute(_EVENT, member_id, version, self.company, ago, reason, previous, state, list(changed), traceparent)
            (event,) = (await list_events_at(tx, [(member_id, version)])).values()
        return to_told(event)

    async def tell(self, *told: Told) -> int:
        return await enqueue_deliveries(self.database, told)

    async def fetch(self, sql: str, *given: Any) -> list[Any]:
        async with self.database.transaction() as tx:
            return list(await tx.fetch(sql, *given))

    async def deliveries(self, subscriber: SubscriberId, member: UUID | None = None) -> list[tuple[int, str]]:
        """Versions and states, in the order in which they were written down."""
        found: list[Mapping[str, Any]] = await self.fetch(
            "select version, state from deliveries where subscriber_id = $1 and ($2::uuid is null or member_id = $2) order by id",
            subscriber,
            member,
        )
        return [(row["version"], row["state"]) for row in found]


# What takes hours in production takes moments here.
QUICK: Final = NotifierOptions(
    poll=timedelta(seconds=0.05),
    delays=(timedelta(seconds=0.05), timedelta(seconds=0.1), timedelta(seconds=0.2)),
    stop_within=timedelta(seconds=0.2),
)


@asynccontextmanager
async def notifying(
    database: Database,
    options: NotifierOptions = QUICK,
    *,
    open_secret: OpenSecret = lambda _: SECRET,
    limits: SendLimits | None = None,
    metrics: Metrics = UNMEASURED,
    tracing: Tracing = NO_TRACING,
) -> AsyncIterator[Notifier]:
    """A notifier of this process; it ends as one that is cancelled."""
    sender = NotificationSender(LOOPBACK, limits or SendLimits())
    notifier = Notifier(database, sender, Keys(open_secret), name="tests", options=options, metrics=metrics, tracing=tracing)
    task = asyncio.create_task(notifier.run())
    try:
        yield notifier
        assert not task.done(), task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def open_notified(url: str, *, size: int = 8) -> AsyncIterator[Notified]:
    """A company of its own in a database that others may share, and so its deliveries may not be counted as a whole."""
    database = await Database.connect(url, name="tests", size=size)
    try:
        async with database.transaction() as tx:
            company = await insert_company(tx, f"company {uuid4()}", "UTC", None)
            await grant_secret(tx, company.id, REFERENCE)
        yield Notified(database, company.id)
    finally:
        await database.close()


# A worker that dies leaves its deliveries to others for this long; in production a minute.
SHORT_LEASE: Final = NotifierOptions(lease=timedelta(seconds=3), delays=(timedelta(seconds=0.2),) * 50)
ENVIRONMENT: Final = {"ALLOW_NETWORKS": "127.0.0.0/8", REFERENCE.removeprefix("env:"): SECRET}


async def main() -> None:
    worker = Worker(load_settings(), notifier_options=SHORT_LEASE)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await worker.start()
    await stop.wait()
    await worker.stop()


if __name__ == "__main__":
    configure_logs("json", "info")
    asyncio.run(main())
