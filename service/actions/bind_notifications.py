"""Let a company's events reach the notifier, before it has a subscriber: the broker is asked outside of any transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from service.clients.amqp_connection import connected
from service.clients.topology import bind_companies
from service.domain.member import CompanyId

__all__ = ["BindNotifications", "Bound", "bind_notifications"]


@dataclass(frozen=True, slots=True)
class Bound:
    """The events of this company reach the notifier from now on."""

    company_id: CompanyId


# The broker's word on it; raises Unavailable.
BindNotifications: TypeAlias = Callable[[CompanyId], Awaitable[Bound]]


async def bind_notifications(broker_url: str, company_id: CompanyId) -> Bound:
    """Bind the notifier's queue, which is made where it is not there yet; raises Unavailable."""
    async with connected(broker_url) as connection:
        await bind_companies(connection, [company_id])
    return Bound(company_id)
