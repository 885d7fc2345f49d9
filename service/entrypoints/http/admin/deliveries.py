"""Deliveries: what is on its way to a subscriber, what was tried, and what is sent once more."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final, assert_never
from uuid import UUID

from fastapi import Path, Query, Response

from service.actions.audit_change import Author
from service.actions.enqueue_job import AlreadyRunning, Enqueued
from service.actions.request_notifications import NotEnded, NotInThePast, SubscriberInactive, request_replay, request_test, resend
from service.domain.notifications.delivery import DeliveryId, DeliveryState
from service.domain.notifications.subscriber import SubscriberId
from service.entrypoints.http.admin.api_model import Listed
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, Reply
from service.entrypoints.http.admin.job_models import StartedJob
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Administrator, Principal, Reader
from service.entrypoints.http.admin.problems import ProblemError, documented
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db
from service.entrypoints.http.admin.subscriber_models import Delivery, DeliveryDetail, ReplayBody, shown_delivery, shown_detail
from service.store.database import Tx
from service.store.deliveries import DeliveryRow, list_attempts, list_deliveries, show_delivery
from service.store.subscribers import show_subscriber

__all__ = ["router"]

router: Final = admin_router("subscribers")

_PAGES: Final = Cursor("deliveries", (int,))
_LARGEST_ID: Final = 2**63 - 1
_INACTIVE: Final = documented({409: "the subscriber is paused or disabled: nothing would be sent"})
_NOT_NOW: Final = documented({409: "it is still on its way, or its subscriber is disabled"})
_REPLAYING: Final = documented({409: "a replay is under way already, or the subscriber is disabled"})

Id = Annotated[int, Path(ge=1, le=_LARGEST_ID, description="The delivery's number.")]


@router.post(
    "/api/subscribers/{subscriber_id}/test",
    summary="Test a subscriber",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Delivery,
    responses={**IDEMPOTENT, **_INACTIVE},
)
async def test(subscriber_id: UUID, principal: Administrator, once: Once) -> Response:
    """Send it something about nobody, signed like all else. What came of it stands in the delivery that is answered."""

    async def work(tx: Tx) -> Reply:
        asked = await request_test(tx, _author(principal), SubscriberId(subscriber_id))
        if isinstance(asked, SubscriberInactive):
            raise _inactive(asked)
        if asked is None:
            raise ProblemError.not_found("subscriber")
        return _begun(await _shown(tx, principal, subscriber_id, asked))

    return await once.answer(work)


@router.get("/api/subscribers/{subscriber_id}/deliveries", summary="List deliveries")
async def list_all(
    subscriber_id: UUID,
    principal: Reader,
    db: Db,
    page: Page,
    state: Annotated[DeliveryState | None, Query(description="Only these.")] = None,
) -> Listed[Delivery]:
    """What was sent to a subscriber and what is on its way, the newest first."""
    after = _PAGES.read(page)
    async with db.transaction() as tx:
        if await show_subscriber(tx, SubscriberId(subscriber_id), principal.company_id) is None:
            raise ProblemError.not_found("subscriber")
        rows = await list_deliveries(
            tx,
            SubscriberId(subscriber_id),
            state=state,
            after=None if after is None else DeliveryId(after[0]),
            limit=page.wanted,
        )
    return _PAGES.page(page, rows, shown_delivery, lambda row: (row.id,))


@router.get("/api/subscribers/{subscriber_id}/deliveries/{delivery_id}", summary="Show a delivery")
async def show(subscriber_id: UUID, delivery_id: Id, principal: Reader, db: Db) -> DeliveryDetail:
    """One delivery with every attempt: when, how long, what was answered."""
    async with db.transaction() as tx:
        row = await _shown(tx, principal, subscriber_id, DeliveryId(delivery_id))
        return shown_detail(row, await list_attempts(tx, row.id))


@router.post(
    "/api/subscribers/{subscriber_id}/deliveries/{delivery_id}/resend",
    summary="Send a delivery once more",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Delivery,
    responses={**IDEMPOTENT, **_NOT_NOW},
)
async def send_again(subscriber_id: UUID, delivery_id: Id, principal: Administrator, once: Once) -> Response:
    """Let one that ended begin anew, under the same `webhook-id`; of a paused subscriber when that is resumed."""

    async def work(tx: Tx) -> Reply:
        answer = await resend(tx, _author(principal), SubscriberId(subscriber_id), DeliveryId(delivery_id))
        match answer:
            case DeliveryRow():
                return _begun(answer)
            case NotEnded():
                raise ProblemError(HTTPStatus.CONFLICT, "it is still on its way")
            case SubscriberInactive():
                raise _inactive(answer)
            case None:
                raise ProblemError.not_found("delivery")
            case _:
                assert_never(answer)

    return await once.answer(work)


@router.post(
    "/api/subscribers/{subscriber_id}/replay",
    summary="Replay events",
    status_code=HTTPStatus.ACCEPTED,
    response_model=StartedJob,
    responses={**IDEMPOTENT, **_REPLAYING},
)
async def replay(subscriber_id: UUID, asked: ReplayBody, principal: Administrator, once: Once) -> Response:
    """Send a subscriber once more all that it wants of what has happened since then, as far as the audit reaches."""

    async def work(tx: Tx) -> Reply:
        answer = await request_replay(tx, _author(principal), SubscriberId(subscriber_id), asked.since)
        match answer:
            case Enqueued(job_id=job_id):
                return Reply(HTTPStatus.ACCEPTED, StartedJob(job_id=job_id), {"Location": f"/sync/jobs/{job_id}"})
            case AlreadyRunning(job_id=job_id):
                raise ProblemError(HTTPStatus.CONFLICT, "a replay is under way already", job_id=job_id)
            case SubscriberInactive():
                raise _inactive(answer)
            case NotInThePast():
                raise ProblemError.wrong("body.since", "must be in the past")
            case None:
                raise ProblemError.not_found("subscriber")
            case _:
                assert_never(answer)

    return await once.answer(work)


async def _shown(tx: Tx, principal: Principal, subscriber_id: UUID, delivery_id: DeliveryId) -> DeliveryRow:
    row = await show_delivery(tx, delivery_id, SubscriberId(subscriber_id), principal.company_id)
    if row is None:
        raise ProblemError.not_found("delivery")
    return row


def _begun(row: DeliveryRow) -> Reply:
    where = f"/api/subscribers/{row.subscriber_id}/deliveries/{row.id}"
    return Reply(HTTPStatus.ACCEPTED, shown_delivery(row), {"Location": where})


def _inactive(found: SubscriberInactive) -> ProblemError:
    return ProblemError(HTTPStatus.CONFLICT, f"the subscriber is {found.state.value}: nothing would be sent")


def _author(principal: Principal) -> Author:
    return Author(principal.company_id, principal.actor)
