"""The third chapter: a directory of 5,000 members, synced, changed, and wrong once; the guard holds what one must look at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from deploy.demo.clubs import SyncedDirectory
from deploy.demo.directory_server import DirectoryServer
from deploy.demo.evidence import Evidence
from deploy.demo.screen import Bar, Progress, Screen
from deploy.demo.subscriber import Subscriber
from deploy.demo.sync_books import SyncBooks, sync_entries
from deploy.demo.sync_desk import SyncDesk, SyncEnded
from deploy.demo.sync_scenario import EDITED, JOINED, LEFT, LOST, MEMBERS, RESIGNED
from deploy.demo.verdict import Verdict, faults
from deploy.demo.watching import end, rest_of, until_at_rest
from service.clients.events import listening_to_events

__all__ = ["SyncChapter"]

_SAID_EVERY: Final = 2_500


@dataclass(slots=True)
class SyncChapter:
    """The directory, the syncs, and what a subscriber heard of them."""

    directory: SyncedDirectory
    server: DirectoryServer
    desk: SyncDesk
    evidence: Evidence
    screen: Screen
    subscriber: Subscriber = field(default_factory=Subscriber)

    async def perform(self, rabbitmq_url: str, running: asyncio.Task[None]) -> Verdict:
        """Sync, check and tell; raises what the service fails with meanwhile."""
        self.screen.chapter(f"Syncing a directory of {MEMBERS:,} members: Django REST framework, in a process of its own")
        began = time.monotonic()
        async with listening_to_events(rabbitmq_url, self.directory.company) as events:
            listening = asyncio.create_task(self.subscriber.listen(events), name="listen")
            try:
                first = await self._sync("first sync")
                dry_run, meddled = await self._ordinary_day()
                bad, good = await self._held_back()
                missing = await until_at_rest(self._look, [listening, running])
            finally:
                await end([listening])
        seconds = time.monotonic() - began
        books = SyncBooks(
            dry_run=dry_run.run,
            meddled=meddled,
            runs=[row for row in await self.desk.runs() if not row.dry_run],
            stored=await self.evidence.stored(self.directory.company),
            members=await self.evidence.members(self.directory.company),
            subscriber=self.subscriber,
        )
        lines = sync_entries(books)
        self.screen.books(lines, "The books of the directory")
        took = first.run.duration.total_seconds() if first.run.duration else 0.0
        held = f"{_removals(bad) + _removals(good):,} removals held back until somebody decided"
        sentence = f"{MEMBERS:,} members synced in {took:.1f} s, {len(books.runs) + 1} syncs in {seconds:.1f} s: {held}"
        return Verdict(sentence, faults(lines, missing))

    async def _ordinary_day(self) -> tuple[SyncEnded, int]:
        """Some are edited, some leave, some join: first looked at, then done."""
        await self.server.change(leave=LEFT, join=JOINED, edit=EDITED)
        before = (await self.evidence.stored(self.directory.company)).audited
        dry_run = await self._sync("dry run", dry_run=True)
        meddled = (await self.evidence.stored(self.directory.company)).audited - before
        self.screen.differences(await self.desk.samples(dry_run))
        await self._sync("next sync")
        return dry_run, meddled

    async def _held_back(self) -> tuple[SyncEnded, SyncEnded]:
        """It loses half of them by mistake, which is rejected; later many leave indeed, which is approved."""
        await self.server.change(leave=LOST)
        bad = await self._sync("the directory loses half")
        await self.desk.reject(bad)
        self.screen.done("rejected", "nobody was removed; the directory is mended")
        await self.server.change(join=LOST)
        await self.server.change(leave=RESIGNED)
        good = await self._sync(f"{len(RESIGNED)} leave indeed")
        async with self._followed("approved") as follow:
            approved = await self.desk.approve(good, follow)
        self.screen.done("approved", _told(approved))
        return bad, good

    async def _sync(self, what: str, *, dry_run: bool = False) -> SyncEnded:
        async with self._followed(what) as follow:
            ended = await self.desk.sync(follow, dry_run=dry_run)
        self.screen.done(what, _told(ended))
        return ended

    @asynccontextmanager
    async def _followed(self, what: str) -> AsyncIterator[Any]:
        async def follow(progress: Mapping[str, Any]) -> None:
            fetched, of = progress.get("fetched") or 0, progress.get("of") or MEMBERS
            applied, to_apply = progress.get("applied") or 0, progress.get("to_apply") or 0
            bars = [Bar(f"{what}: read", fetched, of)]
            if to_apply:
                bars.append(Bar("applied", applied, to_apply))
            self.screen.show_bars(Progress(bars, applied, to_apply, f"applied, {self.subscriber.delivered:,} events delivered"))

        with self.screen.following(_SAID_EVERY, stays=False):
            yield follow

    async def _look(self) -> str:
        stored = await self.evidence.stored(self.directory.company)
        return rest_of({"events in the outbox": stored.outbox, "events not delivered": stored.audited - self.subscriber.delivered})


def _removals(ended: SyncEnded) -> int:
    return int(ended.run.details.get("removals", 0))


def _told(ended: SyncEnded) -> str:
    """What came of a sync, in words."""
    run = ended.run
    if (held := run.details.get("held")) is not None:
        return f"held back: {held}"
    counts: Sequence[tuple[int, str]] = (
        (run.added, "added"),
        (run.updated, "updated"),
        (run.removed, "removed"),
        (run.verified, "unchanged"),
    )
    said = ", ".join(f"{number:,} {name}" for number, name in counts if number)
    seconds = f" in {run.duration.total_seconds():.1f} s" if run.duration else ""
    return f"{'would be ' if run.dry_run else ''}{said}{seconds}"
