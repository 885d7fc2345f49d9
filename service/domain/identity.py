"""Which member a source's change is about: its key first, then the national id."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.change import UpstreamChange, UpstreamUpsert
from service.domain.member import Member

__all__ = ["Match", "Mismatch", "identify"]


@dataclass(frozen=True, slots=True)
class Match:
    """The row that the change is about, as it stands, or None for a member not seen before."""

    member: Member | None
    # A tombstone of the change's key whose place the member's own row takes.
    absorbs: Member | None = None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key and the national id do not belong together; says how, and names neither."""

    reason: str


def identify(change: UpstreamChange, by_key: Member | None, by_national_id: Member | None) -> Match | Mismatch:
    """Resolve a change against the row of its key and the row of its national id in its company (semantics: Identity)."""
    rival = by_national_id
    if rival is None or rival is by_key or not isinstance(change, UpstreamUpsert):
        return Match(by_key)
    if by_key is not None and not by_key.tombstone:
        return Mismatch("the national id belongs to another member of the company")
    if rival.connection_id == change.connection_id:
        # That the old key is gone only a complete snapshot can say; a stream may merely be early.
        if change.replaces_external_id is None or change.replaces_external_id != rival.external_id:
            return Mismatch("the national id belongs to another key of this connection, which no complete snapshot lacks")
    elif rival.live:
        return Mismatch("the national id belongs to a live member of another connection")
    return Match(rival, absorbs=by_key)
