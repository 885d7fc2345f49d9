"""How a chapter went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.demo.books import Entry

__all__ = ["Verdict", "faults"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a chapter came to in a sentence, and what is wrong with its books."""

    sentence: str
    faults: Sequence[str]


def faults(entries: Sequence[Entry], missing: str) -> list[str]:
    """What does not balance, in words, behind what is still missing."""
    wrong = [f"{line.name} is {line.found:,} and must be {line.expected:,}" for line in entries if not line.balances]
    return [missing, *wrong] if missing else wrong
