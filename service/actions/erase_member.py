"""Erase what is personal of a member: from its row, its audit, what syncs and scans have said of it, and answers that are kept."""

from __future__ import annotations

from service.actions.change_member import MemberRefused, Then, change_member
from service.domain.change import Cause, MemberErased
from service.domain.decide_local import PERSONAL_FIELDS
from service.domain.member import CompanyId, MemberId
from service.store.database import Database, Tx
from service.store.findings import erase_findings
from service.store.idempotency_keys import discard_answers_about
from service.store.member_history import erase_history
from service.store.member_views import VerifiedMember

__all__ = ["erase_member"]


async def erase_member(
    db: Database,
    company_id: CompanyId,
    member_id: MemberId,
    cause: Cause,
    *,
    versions: frozenset[int] | None,
    default_grace_days: int,
    then: Then | None = None,
) -> VerifiedMember | MemberRefused:
    """Erase it in one transaction, also what an earlier erasure has left since; refused while the member is live at its source.

    Raises Retry errors, and what `then` raises.
    """

    async def erase_the_rest(tx: Tx, member: VerifiedMember) -> None:
        await erase_history(tx, member.id, PERSONAL_FIELDS)
        await erase_findings(tx, member.id)
        await discard_answers_about(tx, member.id)
        if then is not None:
            await then(tx, member)

    return await change_member(
        db,
        company_id,
        member_id,
        lambda version: MemberErased(member_id=member_id, read_version=version, cause=cause),
        versions=versions,
        default_grace_days=default_grace_days,
        then=erase_the_rest,
    )
