"""Change one member over the version that somebody has read, and answer how it stands then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from service.actions.apply_changes import apply_changes
from service.domain.backoff import Backoff
from service.domain.change import Change, LocalChange
from service.domain.errors import Contention
from service.domain.member import CompanyId, MemberId
from service.domain.outcome import Outcome, Result
from service.store.database import Database, Tx
from service.store.member_views import VerifiedMember, find_member

__all__ = ["Hindrance", "MemberRefused", "Then", "apply_local", "change_member"]

# Called with the member as it stands after the change, in the same transaction; what it raises undoes the change.
Then: TypeAlias = Callable[[Tx, VerifiedMember], Awaitable[None]]

_ATTEMPTS: Final = 12
# Apart from each other: those that are overtaken together would be again.
_BACKOFF: Final = Backoff(timedelta(milliseconds=5), timedelta(milliseconds=160))
_DONE: Final = frozenset({Outcome.APPLIED, Outcome.UNCHANGED})


class Hindrance(StrEnum):
    """What stands in the way of a change."""

    NO_SUCH_MEMBER = "no such member"
    OTHER_VERSION = "other version"
    NOT_POSSIBLE = "not possible"


@dataclass(frozen=True, slots=True)
class MemberRefused:
    """Nothing was changed; `reason` holds no personal data."""

    hindrance: Hindrance
    reason: str


async def change_member(
    db: Database,
    company_id: CompanyId,
    member_id: MemberId,
    build: Callable[[int], LocalChange],
    *,
    versions: frozenset[int] | None,
    default_grace_days: int,
    then: Then | None = None,
) -> VerifiedMember | MemberRefused:
    """Apply what `build` makes of the member's version: one of `versions`, or with None any, and then again when overtaken.

    Raises Retry errors, and what `then` raises.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        async with db.transaction() as tx:
            member = await find_member(tx, company_id, member_id, default_grace_days)
        if member is None:
            return MemberRefused(Hindrance.NO_SUCH_MEMBER, "there is no such member")
        if versions is not None and member.version not in versions:
            return MemberRefused(Hindrance.OTHER_VERSION, "the member was changed since it was read")
        answer = await apply_local(db, company_id, build(member.version), default_grace_days=default_grace_days, then=then)
        if not isinstance(answer, MemberRefused) or answer.hindrance is not Hindrance.OTHER_VERSION or versions is not None:
            return answer
        await asyncio.sleep(_BACKOFF.after(attempt).total_seconds())
    raise Contention("others kept changing the member")


async def apply_local(
    db: Database, company_id: CompanyId, change: LocalChange, *, default_grace_days: int, then: Then | None = None
) -> VerifiedMember | MemberRefused:
    """Apply one local change of a member of the company, and answer the member as the change left it."""
    left: VerifiedMember | None = None

    async def alongside(tx: Tx, _: Sequence[Change], results: Sequence[Result]) -> None:
        nonlocal left
        (result,) = results
        if result.outcome in _DONE and result.member_id is not None:
            left = await find_member(tx, company_id, result.member_id, default_grace_days)
            if left is not None and then is not None:
                await then(tx, left)

    (result,) = await apply_changes(db, [change], default_grace_days=default_grace_days, alongside=alongside)
    if left is not None and result.outcome in _DONE:
        return left
    hindrance = Hindrance.OTHER_VERSION if result.outcome is Outcome.STALE else Hindrance.NOT_POSSIBLE
    return MemberRefused(hindrance, result.reason or "it cannot be done")
