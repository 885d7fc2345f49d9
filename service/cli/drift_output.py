"""Drift runs as a person reads them: a line each, or a few short ones where the terminal is narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.store.drift_findings import DriftFinding
from service.store.drift_runs import DriftRunRow

__all__ = ["print_findings", "print_runs"]

# Of a pipe, where a row stays a line.
_UNBOUNDED: Final = 1000


def print_runs(runs: Sequence[DriftRunRow]) -> None:
    """As a table where that has room."""
    console, table = _console(), _table(runs)
    if console.measure(table, options=console.options.update(max_width=_UNBOUNDED)).maximum <= console.width:
        console.print(table)
        return
    for row in runs:
        for line in _lines(row):
            console.print(line, soft_wrap=True)


def print_findings(findings: Sequence[DriftFinding]) -> None:
    """Which keys, and why; a reason that is too long for the terminal goes on below."""
    table = Table(box=None)
    for name in ("key", "what", "why"):
        table.add_column(name, no_wrap=name != "why", overflow="fold")
    for finding in findings:
        table.add_row(escape(finding.key), finding.what.value, escape(finding.reason))
    _console().print(table)


def _table(runs: Sequence[DriftRunRow]) -> Table:
    table = Table(box=None)
    for name in ("started", "read model", "mode", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("compared", "drift", "rate", "errors", "healed", "streak", "seconds"):
        table.add_column(name, no_wrap=True, justify="right")
    for name in ("id", "why"):
        table.add_column(name, no_wrap=True)
    for row in runs:
        table.add_row(
            _started(row),
            escape(row.read_model),
            _mode(row),
            _verdict(row),
            f"{row.compared:,}",
            f"{row.out_of_sync:,}",
            _rate(row),
            f"{row.errors:,}",
            f"{row.healed:,}",
            f"{row.streak:,}",
            _seconds(row),
            str(row.id),
            escape(row.error or ""),
        )
    return table


def _lines(row: DriftRunRow) -> list[str]:
    """The same of one run; what is nought and says nothing then is left out."""
    seconds = _seconds(row)
    counts = [f"{row.out_of_sync:,} of {row.compared:,} out of sync" + (f" ({rate})" if (rate := _rate(row)) else "")]
    for count, name in ((row.errors, "errors"), (row.healed, "healed"), (row.streak, "streak")):
        if count:
            counts.append(f"{name} {count:,}")
    return [
        f"[bold]{escape(row.read_model)}[/bold]  {_mode(row)}  [bold]{_verdict(row)}[/bold]",
        f"  {_started(row)}" + (f"  {seconds} s" if seconds else "") + f"  {row.id}",
        f"  {', '.join(counts)}",
        *([] if row.error is None else [f"  {escape(row.error)}"]),
    ]


def _started(row: DriftRunRow) -> str:
    return f"{row.started_at:%Y-%m-%d %H:%M:%S}"


def _mode(row: DriftRunRow) -> str:
    return f"{row.mode}, truncated" if row.truncated else row.mode


def _verdict(row: DriftRunRow) -> str:
    if row.verdict is None:
        return "not ended"
    return f"{row.verdict}, told" if row.promoted else row.verdict


def _rate(row: DriftRunRow) -> str:
    return "" if (rate := row.tally.rate) is None else f"{rate:.4%}"


def _seconds(row: DriftRunRow) -> str:
    return "" if (took := row.duration) is None else f"{took.total_seconds():.1f}"


def _console() -> Console:
    console = Console(highlight=False)
    console.width = console.width if console.is_terminal else _UNBOUNDED
    return console
