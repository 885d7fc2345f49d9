"""How a relay looks for work: for fresh rows, for late ones, for refused ones, in loops that never wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from service.actions.relay_outbox import Round, discover, find_due, sweep_recent, sweep_round
from service.entrypoints.loops.dependency import Dependency
from service.entrypoints.loops.waiting import until_answered, within

if TYPE_CHECKING:
    from service.domain.backlog import Backlog
    from service.store.database import Database
    from service.store.outbox import Committed

__all__ = ["Search"]

_SWEEP_RECENT_AT_MOST_EVERY: Final = 0.005
_SWEEP_ROUND_AT_MOST_EVERY: Final = 0.1
# A sweep that dead rows make slow takes at most a twentieth of the time, and comes back for all that.
_SWEEP_SHARE: Final = 20
_SWEEP_PAUSE_AT_MOST: Final = 30.0
# With the fewest retries that the backlog allows, this is what a refused message costs while nobody wants it.
_RETRY_EVERY: Final = 0.25
_RETRY_AGAIN_AFTER: Final = 0.02
# While messages trickle in, a discovery for each would cost more than all the rest: the next waits as long as the last
# took, at most this long, and takes what has gathered.
_GATHER_AT_MOST: Final = 0.02


class Search:
    """Fills the backlog; `found` tells the lanes of work, `taken` is theirs to set when they took some."""

    def __init__(
        self,
        database: Database,
        backlog: Backlog,
        *,
        name: str,
        database_state: Dependency,
        at_least_every: timedelta,
        ready_limit: int,
    ) -> None:
        self._database = database
        self._backlog = backlog
        self._poll = at_least_every.total_seconds()
        self._ready_limit = ready_limit
        self._database_state = database_state
        # What looks for late and refused rows can fail by itself, where their number makes it slow: messages flow all the same.
        self.recent_state = Dependency("database", waits_for=f"{name}-sweep-recent")
        self.round_state = Dependency("database", waits_for=f"{name}-sweep-round")
        self.retry_state = Dependency("database", waits_for=f"{name}-retry")
        self.found = asyncio.Event()
        self.taken = asyncio.Event()
        self._undiscovered = asyncio.Event()
        self._recent_unswept = asyncio.Event()
        self._round_unswept = asyncio.Event()

    @property
    def loops(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What runs for as long as the relay does."""
        return self._discover, self._sweep_recent, self._sweep_round, self._retry

    @property
    def awaits_discovery(self) -> bool:
        """Whether the next look is due, without waiting for the poll."""
        return self._undiscovered.is_set()

    def look(self) -> None:
        """Something was committed, and nobody says whether above the watermarks."""
        for event in (self._undiscovered, self._recent_unswept, self._round_unswept):
            event.set()

    def take_note(self, rows: Sequence[Committed]) -> None:
        """These rows were committed: they need no discovery, as far as there is room."""
        for row in rows:
            if not self._backlog.room and not self._backlog.knows(row.order_key):
                self.look()
                break
            self._backlog.find(row.bucket, row.order_key, row.id, row.id)
        self.tell_lanes()

    def tell_lanes(self) -> None:
        """Wake the lanes if there is work."""
        if self._backlog.ready:
            self.found.set()

    async def _discover(self) -> None:
        while True:
            searched = monotonic()
            self._undiscovered.clear()
            self._backlog.mark_unread()
            more = True
            while more:
                await self._until_half_empty()
                more = await until_answered(self._database_state, lambda: discover(self._database, self._backlog))
                self.tell_lanes()
            await asyncio.sleep(min(_GATHER_AT_MOST, monotonic() - searched))
            await within(self._undiscovered, self._poll)

    async def _sweep_recent(self) -> None:
        while True:
            self._recent_unswept.clear()
            await self._until_half_empty()
            started = monotonic()
            await until_answered(self.recent_state, lambda: sweep_recent(self._database, self._backlog))
            self.tell_lanes()
            await asyncio.sleep(_pause(started, _SWEEP_RECENT_AT_MOST_EVERY))
            await within(self._recent_unswept, self._poll)

    async def _sweep_round(self) -> None:
        swept = Round(goes_on=False, is_fruitful=False)
        while True:
            if not swept.goes_on:
                self._round_unswept.clear()
            await self._until_half_empty()
            started = monotonic()
            swept = await until_answered(self.round_state, lambda: sweep_round(self._database, self._backlog))
            self.tell_lanes()
            await asyncio.sleep(_SWEEP_ROUND_AT_MOST_EVERY if swept.is_fruitful else _pause(started, _SWEEP_ROUND_AT_MOST_EVERY))
            if not swept.goes_on:
                await within(self._round_unswept, self._poll)

    async def _retry(self) -> None:
        while True:
            started = monotonic()
            found = await until_answered(self.retry_state, lambda: find_due(self._database, self._backlog))
            self.tell_lanes()
            if not self._backlog.retries_pay:
                await asyncio.sleep(_pause(started, _RETRY_EVERY))
            elif not found:
                await asyncio.sleep(_RETRY_AGAIN_AFTER)
            while self._backlog.retries_pay and self._backlog.retry_room < self._backlog.retry_allowance // 2:
                self.taken.clear()
                await within(self.taken, _RETRY_EVERY)

    async def _until_half_empty(self) -> None:
        """Wait while most of the keys that may be known are: there is work enough, and a larger bite costs no more."""
        while self._backlog.room < self._ready_limit // 2:
            self.taken.clear()
            await within(self.taken, self._poll)


def _pause(started: float, least: float) -> float:
    """The seconds that a look which began at `started` leaves to others."""
    return min(_SWEEP_PAUSE_AT_MOST, max(least, _SWEEP_SHARE * (monotonic() - started)))
