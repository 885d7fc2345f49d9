"""What `rollcall doctor` finds: one line each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Finding", "Verdict", "broken", "odd", "well"]


class Verdict(Enum):
    """What a finding means: its sign and its colour."""

    WELL = ("✓", "green")
    ODD = ("!", "yellow")
    BROKEN = ("✗", "red")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it is, and what to do."""

    verdict: Verdict
    about: str
    text: str


def well(about: str, text: str) -> Finding:
    """Nothing to do."""
    return Finding(Verdict.WELL, about, text)


def odd(about: str, text: str) -> Finding:
    """Somebody should look at it."""
    return Finding(Verdict.ODD, about, text)


def broken(about: str, text: str) -> Finding:
    """Something does not work."""
    return Finding(Verdict.BROKEN, about, text)
