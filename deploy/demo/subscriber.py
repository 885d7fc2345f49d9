"""A system that listens to the events, with the version filter of docs/consumer.py and a book of what it got."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from contracts.membership_updated import MembershipUpdatedV1

__all__ = ["Subscriber"]

_REMEMBERED: Final = 8


class Subscriber:
    """Keeps the greatest version of each member, drops what is not newer, and counts what is not the next one."""

    def __init__(self) -> None:
        self.latest: dict[str, MembershipUpdatedV1] = {}
        self.last: deque[MembershipUpdatedV1] = deque(maxlen=_REMEMBERED)
        self.delivered = 0
        self.repeats = 0
        self.out_of_order = 0
        # Of the monotonic clock.
        self.last_at = time.monotonic()

    async def listen(self, events: AsyncIterator[MembershipUpdatedV1]) -> None:
        """Take events for as long as they come."""
        async for event in events:
            self.take(event)

    def take(self, event: MembershipUpdatedV1) -> None:
        """Take one event as it was delivered."""
        key = event.external_id or str(event.member_id)
        known = self.latest.get(key)
        seen = known.version if known is not None else 0
        if event.version <= seen:
            self.repeats += 1
            return
        if event.version != seen + 1:
            self.out_of_order += 1
        self.latest[key] = event
        self.last.append(event)
        self.delivered += 1
        self.last_at = time.monotonic()
