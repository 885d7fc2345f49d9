"""Take deliveries that are due, with all that is needed to send them, so that nothing is asked for while they are sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from service import translation
from service.domain.member import MemberId
from service.domain.notifications.subscriber import SubscriberId
from service.store.deliveries import ClaimedDelivery, Target, claim_deliveries, list_due_subscribers, list_targets
from service.store.member_events import list_events_at
from service.store.subscriber_secrets import SigningSecret, list_signing_secrets
from service.translation import Notification

if TYPE_CHECKING:
    from service.store.database import Database

__all__ = ["Allot", "DueNotification", "claim_notifications"]

# How many of each subscriber, given who has something due and whether its last attempts failed.
Allot: TypeAlias = Callable[[Mapping[SubscriberId, bool]], Mapping[SubscriberId, int]]


@dataclass(frozen=True, slots=True)
class DueNotification:
    """A claimed delivery, where it goes, what signs it and what it says; None where the audit does not have it any more."""

    claimed: ClaimedDelivery
    url: str = field(repr=False)
    secrets: tuple[SigningSecret, ...]
    notification: Notification | None


async def claim_notifications(db: Database, allot: Allot, lease: timedelta) -> list[DueNotification]:
    """Claim what is due, as much of each subscriber as it is allotted; after `lease` others may. Raises Retry errors."""
    async with db.statement() as tx:
        due = await list_due_subscribers(tx)
    slots = allot(due) if due else {}
    if not slots:
        return []
    async with db.transaction() as tx:
        claimed = await claim_deliveries(tx, slots, lease)
        if not claimed:
            return []
        subscribers = {one.subscriber_id for one in claimed}
        targets = {target.id: target for target in await list_targets(tx, subscribers)}
        secrets: dict[SubscriberId, list[SigningSecret]] = {}
        for secret in await list_signing_secrets(tx, subscribers):
            secrets.setdefault(secret.subscriber_id, []).append(secret)
        wanted = {(one.member_id, one.version) for one in claimed if one.member_id is not None and one.version is not None}
        events = await list_events_at(tx, wanted)
    said = {version: translation.to_notification(event) for version, event in events.items()}
    found = []
    for one in claimed:
        target = targets[one.subscriber_id]
        notification = _said(one, said) if one.member_id is not None else _test(one, target)
        found.append(DueNotification(one, target.url, tuple(secrets.get(one.subscriber_id, ())), notification))
    return found


def _said(one: ClaimedDelivery, said: Mapping[tuple[MemberId, int], Notification]) -> Notification | None:
    return said.get((one.member_id, one.version)) if one.member_id is not None and one.version is not None else None


def _test(one: ClaimedDelivery, target: Target) -> Notification | None:
    if one.replay_id is None:
        return None
    return translation.to_test_notification(one.replay_id, one.subscriber_id, target.company_id, one.created_at)
