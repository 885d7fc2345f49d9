"""Who is told of which event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from service.domain.member import CompanyId
from service.domain.notifications.subscriber import Listener, Told

__all__ = ["fan_out", "newest_in_order"]


def fan_out(told: Iterable[Told], listeners: Mapping[CompanyId, Sequence[Listener]]) -> Iterator[tuple[Listener, Told]]:
    """Each event with each listener of its company that wants it.

    What was kept for want of a queue and comes late is new to all. What somebody sends again is for those who were there when it
    happened.
    """
    for event in told:
        for listener in listeners.get(event.company_id, ()):
            if event.replayed and event.occurred_at < listener.begins_at:
                continue
            if listener.wants.wants(event.reason_code, event.new_state, event.changed_fields):
                yield listener, event


def newest_in_order(told: Iterable[Told], listeners: Mapping[CompanyId, Sequence[Listener]]) -> dict[tuple[Listener, Told], None]:
    """For each listener to whom order matters the newest version of each member: those before it must be told of first."""
    newest: dict[object, Told] = {}
    for event in told:
        known = newest.get(event.member_id)
        if known is None or known.version < event.version:
            newest[event.member_id] = event
    return {
        (listener, event): None
        for event in newest.values()
        for listener in listeners.get(event.company_id, ())
        if listener.in_order and event.version > 1
    }
