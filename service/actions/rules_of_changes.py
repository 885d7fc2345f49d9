"""What companies and connections have fixed for the changes of a batch, by what each change names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from service.domain.change import (
    Change,
    DriftRepaired,
    HoldPlaced,
    HoldReleased,
    LocalChange,
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
)
from service.domain.member import CompanyId, ConnectionId, Member, MemberId
from service.domain.outcome import Outcome, Result
from service.store.companies import grace_of_companies
from service.store.connections import rules_of_connections

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = ["LocalRules", "rules_of_change", "rules_of_locals", "rules_of_upstream"]

_NO_SUCH_COMPANY: Final = Result(Outcome.REFUSED, "there is no such company")
_NO_SUCH_CONNECTION: Final = Result(Outcome.REFUSED, "the company has no such connection")
_NO_SUCH_MEMBER: Final = Result(Outcome.REFUSED, "there is no such member")


@dataclass(frozen=True, slots=True)
class LocalRules:
    """What holds for local changes: in a company for who is new, and for each member what its connection has fixed besides."""

    companies: Mapping[CompanyId, Rules]
    members: Mapping[MemberId, Rules]


_NO_LOCALS: Final = LocalRules({}, {})


def rules_of_upstream(change: UpstreamChange, connections: Mapping[ConnectionId, Rules]) -> Rules | None:
    """What the change's connection fixed; None where the change's company has no such connection."""
    rules = connections.get(change.connection_id)
    return rules if rules is not None and rules.company_id == change.company_id else None


async def rules_of_locals(tx: Tx, local: Sequence[LocalChange], members: Sequence[Member], default_grace_days: int) -> LocalRules:
    """Read what holds for local changes of these members, which are locked."""
    if not local:
        return _NO_LOCALS
    ids = {change.member_id for change in local}
    named = [member for member in members if member.id in ids]
    company_ids = {member.company_id for member in named} | {one.company_id for one in local if isinstance(one, MemberCreated)}
    connection_ids = {member.connection_id for member in named if member.connection_id is not None}
    connections = await rules_of_connections(tx, connection_ids, default_grace_days) if connection_ids else {}
    graces = await grace_of_companies(tx, company_ids, default_grace_days)
    companies = {company_id: Rules(company_id, grace) for company_id, grace in graces.items()}
    of_members = {
        member.id: companies[member.company_id] if member.connection_id is None else connections[member.connection_id]
        for member in named
    }
    return LocalRules(companies, of_members)


def rules_of_change(change: Change, connections: Mapping[ConnectionId, Rules], local: LocalRules) -> Rules | Result:
    """What holds for a change, or why nothing does: what it names is not there."""
    match change:
        case UpstreamUpsert() | UpstreamRemoval():
            return rules_of_upstream(change, connections) or _NO_SUCH_CONNECTION
        case MemberCreated():
            return local.companies.get(change.company_id) or _NO_SUCH_COMPANY
        case MemberEdited() | MemberRemoved() | MemberErased() | HoldPlaced() | HoldReleased() | TimePassed():
            return local.members.get(change.member_id) or _NO_SUCH_MEMBER
        case PlanChangeRequested() | PlanChangeCancelled() | PlanChangeDue() | DriftRepaired():
            return local.members.get(change.member_id) or _NO_SUCH_MEMBER
        case _:
            assert_never(change)
