"""Companies: the operator makes and lists them, a company's own keys read and change theirs."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Response
from pydantic import AfterValidator, Field

from service.actions.audit_change import Author
from service.actions.register_company import CompanyRefused, is_time_zone, register_company, revise_company
from service.domain.member import CompanyId
from service.entrypoints.http.admin.api_model import AnswerModel, Listed, Name, RequestModel, Whole
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, Reply
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Administrator, Operator, Reader
from service.entrypoints.http.admin.problems import ProblemError, documented
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db
from service.store.companies import CompanyRow, find_company, page_companies
from service.store.database import Tx

__all__ = ["router"]

router: Final = admin_router("companies")

_PAGES: Final = Cursor("companies", (UUID,))


def _time_zone(name: str) -> str:
    if not is_time_zone(name):
        raise ValueError("must be a time zone such as Europe/Paris")
    return name


TimeZone = Annotated[str, AfterValidator(_time_zone), Field(description="Whose midnight counts.", examples=["Atlantic/Reykjavik"])]
GraceDays = Annotated[
    Whole | None, Field(ge=0, le=3650, description="Days of grace after expiry; null means the operator's GRACE_DAYS.")
]


class NewCompany(RequestModel):
    """A company to be added."""

    name: Name = Field(examples=["Choir"])
    time_zone: TimeZone = "UTC"
    grace_days: GraceDays = None


class CompanyPatch(RequestModel):
    """What is to change; what is absent stays."""

    name: Name = Field(default_factory=str)
    time_zone: TimeZone = Field(default_factory=str)
    grace_days: GraceDays = None


class Company(AnswerModel):
    """A company."""

    id: UUID
    name: str
    time_zone: str
    grace_days: int | None
    created_at: datetime


@router.get("/api/companies", summary="List companies")
async def list_all(_: Operator, db: Db, page: Page) -> Listed[Company]:
    """All companies, by id; the operator's alone."""
    after = _PAGES.read(page)
    async with db.transaction() as tx:
        rows = await page_companies(tx, after=None if after is None else CompanyId(after[0]), limit=page.wanted)
    return _PAGES.page(page, rows, _shown, lambda row: (row.id,))


@router.post(
    "/api/companies", summary="Add a company", status_code=HTTPStatus.CREATED, response_model=Company, responses=IDEMPOTENT
)
async def add(new: NewCompany, caller: Operator, once: Once) -> Response:
    """Add a company; its name is unique. The operator's alone."""

    async def work(tx: Tx) -> Reply:
        row = _accepted(await register_company(tx, new.name, new.time_zone, new.grace_days, caller.actor))
        return Reply(HTTPStatus.CREATED, _shown(row), {"Location": "/api/company"})

    return await once.answer(work)


@router.get("/api/company", summary="Show the company")
async def show(principal: Reader, db: Db) -> Company:
    """The key's own company, or the one that the operator means."""
    async with db.transaction() as tx:
        return _shown(_accepted(await find_company(tx, str(principal.company_id))))


@router.patch("/api/company", summary="Change the company", responses=documented({409: "there is another company of that name"}))
async def change(patch: CompanyPatch, principal: Administrator, db: Db) -> Company:
    """Change its time zone or days of grace; its name, by which the operator knows it, is the operator's alone to change."""
    given: dict[str, Any] = patch.model_dump(include=patch.model_fields_set)
    if "name" in given and not principal.is_operator:
        # Whether a name is taken would also tell of other companies.
        raise ProblemError(HTTPStatus.FORBIDDEN, "the name is the operator's alone to change")
    async with db.transaction() as tx:
        return _shown(_accepted(await revise_company(tx, Author(principal.company_id, principal.actor), given)))


def _accepted(answer: CompanyRow | CompanyRefused | None) -> CompanyRow:
    if answer is None:
        raise ProblemError.not_found("company")
    if isinstance(answer, CompanyRefused):
        raise ProblemError(HTTPStatus.CONFLICT, answer.reason)
    return answer


def _shown(row: CompanyRow) -> Company:
    return Company(id=row.id, name=row.name, time_zone=row.time_zone, grace_days=row.grace_days, created_at=row.created_at)
