"""What a directory of members is to the rest of Rollcall: something that can be looked at, and read page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias

__all__ = ["Health", "Page", "Record", "Source"]

# One member as the source tells of it, before any mapping.
Record: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Page:
    """Some records in the source's order."""

    records: Sequence[Record] = field(repr=False)
    # What the source says that the whole holds; None where it does not count.
    count: int | None
    # From 1.
    number: int


@dataclass(frozen=True, slots=True)
class Health:
    """What one look at a source found; a question that an earlier answer left without sense is None."""

    reachable: bool
    authorised: bool | None
    # Whether the answer has the shape of a directory.
    shape: bool | None
    # What is wrong and what to do, in words; None where nothing is.
    problem: str | None = None
    # The first page, where it could be read: a mapping can be shown on it.
    page: Page | None = None

    @property
    def well(self) -> bool:
        """Whether the source can be read."""
        return self.problem is None


class Source(Protocol):
    """A directory that is asked for its members.

    All errors are SourceUnavailable, SourceRefused or SourceBroken; their texts hold no key, no address of an inner network and
    nothing of a member. A reading that raised them, or that was not read to its end, is no complete snapshot.
    """

    @property
    def supports_since(self) -> bool:
        """Whether it can be asked for what changed since an instant."""
        ...

    @property
    def pages_shift(self) -> bool:
        """Whether somebody's departure while it is read may push another record past the reader unseen.

        So it is where pages are cut by position: one departure and one arrival between two pages leave the count as it was, and a
        member that is still there is missing. Who is missing from one such reading of several pages is only gone when a second
        reading lacks them too.
        """
        ...

    async def health(self) -> Health:
        """Look at the first page; never raises for what is wrong with the source."""
        ...

    def pages(self, since: datetime | None = None) -> AsyncGenerator[Page, None]:
        """All records, or with `since` those changed from then on (ValueError where that is not supported), a page at a time.

        The next pages are fetched while the last is worked on, a bounded number of them. At least one page comes, be it empty.
        Whoever may not read to the end closes it (`aclosing`): what fetches ahead ends with it.
        """
        ...
