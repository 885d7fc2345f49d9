"""What a planned change of plan makes of a member: when it is asked for, withdrawn, and when its day has come."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeAlias, assert_never

from service.domain.change import PendingPlan, PlanChange, PlanChangeCancelled, PlanChangeDue, PlanChangeRequested, Rules
from service.domain.decision import Decision, Refused, Stale
from service.domain.member import Member
from service.domain.transition import Unchanged, publish

__all__ = ["begun", "decide_plan_change"]

Facts: TypeAlias = dict[str, Any]

_NOTHING_PENDING: Final[Facts] = {"pending_plan": None, "pending_start": None, "pending_expires_at": None}
_OTHERWISE_BY_NOW: Final = Stale("what was planned for the member has changed since it was read")


def decide_plan_change(member: Member, change: PlanChange, now: datetime, rules: Rules) -> Decision:
    """What a change of what is planned makes of a member, who is no tombstone.

    To plan is no version of the member: the event has nothing to tell before the day has come. Its audit is the history of plans.
    """
    match change:
        case PlanChangeRequested(planned=planned):
            return _request(member, planned, rules)
        case PlanChangeCancelled():
            return publish(member, _NOTHING_PENDING, now, rules.grace)
        case PlanChangeDue(due=due):
            altered = begun(member, due, rules)
            return altered if isinstance(altered, Refused | Stale) else publish(member, altered, now, rules.grace)
        case _:
            assert_never(change)


def begun(member: Member, due: PendingPlan, rules: Rules) -> Facts | Stale | Refused:
    """The facts that alter as the pending plan begins; Stale where it is not what was read as due."""
    if not member.live or _pending(member) != due:
        return _OTHERWISE_BY_NOW
    if (refused := _not_ours(member, due, rules)) is not None:
        return refused
    altered = {**_NOTHING_PENDING, "plan": due.plan}
    if due.expires_at is not None:
        altered["expires_at"] = due.expires_at
    return altered


def _request(member: Member, planned: PendingPlan, rules: Rules) -> Unchanged | Refused:
    if not member.live:
        return Refused("a removed member has no plan to change")
    if not planned.plan.strip():
        return Refused("a plan needs its name")
    if (refused := _not_ours(member, planned, rules)) is not None:
        return refused
    pending: Facts = {"pending_plan": planned.plan, "pending_start": planned.starts_on, "pending_expires_at": planned.expires_at}
    if member.pending_plan is None and planned.plan == member.plan and planned.expires_at is None:
        pending = _NOTHING_PENDING
    return Unchanged(replace(member, **pending))


def _pending(member: Member) -> PendingPlan | None:
    if member.pending_plan is None or member.pending_start is None:
        return None
    return PendingPlan(member.pending_plan, member.pending_start, member.pending_expires_at)


def _not_ours(member: Member, planned: PendingPlan, rules: Rules) -> Refused | None:
    """What the member's source owns nobody else changes, neither now nor on a later day."""
    if member.connection_id is None or rules.archived:
        return None
    wanted = {"plan"} if planned.expires_at is None else {"plan", "expires_at"}
    owned = [name for field, name in (("plan", "plan"), ("expires_at", "expiresAt")) if field in wanted & rules.mapped_fields]
    return Refused(f"what the member's source owns can only be changed there: {', '.join(owned)}") if owned else None
