"""What was measured, as a table on the screen, as JSON, and as the part of docs/benchmarks.md that holds the figures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from tests.benchmarks import apply
from tests.benchmarks.apply import Applied
from tests.benchmarks.latency import Latency
from tests.benchmarks.rounds import Series, ratio

__all__ = ["BEGIN", "END", "Report", "print_report", "to_json", "write_into"]

BEGIN: Final = "<!-- figures: written by python -m tests.benchmarks --write-docs -->"
END: Final = "<!-- end of figures -->"
ROLLCALL: Final = "rollcall"
NAMES: Final = {
    "apply": {
        ROLLCALL: "Rollcall's worker",
        apply.PER_MESSAGE: "FastStream, a transaction per message",
        apply.RAW: "aio-pika, consume and ack alone",
    },
    "relay": {
        ROLLCALL: "Rollcall's relay",
        "raw": "aio-pika, confirmed publishing alone",
        "faststream_outbox": "faststream-outbox",
    },
}
# What Rollcall's rate over another's should be at least.
AIMS: Final = {("apply", apply.PER_MESSAGE): 2.0, ("relay", "raw"): 0.8, ("relay", "faststream_outbox"): 3.0}


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one run and what they were measured on."""

    setting: dict[str, str]
    applied: Applied
    relayed: dict[str, Series]
    latency: Latency


@dataclass(frozen=True, slots=True)
class _Table:
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def _tables(report: Report) -> Iterator[_Table]:
    sizes, latency = report.applied.batches, report.latency
    yield _rates("apply", "messages/s", report.applied.rates)
    yield _rates("relay", "events/s", report.relayed)
    yield _Table(
        "Messages in one transaction of the worker, queue full",
        ("transactions", "mean", "median", "most"),
        [(f"{len(sizes):,}", f"{statistics.mean(sizes):,.0f}", f"{statistics.median(sizes):,.0f}", f"{max(sizes):,}")],
    )
    yield _Table(
        f"From commit to subscriber, one relay, {latency.per_second:,.0f} events a second",
        ("events", "p50", "p99", "most", "out of order"),
        [
            (
                f"{latency.events:,}",
                f"{latency.p50:.1f} ms",
                f"{latency.p99:.1f} ms",
                f"{latency.most:.1f} ms",
                f"{latency.out_of_order}",
            )
        ],
    )


def _rates(kind: str, unit: str, rates: dict[str, Series]) -> _Table:
    mine = rates[ROLLCALL]
    rows = []
    for name, label in NAMES[kind].items():
        series = rates[name]
        cells = (label, f"{series.median:,.0f}", f"{series.least:,.0f} to {series.most:,.0f}")
        if name == ROLLCALL:
            rows.append((*cells, "", "", ""))
            continue
        times, aim = ratio(mine, series), AIMS.get((kind, name))
        wanted = "" if aim is None else f"≥ {aim:g}, {'met' if times.median >= aim else 'missed'}"
        rows.append((*cells, f"{times.median:.2f}", f"{times.least:.2f} to {times.most:.2f}", wanted))
    title = f"{kind.capitalize()}, median of {len(mine.rates)} interleaved round{'s' if len(mine.rates) > 1 else ''}"
    return _Table(title, ("", unit, "range", "ratio", "range", "aim"), rows)


def print_report(report: Report, console: Console) -> None:
    """Show the figures to people."""
    console.print()
    for shown in _tables(report):
        table = Table(title=shown.title, title_justify="left", title_style="bold")
        for number, column in enumerate(shown.columns):
            table.add_column(column, justify="left" if number == 0 else "right", no_wrap=number > 0)
        for row in shown.rows:
            table.add_row(*row)
        console.print(table)
    console.print("; ".join(f"{name} {value}" for name, value in report.setting.items()))


def to_json(report: Report) -> str:
    """The raw figures: every round's rate, every transaction's size."""
    return json.dumps(asdict(report), indent=2) + "\n"


def _to_markdown(report: Report) -> str:
    lines = ["Measured on " + "; ".join(f"{name} {value}" for name, value in report.setting.items()) + "."]
    for table in _tables(report):
        lines += ["", f"**{table.title}**", "", _row(table.columns), _row(["---", *["--:"] * (len(table.columns) - 1)])]
        lines += [_row(row) for row in table.rows]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def write_into(page: Path, report: Report) -> None:
    """Replace the figures in a page, between its two comments; raises ValueError where it does not have them."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        message = f"{page.name} must hold {BEGIN} and then {END}, once each"
        raise ValueError(message)
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{_to_markdown(report)}\n\n{END}{after}", encoding="utf-8")
