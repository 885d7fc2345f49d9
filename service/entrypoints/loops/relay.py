"""The relay: keeps buckets, looks for work in loops that do not wait for each other, and drains the outbox in lanes."""

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
from service.actions.relay_outbox import (
    Round,
    Settlement,
    discover,
    find_due,
    publish_window,
    settle,
    sweep_recent,
    sweep_round,
)
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

_SWEEP_RECENT_AT_MOST_EVERY: Final = 0.005
_SWEEP_ROUND_AT_MOST_EVERY: Final = 0.1
# A sweep that dead rows make slow takes at most a twentieth of the time, and comes back for all that.
_SWEEP_SHARE: Final = 20
_SWEEP_PAUSE_AT_MOST: Final = 30.0
# With the fewest retries that the backlog allows, this is what a refused message costs while nobody wants it.
_RETRY_EVERY: Final = 0.25
_RETRY_AGAIN_AFTER: Final = 0.02
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
        self._poll = self._options.poll.total_seconds()
        self._holder = uuid4()
        self._publisher = Publisher(broker_url, name=name, within=self._options.publish)
        self._backlog = Backlog(self._options.ready_limit)
        self.database_state = Dependency("database", waits_for=name)
        self.broker_state = Dependency("broker", waits_for=name)
        self.listener_state = Dependency("notifications", waits_for=name)
        # What looks for late and refused rows can fail by itself, where their number makes it slow: messages flow all the same.
        self.recent_sweep_state = Dependency("database", waits_for=f"{name}-sweep-recent")
        self.round_sweep_state = Dependency("database", waits_for=f"{name}-sweep-round")
        self.retry_state = Dependency("database", waits_for=f"{name}-retry")
        self._stopping = asyncio.Event()
        self._committed = asyncio.Event()
        self._recent_unswept = asyncio.Event()
        self._round_unswept = asyncio.Event()
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
            for loop in (
                self._keep_broker,
                self._keep_buckets,
                self._listen,
                self._discover,
                self._sweep_recent,
                self._sweep_round,
                self._retry,
            )
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
        await _until_answered(self.database_state, lambda: prepare_buckets(self._database))
        interval = self._options.lease.total_seconds() / 3
        while True:
            self._leases_changed.clear()
            shedding = await _until_answered(
                self.database_state,
                lambda: hold_buckets(self._database, self._backlog, self._holder, self._options.lease, monotonic),
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
        if payload == LEASES_CHANGED:
            self._leases_changed.set()
            return
        # Nobody says whether what was committed lies above the watermarks.
        for event in (self._committed, self._recent_unswept, self._round_unswept):
            event.set()

    async def _discover(self) -> None:
        while True:
            searched = monotonic()
            self._committed.clear()
            self._backlog.mark_unread()
            more = True
            while more:
                await self._until_half_empty()
                more = await _until_answered(self.database_state, lambda: discover(self._database, self._backlog))
                self._tell_lanes()
            await asyncio.sleep(min(_GATHER_AT_MOST, monotonic() - searched))
            await _within(self._committed, self._poll)

    async def _sweep_recent(self) -> None:
        while True:
            self._recent_unswept.clear()
            await self._until_half_empty()
            started = monotonic()
            await _until_answered(self.recent_sweep_state, lambda: sweep_recent(self._database, self._backlog))
            self._tell_lanes()
            await asyncio.sleep(_pause(started, _SWEEP_RECENT_AT_MOST_EVERY))
            await _within(self._recent_unswept, self._poll)

    async def _sweep_round(self) -> None:
        swept = Round(goes_on=False, is_fruitful=False)
        while True:
            if not swept.goes_on:
                self._round_unswept.clear()
            await self._until_half_empty()
            started = monotonic()
            swept = await _until_answered(self.round_sweep_state, lambda: sweep_round(self._database, self._backlog))
            self._tell_lanes()
            await asyncio.sleep(_SWEEP_ROUND_AT_MOST_EVERY if swept.is_fruitful else _pause(started, _SWEEP_ROUND_AT_MOST_EVERY))
            if not swept.goes_on:
                await _within(self._round_unswept, self._poll)

    async def _retry(self) -> None:
        while True:
            started = monotonic()
            found = await _until_answered(self.retry_state, lambda: find_due(self._database, self._backlog))
            self._tell_lanes()
            if not self._backlog.retries_pay:
                await asyncio.sleep(_pause(started, _RETRY_EVERY))
            elif not found:
                await asyncio.sleep(_RETRY_AGAIN_AFTER)
            while self._backlog.retries_pay and self._backlog.retry_room < self._backlog.retry_allowance // 2:
                self._taken.clear()
                await _within(self._taken, _RETRY_EVERY)

    def _tell_lanes(self) -> None:
        if self._backlog.ready:
            self._found.set()

    async def _until_half_empty(self) -> None:
        """Wait while most of the keys that may be known are: there is work enough, and a larger bite costs no more."""
        while self._backlog.room < self._options.ready_limit // 2:
            self._taken.clear()
            await _within(self._taken, self._poll)

    async def _lane(self, number: int) -> None:
        while not self._stopping.is_set():
            await self._publisher.opened()
            if self._busy and self._backlog.ready < self._options.window // 4:
                self._settled.clear()
                await _within(self._settled, _GATHER_AT_MOST)
            keys = self._backlog.take(1 if self._probing else self._options.window, monotonic())
            if not keys:
                self._found.clear()
                await _within(self._found, self._poll)
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
        await _until_answered(self.database_state, lambda: settle(self._database, self._backlog, settlement))
        self._tell_lanes()

    def _note(self, settlement: Settlement) -> None:
        if settlement.unsent:
            self._probing = True
        elif settlement.confirmed or settlement.refused:
            self._probing = False
        if settlement.refused:
            errors = {refusal.error for _, refusal in settlement.refused}
            _log.warning("relay.refused", relay=self._name, messages=len(settlement.refused), errors=sorted(errors)[:5])


async def _until_answered(state: Dependency, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Ask the database until it answers."""
    while True:
        try:
            answer = await ask()
        except Retry as error:
            await asyncio.sleep(state.down(error))
        else:
            state.up()
            return answer


def _pause(started: float, least: float) -> float:
    """The seconds that a sweep which began at `started` leaves to others."""
    return min(_SWEEP_PAUSE_AT_MOST, max(least, _SWEEP_SHARE * (monotonic() - started)))


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, or as long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
