"""What somebody here, or the clock, makes of a member: what belongs to its source they leave alone (semantics: Who owns what)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final, assert_never

from service.domain.change import (
    SOURCE_FIELDS,
    DriftRepaired,
    HoldPlaced,
    HoldReleased,
    LocalChange,
    MemberCreated,
    MemberEdited,
    MemberErased,
    MemberFields,
    MemberRemoved,
    PendingPlan,
    PlanChangeCancelled,
    PlanChangeDue,
    PlanChangeRequested,
    Rules,
    TimePassed,
)
from service.domain.decide_plan_change import begun, decide_plan_change
from service.domain.decide_repair import decide_repair
from service.domain.decision import Conflict, Decision, Refused, Stale
from service.domain.identity import left_behind
from service.domain.member import Member, UpstreamState
from service.domain.source_mapping import MEMBER_FIELDS
from service.domain.transition import Transition, facts_of, publish, publish_new

__all__ = ["ERASED_HOLD", "PERSONAL_FIELDS", "decide_local"]

# That somebody is held is a state and stays; why was written by a person about a person.
ERASED_HOLD: Final = "erased"
_PERSONAL: Final[dict[str, Any]] = {"national_id": None, "name": None, "email": None, "phone": None, "metadata": {}}
_CONTRACT_NAMES: Final = {name: contract_name for contract_name, name in MEMBER_FIELDS.items()} | {"hold": "hold"}
# By their names in the contract.
PERSONAL_FIELDS: Final = frozenset(_CONTRACT_NAMES[name] for name in [*_PERSONAL, "hold"])

_NO_SUCH_MEMBER: Final = Refused("there is no such member")
_NAMELESS: Final = Refused("a member needs a name")
_OTHERS_NATIONAL_ID: Final = Conflict("the national id belongs to another member of the company")


def decide_local(member: Member | None, namesake: Member | None, change: LocalChange, now: datetime, rules: Rules) -> Decision:
    """What a local change makes of the member that it names; `rules` are those of the member's company and connection."""
    if isinstance(change, MemberCreated):
        return _create(member, namesake, change, now, rules)
    if member is None or member.tombstone:
        return _NO_SUCH_MEMBER
    if _overtaken(member, change.read_version, change):
        return Stale("the member was changed since it was read")
    match change:
        case MemberEdited():
            return _edit(member, namesake, change, now, rules)
        case MemberRemoved():
            return _take_out(member, now, rules)
        case MemberErased():
            return _erase(member, now, rules)
        case HoldPlaced():
            return _hold(member, change, now, rules)
        case HoldReleased():
            return publish(member, {"hold": None, "held_at": None}, now, rules.grace)
        case PlanChangeRequested() | PlanChangeCancelled() | PlanChangeDue():
            return decide_plan_change(member, change, now, rules)
        case TimePassed(due=due):
            return _pass_time(member, due, now, rules)
        case DriftRepaired():
            return decide_repair(member, change, now, rules)
        case _:
            assert_never(change)


def _overtaken(member: Member, read_version: int, change: LocalChange) -> bool:
    """Whether somebody was faster; a pending plan is compared itself, as what else was altered is no reason not to begin."""
    return member.version != read_version and not isinstance(change, PlanChangeDue)


def _kept(member: Member, rules: Rules) -> bool:
    """Whether a source still tells of the member; one whose connection is archived never will."""
    return member.connection_id is not None and not rules.archived


def _unfit(fields: MemberFields) -> Refused | None:
    if "name" in fields and not fields["name"].strip():
        return Refused("the name is blank")
    if fields.get("state") is UpstreamState.REMOVED:
        return Refused("leaving is a removal, not a state")
    national_id = fields.get("national_id")
    if national_id is not None and not national_id.strip():
        return Refused("nothing is left of the national id without its hyphens and spaces")
    return None


def _create(member: Member | None, namesake: Member | None, change: MemberCreated, now: datetime, rules: Rules) -> Decision:
    if (unfit := _unfit(change.fields)) is not None:
        return unfit
    if "name" not in change.fields:
        return _NAMELESS
    if member is not None:
        return Refused("there is a member of this id")
    facts = facts_of(change.fields)
    facts.setdefault("upstream_state", UpstreamState.ACTIVE)
    if namesake is None:
        new = {"id": change.member_id, "company_id": change.company_id, "connection_id": None, "external_id": None}
        return publish_new(facts | new, now, rules.grace)
    if namesake.live:
        return _OTHERS_NATIONAL_ID
    # Who has left comes back under the old id, as what is said now; a source that told of them may only tell of a stranger.
    cleared: dict[str, Any] = dict.fromkeys(SOURCE_FIELDS - {"state", "name"}) | {"metadata": {}}
    unbound: dict[str, Any] = {"connection_id": None, "external_id": None, "removed_at": None}
    forgotten: dict[str, Any] = {"source_version": None, "source_hash": None, "upstream_applied_at": None}
    decision = publish(namesake, cleared | facts | unbound | forgotten, now, rules.grace)
    if isinstance(decision, Transition):
        return replace(decision, leaves=left_behind(namesake, change.member_id, now))
    return decision


def _edit(member: Member, namesake: Member | None, change: MemberEdited, now: datetime, rules: Rules) -> Decision:
    if (unfit := _unfit(change.fields)) is not None:
        return unfit
    kept = _kept(member, rules)
    if kept and (owned := sorted(_CONTRACT_NAMES[name] for name in change.fields.keys() & rules.mapped_fields)):
        return Refused(f"what the member's source owns can only be changed there: {', '.join(owned)}")
    facts = facts_of(change.fields)
    if not member.live:
        if kept:
            return Refused("the member has left at its source, which alone brings it back")
        if "upstream_state" not in facts:
            return Refused("the member was removed; a state brings it back")
        facts["removed_at"] = None
    if member.name is None and "name" not in facts:
        return _NAMELESS
    if namesake is not None and namesake.id != member.id:
        return _OTHERS_NATIONAL_ID
    return publish(member, facts, now, rules.grace)


def _take_out(member: Member, now: datetime, rules: Rules) -> Decision:
    if _kept(member, rules):
        return Refused("the member has a source, which alone removes it")
    return publish(member, _departure(member, now), now, rules.grace)


def _erase(member: Member, now: datetime, rules: Rules) -> Decision:
    """What is left of the member; one without a source leaves by it, since only the removed are nameless."""
    if member.live and _kept(member, rules):
        return Refused("the member is live at its source, which would bring everything back")
    altered = _PERSONAL | _departure(member, now)
    if member.hold is not None:
        altered["hold"] = ERASED_HOLD
    decision = publish(member, altered, now, rules.grace)
    if not isinstance(decision, Transition):
        return decision
    # The audit of an erasure must not keep what was erased.
    told = {name: (None, None) if name in PERSONAL_FIELDS else values for name, values in decision.changed.items()}
    return replace(decision, changed=told)


def _hold(member: Member, change: HoldPlaced, now: datetime, rules: Rules) -> Decision:
    if not member.live:
        return Refused("a removed member cannot be held")
    if not change.hold.strip():
        return Refused("a hold needs its reason")
    return publish(member, {"hold": change.hold, "held_at": member.held_at or now}, now, rules.grace)


def _pass_time(member: Member, due: PendingPlan | None, now: datetime, rules: Rules) -> Decision:
    altered = {} if due is None else begun(member, due, rules)
    return altered if isinstance(altered, Refused | Stale) else publish(member, altered, now, rules.grace, time_alone=True)


def _departure(member: Member, now: datetime) -> dict[str, Any]:
    return {"upstream_state": UpstreamState.REMOVED, "removed_at": member.removed_at or now}
