"""What the demo shows: a small live display on a terminal, a few plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from contracts.membership_updated import MembershipUpdatedV1
from deploy.demo.books import Entry
from deploy.demo.evidence import Parked
from deploy.demo.scenario import Standing
from deploy.demo.trace_tree import TreeLine
from service.store.sync_entries import SyncEntry

__all__ = ["Answered", "Bar", "Progress", "Screen"]

_SAMPLES: Final = 3
_SHOWN: Final = 6
# Of time, name, version, state, arrow, state and fields: what scrolls by must not sway.
_WIDTHS: Final = (8, 22, 2, 9, 1, 9, 9)
# Of time, source, what it is, and the answer.
_ANSWER_WIDTHS: Final = (8, 17, 9, 12)
_ACCEPTED: Final = 202
_COLOURS: Final = {"active": "green", "suspended": "yellow", "expired": "red", "removed": "red", "pending": "cyan"}


@dataclass(frozen=True, slots=True)
class Bar:
    """How much of something is done."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: bars for a terminal; for a pipe a line, whenever so many more of `total` are `done`."""

    bars: Sequence[Bar]
    done: int
    total: int
    said: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A webhook that was answered; `at` is aware."""

    at: datetime
    source: str
    kind: str
    status: int


class Screen:
    """Writes to stdout, coloured where that is a terminal that wants it."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, TextIOWrapper):
            # A terminal that cannot show a character must not end the demo.
            sys.stdout.reconfigure(errors="replace")
        self._console = Console(highlight=False)
        self._animated = sys.stdout.isatty() and self._console.is_terminal and not self._console.is_dumb_terminal
        self._unicode = self._console.encoding.lower().startswith("utf")
        self._live: Live | None = None
        self._every = self._said = 0

    def say(self, line: str) -> None:
        """One line of what is going on; safe from other threads."""
        self._console.print(Text(line, style="dim"), soft_wrap=not self._animated)

    def step(self, line: str) -> None:
        """What begins now."""
        self._console.print(f"[bold]{escape(line)}[/]", soft_wrap=not self._animated)

    def chapter(self, line: str) -> None:
        """What begins now, after a blank line."""
        self._console.print()
        self.step(line)

    @contextmanager
    def following(self, every: int, *, stays: bool = True) -> Iterator[None]:
        """Keep the live display up, and its last state where it `stays`; in a pipe, say how far it is once for `every` so many."""
        self._every, self._said = every, 0
        if not self._animated:
            yield
            return
        # Refreshed by `show` alone: a thread of its own would read the events while they change.
        with Live(console=self._console, auto_refresh=False, transient=not stays) as self._live:
            yield
        self._live = None

    def show_events(self, progress: Progress, events: Sequence[MembershipUpdatedV1], people: Mapping[str, Standing]) -> None:
        """Show how far it is and the last events."""
        self._show(progress, _WIDTHS, [_told(event, people) for event in list(events)[-_SHOWN:]])

    def show_answers(self, progress: Progress, answers: Sequence[Answered]) -> None:
        """Show how far it is and the last answers."""
        self._show(progress, _ANSWER_WIDTHS, [_answered(answer) for answer in list(answers)[-_SHOWN:]])

    def show_bars(self, progress: Progress) -> None:
        """Show how far it is, and nothing else."""
        self._show(progress, (), ())

    def done(self, what: str, came_to: str) -> None:
        """A step of a chapter that is over, and what came of it."""
        self._line(f"{escape(what):<25} [dim]{escape(came_to)}[/]")

    def differences(self, entries: Sequence[SyncEntry]) -> None:
        """What a dry run said of some members, as a unified diff looks."""
        for entry in entries:
            self._line(f"[cyan]@@ {escape(entry.what)}: {escape(entry.external_id or '')} @@[/]")
            for name, change in (entry.changes or {}).items():
                for sign, value, colour in (("-", change["before"], "red"), ("+", change["after"], "green")):
                    if value is not None:
                        self._line(f"[{colour}]{sign}{escape(name)}: {escape(str(value))}[/]")

    def _show(self, progress: Progress, widths: Sequence[int], rows: Sequence[tuple[str, ...]]) -> None:
        if self._live is not None:
            self._live.update(_frame(progress.bars, widths, rows), refresh=True)
            return
        if progress.total and progress.done >= self._said + self._every:
            self._said = progress.done - progress.done % self._every
            self._console.print(f"  {progress.done:,} of {progress.total:,} {progress.said}", soft_wrap=True)

    def books(self, entries: Sequence[Entry], title: str = "The books") -> None:
        """The books, line by line."""
        self.chapter(title)
        for entry in entries:
            self._line(f"{entry.name:<12} [bold]{entry.found:>6,}[/]  {self._mark(entry)}  [dim]{escape(entry.meaning)}[/]")

    def parked(self, parked: Sequence[Parked]) -> None:
        """One parked message of each end, with its reason."""
        samples = list({one.end: one for one in reversed(parked)}.values())[:_SAMPLES]
        if not samples:
            return
        self.chapter(f"{len(samples)} of the {len(parked)} parked messages, and why")
        for one in samples:
            self._line(f"[yellow]{escape(one.reason)}[/]")

    def tree(self, lines: Sequence[TreeLine]) -> None:
        """A trace: each span with when it began and how long it took."""
        plain = str.maketrans("", "") if self._unicode else str.maketrans("├└│─", "||| ")
        width = max(len(line.drawn) + len(line.name) for line in lines)
        for line in lines:
            drawn = line.drawn.translate(plain)
            timing = f"[dim]{line.after:>6.1f} ms[/] [bold]{line.lasted:>6.2f} ms[/]"
            error = f" [red]{escape(line.error)}[/]" if line.error else ""
            name = f"{escape(line.name)}{' ' * (width - len(drawn) - len(line.name))}"
            self._line(f"[dim]{drawn}[/]{name}  {timing}  [dim]{line.kind.lower()}[/]{error}")

    def verdict(self, line: str, *, good: bool) -> None:
        """How it went."""
        self._console.print()
        self._console.print(f"[bold {'green' if good else 'red'}]{escape(line)}[/]", soft_wrap=not self._animated)

    def where_next(self) -> None:
        """Where to look next."""
        self.chapter("Where to look next")
        pages = (
            ("make run", "starts it empty, stays up, says how to reach it"),
            (f"{_command()} --help", "add a company, send webhooks, tail the events"),
            ("docs/consumer.py", "how to use the events rightly, in 20 lines"),
            ("README.md", "the rooms, and the way of a change through them"),
        )
        width = max(len(what) for what, _ in pages)
        for what, why in pages:
            self._line(f"[bold]{what:<{width}}[/]  [dim]{why}[/]")

    def _line(self, markup: str) -> None:
        if self._animated:
            self._console.print(Padding(markup, (0, 0, 0, 2)))
        else:
            # A line stays a line, without the blanks that fill a terminal's.
            self._console.print(f"  {markup}", soft_wrap=True)

    def _mark(self, entry: Entry) -> str:
        if entry.expected is None:
            return " "
        good, bad = ("✓", "✗") if self._unicode else ("ok", "NOT")
        return f"[green]{good}[/]" if entry.balances else f"[bold red]{bad} must be {entry.expected:,}[/]"


def _frame(bars: Sequence[Bar], widths: Sequence[int], rows: Sequence[tuple[str, ...]]) -> RenderableType:
    above = Table.grid(padding=(0, 2))
    for bar in bars:
        above.add_row(bar.name, ProgressBar(total=bar.total, completed=bar.done, width=30), f"{bar.done:,} of {bar.total:,}")
    if not widths:
        return Padding(above, (0, 0, 0, 2))
    below = Table.grid(padding=(0, 1))
    for width in widths:
        below.add_column(min_width=width, no_wrap=True)
    for row in rows:
        below.add_row(*row)
    for _ in range(_SHOWN - len(rows)):
        below.add_row("")
    return Padding(Group(above, "", below), (0, 0, 0, 2))


def _answered(answer: Answered) -> tuple[str, ...]:
    taken = answer.status == _ACCEPTED
    said = f"[green]{answer.status} accepted[/]" if taken else f"[yellow]{answer.status} {HTTPStatus(answer.status).phrase}[/]"
    return f"[dim]{answer.at:%H:%M:%S}[/]", escape(answer.source), f"[dim]{answer.kind}[/]", said


def _told(event: MembershipUpdatedV1, people: Mapping[str, Standing]) -> tuple[str, ...]:
    """An event, with the name that it does not carry: the demo knows its people."""
    key = event.external_id or ""
    name = people[key].name if key in people else key
    before = event.previous_state
    return (
        f"[dim]{event.occurred_at:%H:%M:%S}[/]",
        escape(name),
        f"[bold]v{event.version}[/]",
        f"[{_COLOURS.get(before, 'dim')}]{before}[/]" if before else "[dim]new[/]",
        "→",
        f"[{_COLOURS.get(event.new_state, 'dim')}]{event.new_state}[/]",
        f"[dim]{', '.join(field for field in event.changed_fields if field not in ('state', 'upstreamState'))}[/]"
        if before
        else "",
    )


def _command() -> str:
    """The command as it was called: `make demo` calls it inside an environment that nobody has activated."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "rollcall" and not called.is_absolute() else "rollcall"
