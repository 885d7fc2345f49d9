"""The relay: keeps buckets, looks for work when woken or every so often, and drains the outbox in lanes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

import structlog

from service.actions.hold_buckets import hold_buckets, prepare_buckets, release_buckets
from service.actions.relay_outbox import Settlement, discover, publish_window, settle, sweep
from service.clients.broker import Publisher
from service.domain.backlog import Backlog
from service.domain.errors import Retry, Unavailable
from service.entrypoints.loops.dependency import Dependency
from service.store.outbox import CHANNEL, LEASES_CHANGED
from service.store.wakeups import listening

if TYPE_CHECKING:
    from service.domain.backlog import Key
    from service.store.database import Database

__all__ = ["Relay", "RelayOptions"]

T = TypeVar("T")
_log = structlog.get_logger(__name__)

_SWEEP_AT_MOST_EVERY: Final = 0.005
# A sweep that dead rows make slow takes at most a twentieth of the time.
_SWEEP_SHARE: Final = 20
_SHED_AGAIN_AFTER: Final = 0.02
# While messages trickle in, a search or a window for each would cost more than all the rest: the next waits for the last
# to end, at most this long, and takes what has gathered.
_GATHER_AT_MOST: Final = 0.02


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
        self, database: Database, *, broker_url: str, listen_url: str, name: str = "relay", options: RelayOptions | None = None
    ) -> None:
        self._database = database
        self._listen_url = listen_url
        self._name = name
        self._options = options or RelayOptions()
        self._holder = uuid4()
        self._publisher = Publisher(broker_url, name=name, within=self._options.publish)
        self._backlog = Backlog(self._options.ready_limit)
        self.database_state = Dependency("database", waits_for=name)
        self.broker_state = Dependency("broker", waits_for=name)
        self.listener_state = Dependency("notifications", waits_for=name)
        self._stopping = asyncio.Event()
        self._committed = asyncio.Event()
        self._leases_changed = asyncio.Event()
        self._found = asyncio.Event()
        self._taken = asyncio.Event()
        self._settled = asyncio.Event()
        self._busy: set[int] = set()
        # After a window of unknown outcome one message at a time asks whether the broker takes them again.
        self._probing = False

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
            for loop in (self._keep_broker, self._keep_buckets, self._listen, self._search)
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
        ended = await asyncio.gather(*loops, *lanes, return_exceptions=True)
        await self._publisher.close()
        try:
            async with asyncio.timeout(5):
                await release_buckets(self._database, self._backlog, self._holder)
        except (Retry, TimeoutError) as error:
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
        await self._until_answered(lambda: prepare_buckets(self._database))
        interval = self._options.lease.total_seconds() / 3
        while True:
            self._leases_changed.clear()
            shedding = await self._until_answered(
                lambda: hold_buckets(self._database, self._backlog, self._holder, self._options.lease, monotonic)
            )
            self._committed.set()
            await asyncio.sleep(_SHED_AGAIN_AFTER)
            if not shedding:
                await _within(self._leases_changed, interval)

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
        (self._leases_changed if payload == LEASES_CHANGED else self._committed).set()

    async def _search(self) -> None:
        next_sweep = 0.0
        poll = self._options.poll.total_seconds()
        while True:
            searched = monotonic()
            self._committed.clear()
            self._backlog.mark_unread()
            more = sweep_is_due = True
            while more:
                await self._until_half_empty()
                more = await self._until_answered(lambda: discover(self._database, self._backlog))
                started = monotonic()
                sweep_is_due = started >= next_sweep
                if sweep_is_due:
                    await self._until_answered(lambda: sweep(self._database, self._backlog))
                    now = monotonic()
                    next_sweep = now + max(_SWEEP_AT_MOST_EVERY, _SWEEP_SHARE * (now - started))
                if self._backlog.ready:
                    self._found.set()
            await asyncio.sleep(min(_GATHER_AT_MOST, monotonic() - searched))
            # What woke this may lie below a watermark: where no sweep was due, one is owed as soon as it may be.
            await _within(self._committed, poll if sweep_is_due else max(0.0, min(poll, next_sweep - monotonic())))

    async def _until_half_empty(self) -> None:
        """Wait while most of the keys that may be known are: there is work enough, and a larger bite costs no more."""
        while self._backlog.room < self._options.ready_limit // 2:
            self._taken.clear()
            await _within(self._taken, self._options.poll.total_seconds())

    async def _lane(self, number: int) -> None:
        while not self._stopping.is_set():
            await self._publisher.opened()
            if self._busy and self._backlog.ready < self._options.window // 4:
                self._settled.clear()
                await _within(self._settled, _GATHER_AT_MOST)
            keys = self._backlog.take(1 if self._probing else self._options.window, monotonic())
            if not keys:
                self._found.clear()
                await _within(self._found, self._options.poll.total_seconds())
                continue
            self._taken.set()
            self._busy.add(number)
            try:
                await self._relay(keys)
            finally:
                self._busy.discard(number)
                self._settled.set()

    async def _relay(self, keys: list[Key]) -> None:
        try:
            settlement = await publish_window(
                self._database, self._publisher, self._backlog, self._holder, keys, monotonic, random.random
            )
        except Retry as error:
            await asyncio.sleep(self.database_state.down(error))
            return
        self._note(settlement)
        await self._until_answered(lambda: settle(self._database, self._backlog, settlement))
        if self._backlog.ready:
            self._found.set()

    def _note(self, settlement: Settlement) -> None:
        if settlement.unsent:
            self._probing = True
        elif settlement.confirmed or settlement.refused:
            self._probing = False
        if settlement.refused:
            errors = {refusal.error for _, refusal in settlement.refused}
            _log.warning("relay.refused", relay=self._name, messages=len(settlement.refused), errors=sorted(errors)[:5])

    async def _until_answered(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Ask the database until it answers."""
        while True:
            try:
                answer = await ask()
            except Retry as error:
                await asyncio.sleep(self.database_state.down(error))
            else:
                self.database_state.up()
                return answer


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, or as long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
