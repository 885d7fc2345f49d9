"""Members as they are changed by people: made, edited, held, taken out and erased, each over the version that was read."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from uuid import UUID

from fastapi import Response
from uuid_utils.compat import uuid7

from service.actions.change_member import apply_local, change_member
from service.actions.erase_member import erase_member
from service.domain.change import (
    HoldPlaced,
    HoldReleased,
    LocalChange,
    MemberCreated,
    MemberEdited,
    MemberRemoved,
)
from service.domain.member import MemberId
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, Reply
from service.entrypoints.http.admin.member_answers import CHANGED, Versions, accepted, cause_of, kept, shown_change
from service.entrypoints.http.admin.member_models import HeldFor, MemberDetail, MemberPatch, NewMember, fields_of, shown_detail
from service.entrypoints.http.admin.members import ETAG, etag
from service.entrypoints.http.admin.principal import Administrator
from service.entrypoints.http.admin.problems import documented
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db, Setting
from service.store.member_views import VerifiedMember

__all__ = ["router"]

router: Final = admin_router("members")


@router.post(
    "/api/members",
    summary="Add a member",
    status_code=HTTPStatus.CREATED,
    response_model=MemberDetail,
    responses={**IDEMPOTENT, 201: {"headers": ETAG}, **documented({409: "the national id belongs to another member"})},
)
async def add(new: NewMember, principal: Administrator, db: Db, setting: Setting, once: Once) -> Response:
    """Add a member that no source tells of. Who has left and has this national id comes back under the old id."""
    await once.look()
    change = MemberCreated(
        company_id=principal.company_id, member_id=MemberId(uuid7()), cause=cause_of(principal), fields=fields_of(new)
    )
    answer = await apply_local(
        db,
        principal.company_id,
        change,
        default_grace_days=setting.default_grace_days,
        then=kept(once, _created),
    )
    return _created(accepted(answer)).response


@router.patch(
    "/api/members/{member_id}",
    summary="Edit a member",
    responses={**CHANGED, **documented({409: "its source owns a field, it has left, or the national id is another's"})},
)
async def edit(
    member_id: UUID,
    patch: MemberPatch,
    principal: Administrator,
    db: Db,
    setting: Setting,
    versions: Versions,
    response: Response,
) -> MemberDetail:
    """Change what no source owns: all of a member without a connection, else what the connection does not map.

    A state brings back a member that was taken out.
    """
    fields, cause, company_id = fields_of(patch), cause_of(principal), principal.company_id

    def build(version: int) -> LocalChange:
        return MemberEdited(member_id=MemberId(member_id), read_version=version, cause=cause, company_id=company_id, fields=fields)

    answer = await change_member(
        db, company_id, MemberId(member_id), build, versions=versions, default_grace_days=setting.default_grace_days
    )
    member = accepted(answer)
    response.headers["ETag"] = etag(member)
    return shown_detail(member)


@router.delete(
    "/api/members/{member_id}",
    summary="Take a member out",
    status_code=HTTPStatus.NO_CONTENT,
    responses=documented({409: "it has a source, which alone removes it", 412: "the member was changed since it was read"}),
)
async def take_out(member_id: UUID, principal: Administrator, db: Db, setting: Setting, versions: Versions) -> None:
    """Let a member without a source leave. Its data stay until they are erased; again, nothing happens."""
    cause = cause_of(principal)
    answer = await change_member(
        db,
        principal.company_id,
        MemberId(member_id),
        lambda version: MemberRemoved(member_id=MemberId(member_id), read_version=version, cause=cause),
        versions=versions,
        default_grace_days=setting.default_grace_days,
    )
    accepted(answer)


@router.post(
    "/api/members/{member_id}/hold",
    summary="Hold a member",
    response_model=MemberDetail,
    responses={**IDEMPOTENT, **CHANGED, **documented({409: "the member has left"})},
)
async def hold(
    member_id: UUID,
    held: HeldFor,
    principal: Administrator,
    db: Db,
    setting: Setting,
    versions: Versions,
    once: Once,
) -> Response:
    """Suspend a member here, whatever its source says; the reason replaces an earlier one."""
    await once.look()
    cause = cause_of(principal)
    answer = await change_member(
        db,
        principal.company_id,
        MemberId(member_id),
        lambda version: HoldPlaced(member_id=MemberId(member_id), read_version=version, cause=cause, hold=held.reason),
        versions=versions,
        default_grace_days=setting.default_grace_days,
        then=kept(once, shown_change),
    )
    return shown_change(accepted(answer)).response


@router.delete("/api/members/{member_id}/hold", summary="Release a member", responses=CHANGED)
async def release(
    member_id: UUID, principal: Administrator, db: Db, setting: Setting, versions: Versions, response: Response
) -> MemberDetail:
    """Lift the hold; a member that is not held stays as it is."""
    cause = cause_of(principal)
    answer = await change_member(
        db,
        principal.company_id,
        MemberId(member_id),
        lambda version: HoldReleased(member_id=MemberId(member_id), read_version=version, cause=cause),
        versions=versions,
        default_grace_days=setting.default_grace_days,
    )
    member = accepted(answer)
    response.headers["ETag"] = etag(member)
    return shown_detail(member)


@router.post(
    "/api/members/{member_id}/erasure",
    summary="Erase a member's personal data",
    response_model=MemberDetail,
    responses={
        **IDEMPOTENT,
        **CHANGED,
        **documented({409: "the member is live at its source, which would bring everything back"}),
    },
)
async def erase(member_id: UUID, principal: Administrator, db: Db, setting: Setting, versions: Versions, once: Once) -> Response:
    """Erase name, contact, national id, metadata and the reason of a hold, for good, from the member and from its history.

    Ids, states, plans and dates stay. A member without a source leaves by it.
    """
    await once.look()
    answer = await erase_member(
        db,
        principal.company_id,
        MemberId(member_id),
        cause_of(principal),
        versions=versions,
        default_grace_days=setting.default_grace_days,
        then=kept(once, shown_change),
    )
    return shown_change(accepted(answer)).response


def _created(member: VerifiedMember) -> Reply:
    headers = {"Location": f"/api/members/{member.id}", "ETag": etag(member)}
    return Reply(HTTPStatus.CREATED, shown_detail(member), headers)
