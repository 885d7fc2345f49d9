"""What a change makes of a member: pure, total, and the only place that knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, assert_never

from service.domain.change import (
    Change,
    HoldPlaced,
    HoldReleased,
    Rules,
    TimePassed,
    UpstreamChange,
    UpstreamFields,
    UpstreamRemoval,
    UpstreamUpsert,
    VersionKind,
)
from service.domain.member import Member, MemberId, Standing, UpstreamState, standing

__all__ = ["Conflict", "Decision", "Refused", "Stale", "Transition", "Unchanged", "decide", "source_version_of"]

# A clock that is a little ahead is forgiven; a version from next year would shut out every later change.
_FUTURE: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# The facts that a version can change, with the names under which `changedFields` tells of them.
_FACTS: Final = (
    ("connection_id", "connectionId"),
    ("external_id", "externalId"),
    ("national_id", "nationalId"),
    ("name", "name"),
    ("email", "email"),
    ("phone", "phone"),
    ("metadata", "metadata"),
    ("upstream_state", "upstreamState"),
    ("hold", "hold"),
    ("plan", "plan"),
    ("starts_at", "startsAt"),
    ("expires_at", "expiresAt"),
)


@dataclass(frozen=True, slots=True)
class Transition:
    """A new version: one row update, one audit row, one event."""

    after: Member
    previous_state: Standing | None
    # Field name in the contract -> (before, after).
    changed: dict[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """No fact altered; `after` differs from the row at most in what is remembered of its source, or is a new tombstone."""

    after: Member


@dataclass(frozen=True, slots=True)
class Stale:
    """Somebody was faster: the member is already further than this change."""

    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two truths of one version, or of one person; a human has to choose."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Not something that can be done to this member."""

    reason: str


Decision: TypeAlias = Transition | Unchanged | Stale | Conflict | Refused


def decide(
    member: Member | None,
    change: Change,
    now: datetime,
    rules: Rules,
    new_id: MemberId,
    *,
    absorbs: Member | None = None,
) -> Decision:
    """What `change` makes of `member` at `now`.

    `member` is the row that the change is about as it was read under its lock (see `identify` for upstream changes), None when
    there is none yet; `new_id` then names it. `absorbs` is a tombstone whose place the member takes.
    """
    match change:
        case UpstreamUpsert() | UpstreamRemoval():
            return _decide_upstream(member, change, now, rules, new_id, absorbs)
        case HoldPlaced() | HoldReleased() | TimePassed():
            return _decide_local(member, change, now, rules.grace)
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


def _decide_upstream(
    member: Member | None, change: UpstreamChange, now: datetime, rules: Rules, new_id: MemberId, absorbs: Member | None
) -> Decision:
    if change.company_id != rules.company_id:
        return Refused("the connection belongs to another company")
    if rules.archived:
        return Refused("the connection is archived")
    if change.updated_at - now > _FUTURE:
        return Refused("updatedAt is more than a day ahead")
    version = source_version_of(change, rules.version_kind)
    # Versions count per key at its source: a row that comes from another key says nothing about this one's.
    known = absorbs or (member if member is not None and _same_key(member, change) else None)
    if known is not None and (overtaken := _overtaken(known, change, version)) is not None:
        return overtaken
    remembered = {"source_version": version, "source_hash": change.source_hash, "upstream_applied_at": now}
    if isinstance(change, UpstreamRemoval):
        return _remove(member, change, now, rules, new_id, remembered)
    return _upsert(member, change, now, rules, new_id, remembered)


def _same_key(member: Member, change: UpstreamChange) -> bool:
    return member.connection_id == change.connection_id and member.external_id == change.external_id


def _overtaken(known: Member, change: UpstreamChange, version: int | None) -> Unchanged | Stale | Conflict | None:
    """The answer to a change that is not newer than what was applied, None for one that is."""
    if version is None or known.source_version is None or version > known.source_version:
        return None
    if version < known.source_version:
        return Stale("a newer version of this member was applied already")
    if change.source_hash == known.source_hash:
        return Unchanged(known)
    if change.from_snapshot:
        return None
    return Conflict("the same version of this member was applied with other content")


def _remove(
    member: Member | None, change: UpstreamRemoval, now: datetime, rules: Rules, new_id: MemberId, remembered: dict[str, Any]
) -> Transition | Unchanged:
    if member is None:
        return Unchanged(
            Member(
                id=new_id,
                company_id=change.company_id,
                connection_id=change.connection_id,
                external_id=change.external_id,
                upstream_state=UpstreamState.REMOVED,
                state=Standing.REMOVED,
                removed_at=now,
                **remembered,
            )
        )
    removed_at = member.removed_at or now
    after = replace(member, upstream_state=UpstreamState.REMOVED, removed_at=removed_at, **remembered)
    return _published(member, after, now, rules.grace)


def _upsert(
    member: Member | None, change: UpstreamUpsert, now: datetime, rules: Rules, new_id: MemberId, remembered: dict[str, Any]
) -> Transition | Unchanged | Refused:
    facts = _owned_facts(change.fields, rules.mapped_fields)
    if member is None or member.tombstone:
        if not facts.get("name"):
            return Refused("a new member needs a name")
        facts.setdefault("upstream_state", UpstreamState.ACTIVE)
        after = Member(
            id=member.id if member else new_id,
            company_id=change.company_id,
            connection_id=change.connection_id,
            external_id=change.external_id,
            # Not its standing yet: _published works that out of the facts.
            state=Standing.PENDING,
            **facts,
            **remembered,
        )
        return _published(None, after, now, rules.grace)
    if not member.live:
        facts.setdefault("upstream_state", UpstreamState.ACTIVE)
    if member.name is None and not facts.get("name"):
        return Refused("a member whose name was erased needs a name to come back")
    after = replace(
        member,
        connection_id=change.connection_id,
        external_id=change.external_id,
        removed_at=None,
        **facts,
        **remembered,
    )
    return _published(member, after, now, rules.grace)


def _owned_facts(fields: UpstreamFields, mapped: frozenset[str]) -> dict[str, Any]:
    """The facts that the source may set, under their names on the row."""
    facts: dict[str, Any] = {name: value for name, value in fields.items() if name in mapped}
    if "state" in facts:
        facts["upstream_state"] = facts.pop("state")
    if "metadata" in facts and facts["metadata"] is None:
        facts["metadata"] = {}
    return facts


def _decide_local(
    member: Member | None, change: HoldPlaced | HoldReleased | TimePassed, now: datetime, grace: timedelta
) -> Decision:
    if member is None or member.tombstone:
        return Refused("there is no such member")
    if member.version != change.read_version:
        return Stale("the member was changed since it was read")
    match change:
        case HoldPlaced(hold=hold):
            if not member.live:
                return Refused("a removed member cannot be held")
            return _published(member, replace(member, hold=hold, held_at=member.held_at or now), now, grace)
        case HoldReleased():
            return _published(member, replace(member, hold=None, held_at=None), now, grace)
        case TimePassed():
            return _published(member, member, now, grace, time_alone=True)
        case _:
            assert_never(change)


def _published(
    before: Member | None, after: Member, now: datetime, grace: timedelta, *, time_alone: bool = False
) -> Transition | Unchanged:
    """Compare the facts, work out the standing, and number the version."""
    changed = _changed_facts(before, after)
    # A standing that time altered meanwhile is left to reconciliation, which gives it its own reason.
    if not changed and not time_alone:
        return Unchanged(after)
    state = standing(after.upstream_state, after.hold, after.expires_at, grace=grace, now=now)
    previous = before.state if before else None
    if state is not previous:
        changed["state"] = (previous, state)
    if not changed:
        return Unchanged(after)
    return Transition(replace(after, state=state, version=after.version + 1), previous, changed)


def _changed_facts(before: Member | None, after: Member) -> dict[str, tuple[Any, Any]]:
    changed: dict[str, tuple[Any, Any]] = {}
    for attribute, name in _FACTS:
        new = getattr(after, attribute)
        old = getattr(before, attribute) if before is not None else None
        if old != new and not (before is None and new == {}):
            changed[name] = (old, new)
    return changed
