"""Whether a sync may remove whom its snapshot lacks, or somebody has to look at the list first; pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Held", "Passed", "RemovalLimits", "Verdict", "guard_removals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalLimits:
    """What one sync of a connection may remove unasked (semantics: Directory sync)."""

    most: int = 500
    # Of the live members; it counts only above a `few`, or a small club could lose nobody.
    most_percent: float = 5
    few: int = 5


@dataclass(frozen=True, slots=True)
class Passed:
    """Nobody has to be asked."""


@dataclass(frozen=True, slots=True)
class Held:
    """Nothing is applied until somebody has looked at the list."""

    reason: str


Verdict = Passed | Held


def guard_removals(*, live: int, removals: int, source_is_empty: bool, limits: RemovalLimits) -> Verdict:
    """Judge so many removals among so many live members of the connection, those that this very run has removed counted in both."""
    if source_is_empty and live > 0:
        return Held(f"the directory is empty, and {live:,} of its members are live here")
    if removals > limits.most:
        return Held(f"{removals:,} of {live:,} live members would be removed; more than {limits.most:,} must be approved")
    if removals > limits.few and removals * 100 > limits.most_percent * live:
        share = f"more than {limits.most_percent:g}% and more than {limits.few:,}"
        return Held(f"{removals:,} of {live:,} live members would be removed; {share} must be approved")
    return Passed()
