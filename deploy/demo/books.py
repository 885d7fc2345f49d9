"""The books of a run: what was sent against what is stored, parked and delivered, each line beside what it must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.membership_updated import MembershipUpdatedV1
from deploy.demo.evidence import MemberRow, Parked, Stored
from deploy.demo.scenario import CONFLICTING, MALFORMED, REFUSED, Standing
from deploy.demo.subscriber import Subscriber

__all__ = ["Books", "Entry", "astray", "entries"]


@dataclass(frozen=True, slots=True)
class Books:
    """What was found when everything had come to rest."""

    sent: int
    stored: Stored
    parked: Sequence[Parked]
    # The two ends that leave nothing to count but the worker's own word.
    duplicate: int
    stale: int
    delivered: int
    repeats: int
    out_of_order: int
    # Members that are not what their source says, in the database or at the subscriber.
    astray: int
    members: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: `expected` is None where the line only informs."""

    name: str
    found: int
    expected: int | None
    meaning: str

    @property
    def balances(self) -> bool:
        """Whether it is what it must be."""
        return self.expected is None or self.found == self.expected


def entries(books: Books, expected: Mapping[str, int], members: int) -> list[Entry]:
    """The lines in the order in which a message meets them; `expected` names the ends and how many messages come to each."""
    parked = Counter(one.end for one in books.parked)
    applied = books.stored.audited
    unchanged = books.stored.inbox - applied - books.stale
    accounted = books.stored.inbox + books.duplicate + len(books.parked)
    # Not netted: too many of one would hide too few of the other.
    lost = max(0, books.sent - accounted) + max(0, applied - books.delivered)

    def end(name: str, found: int, meaning: str) -> Entry:
        return Entry(name, found, expected.get(name, 0), meaning)

    return [
        Entry("sent", books.sent, sum(expected.values()), "changes, each confirmed by the broker"),
        end("applied", applied, "made a new version of a member"),
        end("unchanged", unchanged, "newer, but altered nothing"),
        end("duplicate", books.duplicate, "the same message once more"),
        end("stale", books.stale, "older than what was applied"),
        end(CONFLICTING, parked[CONFLICTING], "parked: two truths of one version, or of one person"),
        end(REFUSED, parked[REFUSED], "parked: cannot be done"),
        end(MALFORMED, parked[MALFORMED], "parked: does not fit its contract"),
        Entry("published", applied - books.stored.outbox, expected.get("applied", 0), "one event per version, confirmed"),
        Entry("delivered", books.delivered, expected.get("applied", 0), "reached the subscriber's queue"),
        Entry("repeated", books.repeats, None, "dropped by its version filter"),
        Entry("members", books.members, members, "in the database"),
        Entry("astray", books.astray, 0, "not what their source says, here or in the events"),
        Entry("lost", lost, 0, "messages or events that are nowhere"),
        Entry("out of order", books.out_of_order, 0, "events that were not the next version"),
    ]


def astray(rows: Sequence[MemberRow], subscriber: Subscriber, standings: Mapping[str, Standing]) -> int:
    """How many members are not what the source says they must be; one nobody expected counts too."""
    stored = {row.external_id: row for row in rows}
    unexpected = stored.keys() - standings.keys()
    return len(unexpected) + sum(
        not (_stored_right(stored.get(key), must) and _told_right(subscriber.latest.get(key), must))
        for key, must in standings.items()
    )


def _stored_right(row: MemberRow | None, must: Standing) -> bool:
    return row is not None and must == Standing(row.name or "", row.email or "", row.state, row.plan or "", row.expires_at)


def _told_right(event: MembershipUpdatedV1 | None, must: Standing) -> bool:
    told = None if event is None else (event.new_state, event.plan, event.expires_at)
    return told == (must.state, must.plan, must.expires_at)
