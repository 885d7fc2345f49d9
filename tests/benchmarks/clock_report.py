"""What the clock's two benches measured, each beside one bare statement, as a table for the screen and for docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import asyncpg

__all__ = ["PAGE", "Bench", "Took", "peak_mb", "setting_of"]

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_MICROSECONDS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Took:
    """One contender in one round: seconds by the clock, of its process's CPU, and of the server's; None where that is unknown."""

    seconds: float
    cpu: float
    server_cpu: float | None


@dataclass(frozen=True, slots=True)
class Bench:
    """Rounds of Rollcall and of the bare statement over `items` due ones among `among`, and Rollcall's rounds with nothing due."""

    name: str
    what: str
    items: int
    among: int
    setting: dict[str, str]
    rollcall: Sequence[Took]
    bare: Sequence[Took]
    idle: Sequence[float]
    peak_mb: float

    @property
    def ratio(self) -> float:
        """How fast Rollcall is beside the bare statement, the median of the rounds: each has both."""
        return median(bare.seconds / ours.seconds for ours, bare in zip(self.rollcall, self.bare, strict=True))

    @property
    def seconds(self) -> float:
        """Of Rollcall, the median."""
        return median(one.seconds for one in self.rollcall)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "rate": self.items / self.seconds}

    def lines(self) -> list[str]:
        """The figures as a table of Markdown, which a screen shows as well."""
        measured_on = ", ".join(f"{name} {value}" for name, value in self.setting.items())
        head = f"| {self.items:,} of {self.among:,} {self.what} | seconds | a second | µs of the process | µs of the server |"
        return [
            f"Measured on {measured_on}; {len(self.bare)} rounds, medians.",
            "",
            head,
            "| --- | --: | --: | --: | --: |",
            self._row("rollcall", self.rollcall),
            self._row("one bare statement", self.bare),
            "",
            f"Beside the bare statement of its round: {self.ratio:.2f}. Nothing due: {median(self.idle) * 1000:.1f} ms. "
            f"Peak memory: {self.peak_mb:.0f} MB.",
        ]

    def write_into(self, page: Path) -> None:
        """Replace the figures in a page, between the two comments of this bench; raises ValueError where it does not have them."""
        begin = f"<!-- figures of {self.name}: written by python -m tests.benchmarks.{self.name} --write-docs -->"
        end = f"<!-- end of figures of {self.name} -->"
        text = page.read_text(encoding="utf-8")
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            message = f"{page.name} must hold {begin} and then {end}, once each"
            raise ValueError(message)
        before, after = text.partition(begin)[0], text.partition(end)[2]
        figures = "\n".join(self.lines())
        page.write_text(f"{before}{begin}\n\n{figures}\n\n{end}{after}", encoding="utf-8")

    def _row(self, name: str, rounds: Sequence[Took]) -> str:
        seconds = median(one.seconds for one in rounds)
        spread = f"{min(one.seconds for one in rounds):.2f} to {max(one.seconds for one in rounds):.2f}"
        own = median(one.cpu for one in rounds) / self.items * _MICROSECONDS
        server = [one.server_cpu for one in rounds if one.server_cpu is not None]
        theirs = f"{median(server) / self.items * _MICROSECONDS:.0f}" if len(server) == len(rounds) else "?"
        return f"| {name} | {seconds:.2f} ({spread}) | {self.items / seconds:,.0f} | {own:.0f} | {theirs} |"


async def setting_of(url: str) -> dict[str, str]:
    """What the figures depend on."""
    connection: Any = await asyncpg.connect(url)
    postgres = (await connection.fetchval("show server_version")).split()[0]
    await connection.close()
    return {
        "cores": str(os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        "PostgreSQL": postgres,
    }


def peak_mb() -> float:
    """The most memory of this process: what getrusage calls so may be that of the process which started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
