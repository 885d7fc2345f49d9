"""The relay: keeps buckets and a connection to the broker, and drains in lanes what its search finds."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog

from service.actions.hold_buckets import hold_buckets, prepare_buckets, release_buckets
from service.actions.relay_outbox import Settlement, publish_window, settle
from service.actions.trace_window import PublishesWindows, trace_window
from service.clients.broker import Publisher
from service.domain.backlog import Backlog
from service.domain.errors import Retry, Unavailable
from service.entrypoints.loops.dependency import Dependency
from service.entrypoints.loops.relay_search import Search
from service.entrypoints.loops.waiting import until_answered, within
from service.store.outbox import CHANNEL, LEASES_CHANGED, committed_rows
from service.store.wakeups import listening
from service.telemetry.metrics import UNMEASURED, Metrics
from service.telemetry.seldom import Seldom
from service.telemetry.tracing import NO_TRACING, Tracing

if TYPE_CHECKING:
    from service.domain.backlog import Key
    from service.store.database import Database

__all__ = ["Relay", "RelayOptions"]

_log = structlog.get_logger(__name__)

# What comes on top of the grace period where the database hangs.
_CANCELLED_WITHIN: Final = 0.5
_RELEASED_WITHIN: Final = 1.0
_SHED_AGAIN_AFTER: Final = 0.02
# While messages trickle in, a window for each would cost more than all the rest: the next waits for the last to end, at most
# this long, and takes what has gathered.
_GATHER_AT_MOST: Final = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOptions:
    """How a relay works; the defaults suit production.

    `window` messages are published together, `lanes` windows overlap, `ready_limit` bounds the keys that are known to
    have work. `poll` is how long a message waits at most when its wake-up was lost, `lease` how long the buckets of a
    relay that died stay nobody's, `publish` how long the broker may take to confirm, `grace` how long a stop waits.
    """

    window: int = 256
    lanes: int = 3
    ready_limit: int = 2048
    poll: timedelta = timedelta(seconds=0.5)
    lease: timedelta = timedelta(seconds=10)
    publish: timedelta = timedelta(seconds=10)
    ping: timedelta = timedelta(seconds=10)
    grace: timedelta = timedelta(seconds=20)


class Relay:
    """One incarnation of a relay: `run()` until it is cancelled or `stop()` is called; any number may run."""

    def __init__(
        self,
        database: Database,
        *,
        broker_url: str,
        listen_url: str,
        name: str = "relay",
        options: RelayOptions | None = None,
        metrics: Metrics = UNMEASURED,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._database = database
        self._listen_url = listen_url
        self._name = name
        self._options = options or RelayOptions()
        self._metrics = metrics
        self._tracing = tracing
        self._poll = self._options.poll.total_seconds()
        self._holder = uuid4()
        self._publisher = Publisher(broker_url, name=name, within=self._options.publish)
        self._backlog = Backlog(self._options.ready_limit)
        self.database_state = Dependency("database", waits_for=name)
        self.broker_state = Dependency("broker", waits_for=name)
        self.listener_state = Dependency("notifications", waits_for=name)
        self.search = Search(
            database,
            self._backlog,
            name=name,
            database_state=self.database_state,
            at_least_every=self._options.poll,
            ready_limit=self._options.ready_limit,
        )
        self._stopping = asyncio.Event()
        self._leases_changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._busy: set[int] = set()
        # After a window of unknown outcome one message at a time asks whether the broker takes them again.
        self._probing = False
        self._seldom = Seldom()

    @property
    def buckets(self) -> frozenset[int]:
        """The buckets that this relay owns."""
        return frozenset(self._backlog.buckets)

    @property
    def ready(self) -> bool:
        """Whether database and broker answer, and the broker does not block."""
        return self.database_state.ready and self.broker_state.ready and not self._publisher.blocked

    def stop(self) -> None:
        """Finish what is in flight, hand the buckets over, return from run()."""
        self._stopping.set()

    async def run(self) -> None:
        """Relay until stopped or cancelled; raises only what no waiting can mend."""
        loops = [
            asyncio.create_task(loop(), name=f"{self._name}-{loop.__name__.strip('_')}")
            for loop in (self._keep_broker, self._keep_buckets, self._listen, *self.search.loops)
        ]
        lanes = [asyncio.create_task(self._lane(n), name=f"{self._name}-lane-{n}") for n in range(self._options.lanes)]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait({stopping, *loops, *lanes}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            self._stopping.set()
            stopping.cancel()
            await self._wind_up(loops, lanes)

    async def _wind_up(self, loops: list[asyncio.Task[None]], lanes: list[asyncio.Task[None]]) -> None:
        for number, lane in enumerate(lanes):
            if number not in self._busy:
                lane.cancel()
        # The loops go on: leases are renewed until the last window has ended.
        await asyncio.wait(lanes, timeout=self._options.grace.total_seconds())
        for task in (*loops, *lanes):
            task.cancel()
        _, busy = await asyncio.wait((*loops, *lanes), timeout=_CANCELLED_WITHIN)
        if busy:
            # A cancelled transaction waits for its rollback, and a database that hangs would keep it beyond every grace.
            self._database.terminate()
        ended = await asyncio.gather(*loops, *lanes, return_exceptions=True)
        await self._publisher.close()
        releasing = asyncio.ensure_future(release_buckets(self._database, self._backlog, self._holder, self._metrics))
        await asyncio.wait({releasing}, timeout=_RELEASED_WITHIN)
        if not releasing.done():
            self._database.terminate()
        try:
            await releasing
        except Retry as error:
            _log.warning("relay.leases_left_to_expire", relay=self._name, reason=str(error))
        for outcome in ended:
            if isinstance(outcome, Exception):
                _log.error("relay.failed", relay=self._name, exc_info=outcome)

    async def _keep_broker(self) -> None:
        while True:
            try:
                await self._publisher.connect()
            except Unavailable as error:
                await asyncio.sleep(self.broker_state.down(error))
                continue
            self.broker_state.up()
            await self._publisher.lost()
            await asyncio.sleep(self.broker_state.down("the connection was lost"))

    async def _keep_buckets(self) -> None:
        await until_answered(self.database_state, lambda: prepare_buckets(self._database))
        interval = self._options.lease.total_seconds() / 3
        while True:
            self._leases_changed.clear()
            shedding = await until_answered(
                self.database_state,
                lambda: hold_buckets(self._database, self._backlog, self._holder, self._options.lease, monotonic, self._metrics),
            )
            self.search.look()
            await asyncio.sleep(_SHED_AGAIN_AFTER)
            if not shedding:
                await within(self._leases_changed, interval)

    async def _listen(self) -> None:
        while True:
            try:
                async with listening(self._listen_url, CHANNEL, self._on_notify, name=f"{self._name}-listen") as stay:
                    self.listener_state.up()
                    # What was committed while nobody listened.
                    self._on_notify(LEASES_CHANGED)
                    self._on_notify("")
                    await stay(self._options.ping)
            except Retry as error:
                await asyncio.sleep(self.listener_state.down(error))

    def _on_notify(self, payload: str) -> None:
        if payload == LEASES_CHANGED:
            self._leases_changed.set()
        elif (rows := committed_rows(payload)) is not None:
            self.search.take_note(rows)
        else:
            self.search.look()

    async def _lane(self, number: int) -> None:
        while not self._stopping.is_set():
            await self._publisher.opened()
            if self._busy and self._backlog.ready < self._options.window // 4:
                self._settled.clear()
                await within(self._settled, _GATHER_AT_MOST)
            keys = self._backlog.take(1 if self._probing else self._options.window, monotonic())
            if not keys:
                self.search.found.clear()
                await within(self.search.found, self._poll)
                continue
            self.search.taken.set()
            self._busy.add(number)
            try:
                with trace_window(self._tracing, self._publisher) as publisher:
                    await self._relay(keys, publisher)
            finally:
                self._busy.discard(number)
                self._settled.set()

    async def _relay(self, keys: list[Key], publisher: PublishesWindows) -> None:
        try:
            settlement = await publish_window(
                self._database, publisher, self._backlog, self._holder, keys, monotonic, random.random, self._metrics
            )
        except Retry as error:
            await asyncio.sleep(self.database_state.down(error))
            return
        self._note(settlement)
        await until_answered(self.database_state, lambda: settle(self._database, self._backlog, settlement))
        self.search.tell_lanes()

    def _note(self, settlement: Settlement) -> None:
        if settlement.unsent:
            self._probing = True
        elif settlement.confirmed or settlement.refused:
            self._probing = False
        self._tell(Counter(refusal.error for _, refusal in settlement.refused))

    def _tell(self, refused: Mapping[str, int]) -> None:
        """Log why messages were refused; each is offered again for as long as it takes, and so are all that share its reason."""
        for error, messages in refused.items():
            if messages := self._seldom.due(error, monotonic(), messages):
                _log.warning("relay.refused", relay=self._name, messages=messages, error=error)
