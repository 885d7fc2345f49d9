"""What a snapshot means beside the members that are known: which differences there are, and which of them may be believed; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, assert_never

from service.domain.outcome import Outcome, Result

__all__ = ["Count", "Difference", "Reading", "count_of", "must_read_again", "next_watermark", "withheld"]

# Clocks differ, and what was being written while we read may be dated before what we saw.
_OVERLAP: Final = timedelta(minutes=5)


class Difference(StrEnum):
    """How a record and the member of its key differ."""

    ADDED = "added"
    UPDATED = "updated"
    REACTIVATED = "reactivated"
    # The same content at a newer version: nothing changes but what is remembered of its source.
    TOUCHED = "touched"
    # The source itself says that the member has left.
    LEFT = "left"
    # The source does not say anything of the member any more.
    ABSENT = "absent"
    INVALID = "invalid"
    CONFLICTING = "conflicting"


class Count(StrEnum):
    """What a run counts, by the columns of its log."""

    ADDED = "added"
    UPDATED = "updated"
    REACTIVATED = "reactivated"
    REMOVED = "removed"
    VERIFIED = "verified"
    # The stream was faster.
    LEFT_ALONE = "left_alone"
    INVALID = "invalid"
    CONFLICTING = "conflicting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reading of a directory to its end; it raised nothing."""

    pages: int
    records: int
    # Distinct ones.
    keys: int
    # Records whose key cannot be read: each could be anybody.
    keyless: int = 0
    # What the source said that the whole holds, on the first and on the last page; None where it does not count.
    first_count: int | None = None
    last_count: int | None = None
    newest_update: datetime | None = None

    @property
    def gap(self) -> str | None:
        """Why nobody can be called absent by this reading; None for a complete one."""
        if self.keyless:
            return f"{self.keyless:,} of {self.records:,} records have no key that can be read, and could be anybody"
        counts = [count for count in (self.first_count, self.last_count) if count is not None]
        if any(count != self.keys for count in counts):
            said = " and then ".join(f"{count:,}" for count in dict.fromkeys(counts))
            return f"the directory says that it has {said} members, and {self.keys:,} could be read"
        return None


def must_read_again(first: Reading, candidates: int, *, pages_shift: bool) -> bool:
    """Whether those who seem to be gone must be looked for once more before anybody is called absent.

    Where pages are cut by position, a departure between two of them hides somebody else, and an arrival mends the count.
    """
    return candidates > 0 and (first.gap is not None or (pages_shift and first.pages > 1))


def withheld(first: Reading, second: Reading | None) -> str | None:
    """Why nobody may be called absent by these readings; None where they are believed."""
    if first.keyless:
        return first.gap
    return first.gap if second is None else second.gap


def next_watermark(before: datetime | None, newest_update: datetime | None, began_at: datetime) -> datetime | None:
    """From when on the next incremental sync asks; a snapshot in which nothing is dated leaves it where it is."""
    return before if newest_update is None else min(newest_update, began_at) - _OVERLAP


def count_of(difference: Difference, result: Result, *, took_over_live: bool = False) -> Count:
    """As what a record is counted whose change came to this result; `took_over_live`: a live member has a new key."""
    match result.outcome:
        case Outcome.APPLIED:
            return _applied(difference, result, took_over_live=took_over_live)
        case Outcome.UNCHANGED | Outcome.DUPLICATE:
            return Count.VERIFIED
        case Outcome.STALE:
            return Count.LEFT_ALONE
        case Outcome.CONFLICT:
            return Count.CONFLICTING
        case Outcome.REFUSED:
            return Count.INVALID
        case _:
            assert_never(result.outcome)


def _applied(difference: Difference, result: Result, *, took_over_live: bool) -> Count:
    match difference:
        case Difference.LEFT | Difference.ABSENT:
            return Count.REMOVED
        case Difference.REACTIVATED:
            return Count.REACTIVATED
        case Difference.ADDED:
            # A later version is of somebody who was known under another key, or by another connection.
            return Count.ADDED if result.version == 1 else Count.UPDATED if took_over_live else Count.REACTIVATED
        case Difference.UPDATED | Difference.TOUCHED:
            return Count.UPDATED
        case Difference.INVALID | Difference.CONFLICTING:
            raise ValueError("what cannot be processed is not applied")
        case _:
            assert_never(difference)
