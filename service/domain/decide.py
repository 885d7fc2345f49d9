"""What a change makes of a member: pure, total, and the only place that knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, assert_never

from service.domain.change import (
    Change,
    DriftRepaired,
    HoldPlaced,
    HoldReleased,
    MemberCreated,
    MemberEdited,
    MemberErased,
    MemberRemoved,
    PlanChangeCancelled,
    PlanChangeDue,
    PlanChangeRequested,
    Rules,
    TimePassed,
    UpstreamChange,
    UpstreamRemoval,
    UpstreamUpsert,
    VersionKind,
    is_own_national_id,
)
from service.domain.decide_local import decide_local
from service.domain.decision import Conflict, Decision, Refused, Stale
from service.domain.identity import NATIONAL_ID_AS_KEY, Match, Mismatch, identify, left_behind
from service.domain.member import Member, MemberId, Standing, UpstreamState, altered_member
from service.domain.transition import Transition, Unchanged, publish, publish_new, told_facts

__all__ = ["decide", "source_version_of"]

# A clock that is a little ahead is forgiven; a version from next year would shut out every later change.
_FUTURE: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


_TOLD_SINCE: Final = Stale("this member was told of after the snapshot began")


@dataclass(frozen=True, slots=True)
class _Setting:
    """What a decision depends on beside the member and the change; `new_id` names the row that it may create."""

    now: datetime
    rules: Rules
    new_id: MemberId


def decide(
    member: Member | None,
    change: Change,
    now: datetime,
    rules: Rules,
    new_id: MemberId,
    *,
    namesake: Member | None = None,
) -> Decision:
    """What `change` makes of `member` at `now`.

    `member` is the row of the key or id that the change names, as it was read under its lock, None where there is none;
    `namesake` is the row of its company with the national id that the change brings. `new_id` names a row that has to be created.
    """
    match change:
        case UpstreamUpsert() | UpstreamRemoval():
            return _decide_upstream(member, namesake, change, _Setting(now, rules, new_id))
        case MemberCreated() | MemberEdited() | MemberRemoved() | MemberErased() | HoldPlaced() | HoldReleased() | TimePassed():
            return decide_local(member, namesake, change, now, rules)
        case PlanChangeRequested() | PlanChangeCancelled() | PlanChangeDue() | DriftRepaired():
            return decide_local(member, namesake, change, now, rules)
        case _:
            assert_never(change)


def source_version_of(change: UpstreamChange, kind: VersionKind) -> int | None:
    """The number that orders this change among its member's, or None where arrival does."""
    match kind:
        case VersionKind.SEQUENCE:
            return change.source_version
        case VersionKind.UPDATED_AT:
            return (change.updated_at - _EPOCH) // timedelta(microseconds=1)
        case VersionKind.NONE:
            return None
        case _:
            assert_never(kind)


def _decide_upstream(member: Member | None, namesake: Member | None, change: UpstreamChange, setting: _Setting) -> Decision:
    if (refused := _inadmissible(change, setting)) is not None:
        return refused
    version = source_version_of(change, setting.rules.version_kind)
    # Before it is asked whose national id this is: what was overtaken needs nobody to choose, whoever has the id by now.
    if member is not None and (overtaken := _overtaken(member, change, version, setting)) is not None:
        return overtaken
    remembered = {"source_version": version, "source_hash": change.source_hash, "upstream_applied_at": setting.now}
    if isinstance(change, UpstreamRemoval):
        return _remove(member, change, setting, remembered)
    match = identify(change, member, namesake)
    if isinstance(match, Mismatch):
        return Conflict(match.reason)
    if match.takes_over and match.member is not None and _told_since(match.member, change):
        return _TOLD_SINCE
    return _upsert(match, change, setting, remembered)


def _inadmissible(change: UpstreamChange, setting: _Setting) -> Refused | None:
    """What is wrong with the change, whomever it is about; asked first, so that no answer tells of another company's members."""
    if change.company_id != setting.rules.company_id:
        return Refused("the connection belongs to another company")
    if setting.rules.archived:
        return Refused("the connection is archived")
    if change.updated_at - setting.now > _FUTURE:
        return Refused("updatedAt is more than a day ahead")
    if isinstance(change, UpstreamRemoval):
        return None
    if change.fields.get("state") is UpstreamState.REMOVED:
        return Refused("leaving is a removal, not a state")
    if "name" in change.fields and not change.fields["name"].strip():
        return Refused("the name is blank")
    national_id = change.fields.get("national_id")
    if national_id is not None and not national_id.strip() and "national_id" in setting.rules.mapped_fields:
        return Refused("nothing is left of the national id without its hyphens and spaces")
    # Also where the mapping leaves the national id alone: the key is one all the same.
    if is_own_national_id(change.external_id, national_id):
        return Refused(NATIONAL_ID_AS_KEY)
    return None


def _overtaken(
    known: Member, change: UpstreamChange, version: int | None, setting: _Setting
) -> Unchanged | Stale | Conflict | None:
    """The answer to a change that is not newer than what was applied, None for one that is."""
    if version is not None and known.source_version is not None:
        if version > known.source_version:
            return None
        if version < known.source_version:
            return Stale("a newer version of this member was applied already")
        if change.source_hash == known.source_hash and not (change.from_snapshot and _means_more(known, change, setting.rules)):
            return Unchanged(altered_member(known, {"upstream_applied_at": setting.now}))
        if not change.from_snapshot:
            return Conflict("the same version of this member was applied with other content")
    return _TOLD_SINCE if _told_since(known, change) else None


def _means_more(known: Member, change: UpstreamChange, rules: Rules) -> bool:
    """Whether a snapshot's same words say something new: of a key that was given up, or as they are understood by now."""
    return (known.tombstone and isinstance(change, UpstreamUpsert)) or _of_another_meaning(known, rules)


def _of_another_meaning(known: Member, rules: Rules) -> bool:
    """Whether what was last told of the member was understood otherwise than it would be now."""
    changed_at, applied_at = rules.meaning_changed_at, known.upstream_applied_at
    return changed_at is not None and applied_at is not None and applied_at < changed_at


def _told_since(known: Member, change: UpstreamChange) -> bool:
    """Whether another way told of the member after the snapshot began that the change is from."""
    began_at, applied_at = change.snapshot_began_at, known.upstream_applied_at
    return began_at is not None and applied_at is not None and applied_at >= began_at


def _remove(
    member: Member | None, change: UpstreamRemoval, setting: _Setting, remembered: dict[str, Any]
) -> Transition | Unchanged:
    if member is None:
        return Unchanged(
            Member(
                id=setting.new_id,
                company_id=change.company_id,
                connection_id=change.connection_id,
                external_id=change.external_id,
                upstream_state=UpstreamState.REMOVED,
                state=Standing.REMOVED,
                removed_at=setting.now,
                **remembered,
            )
        )
    removed_at = member.removed_at or setting.now
    altered = {"upstream_state": UpstreamState.REMOVED, "removed_at": removed_at, **remembered}
    return publish(member, altered, setting.now, setting.rules.grace)


def _upsert(
    match: Match, change: UpstreamUpsert, setting: _Setting, remembered: dict[str, Any]
) -> Transition | Unchanged | Refused:
    member = match.member
    facts = told_facts(change.fields, setting.rules.mapped_fields, member)
    facts.update(remembered, connection_id=change.connection_id, external_id=change.external_id)
    if member is None or member.tombstone:
        if "name" not in facts:
            return Refused("a new member needs a name")
        facts.setdefault("upstream_state", UpstreamState.ACTIVE)
        facts.update(id=member.id if member else setting.new_id, company_id=change.company_id)
        return publish_new(facts, setting.now, setting.rules.grace)
    if member.name is None and "name" not in facts:
        return Refused("a member whose name was erased needs a name to come back")
    if not member.live:
        facts.setdefault("upstream_state", UpstreamState.ACTIVE)
        facts["removed_at"] = None
    decision = publish(member, facts, setting.now, setting.rules.grace)
    if match.takes_over and isinstance(decision, Transition):
        return replace(decision, absorbs=match.absorbs, leaves=left_behind(member, setting.new_id, setting.now))
    return decision
