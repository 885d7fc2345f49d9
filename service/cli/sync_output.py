"""How a sync's end, and what a dry run found, look to a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from service.cli.sync_following import Followed
from service.domain.jobs import JobState
from service.store.database import Database
from service.store.jobs import JobRow
from service.store.sync_entries import SyncEntry, list_entries
from service.store.sync_log import SyncLogRow

__all__ = ["print_entries", "print_outcome"]

_PAGE: Final = 1000
_MOST_PROBLEMS: Final = 20
_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}


async def print_entries(db: Database, run: SyncLogRow) -> None:
    """What a dry run would change, member by member, as a unified diff looks, on stdout; of any other run its first problems.

    It is personal data, for whoever asked.
    """
    last, shown = 0, 0
    while shown < _MOST_PROBLEMS or run.dry_run:
        async with db.transaction() as tx:
            entries = await list_entries(tx, run.id, after=last, limit=_PAGE if run.dry_run else _MOST_PROBLEMS)
        if not entries:
            return
        last, shown = entries[-1].id, shown + len(entries)
        for entry in entries:
            for line in _lines(entry):
                typer.secho(line, fg=_COLOURS.get(line[0]), err=not run.dry_run)


def print_outcome(followed: Followed) -> bool:
    """One line of what was, or would be, done, and what to do next; answers whether anything was or would be."""
    job, run = followed.job, followed.run
    console = Console(highlight=False, soft_wrap=True)
    said = Console(stderr=True, highlight=False, soft_wrap=True)
    if job.next_attempt_at is not None and job.state is JobState.QUEUED:
        said.print(f"[yellow]not done yet:[/] {escape(job.error or '')}")
        said.print(f"a worker tries again at {job.next_attempt_at:%H:%M:%S} UTC (job {job.id}, attempt {job.attempts + 1} of 5)")
        return False
    if job.state in (JobState.FAILED, JobState.CANCELLED):
        said.print(f"[bold red]{job.state.value}:[/] {escape(job.error or 'cancelled')}")
        return False
    if run is None:
        _print_removal(job, console, said)
        return False
    counts = {
        "added": run.added,
        "updated": run.updated,
        "reactivated": run.reactivated,
        "removed": run.removed,
        "unchanged": run.verified,
        "left alone": run.left_alone,
        "with errors": run.error_count,
    }
    told = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number) or "nothing to do"
    seconds = 0.0 if run.duration is None else run.duration.total_seconds()
    held = run.details.get("held")
    if job.state is JobState.QUARANTINED:
        _print_held(job, str(held), said)
        return True
    console.print(f"{'would be ' if run.dry_run else ''}{told}; {run.fetched:,} read in {seconds:.1f} s")
    for name, meaning in (("withheld", "nobody was removed"), ("held", "it would wait for approval")):
        if (reason := run.details.get(name)) is not None:
            said.print(f"[yellow]{meaning}:[/] {escape(str(reason))}")
    if run.error_count and not run.dry_run:
        said.print(f"[yellow]{run.error_count:,} records could not be taken:[/] their members stay as they are")
    return any((run.added, run.updated, run.reactivated, run.removed)) and run.dry_run


def _print_removal(job: JobRow, console: Console, said: Console) -> None:
    """What became of the removal of a directory's members, which has no run in the syncs' log."""
    result = job.result or {}
    if job.state is JobState.QUARANTINED:
        _print_held(job, str(result.get("held")), said)
    else:
        console.print(f"{result.get('removed', 0):,} removed; the connection is archived")


def _print_held(job: JobRow, why: str, said: Console) -> None:
    said.print(f"[bold yellow]held back:[/] {escape(why)}; nothing was changed")
    said.print(f"rollcall sync approve {job.id}   # they are to go\nrollcall sync reject {job.id}    # nobody is")


def _lines(entry: SyncEntry) -> Iterator[str]:
    key = "(no key)" if entry.external_id is None else entry.external_id
    if entry.changes is None:
        reason = "" if entry.reason is None else f": {entry.reason}"
        yield f"! {key}: {entry.what}{reason}"
        return
    yield f"--- {'/dev/null' if entry.what == 'added' else key}"
    yield f"+++ {'/dev/null' if entry.what == 'removed' else key}"
    yield f"@@ {entry.what} @@"
    for field, change in (entry.changes or {}).items():
        if change["before"] is not None:
            yield f"-{field}: {_shown(change['before'])}"
        if change["after"] is not None:
            yield f"+{field}: {_shown(change['after'])}"


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode()
