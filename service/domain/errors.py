"""Errors say what happens next; a duplicate, stale or conflicting change is an outcome, not an error.

RollcallError
├── Retry          try again, nothing was done
│   ├── Unavailable    infrastructure is away: wait for it, spend no attempts
│   ├── Contention     another transaction was in the way: run the same transaction again
│   ├── Unforeseen     there is no rule for it yet: try again later, a limited number of times
│   └── SourceUnavailable  a directory does not answer now: read it again later
└── Park           trying again cannot help until somebody acts
    ├── UnfitData      the data cannot be stored
    ├── SourceRefused  a directory does not let us in: nobody asks it again until somebody acts
    └── SourceBroken   a directory answers what cannot be read
"""

from datetime import timedelta

__all__ = [
    "Contention",
    "Park",
    "Retry",
    "RollcallError",
    "SourceBroken",
    "SourceRefused",
    "SourceUnavailable",
    "Unavailable",
    "UnfitData",
    "Unforeseen",
    "said",
    "storable",
]


class RollcallError(Exception):
    """Something that Rollcall has a rule for went wrong."""


class Retry(RollcallError):
    """Nothing was done and the same call may succeed later."""


class Unavailable(Retry):
    """A service that this needs cannot be reached at the moment."""


class Contention(Retry):
    """Another transaction was in the way."""


class Unforeseen(Retry):
    """Something failed in a way that has no rule; the text names its kind, never the values."""


class Park(RollcallError):
    """Trying again cannot help until somebody mends the cause."""


class UnfitData(Park):
    """The database refused the data; the text names the rule, never the values."""


class SourceUnavailable(Retry):
    """A directory cannot be read at the moment: unreachable, too slow, 5xx or 429; `retry_after` is the time that it asked for."""

    def __init__(self, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SourceRefused(Park):
    """A directory does not accept our key (401, 403); the connection waits for somebody to act."""


class SourceBroken(Park):
    """A directory answers, but not what a directory is; the text says what is wrong and where, never a value."""


def said(error: BaseException) -> str:
    """What an error says of itself, as the database can hold it; one that says nothing is told by its class."""
    return storable(str(error)).strip() or type(error).__name__


def storable(text: str) -> str:
    """The text without what PostgreSQL has no place for: NUL, and halves of characters."""
    return text.replace("\0", "").encode(errors="replace").decode()
