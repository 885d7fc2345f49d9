"""Keys of a company: issued and shown once, listed, revoked."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from fastapi import Response
from pydantic import AwareDatetime, Field

from service.actions.audit_change import Author
from service.actions.issue_key import KeyRefused, issue_key, revoke_key
from service.domain.api_keys import ApiKeyId, KeyScope
from service.entrypoints.http.admin.api_model import AnswerModel, Listed, Name, RequestModel
from service.entrypoints.http.admin.example_ids import ADDED_AT, KEY
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, Reply
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Administrator
from service.entrypoints.http.admin.problems import ProblemError
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db
from service.store.api_keys import ApiKeyRow, list_api_keys
from service.store.database import Tx

__all__ = ["router"]

router: Final = admin_router("keys")

_PAGES: Final = Cursor("keys", (datetime, UUID))

Scopes = Annotated[list[KeyScope], Field(min_length=1, max_length=10, description="None includes another.", examples=[["read"]])]


class NewKey(RequestModel):
    """A key to be issued."""

    name: Name = Field(examples=["the nightly import"])
    scopes: Scopes
    expires_at: AwareDatetime | None = None

    example: ClassVar[dict[str, Any]] = {
        "name": "the nightly import",
        "scopes": ["read", "sync"],
        "expiresAt": "2027-12-31T23:59:59Z",
    }


class Key(AnswerModel):
    """A key, without what would let anybody use it. When it was last used is noted to the hour."""

    id: UUID
    name: str
    scopes: list[KeyScope]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    last_used_at: datetime | None

    example: ClassVar[dict[str, Any]] = {
        "id": KEY,
        "name": "the nightly import",
        "scopes": ["read", "sync"],
        "createdAt": ADDED_AT,
        "createdBy": "operator",
        "expiresAt": "2027-12-31T23:59:59Z",
        "revokedAt": None,
        "revokedBy": None,
        "lastUsedAt": "2026-12-01T03:00:00Z",
    }


class IssuedKey(Key):
    """The same with the key itself, this once: a repetition of the request answers null for it."""

    key: str | None = Field(examples=["rc_019b2f6c2f0e7cc19a0d5c1b0f8a7e11_…"])

    example: ClassVar[dict[str, Any]] = {**Key.example, "lastUsedAt": None, "key": "rc_019b2f6c1a2b74d3b5c67d8e9f0a1b0b_…"}


@router.get("/api/keys", summary="List keys")
async def list_all(principal: Administrator, db: Db, page: Page) -> Listed[Key]:
    """The company's keys, the newest first, the revoked among them."""
    after = _PAGES.read(page)
    async with db.transaction() as tx:
        rows = await list_api_keys(
            tx, principal.company_id, after=None if after is None else (after[0], ApiKeyId(after[1])), limit=page.wanted
        )
    return _PAGES.page(page, rows, _shown, lambda row: (row.created_at, row.id))


@router.post("/api/keys", summary="Issue a key", status_code=HTTPStatus.CREATED, response_model=IssuedKey, responses=IDEMPOTENT)
async def issue(new: NewKey, principal: Administrator, once: Once) -> Response:
    """Make a key of the company and show it, once. A key issues none with scopes that it lacks itself (403)."""
    author = Author(principal.company_id, principal.actor)

    async def work(tx: Tx) -> Reply:
        issued = await issue_key(tx, author, new.name, new.scopes, new.expires_at, granting=principal.scopes)
        if isinstance(issued, KeyRefused):
            if issued.lacking:
                raise ProblemError(HTTPStatus.FORBIDDEN, f"the key lacks {', '.join(sorted(issued.lacking))} itself")
            raise ProblemError.wrong("body.expiresAt", "must be in the future")
        told = _shown(issued.row).model_dump()
        body, kept = IssuedKey(**told, key=issued.key), IssuedKey(**told, key=None)
        return Reply(HTTPStatus.CREATED, body, {"Location": f"/api/keys/{issued.row.id}"}, kept=kept)

    return await once.answer(work)


@router.delete("/api/keys/{key_id}", summary="Revoke a key", status_code=HTTPStatus.NO_CONTENT)
async def revoke(key_id: UUID, principal: Administrator, db: Db) -> None:
    """Let a key open nothing from now on; also the one that is used here."""
    async with db.transaction() as tx:
        if not await revoke_key(tx, Author(principal.company_id, principal.actor), ApiKeyId(key_id)):
            raise ProblemError.not_found("key")


def _shown(row: ApiKeyRow) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        scopes=[KeyScope(scope) for scope in row.scopes],
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
        last_used_at=row.last_used_at,
    )
