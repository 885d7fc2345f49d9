"""What happens in the directory of the demo, and what must come of it, worked out without a line of the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["CHANGED", "EDITED", "JOINED", "LEFT", "LOST", "MEMBERS", "RESIGNED", "MustBe", "must_be"]

MEMBERS: Final = 5_000
# On an ordinary day: some are edited, some leave, some join.
EDITED: Final[Mapping[int, Mapping[str, str]]] = {number: {"email": f"new{number}@example.com"} for number in range(1, 41)}
LEFT: Final = range(41, 53)
JOINED: Final = range(MEMBERS + 1, MEMBERS + 26)
CHANGED: Final = len(EDITED) + len(LEFT) + len(JOINED)
# On a bad day it forgets half of them, and they have not left.
LOST: Final = range(101, 2_601)
# At the end of the year many leave at once, and they have.
RESIGNED: Final = range(3_001, 3_601)


@dataclass(frozen=True, slots=True)
class MustBe:
    """A member as the directory has it in the end; `email` is None for who is in it no more."""

    email: str | None


def must_be() -> dict[str, MustBe]:
    """Everybody who was ever in it, by key."""
    everybody = [*range(1, MEMBERS + 1), *JOINED]
    gone = {*LEFT, *RESIGNED}
    return {
        str(number): MustBe(None if number in gone else EDITED.get(number, {}).get("email", f"member{number}@example.com"))
        for number in everybody
    }
