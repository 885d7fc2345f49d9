"""Plan another plan for a member from a day on, in place of what was planned before, or withdraw it; with its history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from service.actions.change_member import Hindrance, MemberRefused, Then, change_member
from service.domain.change import Cause, LocalChange, PendingPlan, PlanChangeCancelled, PlanChangeRequested
from service.domain.member import CompanyId, MemberId
from service.store.database import Database, Tx
from service.store.member_views import VerifiedMember
from service.store.plan_changes import (
    ChangeType,
    NewPlanChange,
    find_open_plan_change,
    insert_plan_changes,
    list_applied_plan_changes,
)

__all__ = ["cancel_plan_change", "request_plan_change"]

_BEGUN_THAT_DAY: Final = "a plan of the member has begun on that day already; choose a later one"


class _BegunThatDayError(Exception):
    """One plan begins on one day: another one of that day never would."""


async def request_plan_change(
    db: Database,
    company_id: CompanyId,
    member_id: MemberId,
    planned: PendingPlan,
    cause: Cause,
    *,
    versions: frozenset[int] | None,
    default_grace_days: int,
    then: Then | None = None,
) -> VerifiedMember | MemberRefused:
    """Let a plan begin on its day; what the member has already, with nothing planned, is no change. Raises Retry errors."""

    def build(version: int) -> LocalChange:
        return PlanChangeRequested(member_id=member_id, read_version=version, cause=cause, planned=planned)

    return await _change(db, company_id, member_id, build, cause, versions, default_grace_days, then)


async def cancel_plan_change(
    db: Database,
    company_id: CompanyId,
    member_id: MemberId,
    cause: Cause,
    *,
    versions: frozenset[int] | None,
    default_grace_days: int,
    then: Then | None = None,
) -> VerifiedMember | MemberRefused:
    """Withdraw what is planned; where nothing is, nothing happens. Raises Retry errors."""

    def build(version: int) -> LocalChange:
        return PlanChangeCancelled(member_id=member_id, read_version=version, cause=cause)

    return await _change(db, company_id, member_id, build, cause, versions, default_grace_days, then)


async def _change(
    db: Database,
    company_id: CompanyId,
    member_id: MemberId,
    build: Callable[[int], LocalChange],
    cause: Cause,
    versions: frozenset[int] | None,
    default_grace_days: int,
    then: Then | None,
) -> VerifiedMember | MemberRefused:
    async def record(tx: Tx, member: VerifiedMember) -> None:
        await _record(tx, member, cause)
        if then is not None:
            await then(tx, member)

    try:
        return await change_member(
            db, company_id, member_id, build, versions=versions, default_grace_days=default_grace_days, then=record
        )
    except _BegunThatDayError:
        return MemberRefused(Hindrance.NOT_POSSIBLE, _BEGUN_THAT_DAY)


async def _record(tx: Tx, member: VerifiedMember, cause: Cause) -> None:
    """Bring the history in step with the row, which is locked: what was open is cancelled, what is new is scheduled."""
    before, now = await find_open_plan_change(tx, member.id), _planned(member)
    if before == now:
        return
    if now is not None and await list_applied_plan_changes(tx, {member.id: now.starts_on}):
        raise _BegunThatDayError
    rows = [
        NewPlanChange(
            member_id=member.id,
            change_type=change_type,
            plan=plan.plan,
            effective_date_day=plan.starts_on,
            expires_at=plan.expires_at,
            actor=cause.actor,
            correlation_id=cause.correlation_id,
        )
        for change_type, plan in ((ChangeType.CANCELLED, before), (ChangeType.SCHEDULED, now))
        if plan is not None
    ]
    await insert_plan_changes(tx, rows)


def _planned(member: VerifiedMember) -> PendingPlan | None:
    if member.pending_plan is None or member.pending_start is None:
        return None
    return PendingPlan(member.pending_plan, member.pending_start, member.pending_expires_at)
