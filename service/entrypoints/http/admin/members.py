"""Members as they are read: listed, searched, shown, with their history and access, and exported; all as of now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Query, Response
from fastapi.responses import StreamingResponse

from contracts import fields as contract
from service.domain.member import CompanyId, ConnectionId, MemberId, Standing
from service.entrypoints.http.admin.api_model import Listed
from service.entrypoints.http.admin.member_csv import MEDIA_TYPE, csv_header, csv_rows
from service.entrypoints.http.admin.member_models import (
    Access,
    Member,
    MemberDetail,
    MemberVersion,
    NationalId,
    shown_access,
    shown_detail,
    shown_member,
    shown_version,
)
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Principal, Reader
from service.entrypoints.http.admin.problems import ProblemError
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db, Setting
from service.store.database import Database
from service.store.member_history import list_history
from service.store.member_views import MemberFilter, MemberView, VerifiedMember, find_member, list_members

__all__ = ["ETAG", "etag", "router"]

router: Final = admin_router("members")

_PAGES: Final = Cursor("members", (UUID,))
_VERSIONS: Final = Cursor("member-versions", (UUID, int))
_EXPORTED_AT_ONCE: Final = 1000

ETAG: Final[dict[str, Any]] = {
    "ETag": {"description": "The member's version, for `If-Match`.", "schema": {"type": "string"}, "example": '"7"'}
}
_CSV: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "One line a member, the names of the columns first",
        "content": {"text/csv": {"schema": {"type": "string"}, "example": "id,connectionId,externalId,…\r\n"}},
    }
}


def _filter(
    state: Annotated[Standing | None, Query(description="What members are now, not what they were when last published.")] = None,
    plan: Annotated[contract.Plan | None, Query()] = None,
    connection_id: Annotated[UUID | None, Query(alias="connectionId")] = None,
    national_id: Annotated[NationalId | None, Query(alias="nationalId")] = None,
    q: Annotated[
        str | None,
        Query(
            min_length=2,
            max_length=100,
            pattern=contract.NOT_BLANK_NO_NUL,
            description="Beginnings of words of the name, in any order, without regard to case and accents; "
            "or the beginning of an e-mail address; or the whole external id.",
        ),
    ] = None,
) -> MemberFilter:
    return MemberFilter(
        state=state,
        plan=plan,
        connection_id=None if connection_id is None else ConnectionId(connection_id),
        national_id=national_id,
        text=q,
    )


Filter = Annotated[MemberFilter, Depends(_filter)]


@router.get("/api/members", summary="List and search members")
async def list_all(principal: Reader, db: Db, setting: Setting, wanted: Filter, page: Page) -> Listed[Member]:
    """Members in the order of their ids, which is about that of their joining. All filters that are given must fit.

    A URL may end in the log of a proxy: filter by name or national id only where that is yours.
    """
    after = _PAGES.read(page)
    async with db.transaction() as tx:
        rows = await list_members(
            tx,
            principal.company_id,
            wanted,
            after=None if after is None else MemberId(after[0]),
            limit=page.wanted,
            default_grace_days=setting.default_grace_days,
        )
    return _PAGES.page(page, rows, shown_member, lambda row: (row.id,))


@router.get("/api/members/export", summary="Export members", response_class=StreamingResponse, responses=_CSV)
async def export(principal: Reader, db: Db, setting: Setting, wanted: Filter) -> Response:
    """All members that fit as CSV (RFC 4180, UTF-8), in the order of their ids.

    It is read as fast as you take it, a thousand at a time: each line is true for the moment in which it was read, not all for one.
    What a spreadsheet would run as a formula has an apostrophe before it. An export that breaks off ends the connection.
    """
    pages = _pages(db, principal.company_id, wanted, setting.default_grace_days)
    # Before anything is answered: a database that is away can still be told by the status.
    first = await anext(pages)

    async def body() -> AsyncIterator[bytes]:
        yield csv_header()
        yield csv_rows(first)
        async for members in pages:
            yield csv_rows(members)

    headers = {"Content-Disposition": 'attachment; filename="members.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(body(), media_type=MEDIA_TYPE, headers=headers)


async def _pages(db: Database, company_id: CompanyId, wanted: MemberFilter, grace_days: int) -> AsyncIterator[list[MemberView]]:
    """A transaction each: whoever reads slowly holds no connection of the pool."""
    after: MemberId | None = None
    while True:
        async with db.transaction() as tx:
            rows = await list_members(tx, company_id, wanted, after=after, limit=_EXPORTED_AT_ONCE, default_grace_days=grace_days)
        yield rows
        if len(rows) < _EXPORTED_AT_ONCE:
            return
        after = rows[-1].id


@router.get("/api/members/{member_id}", summary="Show a member", responses={200: {"headers": ETAG}})
async def show(member_id: UUID, principal: Reader, db: Db, setting: Setting, response: Response) -> MemberDetail:
    """The member as of now, and when it was last verified."""
    member = await _found(db, principal, member_id, setting.default_grace_days)
    response.headers["ETag"] = etag(member)
    return shown_detail(member)


@router.get("/api/members/{member_id}/history", summary="Show a member's history")
async def history(member_id: UUID, principal: Reader, db: Db, setting: Setting, page: Page) -> Listed[MemberVersion]:
    """All its versions, the newest first. Of an erased member the states remain, and which fields had changed."""
    below = _VERSIONS.read(page)
    if below is not None and below[0] != member_id:
        raise ProblemError.wrong("query.cursor", "is of another member")
    member = await _found(db, principal, member_id, setting.default_grace_days)
    async with db.transaction() as tx:
        rows = await list_history(tx, principal.company_id, member.id, below=None if below is None else below[1], limit=page.wanted)
    return _VERSIONS.page(page, rows, shown_version, lambda row: (member.id, row.version))


@router.get("/api/members/{member_id}/access", summary="Check a member's access")
async def check_access(member_id: UUID, principal: Reader, db: Db, setting: Setting) -> Access:
    """Whether the member may come in now: active or in grace, and begun."""
    return shown_access(await _found(db, principal, member_id, setting.default_grace_days))


def etag(member: MemberView) -> str:
    """What names the version of a member that somebody has read."""
    return f'"{member.version}"'


async def _found(db: Database, principal: Principal, member_id: UUID, grace_days: int) -> VerifiedMember:
    async with db.transaction() as tx:
        member = await find_member(tx, principal.company_id, MemberId(member_id), grace_days)
    if member is None:
        raise ProblemError(HTTPStatus.NOT_FOUND, "there is no such member")
    return member
