"""What the demo shows: a small live display on a terminal, a few plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

__all__ = ["Progress", "Screen"]

_EVERY: Final = 500
_SAMPLES: Final = 3
_SHOWN: Final = 6
# Of time, name, version, state, arrow, state and fields: what scrolls by must not sway.
_WIDTHS: Final = (8, 22, 2, 9, 1, 9, 9)
_COLOURS: Final = {"active": "green", "suspended": "yellow", "expired": "red", "removed": "red", "pending": "cyan"}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: messages sent and settled of `total`, versions applied, events delivered."""

    total: int
    sent: int = 0
    settled: int = 0
    applied: int = 0
    delivered: int = 0


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
        self._said = 0

    def say(self, line: str) -> None:
        """One line of what is going on; safe from other threads."""
        self._console.print(Text(line, style="dim"), soft_wrap=not self._animated)

    def step(self, line: str) -> None:
        """What begins now."""
        self._console.print(f"[bold]{escape(line)}[/]", soft_wrap=not self._animated)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Keep the live display up."""
        if not self._animated:
            yield
            return
        # Refreshed by `show` alone: a thread of its own would read the events while they change.
        with Live(console=self._console, auto_refresh=False) as self._live:
            yield

    def show(self, progress: Progress, events: Sequence[MembershipUpdatedV1], people: Mapping[str, Standing]) -> None:
        """Show how far it is and the last events."""
        if self._live is not None:
            self._live.update(self._frame(progress, events, people), refresh=True)
            return
        while self._said + _EVERY <= progress.settled:
            self._said += _EVERY
            delivered = f"{progress.delivered:,} events delivered"
            self._console.print(f"  {self._said:,} of {progress.total:,} changes settled, {delivered}", soft_wrap=True)

    def books(self, entries: Sequence[Entry]) -> None:
        """The books, line by line."""
        self._console.print()
        self.step("The books")
        for entry in entries:
            self._line(f"{entry.name:<12} [bold]{entry.found:>6,}[/]  {self._mark(entry)}  [dim]{escape(entry.meaning)}[/]")

    def parked(self, parked: Sequence[Parked]) -> None:
        """One parked message of each end, with its reason."""
        samples = list({one.end: one for one in reversed(parked)}.values())[:_SAMPLES]
        if not samples:
            return
        self._console.print()
        self.step(f"{len(samples)} of the {len(parked)} parked messages, and why")
        for one in samples:
            self._line(f"[yellow]{escape(one.reason)}[/]")

    def verdict(self, line: str, *, good: bool) -> None:
        """How it went."""
        self._console.print()
        self._console.print(f"[bold {'green' if good else 'red'}]{escape(line)}[/]", soft_wrap=not self._animated)

    def where_next(self) -> None:
        """Where to look next."""
        self._console.print()
        self.step("Where to look next")
        pages = (
            ("make run", "the same, empty and staying up; it says how to reach it"),
            (f"{_command()} --help", "add a company, publish a change, tail the events"),
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

    def _frame(self, progress: Progress, events: Sequence[MembershipUpdatedV1], people: Mapping[str, Standing]) -> RenderableType:
        bars = Table.grid(padding=(0, 2))
        for name, done, total in (
            ("sent", progress.sent, progress.total),
            ("settled", progress.settled, progress.total),
            ("delivered", progress.delivered, max(progress.applied, progress.delivered, 1)),
        ):
            bars.add_row(name, ProgressBar(total=total, completed=done, width=30), f"{done:,} of {total:,}")
        told = Table.grid(padding=(0, 1))
        for width in _WIDTHS:
            told.add_column(min_width=width, no_wrap=True)
        for event in list(events)[-_SHOWN:]:
            told.add_row(*_told(event, people))
        for _ in range(_SHOWN - len(events)):
            told.add_row("")
        return Padding(Group(bars, "", told), (0, 0, 0, 2))


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
