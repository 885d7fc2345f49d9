"""The `rollcall` command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

import typer
from rich.console import Console
from rich.markup import escape

from deploy.local_stack import StackUnavailable
from service.cli import (
    connection_checks,
    directory,
    doctor,
    drift,
    events,
    jobs,
    keys,
    parked,
    processes,
    schedules,
    secret_grants,
    stack,
    sync,
    webhooks,
)
from service.clients.inbound import NotDeliveredError
from service.domain.errors import RollcallError
from service.settings import SettingsError

__all__ = ["app", "main"]

app = typer.Typer(
    name="rollcall",
    help="Keeps every system's idea of who is a member in step.",
    no_args_is_help=True,
    add_completion=False,
    # Its tracebacks would print local variables: those are members' data.
    pretty_exceptions_enable=False,
)
processes.add_to(app)
stack.add_to(app)
directory.add_to(app)
webhooks.add_to(app)
connection_checks.add_to(app)
secret_grants.add_to(app)
keys.add_to(app)
sync.add_to(app)
events.add_to(app)
parked.add_to(app)
jobs.add_to(app)
drift.add_to(app)
schedules.add_to(app)
doctor.add_to(app)

# What went wrong is said in a sentence; anything else is a defect and shows its traceback.
_EXPLAINED: Final = (RollcallError, SettingsError, StackUnavailable, NotDeliveredError)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, of `sys.argv` or of `arguments`; a problem with a known cause is one line on stderr and exit status 1."""
    try:
        app(arguments)
    except (*_EXPLAINED, ExceptionGroup) as error:
        explained = _explained(error)
        if explained is None:
            raise
        Console(stderr=True).print(f"[bold red]rollcall:[/] {escape(str(explained))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        # The second signal: whoever sends it does not want to wait.
        sys.exit(130)


def _explained(error: BaseException) -> BaseException | None:
    """The error that has a sentence of its own, also where roles that ran side by side wrap it in groups."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_explained, error.exceptions)), None)
    return error if isinstance(error, _EXPLAINED) else None
