"""The notifier: takes deliveries that are due and sends them, so many of each subscriber at once, until it is told to stop."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from service.actions.claim_notifications import DueNotification, claim_notifications
from service.actions.notify_subscriber import Keys, notify_subscriber
from service.actions.settle_notifications import Finished, give_back_notifications, settle_notifications
from service.domain.errors import Park, Retry
from service.domain.notifications.delivery import FAILING_FOR, RETRY_DELAYS, Attempt, ErrorClass, Failed
from service.domain.notifications.slots import Slots, allot
from service.domain.notifications.subscriber import SubscriberId
from service.entrypoints.loops.dependency import Dependency
from service.entrypoints.loops.waiting import until_answered, within
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.tracing import NO_TRACING, Tracing

if TYPE_CHECKING:
    from service.clients.notification_sender import NotificationSender
    from service.store.database import Database

__all__ = ["Notifier", "NotifierOptions"]

_SETTLED_TOGETHER: Final = 200
_GIVEN_BACK_WITHIN: Final = 2.0

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifierOptions:
    """How a notifier works; the defaults suit production.

    `delays` are the waits after failed attempts, `failing_for` is how long a subscriber may fail, `poll` how long a due delivery
    waits at most where nobody said that it is there, `lease` how long those of a worker that died stay nobody's: longer than an
    attempt may take. `stop_within` is how long a stop waits for attempts that are under way.
    """

    slots: Slots = field(default_factory=Slots)
    delays: Sequence[timedelta] = RETRY_DELAYS
    failing_for: timedelta = FAILING_FOR
    poll: timedelta = timedelta(seconds=1)
    lease: timedelta = timedelta(seconds=60)
    stop_within: timedelta = timedelta(seconds=10)


class Notifier:
    """Any number share the work; what one of them held when it died is sent again by another, under the same id."""

    def __init__(
        self,
        database: Database,
        sender: NotificationSender,
        keys: Keys,
        *,
        name: str,
        options: NotifierOptions | None = None,
        metrics: Metrics = UNMEASURED,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._database = database
        self._sender = sender
        self._keys = keys
        self._options = options or NotifierOptions()
        self._metrics = metrics
        self._tracing = tracing
        self._state = Dependency("database", waits_for=f"{name}-notifier")
        self._busy: Counter[SubscriberId] = Counter()
        # Of the busy, as the database said when it was last asked.
        self._failing: set[SubscriberId] = set()
        self._sending: dict[asyncio.Task[None], DueNotification] = {}
        self._finished: list[Finished] = []
        self._wake, self._settle = asyncio.Event(), asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """There may be something due."""
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled; raises only what no waiting can mend."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._claim(), name="notifier claims")
                group.create_task(self._write_down(), name="notifier settles")
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
            await self._sender.close()

    async def stop(self) -> None:
        """Take no more, wait for what is under way, and let others have at once what does not end."""
        self._stopping = True
        if self._sending:
            await asyncio.wait(self._sending, timeout=self._options.stop_within.total_seconds())
        left = list(self._sending.values())
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        try:
            async with asyncio.timeout(_GIVEN_BACK_WITHIN):
                if finished := self._take_finished(len(self._finished)):
                    await self._settled(finished)
                await self._give_back(left)
        except (Retry, TimeoutError) as error:
            reason = str(error) if isinstance(error, Retry) else type(error).__name__
            _log.warning("notifications left to their lease", deliveries=len(left), reason=reason)

    async def _claim(self) -> None:
        while not self._stopping:
            self._wake.clear()
            due = await until_answered(self._state, self._claimed)
            for one in due:
                self._busy[one.claimed.subscriber_id] += 1
                task = asyncio.create_task(self._send(one), name=f"delivery {one.claimed.id}")
                self._sending[task] = one
                task.add_done_callback(self._sending.pop)
            # Instances that were started together shall not look together for ever.
            await within(self._wake, self._options.poll.total_seconds() * random.uniform(0.5, 1.5))  # noqa: S311  # spreads load
        await asyncio.Event().wait()

    async def _claimed(self) -> list[DueNotification]:
        due = await claim_notifications(self._database, self._allot, self._options.lease)
        if self._stopping:
            # Told to stop while the database was asked: nothing of it was begun.
            await self._give_back(due)
            return []
        return due

    async def _give_back(self, due: Sequence[DueNotification]) -> None:
        if due:
            await give_back_notifications(self._database, [one.claimed for one in due])

    def _allot(self, due: Mapping[SubscriberId, bool]) -> Mapping[SubscriberId, int]:
        self._failing = {one for one in self._failing | due.keys() if due.get(one, one in self._failing)}
        slots = allot(due, self._busy, self._options.slots, self._failing)
        self._failing &= self._busy.keys() | slots.keys()
        return slots

    async def _send(self, due: DueNotification) -> None:
        started_at, began = datetime.now(UTC), monotonic()
        try:
            attempt = await notify_subscriber(due, self._sender, self._keys, tracing=self._tracing)
        except Exception as error:  # noqa: BLE001  # one delivery's failure is nobody else's, and counts: it ends some time
            reason = type(error).__name__
            _log.error("a notification could not be tried", delivery=due.claimed.id, reason=reason)
            outcome = Failed(ErrorClass.UNEXPECTED, f"it could not be tried ({reason})")
            attempt = Attempt(outcome=outcome, started_at=started_at, duration=timedelta(seconds=monotonic() - began))
        self._metrics.notification_tried(attempt.outcome.__class__.__name__.lower(), attempt.duration.total_seconds())
        self._finished.append(Finished(due.claimed, attempt, due.url))
        self._settle.set()

    async def _write_down(self) -> None:
        """One transaction at a time settles what has ended meanwhile; until then it takes its subscriber's slots."""
        while True:
            await self._settle.wait()
            if finished := self._take_finished(_SETTLED_TOGETHER):
                await self._settled_or_left(finished)

    async def _settled_or_left(self, finished: Sequence[Finished]) -> None:
        """What cannot be written down keeps nothing else from it, and comes again when its lease ends."""
        try:
            await until_answered(self._state, lambda: self._settled(finished))
        except Park as error:
            if len(finished) > 1:
                for one in finished:
                    await self._settled_or_left([one])
                return
            _log.error("notification left to its lease", delivery=finished[0].claimed.id, reason=str(error))
            self._free([finished[0].claimed.subscriber_id])

    def _take_finished(self, most: int) -> list[Finished]:
        finished = self._finished[:most]
        del self._finished[: len(finished)]
        if not self._finished:
            self._settle.clear()
        return finished

    async def _settled(self, finished: Sequence[Finished]) -> None:
        options = self._options
        await settle_notifications(
            self._database, finished, delays=options.delays, failing_for=options.failing_for, metrics=self._metrics
        )
        self._free([one.claimed.subscriber_id for one in finished])

    def _free(self, subscribers: Sequence[SubscriberId]) -> None:
        self._busy.subtract(subscribers)
        self._busy = +self._busy
        self.wake()
