"""Subscribers: who is told of a company's events over HTTP, and what is done about them."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final, NoReturn, TypeVar, assert_never
from uuid import UUID

from fastapi import Response

from service.actions.audit_change import Author
from service.actions.configure_subscriber import (
    NewSubscriber,
    SubscriberNameTaken,
    SubscriberRefused,
    foresee_refusal,
    register_subscriber,
    revise_subscriber,
    rotate_subscriber_secret,
)
from service.actions.switch_subscriber import SubscriberDisabled, pause_subscriber, remove_subscriber, resume_subscriber
from service.domain.notifications.subscriber import SubscriberId
from service.entrypoints.http.admin.api_model import Listed
from service.entrypoints.http.admin.idempotency import IDEMPOTENT, Once, Reply
from service.entrypoints.http.admin.paging import Cursor, Page
from service.entrypoints.http.admin.principal import Administrator, Principal, Reader
from service.entrypoints.http.admin.problems import ProblemError, documented
from service.entrypoints.http.admin.route import admin_router
from service.entrypoints.http.admin.setting import Db, Setting
from service.entrypoints.http.admin.subscriber_models import (
    NewSecretBody,
    NewSubscriberBody,
    ResumedSubscriber,
    Subscriber,
    SubscriberPatch,
    given_wants,
    shown_resumed,
    shown_subscriber,
)
from service.store.database import Tx
from service.store.subscribers import SubscriberRow, list_subscribers, show_subscriber

__all__ = ["router"]

T = TypeVar("T")

router: Final = admin_router("subscribers")

_PAGES: Final = Cursor("subscribers", (str,))
# Parts of the filter, as the action calls them.
_OF_WANTS: Final = frozenset({"reasonCodes", "newStates", "changedFields"})
_FIELDS: Final = {"overlap": "overlapMinutes"}
_TAKEN: Final = documented({409: "the company has a subscriber of that name"})
_DISABLED: Final = documented({409: "the subscriber is disabled: nothing that happens is kept for it"})


@router.get("/api/subscribers", summary="List subscribers")
async def list_all(principal: Reader, db: Db, page: Page) -> Listed[Subscriber]:
    """The company's subscribers by name, with how each of them fares."""
    after = _PAGES.read(page)
    async with db.transaction() as tx:
        rows = await list_subscribers(tx, principal.company_id, after=None if after is None else after[0], limit=page.wanted)
    return _PAGES.page(page, rows, shown_subscriber, lambda row: (row.name,))


@router.post(
    "/api/subscribers",
    summary="Add a subscriber",
    status_code=HTTPStatus.CREATED,
    response_model=Subscriber,
    responses={**IDEMPOTENT, **_TAKEN},
)
async def add(new: NewSubscriberBody, principal: Administrator, db: Db, once: Once, setting: Setting) -> Response:
    """Tell a system of what happens from now on: each event is posted to it, signed as Standard Webhooks have it.

    503 while the broker is away: an event that it could not be told of must not be missed.
    """
    await once.look()
    described = NewSubscriber(
        name=new.name,
        url=new.url,
        secret_reference=new.secret_reference,
        wants=given_wants(new.wants),
        in_order=new.in_order,
    )
    async with db.transaction() as tx:
        refused = await foresee_refusal(tx, _author(principal), described, by_operator=principal.is_operator)
    if refused is not None:
        _refuse(refused)
    # Before anything is written: from its row's commit on, no event may pass by.
    bound = await setting.bind(principal.company_id)

    async def work(tx: Tx) -> Reply:
        row = _accepted(await register_subscriber(tx, _author(principal), described, bound, by_operator=principal.is_operator))
        return Reply(HTTPStatus.CREATED, shown_subscriber(row), {"Location": f"/api/subscribers/{row.id}"})

    return await once.answer(work)


@router.get("/api/subscribers/{subscriber_id}", summary="Show a subscriber")
async def show(subscriber_id: UUID, principal: Reader, db: Db) -> Subscriber:
    """Where it is called, what it wants, and whether it answers."""
    async with db.transaction() as tx:
        return shown_subscriber(_found(await show_subscriber(tx, SubscriberId(subscriber_id), principal.company_id)))


@router.patch("/api/subscribers/{subscriber_id}", summary="Change a subscriber", responses=_TAKEN)
async def change(subscriber_id: UUID, patch: SubscriberPatch, principal: Administrator, db: Db) -> Subscriber:
    """Change where it is called or what it wants: what is on its way goes to the new address, a new filter is for what comes."""
    given: dict[str, Any] = {name: getattr(patch, name) for name in patch.model_fields_set - {"wants"}}
    if "wants" in patch.model_fields_set:
        given["wants"] = given_wants(patch.wants)
    async with db.transaction() as tx:
        answer = await revise_subscriber(tx, _author(principal), SubscriberId(subscriber_id), given)
        return shown_subscriber(_accepted(answer))


@router.delete("/api/subscribers/{subscriber_id}", summary="Remove a subscriber", status_code=HTTPStatus.NO_CONTENT)
async def remove(subscriber_id: UUID, principal: Administrator, db: Db) -> None:
    """Tell it nothing any more; what is on its way to it is given up."""
    async with db.transaction() as tx:
        if not await remove_subscriber(tx, _author(principal), SubscriberId(subscriber_id)):
            raise ProblemError.not_found("subscriber")


@router.post(
    "/api/subscribers/{subscriber_id}/secret",
    summary="Rotate a subscriber's secret",
    response_model=Subscriber,
    responses=IDEMPOTENT,
)
async def rotate(subscriber_id: UUID, new: NewSecretBody, principal: Administrator, once: Once) -> Response:
    """Sign with another secret from now on, and with the ones before it for as long as `overlapMinutes` says.

    Meanwhile every notification bears a signature by each, so that the subscriber may change over whenever it likes.
    """

    async def work(tx: Tx) -> Reply:
        answer = await rotate_subscriber_secret(
            tx,
            _author(principal),
            SubscriberId(subscriber_id),
            new.secret_reference,
            timedelta(minutes=new.overlap_minutes),
            by_operator=principal.is_operator,
        )
        return Reply(HTTPStatus.OK, shown_subscriber(_accepted(answer)))

    return await once.answer(work)


@router.post(
    "/api/subscribers/{subscriber_id}/pause",
    summary="Pause a subscriber",
    response_model=Subscriber,
    responses={**IDEMPOTENT, **_DISABLED},
)
async def pause(subscriber_id: UUID, principal: Administrator, once: Once) -> Response:
    """Call it no more for a while; what happens meanwhile waits for it. One that is paused stays so."""

    async def work(tx: Tx) -> Reply:
        answer = await pause_subscriber(tx, _author(principal), SubscriberId(subscriber_id))
        if isinstance(answer, SubscriberDisabled):
            raise ProblemError(HTTPStatus.CONFLICT, "it is disabled, which is more than paused: nothing is kept for it")
        return Reply(HTTPStatus.OK, shown_subscriber(_found(answer)))

    return await once.answer(work)


@router.post(
    "/api/subscribers/{subscriber_id}/resume",
    summary="Resume a subscriber",
    response_model=ResumedSubscriber,
    responses=IDEMPOTENT,
)
async def resume(subscriber_id: UUID, principal: Administrator, once: Once) -> Response:
    """Call a paused or disabled subscriber again, with what waits for it first.

    Where it was disabled `missedSince` says since when it may have missed something, up to five minutes before that: a replay
    since then brings it.
    """

    async def work(tx: Tx) -> Reply:
        resumed = _found(await resume_subscriber(tx, _author(principal), SubscriberId(subscriber_id)))
        return Reply(HTTPStatus.OK, shown_resumed(resumed.row, resumed.missed_since))

    return await once.answer(work)


def _author(principal: Principal) -> Author:
    return Author(principal.company_id, principal.actor)


def _found(answer: T | None) -> T:
    if answer is None:
        raise ProblemError.not_found("subscriber")
    return answer


def _accepted(answer: SubscriberRow | SubscriberRefused | SubscriberNameTaken | None) -> SubscriberRow:
    if isinstance(answer, SubscriberRefused | SubscriberNameTaken):
        _refuse(answer)
    return _found(answer)


def _refuse(answer: SubscriberRefused | SubscriberNameTaken) -> NoReturn:
    match answer:
        case SubscriberRefused(where=where, reason=reason):
            part = f"wants.{where}" if where in _OF_WANTS else _FIELDS.get(where, where)
            raise ProblemError.wrong(f"body.{part}", reason)
        case SubscriberNameTaken():
            raise ProblemError(HTTPStatus.CONFLICT, "the company has a subscriber of that name")
        case _:
            assert_never(answer)
