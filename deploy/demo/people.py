"""Invented people and what becomes of them at their source: they join, renew, change plans, are suspended, leave, come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

__all__ = ["SourceChange", "invented_name", "life_of", "standing_of", "wire_time"]

_FIRST: Final = (
    "Ada", "Bodil", "Cyril", "Dagny", "Emre", "Fatou", "Gunnar", "Halla", "Imre", "Jorunn", "Kalle", "Liv", "Marek", "Noor",
    "Olena", "Pelle", "Quim", "Runa", "Sofus", "Tuva", "Ulf", "Vigdis", "Wanda", "Xenia", "Yrsa", "Zoltan",
)  # fmt: skip
_LAST: Final = (
    "Ashgrove", "Brightwater", "Calder", "Dunmore", "Elmhurst", "Fairwind", "Greylock", "Hollowell", "Ironwood", "Juniper",
    "Kestrel", "Larkspur", "Mossbank", "Northgate", "Oakhollow", "Pinecrest", "Quillfeather", "Ravenscar", "Stonebrook",
    "Thistledown", "Underhill", "Windermoor",
)  # fmt: skip
_PLANS: Final = ("basic", "family", "plus", "student")


@dataclass(frozen=True, slots=True)
class SourceChange:
    """One change as its source knows it; `member` is the whole record under the contract's names, None for a removal."""

    external_id: str
    version: int
    updated_at: datetime
    member: Mapping[str, Any] | None


def life_of(rng: Random, number: int, changes: int, now: datetime) -> list[SourceChange]:
    """What the source says of person `number`, oldest first, versions growing; `now` is aware and ends the story."""
    member: dict[str, Any] = _joining(rng, number, now)
    version, gone = rng.randint(1, 40), False
    life: list[SourceChange] = []
    for step in range(changes):
        if step:
            gone = not gone and rng.random() < 0.14
            if not gone:
                member = member | _next(rng, member, came_back=life[-1].member is None, now=now)
            # A source numbers its own edits; not every one of them concerns a membership.
            version += rng.randint(1, 3)
        updated_at = now - timedelta(days=20) + timedelta(hours=step, seconds=number)
        life.append(SourceChange(f"m-{number:04d}", version, updated_at, None if gone else member))
    return life


def standing_of(change: SourceChange, now: datetime) -> str:
    """What the last change of somebody makes of him, in words of this demo's own: it must not trust what it checks."""
    if change.member is None:
        return "removed"
    if change.member["state"] == "pending":
        return "pending"
    expires_at = change.member["expiresAt"]
    if expires_at is not None and datetime.fromisoformat(expires_at) < now:
        return "expired"
    return str(change.member["state"])


def invented_name(rng: Random) -> str:
    """A name that nobody has."""
    return f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"


def wire_time(instant: datetime) -> str:
    """An aware instant as RFC 3339."""
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")


def _joining(rng: Random, number: int, now: datetime) -> dict[str, Any]:
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    started = now - timedelta(days=rng.randint(40, 900))
    return {
        "nationalId": f"Q{number:05d}-{rng.randint(100, 999)}",
        "name": f"{first} {last}",
        "email": f"{first}.{last}.{number}@example.org".lower(),
        "phone": f"+000 {rng.randint(100, 999)} {rng.randint(1000, 9999)}",
        "state": rng.choices(("active", "pending"), (92, 8))[0],
        "plan": rng.choice(_PLANS),
        "startsAt": wire_time(started),
        # Some have run out before they were ever heard of, some never end. Nothing lies near `now`: it moves while this runs.
        "expiresAt": rng.choice((*[wire_time(now + timedelta(days=rng.randint(30, 400)))] * 7, _past(rng, now), None)),
        "metadata": {"card": number, "newsletter": rng.random() < 0.5},
    }


def _next(rng: Random, member: Mapping[str, Any], *, came_back: bool, now: datetime) -> dict[str, Any]:
    """What the source edits next; it sends the whole record all the same."""
    if came_back or member["state"] == "pending":
        return {"state": "active", "expiresAt": wire_time(now + timedelta(days=rng.randint(200, 400)))}
    if member["state"] == "suspended" and rng.random() < 0.7:
        return {"state": "active"}
    edits: tuple[tuple[int, dict[str, Any]], ...] = (
        (30, {"expiresAt": wire_time(now + timedelta(days=rng.randint(401, 800)))}),
        (25, {"plan": rng.choice([plan for plan in _PLANS if plan != member["plan"]])}),
        (20, {"state": "suspended"}),
        (10, {"phone": f"+000 {rng.randint(100, 999)} {rng.randint(1000, 9999)}"}),
        (8, {"expiresAt": _past(rng, now)}),
        # A record that was saved without an edit: a newer version of the same facts.
        (7, {}),
    )
    return rng.choices([edit for _, edit in edits], [weight for weight, _ in edits])[0]


def _past(rng: Random, now: datetime) -> str:
    return wire_time(now - timedelta(days=rng.randint(2, 39)))
