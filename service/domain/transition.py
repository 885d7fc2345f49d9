"""From facts before and facts after to the version that leads from one to the other, or to none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from service.domain.change import UpstreamFields
from service.domain.member import Member, MemberId, Standing, altered_member, standing

__all__ = ["Transition", "Unchanged", "facts_of", "publish", "publish_new", "told_facts"]

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
    # The tombstone whose key the member takes.
    absorbs: MemberId | None = None
    # The tombstone that stays at the key which the member gives up.
    leaves: Member | None = None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """No fact altered; `after` differs from the row at most in what is remembered of its source, or is a new tombstone."""

    after: Member


def facts_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an upsert, or of an edit, under their names on the row."""
    facts = dict(fields)
    if "state" in facts:
        facts["upstream_state"] = facts.pop("state")
    if "metadata" in facts and facts["metadata"] is None:
        facts["metadata"] = {}
    return facts


def told_facts(fields: UpstreamFields, mapped: frozenset[str], known: Member | None) -> dict[str, Any]:
    """The facts that a source may set of what it tells of a member, under their names on the row.

    To a source, capitals make no other e-mail address: one that differs from the known one by them alone is that one.
    """
    facts = facts_of({name: value for name, value in fields.items() if name in mapped})
    if known is not None and _same_address(known.email, facts.get("email")):
        facts["email"] = known.email
    return facts


def publish_new(facts: Mapping[str, Any], now: datetime, grace: timedelta) -> Transition:
    """Version 1 of a member of which these facts are known, under their names on the row."""
    changed = {name: (None, value) for fact, name in _FACTS if (value := facts.get(fact)) is not None and value != {}}
    state = standing(facts["upstream_state"], facts.get("hold"), facts.get("expires_at"), grace=grace, now=now)
    changed["state"] = (None, state)
    return Transition(Member(**facts, state=state, version=1), None, changed)


def publish(
    member: Member, altered: Mapping[str, Any], now: datetime, grace: timedelta, *, time_alone: bool = False
) -> Transition | Unchanged:
    """Compare what is `altered`, under its names on the row, with the member, work out the standing, and number the version.

    A standing that time altered meanwhile makes no version by itself, unless `time_alone` asks for it: reconciliation does, and
    gives it its own reason.
    """
    changed = _changed_facts(member, altered) if altered else {}
    if not changed and not time_alone:
        return Unchanged(altered_member(member, altered))
    upstream_state = altered.get("upstream_state", member.upstream_state)
    hold, expires_at = altered.get("hold", member.hold), altered.get("expires_at", member.expires_at)
    state = standing(upstream_state, hold, expires_at, grace=grace, now=now)
    if state is not member.state:
        changed["state"] = (member.state, state)
    if not changed:
        return Unchanged(altered_member(member, altered))
    after = altered_member(member, {**altered, "state": state, "version": member.version + 1})
    return Transition(after, member.state, changed)


def _changed_facts(member: Member, altered: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    changed: dict[str, tuple[Any, Any]] = {}
    for fact, name in _FACTS:
        if fact in altered:
            old, new = getattr(member, fact), altered[fact]
            if not (_same_json(old, new) if fact == "metadata" else old == new):
                changed[name] = (old, new)
    return changed


def _same_json(old: Any, new: Any) -> bool:
    """Equality as JSON has it: to Python, true is 1, and a large number that was stored comes back as an integer of its digits."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(_same_json(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same_json, old, new))
    if isinstance(old, float) != isinstance(new, float) and isinstance(old, int | float) and isinstance(new, int | float):
        return float(old) == float(new)
    return bool(old == new)


def _same_address(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one.casefold() == other.casefold()
