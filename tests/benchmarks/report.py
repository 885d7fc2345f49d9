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

from tests.benchmarks import apply, latency, telemetry, webhooks, whole_way
from tests.benchmarks.apply import Applied
from tests.benchmarks.latency import Latency
from tests.benchmarks.memory import Memory
from tests.benchmarks.rounds import Series, ratio
from tests.benchmarks.webhooks import Taken, Webhooks
from tests.benchmarks.whole_way import WholeWay

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
    "latency": {
        ROLLCALL: "Rollcall's relay",
        latency.BARE: "the barest relay: listen, read, publish, delete",
        latency.FASTSTREAM_OUTBOX: "faststream-outbox",
    },
    "webhooks": {
        ROLLCALL: "Rollcall's edge",
        webhooks.RAW: "raw ASGI on uvicorn, aio-pika",
        webhooks.FASTAPI: "FastAPI, aio-pika",
        webhooks.CONFIRMS: "aio-pika, confirmed publishing alone",
    },
    "telemetry": {
        telemetry.NOTHING: "no telemetry at all",
        telemetry.OFF: "metrics; tracing off",
        telemetry.TENTH: "metrics; a tenth of all messages recorded",
        telemetry.ALL: "metrics; every message recorded",
    },
}
# By how much telemetry may slow the worker down at most.
COST_AIMS: Final = {telemetry.OFF: 0.03, telemetry.TENTH: 0.10, telemetry.ALL: 0.35}
# Milliseconds from commit to subscriber that Rollcall's relay should stay below: p50 and p99.
LATENCY_AIMS: Final = (2.0, 10.0)
# Milliseconds from a webhook's 202 to its event that should not be exceeded: p50 and p99.
WHOLE_WAY_AIMS: Final = (10.0, 40.0)
# How much more memory a process may take after all messages than after a tenth of them.
GROWTH_AIM: Final = 0.1
# Milliseconds from request to answer that Rollcall's edge should stay below: p99.
WEBHOOK_AIM: Final = 30.0
# What Rollcall's rate over another's should be at least.
AIMS: Final = {
    ("apply", apply.PER_MESSAGE): 2.0,
    ("relay", "raw"): 0.8,
    ("relay", "faststream_outbox"): 3.0,
    ("webhooks", webhooks.RAW): 0.9,
    ("webhooks", webhooks.FASTAPI): 2.0,
}


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one run and what they were measured on."""

    setting: dict[str, str]
    applied: Applied
    relayed: dict[str, Series]
    latency: dict[str, Latency]
    whole_way: WholeWay
    webhooks: Webhooks
    telemetry: dict[str, Series]
    memory: Memory


@dataclass(frozen=True, slots=True)
class _Table:
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def _tables(report: Report) -> Iterator[_Table]:
    sizes = report.applied.batches
    yield _rates("apply", "messages/s", report.applied.rates)
    yield _rates("relay", "events/s", report.relayed)
    yield _Table(
        "Messages in one transaction of the worker, queue full",
        ("transactions", "mean", "median", "most"),
        [(f"{len(sizes):,}", f"{statistics.mean(sizes):,.0f}", f"{statistics.median(sizes):,.0f}", f"{max(sizes):,}")],
    )
    yield _delays(report.latency)
    yield _whole_way(report.whole_way)
    yield _rates("webhooks", "requests/s", report.webhooks.rates)
    yield _answers(report.webhooks.taken)
    yield _cost(report.telemetry)
    yield _memory(report.memory)


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


def _delays(latencies: dict[str, Latency]) -> _Table:
    rows = []
    for name, label in NAMES["latency"].items():
        each = latencies[name]
        half, late = statistics.median(each.p50), statistics.median(each.p99)
        met = half <= LATENCY_AIMS[0] and late <= LATENCY_AIMS[1]
        wanted = f"≤ {LATENCY_AIMS[0]:g} and {LATENCY_AIMS[1]:g} ms, {'met' if met else 'missed'}" if name == ROLLCALL else ""
        figures = (f"{half:.1f} ms", f"{min(each.p50):.1f} to {max(each.p50):.1f}", f"{late:.1f} ms", f"{each.most:.0f} ms")
        rows.append((label, *figures, f"{each.out_of_order}", wanted))
    rounds = len(latencies[ROLLCALL].p50)
    title = f"From commit to subscriber at {latency.RATE} events a second, median of {rounds} round{'s' if rounds > 1 else ''}"
    return _Table(title, ("", "p50", "range", "p99", "most", "out of order", "aim"), rows)


def _whole_way(taken: WholeWay) -> _Table:
    half, late = statistics.median(taken.p50), statistics.median(taken.p99)
    met = half <= WHOLE_WAY_AIMS[0] and late <= WHOLE_WAY_AIMS[1] and not taken.lost
    figures = (f"{half:.1f} ms", f"{late:.1f} ms", f"{min(taken.p99):.1f} to {max(taken.p99):.1f}", f"{taken.most:.0f} ms")
    wanted = f"≤ {WHOLE_WAY_AIMS[0]:g} and {WHOLE_WAY_AIMS[1]:g} ms, {'met' if met else 'missed'}"
    rounds = len(taken.p50)
    title = f"From a webhook's 202 to its event at {whole_way.RATE} a second, median of {rounds} round{'s' if rounds > 1 else ''}"
    row = (f"{taken.webhooks:,}", *figures, f"{taken.lost}", wanted)
    return _Table(title, ("webhooks", "p50", "p99", "range", "most", "lost", "aim"), [row])


def _memory(memory: Memory) -> _Table:
    rows = []
    for name, early in memory.early.items():
        growth = memory.late[name] / early - 1
        figures = (f"{early:.0f} MiB", f"{memory.most[name]:.0f} MiB", f"{memory.late[name]:.0f} MiB", f"{growth:+.0%}")
        rows.append((name, *figures, f"≤ {GROWTH_AIM:+.0%}, {'met' if growth <= GROWTH_AIM else 'missed'}"))
    title = f"Memory over {memory.messages:,} messages"
    return _Table(title, ("", "after a tenth", "most since", "after all", "growth", "aim"), rows)


def _answers(taken: dict[str, Taken]) -> _Table:
    rows = []
    for name, label in NAMES["webhooks"].items():
        each = taken[name]
        late = statistics.median(each.p99)
        met = late <= WEBHOOK_AIM and not each.missing
        wanted = f"≤ {WEBHOOK_AIM:g} ms, 0 lost, {'met' if met else 'missed'}" if name == ROLLCALL else ""
        figures = (f"{statistics.median(each.p50):.1f} ms", f"{late:.1f} ms", f"{min(each.p99):.1f} to {max(each.p99):.1f}")
        rows.append((label, *figures, f"{each.accepted:,}", f"{each.refused:,}", f"{each.missing:,}", wanted))
    rounds = len(taken[ROLLCALL].p99)
    title = f"From request to answer on {webhooks.CONNECTIONS} connections, median of {rounds} round{'s' if rounds > 1 else ''}"
    return _Table(title, ("", "p50", "p99", "range", "2xx", "not 2xx", "2xx, lost", "aim"), rows)


def _cost(rates: dict[str, Series]) -> _Table:
    """What each costs of the rate without any telemetry, in hundredths."""
    base = rates[telemetry.NOTHING]
    rows = []
    for name, label in NAMES["telemetry"].items():
        series = rates[name]
        cells = (label, f"{series.median:,.0f}", f"{series.least:,.0f} to {series.most:,.0f}")
        if name == telemetry.NOTHING:
            rows.append((*cells, "", "", ""))
            continue
        times, aim = ratio(series, base), COST_AIMS[name]
        lost = (f"{1 - times.median:.0%}", f"{1 - times.most:.0%} to {1 - times.least:.0%}")
        rows.append((*cells, *lost, f"≤ {aim:.0%}, {'met' if 1 - times.median <= aim else 'missed'}"))
    title = f"What telemetry costs the worker, median of {len(base.rates)} interleaved round{'s' if len(base.rates) > 1 else ''}"
    return _Table(title, ("", "messages/s", "range", "slower by", "range", "aim"), rows)


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
