"""Add a subscriber of a company's events, or change where it is called, what it wants and what it is signed with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from uuid_utils.compat import uuid7

from service.actions.audit_change import Author, audit_change, differences
from service.actions.bind_notifications import Bound
from service.domain.directories.configuration import HIDDEN_QUERY
from service.domain.member import CompanyId
from service.domain.notifications.subscriber import EventFilter, InvalidSubscriber, SubscriberId, event_filter, subscriber_url
from service.settings import is_reference
from service.store.secret_grants import is_granted, offer_secret
from service.store.subscriber_secrets import discard_retired_secrets, insert_subscriber_secret, retire_subscriber_secrets
from service.store.subscribers import (
    SubscriberRow,
    change_subscriber,
    count_subscribers,
    find_subscriber_named,
    insert_subscriber,
    lock_subscriber,
    show_subscriber,
)
from service.store.sweeps import begin_sweep

if TYPE_CHECKING:
    from service.store.database import Tx

__all__ = [
    "MOST_SUBSCRIBERS",
    "NewSubscriber",
    "SubscriberNameTaken",
    "SubscriberRefused",
    "foresee_refusal",
    "register_subscriber",
    "revise_subscriber",
    "rotate_subscriber_secret",
]

# Of a company: each event is written down once for each of them.
MOST_SUBSCRIBERS: Final = 100
_TOO_MANY: Final = f"the company has {MOST_SUBSCRIBERS} subscribers already, and no more may be"
_NO_REFERENCE: Final = "must be env:ROLLCALL_SECRET_NAME, or file:NAME below SECRETS_DIR"
_NOT_GRANTED: Final = "is not granted to this company; the operator grants it"
_LONGEST_OVERLAP: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class SubscriberRefused:
    """It cannot be so; `where` is the part that does not fit, `reason` says why and shows no secret."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class SubscriberNameTaken:
    """The company has another subscriber of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSubscriber:
    """A subscriber as somebody describes it; `wants` may hold `reasonCodes`, `newStates`, `changedFields`: none is all."""

    name: str
    url: str
    secret_reference: str
    wants: Mapping[str, Collection[str]] = field(default_factory=dict)
    in_order: bool = False


_Refusal: TypeAlias = SubscriberRefused | SubscriberNameTaken


async def foresee_refusal(tx: Tx, author: Author, new: NewSubscriber, *, by_operator: bool) -> _Refusal | None:
    """Why it could not be added, None where nothing speaks against it; asked before its company's events are bound for it.

    Where events are bound and nobody is told of them, they would no longer wait for a queue that is bound later.
    """
    try:
        subscriber_url(new.url)
        event_filter(new.wants)
    except InvalidSubscriber as error:
        return SubscriberRefused(error.where, str(error))
    if not is_reference(new.secret_reference):
        return SubscriberRefused("secretReference", _NO_REFERENCE)
    if not by_operator and not await is_granted(tx, author.company_id, new.secret_reference):
        return SubscriberRefused("secretReference", _NOT_GRANTED)
    if await find_subscriber_named(tx, author.company_id, new.name) is not None:
        return SubscriberNameTaken()
    if await count_subscribers(tx, author.company_id) >= MOST_SUBSCRIBERS:
        return SubscriberRefused("name", _TOO_MANY)
    return None


async def register_subscriber(
    tx: Tx, author: Author, new: NewSubscriber, bound: Bound, *, by_operator: bool
) -> SubscriberRow | _Refusal:
    """Add a subscriber of what happens from now on; where the operator does, the company is granted its secret.

    Raises Contention where the name is taken at the same moment, ValueError where another company's events were bound.
    """
    if bound.company_id != author.company_id:
        raise ValueError("the events of another company were bound")
    if (foreseen := await foresee_refusal(tx, author, new, by_operator=by_operator)) is not None:
        return foreseen
    if (refused := await _refused_secret(tx, author.company_id, new.secret_reference, by_operator=by_operator)) is not None:
        return refused
    url, wants = subscriber_url(new.url), event_filter(new.wants)
    subscriber_id = SubscriberId(uuid7())
    await begin_sweep(tx)
    await insert_subscriber(tx, subscriber_id, author.company_id, new.name, url, wants, author.actor, in_order=new.in_order)
    await insert_subscriber_secret(tx, subscriber_id, author.company_id, new.secret_reference)
    row = await _shown(tx, subscriber_id)
    await audit_change(tx, author, "subscriber.registered", subscriber_id, differences({}, _told(row)))
    return row


async def revise_subscriber(
    tx: Tx, author: Author, subscriber_id: SubscriberId, given: Mapping[str, Any]
) -> SubscriberRow | _Refusal | None:
    """Change `name`, `url`, `wants` or `in_order`, those that are given; None where the company has no such subscriber.

    What is on its way already goes to the new address; a changed filter holds for what happens from now on.
    """
    if not await lock_subscriber(tx, subscriber_id, author.company_id):
        return None
    before = await _shown(tx, subscriber_id)
    try:
        url = subscriber_url(given["url"]) if "url" in given else before.url
        wants: EventFilter = event_filter(given["wants"]) if "wants" in given else before.wants
    except InvalidSubscriber as error:
        return SubscriberRefused(error.where, str(error))
    name = given.get("name", before.name)
    if name != before.name and await find_subscriber_named(tx, author.company_id, name) is not None:
        return SubscriberNameTaken()
    in_order = given.get("in_order", before.in_order)
    await change_subscriber(tx, subscriber_id, name=name, url=url, wants=wants, in_order=in_order)
    after = await _shown(tx, subscriber_id)
    changed = differences(_told(before), _told(after))
    queries = [one.url.partition("?")[2] for one in (before, after)]
    if queries[0] != queries[1]:
        # That it is another one, and not which.
        changed["urlQuery"] = dict(zip(("before", "after"), [HIDDEN_QUERY if query else None for query in queries], strict=True))
    if changed:
        await audit_change(tx, author, "subscriber.changed", subscriber_id, changed)
    return after


async def rotate_subscriber_secret(
    tx: Tx, author: Author, subscriber_id: SubscriberId, reference: str, overlap: timedelta, *, by_operator: bool
) -> SubscriberRow | SubscriberRefused | None:
    """Sign with another secret from now on, and with the ones before it for `overlap` more, so that nothing is refused meanwhile.

    None where the company has no such subscriber.
    """
    if not timedelta() <= overlap <= _LONGEST_OVERLAP:
        return SubscriberRefused("overlap", f"must lie between nothing and {_LONGEST_OVERLAP.days} days")
    if not await lock_subscriber(tx, subscriber_id, author.company_id):
        return None
    if (refused := await _refused_secret(tx, author.company_id, reference, by_operator=by_operator)) is not None:
        return refused
    before = await _shown(tx, subscriber_id)
    await discard_retired_secrets(tx, subscriber_id)
    await insert_subscriber_secret(tx, subscriber_id, author.company_id, reference)
    await retire_subscriber_secrets(tx, subscriber_id, reference, overlap)
    after = await _shown(tx, subscriber_id)
    changed = differences({"secretReferences": before.secret_references}, {"secretReferences": after.secret_references})
    await audit_change(tx, author, "subscriber.secret_rotated", subscriber_id, changed)
    return after


async def _shown(tx: Tx, subscriber_id: SubscriberId) -> SubscriberRow:
    row = await show_subscriber(tx, subscriber_id)
    if row is None:
        raise LookupError("a subscriber vanished while it was locked")
    return row


async def _refused_secret(tx: Tx, company_id: CompanyId, reference: str, *, by_operator: bool) -> SubscriberRefused | None:
    if not is_reference(reference):
        return SubscriberRefused("secretReference", _NO_REFERENCE)
    if by_operator:
        if not await offer_secret(tx, company_id, reference):
            return SubscriberRefused("secretReference", "was revoked for this company; `rollcall secrets grant` gives it back")
    elif not await is_granted(tx, company_id, reference):
        return SubscriberRefused("secretReference", _NOT_GRANTED)
    return None


def _told(row: SubscriberRow) -> dict[str, Any]:
    return {
        "name": row.name,
        # Its query may hold what opens it.
        "url": row.url.partition("?")[0],
        "secretReferences": row.secret_references,
        "reasonCodes": row.reason_codes,
        "newStates": row.new_states,
        "changedFields": row.changed_fields,
        "inOrder": row.in_order,
    }
