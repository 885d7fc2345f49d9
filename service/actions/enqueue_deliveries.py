"""Write down for each subscriber of a company that it is to be told of an event: once, in order where that matters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service import translation
from service.domain.errors import Contention
from service.domain.member import CompanyId
from service.domain.notifications.fan_out import fan_out, newest_in_order
from service.domain.notifications.subscriber import Listener, SubscriberId, Told
from service.store.deliveries import NewDelivery, insert_deliveries, let_go
from service.store.member_events import list_untold_events
from service.store.subscribers import list_listeners, lock_ordered

if TYPE_CHECKING:
    from service.store.database import Database, Tx

__all__ = ["add_deliveries", "enqueue_deliveries"]

_ATTEMPTS: Final = 3
# How far back it is looked for versions that were overtaken on their way; retention keeps deliveries for longer, or they would
# look untold.
_OVERTAKEN_WITHIN: Final = timedelta(days=7)


async def enqueue_deliveries(db: Database, told: Sequence[Told]) -> int:
    """Add the deliveries of these events that are not there yet, and answer how many; raises Retry errors."""
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            async with db.transaction() as tx:
                return await add_deliveries(tx, told)
        except Contention:
            if not attempts_left:
                raise
    raise AssertionError("unreachable")


async def add_deliveries(tx: Tx, told: Sequence[Told], *, only: SubscriberId | None = None, replay_id: UUID | None = None) -> int:
    """The same in the caller's transaction; of a replay for one subscriber alone."""
    companies = {event.company_id for event in told}
    # Before anything is read: what others add or end of a member decides which of its versions may go.
    ordered = await lock_ordered(tx, () if only is None else (only,), companies=companies if only is None else ())
    listeners: dict[CompanyId, list[Listener]] = {}
    for listener in await list_listeners(tx, companies):
        if only is None or listener.id == only:
            if listener.in_order and listener.id not in ordered:
                raise Contention("a subscriber began to want order at this very moment")
            listeners.setdefault(listener.company_id, []).append(listener)
    if not listeners:
        return 0
    pairs = list(fan_out(told, listeners))
    if ordered and replay_id is None:
        pairs += await _overtaken(tx, told, listeners)
    if not pairs:
        return 0
    added, waiting = await insert_deliveries(tx, [_new(listener, event) for listener, event in pairs], replay_id)
    if waiting:
        await let_go(tx, waiting)
    return added


async def _overtaken(tx: Tx, told: Sequence[Told], listeners: dict[CompanyId, list[Listener]]) -> list[tuple[Listener, Told]]:
    """What happened before and is still on its way here: a later version of a member must not go before it."""
    newest = [
        (listener.id, event.member_id, event.version, listener.begins_at) for listener, event in newest_in_order(told, listeners)
    ]
    if not newest:
        return []
    by_id = {listener.id: listener for of_company in listeners.values() for listener in of_company}
    found: list[tuple[Listener, Told]] = []
    for untold in await list_untold_events(tx, newest, _OVERTAKEN_WITHIN):
        event = translation.to_told(untold)
        found += fan_out([event], {event.company_id: [by_id[untold.subscriber_id]]})
    return found


def _new(listener: Listener, event: Told) -> NewDelivery:
    return NewDelivery(
        subscriber_id=listener.id,
        member_id=event.member_id,
        version=event.version,
        in_order=listener.in_order,
        correlation_id=event.correlation_id,
        traceparent=event.traceparent,
    )
