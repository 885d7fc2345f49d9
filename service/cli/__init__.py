"""The `rollcall` command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from deploy.local_stack import StackUnavailable
from service.clients.inbound import NotDeliveredError
from service.domain.errors import RollcallError
from service.settings import SettingsError

__all__ = ["command_line", "main"]

# Each command with the modules that make it. Only what is asked for is imported: all of it takes longer than most commands.
_MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "run": ("processes",),
    "migrate": ("processes",),
    "dev": ("stack",),
    "demo": ("stack",),
    "companies": ("directory",),
    "connections": ("directory", "webhooks", "connection_checks"),
    "webhooks": ("webhooks",),
    "secrets": ("secret_grants",),
    "keys": ("keys",),
    "sync": ("sync",),
    "publish": ("events",),
    "events": ("events",),
    "parked": ("parked",),
    "jobs": ("jobs",),
    "subscribers": ("subscribers", "deliveries"),
    "drift": ("drift",),
    "scans": ("scans",),
    "schedules": ("schedules",),
    "doctor": ("doctor",),
}


# EX_USAGE of sysexits.h. The library's own is 2, which here says that a command found something: changes, drift, findings.
_ASKED_WRONGLY: Final = 64
# The family of all that is wrong with a command line; the library does not export it.
_USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__bases__[0]


class _Commands(TyperGroup):
    """All commands; of theirs too, what is asked wrongly ends with a status of its own."""

    def make_context(self, *args: Any, **given: Any) -> Any:
        with _asked_rightly():
            return super().make_context(*args, **given)

    def invoke(self, *args: Any, **given: Any) -> Any:
        with _asked_rightly():
            return super().invoke(*args, **given)


@contextmanager
def _asked_rightly() -> Iterator[None]:
    try:
        yield
    except _USAGE_ERROR as error:
        error.exit_code = _ASKED_WRONGLY  # type: ignore[attr-defined]  # of a base that click does not export
        raise


def command_line(*commands: str) -> typer.Typer:
    """These commands, at least, or all where none is named."""
    app = typer.Typer(
        name="rollcall",
        cls=_Commands,
        help="Keeps every system's idea of who is a member in step.",
        no_args_is_help=True,
        add_completion=False,
        # Its tracebacks would print local variables: those are members' data.
        pretty_exceptions_enable=False,
    )
    # Without a second command one alone would be the whole program, and its name an argument of it.
    app.callback()(lambda: None)
    for module in dict.fromkeys(module for command in commands or _MODULES for module in _MODULES[command]):
        import_module(f"service.cli.{module}").add_to(app)
    return app


# What went wrong is said in a sentence; anything else is a defect and shows its traceback.
_EXPLAINED: Final = (RollcallError, SettingsError, StackUnavailable, NotDeliveredError)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, of `sys.argv` or of `arguments`.

    A problem with a known cause is one line on stderr and exit status 1; a command line that does not fit is 64.
    """
    asked = next(iter(sys.argv[1:] if arguments is None else arguments), "")
    try:
        command_line(*({asked} & _MODULES.keys()))(arguments)
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
