"""Interleaved rounds: every contender once a round, in another order each time, so that a busy moment hits all alike."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Ratio", "Series", "interleaved", "ratio", "turns"]


@dataclass(frozen=True, slots=True)
class Series:
    """One contender's messages per second, a figure for each round."""

    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    @property
    def least(self) -> float:
        return min(self.rates)

    @property
    def most(self) -> float:
        return max(self.rates)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast: of the medians, and the least and the most of the rounds by themselves."""

    median: float
    least: float
    most: float


def ratio(mine: Series, other: Series) -> Ratio:
    """Mine over the other's; both must come from the same rounds."""
    each = [one / another for one, another in zip(mine.rates, other.rates, strict=True)]
    return Ratio(mine.median / other.median, min(each), max(each))


def turns(contenders: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Whose turn it is, with the number of the round, from 1; each round begins with another one."""
    for turn in range(rounds):
        first = turn % len(contenders)
        for name in (*contenders[first:], *contenders[:first]):
            yield turn + 1, name


async def interleaved(
    contenders: Sequence[str], rounds: int, run: Callable[[str], Awaitable[float]], say: Callable[[str], None]
) -> dict[str, Series]:
    """Run each contender once a round; `run` answers messages per second, `say` gets a line for each."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number, name in turns(contenders, rounds):
        rates[name].append(rate := await run(name))
        say(f"round {number} of {rounds}: {name} {rate:,.0f}/s")
    return {name: Series(tuple(each)) for name, each in rates.items()}
