"""What was measured of the syncs, on the screen, as JSON, and as the part of docs/benchmarks.md that holds their figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from rich.console import Console
from rich.table import Table

from tests.benchmarks.sync_people import CHANGED, INITIAL, NO_CHANGE, STEPS

__all__ = [
    "BARE",
    "BEGIN",
    "END",
    "OVER_HTTP",
    "ROLLCALL",
    "ROW_BY_ROW",
    "WITH_BOOKS",
    "Figures",
    "Measured",
    "SyncReport",
    "print_size",
    "told",
    "write_into",
]

BEGIN: Final = "<!-- figures of syncs: written by python -m tests.benchmarks.sync --million --write-docs -->"
END: Final = "<!-- end of figures of syncs -->"
ROLLCALL, OVER_HTTP = "rollcall", "rollcall, with the fetch"
BARE, WITH_BOOKS, ROW_BY_ROW = "floor", "floor with audit and outbox", "row by row"

# How many times the floor's time a step of Rollcall may take, at the greatest size: without books, and with them.
_AIMS: Final = ((NO_CHANGE, BARE, 1.0), (CHANGED, BARE, 1.0), (INITIAL, WITH_BOOKS, 2.5))
_MOST_MB: Final = 200.0
_GROWTH: Final = 0.2
_UNEVEN: Final = 0.25
# Memory is compared with that at this size, and cost from it on: below, what a sync costs by itself is all there is.
_FROM: Final = 10_000


@dataclass(frozen=True, slots=True)
class Figures:
    """One step: seconds by the clock, of the process's CPU, and of the server's; None where that cannot be read."""

    seconds: float
    cpu: float
    server_cpu: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """One contender at one size."""

    steps: Mapping[str, Figures]
    peak_mb: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls({step: Figures(**figures) for step, figures in value["steps"].items()}, value["peak_mb"])


@dataclass(frozen=True, slots=True)
class SyncReport:
    """All figures of one run, by size and contender, and what they were measured on."""

    setting: dict[str, str]
    sizes: dict[int, dict[str, Measured]]

    def to_json(self) -> dict[str, Any]:
        sizes = {str(size): {name: one.to_json() for name, one in found.items()} for size, found in self.sizes.items()}
        return {"setting": self.setting, "sizes": sizes}


def told(size: int, name: str, one: Measured) -> str:
    """One contender at one size, in a line."""
    return f"{size:,} members, {name}: {', '.join(_cell(one.steps[step]) for step in STEPS)}, {one.peak_mb:.0f} MB"


def print_size(size: int, found: Mapping[str, Measured], console: Console) -> None:
    """A table of one size."""
    table = Table(title=f"{size:,} members: seconds (CPU of the process + of the server)")
    for column in ("", *STEPS, "peak MB"):
        table.add_column(column, justify="right")
    for name, one in found.items():
        table.add_row(name, *(_cell(one.steps[step]) for step in STEPS), f"{one.peak_mb:.0f}")
    console.print(table)


def write_into(page: Path, report: SyncReport) -> None:
    """Replace the figures in a page, between its two comments; raises ValueError where it does not have them."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        message = f"{page.name} must hold {BEGIN} and then {END}, once each"
        raise ValueError(message)
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{_to_markdown(report)}\n\n{END}{after}", encoding="utf-8")


def _to_markdown(report: SyncReport) -> str:
    lines = [f"Measured on {', '.join(f'{name} {value}' for name, value in report.setting.items())}.", ""]
    lines += ["Seconds (CPU seconds of the process + of the server's sessions).", ""]
    lines += [f"| members | | {' | '.join(STEPS)} | peak MB |", f"| --: | --- |{' --: |' * (len(STEPS) + 1)}"]
    for size, found in report.sizes.items():
        for name, one in found.items():
            lines.append(f"| {size:,} | {name} | {' | '.join(_cell(one.steps[step]) for step in STEPS)} | {one.peak_mb:.0f} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in _judged(report))])


def _cell(figures: Figures) -> str:
    digits = 3 if figures.seconds < 0.1 else 2 if figures.seconds < 10 else 1
    server = "?" if figures.server_cpu is None else f"{figures.server_cpu:.{min(digits, 2)}f}"
    return f"{figures.seconds:.{digits}f} ({figures.cpu:.{digits}f} + {server})"


def _judged(report: SyncReport) -> Iterator[str]:
    greatest = max(report.sizes)
    found = report.sizes[greatest]
    for step, floor, most in _AIMS:
        times = found[ROLLCALL].steps[step].seconds / found[floor].steps[step].seconds
        yield f"{greatest:,} members, {step}: {times:.2f} times the {floor}; aim ≤ {most:g}, {_met(times <= most)}."
    peak = found[ROLLCALL].peak_mb
    if _FROM not in report.sizes or greatest == _FROM:
        yield f"Memory: {peak:.0f} MB; aim ≤ {_MOST_MB:.0f} MB, {_met(peak <= _MOST_MB)}."
        return
    growth = peak / report.sizes[_FROM][ROLLCALL].peak_mb - 1
    met = peak <= _MOST_MB and growth <= _GROWTH
    yield (
        f"Memory: {peak:.0f} MB at {greatest:,} members, {growth:+.0%} of that at {_FROM:,}; "
        f"aim ≤ {_MOST_MB:.0f} MB and ≤ {_GROWTH:+.0%}, {_met(met)}."
    )
    for step in STEPS:
        costs = {size: one[ROLLCALL].steps[step].seconds / size * 1e6 for size, one in report.sizes.items()}
        late = [cost for size, cost in costs.items() if size >= _FROM]
        middle = (min(late) + max(late)) / 2
        uneven = max(late) / middle - 1
        told = ", ".join(f"{cost:,.0f}" for cost in costs.values())
        wanted = f"aim ±{_UNEVEN:.0%}, {_met(uneven <= _UNEVEN)}"
        yield f"Microseconds a member, {step}: {told}; from {_FROM:,} on ±{uneven:.0%}, {wanted}."


def _met(met: bool) -> str:
    return "met" if met else "missed"
