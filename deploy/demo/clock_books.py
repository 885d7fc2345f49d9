"""The books of the clock: what time made of members, each line beside what it must be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.demo.books import Entry
from deploy.demo.clock_desk import ClockMember, Job
from deploy.demo.clock_scenario import ENDING, PLANNED, RENEWED, TICKS, VERSIONS, must_be
from deploy.demo.evidence import Stored
from deploy.demo.subscriber import Subscriber
from service.actions.apply_due import DueCount
from service.actions.apply_plan_changes import PLAN_CHANGES
from service.actions.discard_outdated import RETENTION
from service.actions.expire_memberships import EXPIRY
from service.actions.request_sync import DIRECTORY_SYNC

__all__ = ["SCHEDULED", "ClockBooks", "clock_entries"]

# Of the whole installation; drift is looked for at night.
SCHEDULED = (EXPIRY, PLAN_CHANGES, RETENTION)
_WELL = "succeeded"


@dataclass(frozen=True, slots=True)
class ClockBooks:
    """What was found when everything had come to rest."""

    ticks: int
    # Jobs of this chapter, begun by a tick or asked for.
    jobs: Sequence[Job]
    # Of two passes over the plans those that the other instance said it had done.
    elsewhere: int
    twice: int
    in_directory: int
    members: Sequence[ClockMember]
    stored: Stored
    subscriber: Subscriber
    # The exit status of the instance that was ended.
    status: int

    @property
    def plans(self) -> Sequence[Job]:
        """The two passes over the plans that were asked for at once."""
        return [job for job in self.jobs if job.kind == PLAN_CHANGES and job.schedule_id is None]

    def told(self, kind: str, count: str, *, by_tick: bool = True) -> int:
        """What the jobs of a kind said that they had done."""
        of_kind = [job for job in self.jobs if job.kind == kind and (job.schedule_id is not None) is by_tick]
        return sum((job.result or {}).get(count, 0) for job in of_kind)


def clock_entries(books: ClockBooks) -> list[Entry]:
    """The lines in the order in which they happened."""
    slots = Counter(job.kind for job in books.jobs if job.schedule_id is not None)
    expected = [*SCHEDULED, DIRECTORY_SYNC] if books.in_directory else list(SCHEDULED)
    begun = books.told(PLAN_CHANGES, DueCount.APPLIED, by_tick=False)
    found = books.told(PLAN_CHANGES, DueCount.TOTAL_FOUND, by_tick=False)
    renewed = sum(event.reason_code == "ADMIN" and event.version > 1 for event in books.subscriber.latest.values())
    delivered, told = books.subscriber.delivered, VERSIONS + books.in_directory
    return [
        Entry("plans begun", begun, len(PLANNED), "today's, once each, by two instances at once"),
        Entry("left", found - begun, None, "plans that one found and the other had already"),
        Entry("elsewhere", books.elsewhere, 1, "of both passes, by the instance in the other process"),
        Entry("ticks", books.ticks, TICKS, "at once, to both instances, over HTTP and the broker"),
        Entry("slots", sum(slots[kind] for kind in expected), len(expected), "due, each with one job, whoever was first"),
        Entry("expired", books.told(EXPIRY, DueCount.APPLIED), len(ENDING) - len(RENEWED), "memberships that ended by themselves"),
        Entry("renewed", renewed, len(RENEWED), "in time, and left alone"),
        *(
            [Entry("synced", books.told(DIRECTORY_SYNC, "added"), books.in_directory, "of the directory, as its interval came")]
            if books.in_directory
            else []
        ),
        Entry("twice", books.twice, 0, "slots with two jobs, or plans that began two times"),
        Entry("unwell", sum(job.state != _WELL for job in books.jobs), 0, "jobs that did not succeed"),
        Entry("delivered", delivered, told, "one event per version, at the subscriber"),
        Entry("astray", _astray(books), 0, "not what time must make of them, here or in the events"),
        Entry("lost", max(0, books.stored.audited - delivered), 0, "versions whose events are nowhere"),
        Entry("out of order", books.subscriber.out_of_order, 0, "events that were not the next version"),
        Entry("status", books.status, 0, "of the second instance, as it was ended"),
    ]


def _astray(books: ClockBooks) -> int:
    stored, expected = {member.name or "": member for member in books.members}, must_be(books.in_directory)
    wrong = len(stored.keys() - expected.keys())
    for name, must in expected.items():
        member = stored.get(name)
        event = None if member is None else books.subscriber.latest.get(member.external_id or str(member.id))
        here = None if member is None else (member.state, member.plan, member.version)
        there = None if event is None else (event.new_state, event.plan, event.version, event.reason_code)
        wrong += here != (must.state, must.plan, must.version) or there != (must.state, must.plan, must.version, must.reason)
    return wrong
