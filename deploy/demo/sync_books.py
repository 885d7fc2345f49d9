"""The books of the directory: what its syncs counted, held back and told, each beside what it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.demo.books import Entry
from deploy.demo.evidence import MemberRow, Stored
from deploy.demo.subscriber import Subscriber
from deploy.demo.sync_scenario import CHANGED, EDITED, JOINED, LEFT, LOST, MEMBERS, RESIGNED, must_be
from service.store.sync_log import SyncLogRow, SyncStatus

__all__ = ["SyncBooks", "sync_entries"]

_REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class SyncBooks:
    """What was found when everything had come to rest."""

    dry_run: SyncLogRow
    # Versions that were stored while the dry run ran.
    meddled: int
    # Those that could change something, the held ones among them.
    runs: Sequence[SyncLogRow]
    stored: Stored
    members: Sequence[MemberRow]
    subscriber: Subscriber


def sync_entries(books: SyncBooks) -> list[Entry]:
    """The lines in the order in which they happened."""
    run, ran = books.dry_run, [one for one in books.runs if one.status == SyncStatus.SUCCESS]
    held = [one for one in books.runs if one.status == SyncStatus.QUARANTINED]
    joined, removed, told = MEMBERS + len(JOINED), len(LEFT) + len(RESIGNED), MEMBERS + CHANGED + len(RESIGNED)
    live = sum(member.state != _REMOVED for member in books.members)
    delivered = books.subscriber.delivered
    removals_held = sum(one.details.get("removals", 0) for one in held)
    return [
        Entry("foreseen", run.added + run.updated + run.removed, CHANGED, "differences that the dry run named"),
        Entry("meddled", books.meddled, 0, "what the dry run itself changed"),
        Entry("added", sum(one.added for one in ran), joined, "new in the directory, by the syncs that ran"),
        Entry("updated", sum(one.updated for one in ran), len(EDITED), "another address"),
        Entry("removed", sum(one.removed for one in ran), removed, "left: a few at once, or approved"),
        Entry("held back", removals_held, len(LOST) + len(RESIGNED), "removals that somebody had to look at"),
        Entry("rejected", sum(one.review == "rejected" for one in held), 1, "syncs of which nothing came"),
        Entry("approved", sum(one.review == "approved" for one in held), 1, "syncs that ran again, bound to their list"),
        Entry("delivered", delivered, told, "one event per version, at the subscriber"),
        Entry("members", live, joined - removed, "live in the database"),
        Entry("astray", _astray(books.members, books.subscriber), 0, "not what the directory says, here or in the events"),
        Entry("lost", max(0, books.stored.audited - delivered), 0, "versions whose events are nowhere"),
        Entry("out of order", books.subscriber.out_of_order, 0, "events that were not the next version"),
    ]


def _astray(members: Sequence[MemberRow], subscriber: Subscriber) -> int:
    stored, expected = {member.external_id: member for member in members}, must_be()
    wrong = len(stored.keys() - expected.keys())
    for key, must in expected.items():
        member, told = stored.get(key), subscriber.latest.get(key)
        state = _REMOVED if must.email is None else "active"
        right = member is not None and told is not None and member.state == told.new_state == state
        wrong += not (right and member is not None and (must.email is None or member.email == must.email))
    return wrong
