"""Errors say what happens next; a duplicate, stale or conflicting change is an outcome, not an error.

RollcallError
├── Retry          try again, nothing was done
│   ├── Unavailable    infrastructure is away: wait for it, spend no attempts
│   ├── Contention     another transaction was in the way: run the same transaction again
│   └── Unforeseen     there is no rule for it yet: try again later, a limited number of times
└── Park           trying again cannot help until somebody acts
    └── UnfitData      the data cannot be stored
"""

__all__ = ["Contention", "Park", "Retry", "RollcallError", "Unavailable", "UnfitData", "Unforeseen"]


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
