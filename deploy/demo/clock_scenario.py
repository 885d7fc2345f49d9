"""Who is in the club of the fourth chapter, and what time must make of them, worked out without a line of the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["ENDING", "IN_DIRECTORY", "MADE", "PLANNED", "RENEWED", "TICKS", "VERSIONS", "MustBe", "must_be"]

# Memberships that end while one looks on; some of them are renewed in time.
ENDING: Final = range(400)
RENEWED: Final = range(100)
# Whose next plan begins today.
PLANNED: Final = range(400, 800)
MADE: Final = len(ENDING) + len(PLANNED)
# Members of a directory that nobody but its interval asks.
IN_DIRECTORY: Final = 500
# At the same moment, half of them over HTTP and half over the broker.
TICKS: Final = 100
# Of the members made here: one each, and one more that a renewal, an end or a plan makes.
VERSIONS: Final = 2 * MADE


@dataclass(frozen=True, slots=True)
class MustBe:
    """A member in the end, and why an event says that it is so."""

    state: str
    plan: str | None
    version: int
    reason: str


def must_be(in_directory: int) -> Mapping[str, MustBe]:
    """Everybody, by name; the first `in_directory` members come of the directory."""
    renewed = {_name(number): MustBe("active", "basic", 2, "ADMIN") for number in RENEWED}
    ended = {_name(number): MustBe("expired", "basic", 2, "EXPIRY_RECONCILIATION") for number in ENDING if number not in RENEWED}
    planned = {_name(number): MustBe("active", "gold", 2, "PLAN_CHANGE") for number in PLANNED}
    synced = {f"Member {number}": MustBe("active", None, 1, "DIRECTORY_SYNC") for number in range(1, in_directory + 1)}
    return renewed | ended | planned | synced


def _name(number: int) -> str:
    return f"Climber {number}"
