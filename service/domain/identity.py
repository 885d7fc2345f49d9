"""Which member a source's upsert is about: its key first, then the national id; and what stays at a key that is given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from service.domain.change import UpstreamUpsert
from service.domain.member import Member, MemberId, Standing, UpstreamState

__all__ = ["NATIONAL_ID_AS_KEY", "Match", "Mismatch", "identify", "left_behind"]

# Why an upsert is refused, or a record invalid; the national id itself is not quoted.
NATIONAL_ID_AS_KEY: Final = "externalId is the member's own national id, and would travel in events"


@dataclass(frozen=True, slots=True)
class Match:
    """The row that the upsert is about, as it stands, or None for a member not seen before."""

    member: Member | None
    # Found by its national id: the row leaves its key for the upsert's.
    takes_over: bool = False
    # The tombstone of the upsert's key, whose place the row takes.
    absorbs: MemberId | None = None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key and the national id do not belong together; says how, and names neither."""

    reason: str


def identify(change: UpstreamUpsert, by_key: Member | None, namesake: Member | None) -> Match | Mismatch:
    """Resolve an upsert against the row of its key and the row of its national id in its company (semantics: Identity)."""
    if namesake is None or namesake is by_key:
        return Match(by_key)
    if by_key is not None and not by_key.tombstone:
        return Mismatch("the national id belongs to another member of the company")
    if namesake.connection_id == change.connection_id:
        # That the old key is gone only a complete snapshot can say; a stream may merely be early.
        if change.replaces_external_id is None or change.replaces_external_id != namesake.external_id:
            return Mismatch("the national id belongs to another key of this connection, which no complete snapshot lacks")
    elif namesake.live:
        return Mismatch("the national id belongs to a live member outside this connection")
    return Match(namesake, takes_over=True, absorbs=None if by_key is None else by_key.id)


def left_behind(member: Member, identity: MemberId, now: datetime) -> Member | None:
    """The tombstone at a key that a member gives up: a late older change of that key would make a second member without it."""
    if member.source_version is None:
        return None
    return Member(
        id=identity,
        company_id=member.company_id,
        connection_id=member.connection_id,
        external_id=member.external_id,
        upstream_state=UpstreamState.REMOVED,
        state=Standing.REMOVED,
        removed_at=member.removed_at or now,
        source_version=member.source_version,
        source_hash=member.source_hash,
        upstream_applied_at=member.upstream_applied_at,
    )
