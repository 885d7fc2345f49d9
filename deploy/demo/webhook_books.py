"""The books of the webhooks: what was answered, taken in and delivered, each beside what it must be."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from deploy.demo.books import Entry
from deploy.demo.evidence import Stored
from deploy.demo.webhook_scenario import Kind, WebhookScenario

__all__ = ["ACCEPTED", "WebhookBooks", "webhook_entries"]

ACCEPTED: Final = 202
_OUTDATED: Final = "outside_tolerance"
_FORGED: Final = ("mismatch", "no_signature")
_REFUSED: Final = {
    400: "signed, but no JSON object",
    401: "not believed; nobody is told why",
    404: "nobody takes webhooks there",
    413: "more than 1 MiB, half of them without saying so",
    415: "not called JSON",
}


@dataclass(frozen=True, slots=True)
class WebhookBooks:
    """What was found when everything had come to rest."""

    # What the senders were answered, by status, and how often they were told to come back.
    answers: Mapping[int, int]
    resent: int
    # The service's own word: what it refused, by cause, and what came a second time.
    refused: Mapping[str, int]
    duplicate: int
    stored: Stored
    taken_in: Set[tuple[UUID, str]]
    parked: int
    delivered: int
    out_of_order: int
    astray: int
    members: int


def webhook_entries(books: WebhookBooks, scenario: WebhookScenario) -> list[Entry]:
    """The lines in the order in which a webhook meets them."""
    must, keys = scenario.answers, scenario.keys
    answered = sum(books.answers.values())
    accepted, applied = books.answers.get(ACCEPTED, 0), books.stored.audited
    forged, outdated = sum(books.refused.get(cause, 0) for cause in _FORGED), books.refused.get(_OUTDATED, 0)
    # Answered 202 and nowhere, or applied and never heard of. Not netted, as in the books before.
    accounted = books.stored.inbox + books.duplicate + books.parked
    lost = max(0, accepted - accounted) + len(keys - books.taken_in) + max(0, applied - books.delivered)
    return [
        Entry("posted", answered, sum(must.values()), "over HTTP, sixteen connections at once"),
        Entry("resent", books.resent, None, "told to come back (503), and did"),
        Entry("accepted", accepted, must.get(ACCEPTED, 0), "202, each after the broker's confirm"),
        *(
            Entry(f"refused {status}", books.answers.get(status, 0), must.get(status, 0), _REFUSED.get(status, "unexpected"))
            for status in sorted((must.keys() | books.answers.keys()) - {ACCEPTED})
        ),
        Entry("forged", forged, scenario.count(Kind.FORGED), "of those 401: by another secret, altered, unsigned"),
        Entry("outdated", outdated, scenario.count(Kind.OUTDATED), "of those 401: signed rightly, ten minutes ago"),
        Entry("duplicate", books.duplicate, scenario.count(Kind.REPEATED), "accepted, and without effect: the same once more"),
        Entry("applied", applied, len(keys), "made a new version of a member, once"),
        Entry("parked", books.parked, 0, "could not be applied"),
        Entry("delivered", books.delivered, len(keys), "one event per version, at the subscriber"),
        Entry("members", books.members, len(scenario.standings), "in the database"),
        Entry("astray", books.astray, 0, "not what their source says, here or in the events"),
        Entry("uninvited", len(books.taken_in - keys), 0, "refused, and yet taken in"),
        Entry("lost", lost, 0, "accepted webhooks, or events, that are nowhere"),
        Entry("out of order", books.out_of_order, 0, "events that were not the next version"),
    ]
