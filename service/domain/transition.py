"""From facts before and facts after to the version that leads from one to the other, or to none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from service.domain.member import Member, MemberId, Standing, standing

__all__ = ["Transition", "Unchanged", "publish"]

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


def publish(
    before: Member | None, after: Member, now: datetime, grace: timedelta, *, time_alone: bool = False
) -> Transition | Unchanged:
    """Compare the facts, work out the standing, and number the version.

    A standing that time altered meanwhile makes no version by itself, unless `time_alone` asks for it: reconciliation does, and
    gives it its own reason.
    """
    changed = _changed_facts(before, after)
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
        if before is None:
            old, same = None, new is None or new == {}
        else:
            old = getattr(before, attribute)
            same = _same_json(old, new) if attribute == "metadata" else old == new
        if not same:
            changed[name] = (old, new)
    return changed


def _same_json(old: Any, new: Any) -> bool:
    """Equality as JSON has it: to Python, true is 1."""
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(_same_json(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same_json, old, new))
    return bool(old == new)
