"""Sends the events of past versions again, as they were said, for subscribers that missed them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from service import translation
from service.clients.broker import Publisher
from service.clients.confirm_channel import Confirmed, Nacked, Outcome, Refused, Returned, Unknown
from service.clients.inbound import NotDeliveredError
from service.domain.errors import Unavailable
from service.store.clock import read_clock
from service.store.database import Database
from service.store.member_events import PastEvent, list_events_of_member, list_events_since

__all__ = ["Past", "replay_events"]

_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Which past events are meant: since an instant, or of one member; of one company where it is given."""

    since: datetime | None = None
    member_id: UUID | None = None
    company_id: UUID | None = None

    def __post_init__(self) -> None:
        if self.since is None and self.member_id is None:
            raise ValueError("say since when, or of which member")


async def replay_events(db: Database, publisher: Publisher, past: Past, *, dry_run: bool = False) -> int:
    """Publish past events under their own ids, in order per member, and answer how many; a dry run only counts them.

    Not through the outbox: subscribers filter by version, so that nothing depends on the order among live events. Raises
    NotDeliveredError where the broker does not take one, and Unavailable; both say how many were sent before.
    """
    sent = 0
    async for page in _pages(db, past):
        if not dry_run:
            outcomes = await publisher.publish_window([translation.to_replayed_event(event) for event in page])
            _check(page, outcomes, sent)
        sent += len(page)
    return sent


async def _pages(db: Database, past: Past) -> AsyncIterator[Sequence[PastEvent]]:
    """Keyset pages up to now: what happens meanwhile is no past."""
    async with db.transaction() as tx:
        now = await read_clock(tx)
    last: int | None = 0
    while last is not None:
        async with db.transaction() as tx:
            if past.member_id is not None:
                events = await list_events_of_member(tx, past.member_id, last, past.since, past.company_id, _PAGE)
                last = None if len(events) < _PAGE else events[-1].version
            else:
                page = await list_events_since(tx, last, past.since or now, now, past.company_id, _PAGE)
                events, last = page.events, page.last
        if events:
            yield events


def _check(page: Sequence[PastEvent], outcomes: Sequence[Outcome], sent: int) -> None:
    """Raise for the first event that was not confirmed; what was sent twice does no harm, so the caller may start anew."""
    sent += sum(isinstance(outcome, Confirmed) for outcome in outcomes)
    for event, outcome in zip(page, outcomes, strict=True):
        match outcome:
            case Confirmed():
                continue
            case Returned() | Nacked() | Refused():
                message = f"{sent} events were sent again; {event.member_id} v{event.version} was not taken: {outcome.error}"
                raise NotDeliveredError(message)
            case Unknown():
                message = f"{sent} events were sent again; then the broker did not confirm"
                raise Unavailable(message)
            case _:
                assert_never(outcome)
