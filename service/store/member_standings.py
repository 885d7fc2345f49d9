"""What members are as of now, for whoever compares something with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from service.domain.access import access
from service.domain.member import CompanyId, ConnectionId, MemberId, Standing
from service.store.queries import queries

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["MemberStanding", "list_standings"]

_SQL: Final = queries("member_standings")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStanding:
    """A member at `read_at`, without personal data; `state` is its standing then, whatever was last published."""

    id: MemberId
    company_id: CompanyId
    connection_id: ConnectionId | None
    external_id: str | None
    plan: str | None
    starts_at: datetime | None
    expires_at: datetime | None
    version: int
    state: str
    read_at: datetime

    @property
    def may_enter(self) -> bool:
        """Whether it has access at that moment."""
        return access(Standing(self.state), self.starts_at, self.read_at).granted


async def list_standings(tx: Tx, ids: Sequence[UUID], default_grace_days: int) -> list[MemberStanding]:
    """These members, in no order; raises Retry errors."""
    return [MemberStanding(**record) for record in await tx.fetch(_SQL["list_standings"].sql, ids, default_grace_days)]
