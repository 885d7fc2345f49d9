"""A subscriber: where it is called, which events it wants, and whether it is called at all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType
from urllib.parse import urlsplit
from uuid import UUID

from service.domain.change import Reason
from service.domain.directories.configuration import HIDDEN_QUERY
from service.domain.member import CompanyId, MemberId, Standing
from service.domain.source_mapping import MEMBER_FIELDS

__all__ = [
    "CHANGED_FIELDS",
    "EVERYTHING",
    "DisabledBecause",
    "EventFilter",
    "InvalidSubscriber",
    "Listener",
    "SubscriberId",
    "SubscriberState",
    "Told",
    "event_filter",
    "subscriber_url",
]

SubscriberId = NewType("SubscriberId", UUID)

# What an event may say of what changed, by the contract's names: what a source may tell, and what is Rollcall's own.
CHANGED_FIELDS: Final = frozenset({*MEMBER_FIELDS, "upstreamState", "hold", "connectionId", "externalId"})

_LONGEST_URL: Final = 2048
_URL: Final = re.compile(r"[!-~]+")


class SubscriberState(StrEnum):
    """Whether it is called; what happens while it is paused waits for it, what happens while it is disabled does not."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"
    REMOVED = "removed"


class DisabledBecause(StrEnum):
    """Why nobody calls it any more: it said 410, or no attempt succeeded for too long."""

    GONE = "gone"
    FAILING = "failing"


class InvalidSubscriber(ValueError):
    """It cannot be so; `where` is the part that does not fit, the text says why and shows no secret."""

    def __init__(self, where: str, message: str) -> None:
        super().__init__(message)
        self.where = where


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are wanted: one of each of these that is not empty; of the changed fields any."""

    reason_codes: frozenset[str] = frozenset()
    new_states: frozenset[str] = frozenset()
    changed_fields: frozenset[str] = frozenset()

    def wants(self, reason_code: str, new_state: str, changed_fields: Collection[str]) -> bool:
        """Whether it lets such an event pass."""
        return (
            (not self.reason_codes or reason_code in self.reason_codes)
            and (not self.new_states or new_state in self.new_states)
            and (not self.changed_fields or not self.changed_fields.isdisjoint(changed_fields))
        )


EVERYTHING: Final = EventFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who is told of a company's events, as far as it matters when one happens."""

    id: SubscriberId
    company_id: CompanyId
    wants: EventFilter
    in_order: bool
    begins_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event that is to be told of, as far as it matters who wants it; `replayed` where it is not new to those who were there."""

    member_id: MemberId
    version: int
    company_id: CompanyId
    occurred_at: datetime
    reason_code: str
    new_state: str
    changed_fields: tuple[str, ...]
    correlation_id: str
    traceparent: str | None
    replayed: bool = False


def subscriber_url(text: str) -> str:
    """The address as it is called; raises InvalidSubscriber. Whether it may be called at all is known only when it is dialled."""
    if text.endswith(HIDDEN_QUERY):
        raise InvalidSubscriber("url", "is shown without its query, which may be a secret; give all of it")
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        parts, fits = urlsplit(""), False
    if not fits or not _URL.fullmatch(text) or len(text) > _LONGEST_URL or "\\" in text:
        message = f"must be a URL of the form https://host/path, of at most {_LONGEST_URL} ASCII characters"
        raise InvalidSubscriber("url", message)
    if "@" in parts.netloc:
        raise InvalidSubscriber("url", "must hold no user and no password: what is sent is signed")
    if parts.fragment or text.endswith("#"):
        raise InvalidSubscriber("url", "must have no fragment, which is never sent")
    return text


def event_filter(given: Mapping[str, Collection[str]]) -> EventFilter:
    """The filter of `reasonCodes`, `newStates` and `changedFields`, those that are given; raises InvalidSubscriber."""
    known: Mapping[str, Collection[str]] = {
        "reasonCodes": [reason.value for reason in Reason],
        "newStates": [state.value for state in Standing],
        "changedFields": CHANGED_FIELDS,
    }
    for where, values in given.items():
        if where not in known:
            raise InvalidSubscriber(where, f"a filter has {', '.join(known)}")
        if unknown := sorted(set(values) - set(known[where])):
            raise InvalidSubscriber(where, f"unknown: {', '.join(unknown)}; there are {', '.join(sorted(known[where]))}")
    reasons, states, fields = (frozenset(given.get(where, ())) for where in known)
    return EventFilter(reasons, states, fields)
