"""Pause a subscriber, let it go on, or remove it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from service.actions.audit_change import Author, audit_change, differences
from service.actions.sweep_notifications import ON_ITS_WAY
from service.domain.notifications.subscriber import SubscriberId, SubscriberState
from service.store.subscribers import SubscriberRow, lock_subscriber, show_subscriber, switch_subscriber

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["Resumed", "SubscriberDisabled", "pause_subscriber", "remove_subscriber", "resume_subscriber"]


@dataclass(frozen=True, slots=True)
class SubscriberDisabled:
    """It is disabled, which is more than paused: nothing that happens is kept for it."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """It is called again; of what happened since `missed_since` not all was kept for it, None where nothing was missed."""

    row: SubscriberRow
    missed_since: datetime | None


Paused: TypeAlias = SubscriberRow | SubscriberDisabled


async def pause_subscriber(tx: Tx, author: Author, subscriber_id: SubscriberId) -> Paused | None:
    """Call a subscriber no more for a while; what happens meanwhile waits for it. None where the company has no such one."""
    before = await _locked(tx, author, subscriber_id)
    if before is None:
        return None
    if before.state is SubscriberState.DISABLED:
        return SubscriberDisabled()
    return await _switched(tx, author, before, SubscriberState.PAUSED)


async def resume_subscriber(tx: Tx, author: Author, subscriber_id: SubscriberId) -> Resumed | None:
    """Call a paused or disabled subscriber again, with what waits for it first; None where the company has no such one."""
    before = await _locked(tx, author, subscriber_id)
    if before is None:
        return None
    missed_since = None
    if before.state is SubscriberState.DISABLED:
        # What happened shortly before may not have been written down yet when it was disabled.
        missed_since = max(before.created_at, before.state_changed_at - ON_ITS_WAY)
    return Resumed(await _switched(tx, author, before, SubscriberState.ACTIVE), missed_since)


async def remove_subscriber(tx: Tx, author: Author, subscriber_id: SubscriberId) -> bool:
    """Forget a subscriber with all that waits for it, which retention discards; False where the company has no such one."""
    before = await _locked(tx, author, subscriber_id)
    if before is None:
        return False
    await switch_subscriber(tx, subscriber_id, SubscriberState.REMOVED, author.actor)
    await audit_change(tx, author, "subscriber.removed", subscriber_id, differences({"name": before.name}, {}))
    return True


async def _locked(tx: Tx, author: Author, subscriber_id: SubscriberId) -> SubscriberRow | None:
    if not await lock_subscriber(tx, subscriber_id, author.company_id):
        return None
    return await show_subscriber(tx, subscriber_id, author.company_id)


async def _switched(tx: Tx, author: Author, before: SubscriberRow, state: SubscriberState) -> SubscriberRow:
    if before.state is state:
        return before
    await switch_subscriber(tx, before.id, state, author.actor)
    action = "subscriber.paused" if state is SubscriberState.PAUSED else "subscriber.resumed"
    await audit_change(tx, author, action, before.id, differences({"state": before.state}, {"state": state}))
    after = await show_subscriber(tx, before.id)
    if after is None:
        raise LookupError("a subscriber vanished while it was locked")
    return after
