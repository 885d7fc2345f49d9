"""`rollcall run` and `rollcall migrate`."""

from __future__ import annotations

import asyncio
import gc
from typing import Annotated, Final

import typer
import uvloop
from rich.console import Console

from service.settings import load_database_settings, load_settings
from service.store.migrate import migrate as apply_migrations
from service.telemetry.logs import configure_logs
from service.wiring.process import Role, run_process

__all__ = ["add_to", "collect_seldom"]

_YOUNG_OBJECTS: Final = 20_000


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(migrate)


def run(
    roles: Annotated[list[Role] | None, typer.Argument(help="What this process does; without a name: everything.")] = None,
) -> None:
    """Run the service until SIGTERM or Ctrl-C, then drain."""
    settings = load_settings()
    configure_logs(settings.log_format, settings.log_level)
    uvloop.run(run_process(settings, roles or list(Role), on_start=collect_seldom))


def collect_seldom(_: object = None) -> None:
    """Keep what is loaded by now out of garbage collection, and collect seldom what comes after."""
    # It stays for good: looking through it again would stop everything else for 50 ms and more, each time.
    gc.collect()
    gc.freeze()
    # What a message or a request makes is soon gone by itself; at 700 most of what the collector sees is still in use.
    gc.set_threshold(_YOUNG_OBJECTS)


def migrate() -> None:
    """Bring the database up to this release; any number may run this at once, and it needs no broker."""
    settings = load_database_settings()
    # The server itself: the migrations' lock belongs to a session, which a pooler does not keep.
    applied = asyncio.run(apply_migrations(settings.listen_url.get_secret_value()))
    console = Console()
    for name in applied:
        console.print(f"applied {name}", highlight=False)
    if not applied:
        console.print("the database is up to date")
