"""A batch of changes folded over the members that it is about, in arrival order; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

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
    UpstreamRemoval,
    UpstreamUpsert,
)
from service.domain.decide import decide
from service.domain.decision import Conflict, Decision, Refused, Stale
from service.domain.member import CompanyId, ConnectionId, Member, MemberId
from service.domain.outcome import Outcome, Result
from service.domain.transition import Transition, Unchanged

__all__ = ["Fold", "Version"]


@dataclass(frozen=True, slots=True)
class Version:
    """One new version of a member and the change behind it."""

    transition: Transition
    change: Change


class Fold:
    """The members of a batch as its changes alter them one after the other."""

    def __init__(self, members: Iterable[Member], now: datetime) -> None:
        self.versions: list[Version] = []
        self.now = now
        self._read: dict[MemberId, Member] = {member.id: member for member in members}
        self._current: dict[MemberId, Member] = dict(self._read)
        self._absorbed: set[MemberId] = set()
        self._by_key: dict[tuple[ConnectionId, str], MemberId] = {}
        self._by_national_id: dict[tuple[CompanyId, str], MemberId] = {}
        for member in self._read.values():
            self._index(member)

    def take(self, change: Change, rules: Rules, new_id: MemberId) -> Result:
        """Decide one change over what the ones before it left; `new_id` names the row that it may create."""
        match change:
            case UpstreamUpsert() | UpstreamRemoval():
                member = self._holder_of_key(change)
                namesake = self._holder_of_national_id(change, rules)
            case MemberCreated() | MemberEdited():
                member = self._current.get(change.member_id)
                namesake = self._holder_of(change.company_id, change.fields.get("national_id"))
            case MemberRemoved() | MemberErased() | HoldPlaced() | HoldReleased() | TimePassed():
                member, namesake = self._current.get(change.member_id), None
            case PlanChangeRequested() | PlanChangeCancelled() | PlanChangeDue() | DriftRepaired():
                member, namesake = self._current.get(change.member_id), None
            case _:
                assert_never(change)
        return self._enter(decide(member, change, self.now, rules, new_id, namesake=namesake), change, member)

    @property
    def entangled(self) -> bool:
        """Whether a member takes the key or national id that another one held when it was read: no single statement writes both."""
        moved = [
            after
            for identity, read in self._read.items()
            if (after := self._current.get(identity)) is not None
            and (after.national_id != read.national_id or after.external_id != read.external_id)
        ]
        if not moved:
            return False
        held = {identity: read for identity, read in self._read.items() if identity not in self._absorbed}
        people = {(read.company_id, read.national_id): identity for identity, read in held.items()}
        keys = {(read.connection_id, read.external_id): identity for identity, read in held.items()}
        return any(
            (after.national_id is not None and people.get((after.company_id, after.national_id), after.id) != after.id)
            or (after.external_id is not None and keys.get((after.connection_id, after.external_id), after.id) != after.id)
            for after in moved
        )

    @property
    def inserted(self) -> list[Member]:
        """Members and tombstones that were not there before."""
        return [member for identity, member in self._current.items() if identity not in self._read]

    @property
    def updated(self) -> list[tuple[Member, Member]]:
        """Members that differ from what was read, each with what was read."""
        return [
            (member, read)
            for identity, read in self._read.items()
            if (member := self._current.get(identity)) is not None and member is not read
        ]

    @property
    def absorbed(self) -> list[MemberId]:
        """Tombstones to delete: a member took their place."""
        return [identity for identity in self._absorbed if identity in self._read]

    def _enter(self, decision: Decision, change: Change, member: Member | None) -> Result:
        match decision:
            case Transition(after=after, absorbs=absorbs, leaves=leaves):
                if absorbs is not None:
                    self._absorbed.add(absorbs)
                    del self._current[absorbs]
                self._put(after)
                if leaves is not None:
                    self._put(leaves)
                self.versions.append(Version(decision, change))
                return Result(Outcome.APPLIED, None, after.id, after.version)
            case Unchanged(after=after):
                self._put(after)
                return Result(Outcome.UNCHANGED, None, after.id)
            case Stale(reason=reason):
                return Result(Outcome.STALE, reason, member.id if member else None)
            case Conflict(reason=reason):
                return Result(Outcome.CONFLICT, reason, member.id if member else None)
            case Refused(reason=reason):
                return Result(Outcome.REFUSED, reason, member.id if member else None)
            case _:
                assert_never(decision)

    def _put(self, after: Member) -> None:
        before = self._current.get(after.id)
        if before is not None:
            if before.connection_id is not None and before.external_id is not None:
                del self._by_key[before.connection_id, before.external_id]
            if before.national_id is not None:
                del self._by_national_id[before.company_id, before.national_id]
        self._current[after.id] = after
        self._index(after)

    def _index(self, member: Member) -> None:
        if member.connection_id is not None and member.external_id is not None:
            self._by_key[member.connection_id, member.external_id] = member.id
        if member.national_id is not None:
            self._by_national_id[member.company_id, member.national_id] = member.id

    def _holder_of_key(self, change: UpstreamUpsert | UpstreamRemoval) -> Member | None:
        identity = self._by_key.get((change.connection_id, change.external_id))
        return None if identity is None else self._current[identity]

    def _holder_of_national_id(self, change: UpstreamUpsert | UpstreamRemoval, rules: Rules) -> Member | None:
        if isinstance(change, UpstreamRemoval) or "national_id" not in rules.mapped_fields:
            return None
        return self._holder_of(change.company_id, change.fields.get("national_id"))

    def _holder_of(self, company_id: CompanyId, national_id: str | None) -> Member | None:
        identity = None if national_id is None else self._by_national_id.get((company_id, national_id))
        return None if identity is None else self._current[identity]
