"""Whether a read model still agrees with its source: how much is looked at, what a run means, when somebody must be told; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = [
    "BREACHES_TO_PROMOTE",
    "SMALLEST_SAMPLE",
    "DriftTally",
    "Judged",
    "ReconciliationMode",
    "SampleResult",
    "Streak",
    "Verdict",
    "family_of",
    "judge",
    "sample_places",
    "sample_size",
]

SMALLEST_SAMPLE: Final = 20
BREACHES_TO_PROMOTE: Final = 2
_SAMPLED_OF: Final = 100
# More than one in a thousand.
_BREACH_OF: Final = 1000
# More than one in ten.
_ERRORS_OF: Final = 10


class ReconciliationMode(StrEnum):
    """How much of a read model a run looks at."""

    SAMPLED = "sampled"
    FULL = "full"


class Verdict(StrEnum):
    """What a run says of its read model."""

    CLEAN = "clean"
    BREACH = "breach"
    # Too little could be compared to say either.
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class SampleResult:
    """Whether one key agrees with its source, and if not why: names of fields and rules, never values."""

    key: str
    in_sync: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftTally:
    """What a run has counted; an error is a key that could not be compared, and no drift."""

    compared: int = 0
    out_of_sync: int = 0
    errors: int = 0

    def plus(self, *, compared: int = 0, out_of_sync: int = 0, errors: int = 0) -> DriftTally:
        """With the counts of one more batch."""
        return DriftTally(
            compared=self.compared + compared, out_of_sync=self.out_of_sync + out_of_sync, errors=self.errors + errors
        )

    @property
    def rate(self) -> float | None:
        """The share of what was compared that is out of sync; None where nothing was compared."""
        return self.out_of_sync / self.compared if self.compared else None

    @property
    def verdict(self) -> Verdict:
        """In integers, so that a rate at the limit is not over it by a rounding."""
        if not self.compared or self.errors * _ERRORS_OF > self.compared + self.errors:
            return Verdict.INCONCLUSIVE
        return Verdict.BREACH if self.out_of_sync * _BREACH_OF > self.compared else Verdict.CLEAN


@dataclass(frozen=True, slots=True)
class Streak:
    """Consecutive breaches of one read model, and whether somebody was told of them."""

    breaches: int = 0
    promoted: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What a run makes of a streak, and whether it is the run to tell of."""

    streak: Streak
    promotes: bool


def judge(streak: Streak, verdict: Verdict) -> Judged:
    """The streak after a run of whichever mode, and whether this run is the one to tell of."""
    match verdict:
        case Verdict.CLEAN:
            return Judged(Streak(), promotes=False)
        case Verdict.INCONCLUSIVE:
            return Judged(streak, promotes=False)
        case Verdict.BREACH:
            breaches = streak.breaches + 1
            promotes = not streak.promoted and breaches >= BREACHES_TO_PROMOTE
            return Judged(Streak(breaches, streak.promoted or promotes), promotes)


def sample_size(population: int) -> int:
    """How many of so many keys a sampled run looks at: one in a hundred, at least 20, never more than there are."""
    return min(population, max(SMALLEST_SAMPLE, -(-population // _SAMPLED_OF)))


def sample_places(population: int, size: int, offset: float) -> list[int]:
    """`size` different places of 0 to `population` - 1, one from each of as many equal stretches, at `offset` in [0, 1) of each.

    Every place is as likely as every other when the offset is drawn evenly.
    """
    if not 0 <= size <= population:
        raise ValueError("a sample is no larger than what it is of")
    # In integers: no two stretches may come to one place by a rounding.
    within = min(int(offset * population), population - 1)
    return [(stretch * population + within) // size for stretch in range(size)]


def family_of(read_model: str) -> str:
    """The kind of a read model that there are several of: what stands before the colon."""
    return read_model.partition(":")[0]
