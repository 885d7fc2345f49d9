"""The books of the fifth chapter: who was told, and what drifted, each line beside what it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.demo.books import Entry
from deploy.demo.evidence import Stored
from deploy.demo.hooked_system import HookedSystem
from deploy.demo.told_scenario import EDITED, JOIN, TOLD
from service.domain.drift import Verdict as DriftVerdict
from service.store.drift_runs import DriftRunRow

__all__ = ["ToldBooks", "told_entries"]


@dataclass(frozen=True, slots=True)
class ToldBooks:
    """What was found when everything had come to rest; `runs` are two before healing, one with it and one after."""

    system: HookedSystem
    stored: Stored
    runs: Sequence[DriftRunRow]
    # Messages that told of the drift.
    promotions: int
    edits_left: int
    not_ended: int


def told_entries(books: ToldBooks) -> list[Entry]:
    """The lines in the order in which they happened."""
    system, runs = books.system, books.runs
    breaches = sum(run.verdict == DriftVerdict.BREACH for run in runs)
    clean = sum(run.verdict == DriftVerdict.CLEAN for run in runs)
    return [
        Entry("versions", books.stored.audited, TOLD, "of members, each one event"),
        Entry("notified", system.delivered, TOLD, "over HTTP, each believed by standardwebhooks"),
        Entry("unbelieved", system.unbelieved, 0, "notifications with a wrong signature"),
        Entry("turned away", system.turned_away, None, "attempts, while the system answered 503"),
        Entry("repeated", system.repeats, None, "the same id once more, and no second effect"),
        Entry("members", len(system.latest), JOIN, "known to the system, each at its last version"),
        Entry("drifted", runs[0].out_of_sync if runs else 0, len(EDITED), "rows that are not what their audit says"),
        Entry("breaches", breaches, 3, "runs that found more than one in a thousand"),
        Entry("told of it", books.promotions, 1, "DRIFT_PROMOTED, at the second breach and once"),
        Entry("healed", sum(run.healed for run in runs), len(EDITED), "by the one apply path, each with its event"),
        Entry("clean", clean, 1, "the run after it"),
        Entry("edits left", books.edits_left, 0, "rows that still hold what was written into them"),
        Entry("lost", _lost(books), 0, "events that nobody was told of"),
        Entry("out of order", system.out_of_order, 0, "notifications that were not the next version"),
    ]


def _lost(books: ToldBooks) -> int:
    return books.stored.audited - books.system.delivered + books.stored.outbox + books.not_ended
