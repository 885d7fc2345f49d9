"""Plans that begin on a day to come: asked for, withdrawn, and what became of them."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

from fastapi import Response
from pydantic import BeforeValidator, Field

from contracts import fields as contract
from service.actions.request_plan_change import cancel_plan_change, request_plan_change
from service.domain.member import MemberId
from service.domain.plans import LONGEST_TERM_MONTHS, InvalidPlanChange, planned, zone_of
from service.entrypoints.http.admin.api_model import AnswerModel, Listed, RequestModel, Whole
from service.entrypoints.http.admin.example_ids import CORRELATION, KEY
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once
from service.entrypoints.http.admin.member_answers import CHANGED, Versions, accepted, cause_of, kept, shown_change
from service.entrypoints.http.admin.member_models import Instant, MemberDetail, shown_detail
from service.entrypoints.http.admin.members import etag
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Administrator, Reader
from service.entrypoints.http.admin.problems import ProblemError, documented
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db, Setting
from service.store.companies import find_company
from service.store.member_views import find_member
from service.store.plan_changes import PlanChangeRow, list_plan_changes

__all__ = ["router"]

router: Final = admin_router("members")

_PAGES: Final = Cursor("plan-changes", (int,))
_FULL_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_REFUSED: Final = documented({409: "its source owns the plan or the end, it has left, or a plan has begun on that day already"})


def _day(value: object) -> object:
    """As RFC 3339 writes a day: no number, and no time of some zone's."""
    if not isinstance(value, str) or not _FULL_DATE.fullmatch(value):
        raise ValueError("must be a day such as 2027-01-01")
    return value


class NewPlanChange(RequestModel):
    """A plan from a day on; `expiresAt` or `termMonths` renews the membership, with neither its dates stay."""

    plan: contract.Plan = Field(min_length=1, examples=["annual"])
    effective_on: Annotated[date, BeforeValidator(_day)] = Field(
        examples=["2027-01-01"], description="By the clocks of the company's zone."
    )
    expires_at: Instant | None = Field(default=None, examples=["2028-01-01T00:00:00Z"])
    term_months: Whole | None = Field(
        default=None, ge=1, le=LONGEST_TERM_MONTHS, description="Instead of `expiresAt`: so long from the day on.", examples=[None]
    )

    example: ClassVar[dict[str, Any]] = {"plan": "family", "effectiveOn": "2027-01-01", "termMonths": 12}


class PlanChange(AnswerModel):
    """What became of a plan."""

    change_type: Literal["SCHEDULED", "APPLIED", "CANCELLED"]
    plan: str
    effective_on: date
    expires_at: datetime | None
    actor: str
    correlation_id: str
    occurred_at: datetime

    example: ClassVar[dict[str, Any]] = {
        "changeType": "SCHEDULED",
        "plan": "family",
        "effectiveOn": "2027-01-01",
        "expiresAt": "2028-01-01T00:00:00Z",
        "actor": f"key:{KEY}",
        "correlationId": CORRELATION,
        "occurredAt": "2026-11-25T10:00:00Z",
    }


@router.post(
    "/api/members/{member_id}/plan-change",
    summary="Plan another plan",
    response_model=MemberDetail,
    responses={**IDEMPOTENT, **CHANGED, **_REFUSED},
)
async def request(
    member_id: UUID, new: NewPlanChange, principal: Administrator, db: Db, setting: Setting, versions: Versions, once: Once
) -> Response:
    """Let a plan begin on a day, in place of one that was planned before. One whose day has come begins within minutes.

    The plan that the member has, with nothing planned, is no change.
    """
    await once.look()
    async with db.transaction() as tx:
        company = await find_company(tx, str(principal.company_id))
    if company is None:
        raise ProblemError.not_found("company")
    try:
        plan = planned(
            new.plan, new.effective_on, zone_of(company.time_zone), expires_at=new.expires_at, term_months=new.term_months
        )
    except InvalidPlanChange as error:
        raise ProblemError.wrong("body.effectiveOn", str(error)) from None
    answer = await request_plan_change(
        db,
        principal.company_id,
        MemberId(member_id),
        plan,
        cause_of(principal),
        versions=versions,
        default_grace_days=setting.default_grace_days,
        then=kept(once, shown_change),
    )
    return shown_change(accepted(answer)).response


@router.delete("/api/members/{member_id}/plan-change", summary="Withdraw a planned plan", responses=CHANGED)
async def cancel(
    member_id: UUID, principal: Administrator, db: Db, setting: Setting, versions: Versions, response: Response
) -> MemberDetail:
    """Let nothing begin; where nothing is planned, the member stays as it is."""
    answer = await cancel_plan_change(
        db,
        principal.company_id,
        MemberId(member_id),
        cause_of(principal),
        versions=versions,
        default_grace_days=setting.default_grace_days,
    )
    member = accepted(answer)
    response.headers["ETag"] = etag(member)
    return shown_detail(member)


@router.get("/api/members/{member_id}/plan-changes", summary="List a member's changes of plan")
async def list_all(member_id: UUID, principal: Reader, db: Db, setting: Setting, page: Page) -> Listed[PlanChange]:
    """What was planned, what of it began and what was withdrawn; the newest first."""
    after = _PAGES.read(page)
    async with db.transaction() as tx:
        if await find_member(tx, principal.company_id, MemberId(member_id), setting.default_grace_days) is None:
            raise ProblemError.not_found("member")
        rows = await list_plan_changes(
            tx,
            principal.company_id,
            MemberId(member_id),
            before=None if after is None else after[0],
            limit=page.wanted,
        )
    return _PAGES.page(page, rows, _shown, lambda row: (row.id,))


def _shown(row: PlanChangeRow) -> PlanChange:
    return PlanChange(
        change_type=row.change_type.value,
        plan=row.plan,
        effective_on=row.effective_date_day,
        expires_at=row.expires_at,
        actor=row.actor,
        correlation_id=row.correlation_id,
        occurred_at=row.occurred_at,
    )
