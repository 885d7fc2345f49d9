"""Companies: the operator makes and lists them, a company's own keys read and change theirs."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from fastapi import Response
from pydantic import AfterValidator, Field

from service.actions.audit_change import Author
from service.actions.configure_scans import SHORTEST_SCAN_INTERVAL, ScansRefused, configure_scans
from service.actions.register_company import CompanyRefused, is_time_zone, register_company, revise_company
from service.domain.member import CompanyId
from service.entrypoints.http.admin.api_model import AnswerModel, Listed, Name, RequestModel, Whole
from service.entrypoints.http.admin.example_ids import ADDED_AT, CHOIR
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, Reply
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Administrator, Operator, Reader
from service.entrypoints.http.admin.problems import ProblemError, documented
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db, Setting
from service.store.companies import CompanyRow, find_company, page_companies
from service.store.database import Tx

__all__ = ["router"]

router: Final = admin_router("companies")

_PAGES: Final = Cursor("companies", (UUID,))
_MINUTE_MS: Final = 60_000
_OF_SCANS: Final = frozenset({"scan_providers", "scan_interval_minutes"})


def _time_zone(name: str) -> str:
    if not is_time_zone(name):
        raise ValueError("must be a time zone such as Europe/Paris")
    return name


TimeZone = Annotated[str, AfterValidator(_time_zone), Field(description="Whose midnight counts.", examples=["Atlantic/Reykjavik"])]
GraceDays = Annotated[
    Whole | None, Field(ge=0, le=3650, description="Days of grace after expiry; null means the operator's GRACE_DAYS.")
]


ScanProviders = Annotated[
    dict[str, dict[str, Any]] | None,
    Field(
        description="Who looks at the members in a scan, each with its settings: `duplicates` has none, `email_domain` has "
        "allowedDomains, `breach` has domains and secretReference. All at once: what is not named looks no more; null: nobody.",
        examples=[{"duplicates": {}, "email_domain": {"allowedDomains": ["choir.example"]}}],
        max_length=50,
    ),
]


class NewCompany(RequestModel):
    """A company to be added."""

    name: Name = Field(examples=["Choir"])
    time_zone: TimeZone = "UTC"
    grace_days: GraceDays = None

    example: ClassVar[dict[str, Any]] = {"name": "Choir", "timeZone": "Atlantic/Reykjavik", "graceDays": 14}


class CompanyPatch(RequestModel):
    """What is to change; what is absent stays."""

    name: Name = Field(default_factory=str)
    time_zone: TimeZone = Field(default_factory=str)
    grace_days: GraceDays = None
    scan_providers: ScanProviders = None
    scan_interval_minutes: Whole | None = Field(
        default=None,
        ge=SHORTEST_SCAN_INTERVAL,
        le=527_040,
        description="The company is scanned after each of these, at first at once; null: no more by itself.",
        examples=[1440],
    )

    example: ClassVar[dict[str, Any]] = {"graceDays": 30, "scanProviders": {"duplicates": {}}, "scanIntervalMinutes": 1440}


class Company(AnswerModel):
    """A company."""

    id: UUID
    name: str
    time_zone: str
    grace_days: int | None
    scan_providers: dict[str, dict[str, Any]]
    scan_interval_minutes: int | None
    created_at: datetime

    example: ClassVar[dict[str, Any]] = {
        "id": CHOIR,
        "name": "Choir",
        "timeZone": "Atlantic/Reykjavik",
        "graceDays": 14,
        "scanProviders": {"duplicates": {}},
        "scanIntervalMinutes": 1440,
        "createdAt": ADDED_AT,
    }


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
async def change(patch: CompanyPatch, principal: Administrator, db: Db, setting: Setting) -> Company:
    """Change its time zone, days of grace or scans; its name, by which the operator knows it, is the operator's alone to change.

    A company is scanned by itself as long as it has an interval and providers.
    """
    given: dict[str, Any] = patch.model_dump(include=patch.model_fields_set - _OF_SCANS)
    of_scans: dict[str, Any] = patch.model_dump(include=patch.model_fields_set & _OF_SCANS)
    if "name" in given and not principal.is_operator:
        # Whether a name is taken would also tell of other companies.
        raise ProblemError(HTTPStatus.FORBIDDEN, "the name is the operator's alone to change")
    author = Author(principal.company_id, principal.actor)
    async with db.transaction() as tx:
        row = _accepted(await revise_company(tx, author, given))
        if of_scans:
            answer = await configure_scans(tx, author, of_scans, setting.scan_providers, by_operator=principal.is_operator)
            if isinstance(answer, ScansRefused):
                raise ProblemError.wrong(f"body.{answer.where}", answer.reason)
            row = _accepted(answer)
        return _shown(row)


def _accepted(answer: CompanyRow | CompanyRefused | None) -> CompanyRow:
    if answer is None:
        raise ProblemError.not_found("company")
    if isinstance(answer, CompanyRefused):
        raise ProblemError(HTTPStatus.CONFLICT, answer.reason)
    return answer


def _shown(row: CompanyRow) -> Company:
    interval = row.scan_interval_ms
    return Company(
        id=row.id,
        name=row.name,
        time_zone=row.time_zone,
        grace_days=row.grace_days,
        scan_providers={name: dict(settings) for name, settings in row.scan_providers.items()},
        scan_interval_minutes=None if interval is None else interval // _MINUTE_MS,
        created_at=row.created_at,
    )
