"""`rollcall dev` and `rollcall demo`: the service with everything it needs, on this machine."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
import uvloop
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape

from deploy.demo import perform
from deploy.local_stack import local_stack
from service.domain.addresses import LOOPBACK
from service.settings import given_urls, load_settings
from service.store.migrate import migrate
from service.telemetry.logs import configure_logs
from service.wiring.process import Process, Role, run_process

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(dev)
    app.command()(demo)


def dev(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the HTTP server; 0 picks a free one.")] = 0,
) -> None:
    """Start PostgreSQL, RabbitMQ and the whole service, and stay up until Ctrl-C; given URLs are used."""
    console = Console(stderr=True, highlight=False)
    database_url, rabbitmq_url = given_urls()
    with (
        local_stack(
            lambda line: console.print(escape(line), soft_wrap=True),
            database_url=database_url,
            rabbitmq_url=rabbitmq_url,
            own_data=False,
        ) as stack,
        TemporaryDirectory(prefix="rollcall-secrets-") as own_secrets,
    ):
        settings = load_settings(
            database_url=stack.database_url,
            rabbitmq_url=stack.rabbitmq_url,
            host="127.0.0.1",
            port=port,
            log_format="console" if sys.stderr.isatty() else "json",
        )
        if settings.allow_networks is None:
            # What somebody tries here is on this machine.
            settings = settings.model_copy(update={"allow_networks": LOOPBACK})
        if settings.secrets_dir is None:
            # So that `--new-secret` works at once; gone with the stack, as its data is.
            settings = settings.model_copy(update={"secrets_dir": Path(own_secrets)})
        key = settings.admin_api_key
        if key is None:
            # As for the secrets: what is started here can be administered at once, by whoever sees this terminal.
            key = SecretStr(f"dev-{secrets.token_urlsafe(24)}")
            settings = settings.model_copy(update={"admin_api_key": key})
        configure_logs(settings.log_format, settings.log_level)
        asyncio.run(migrate(stack.database_url))

        def tell(process: Process) -> None:
            console.print("\n[bold]Rollcall is up.[/] In another terminal:\n")
            # stdout carries these alone, for `exec 3< <(rollcall dev); eval "$(head -n 5 <&3)"` in a script of bash.
            # A plain `eval "$(rollcall dev)"` waits for its end, with a `head` behind it too.
            typer.echo(f"export DATABASE_URL={stack.database_url}")
            typer.echo(f"export RABBITMQ_URL={stack.rabbitmq_url}")
            typer.echo(f"export PORT={process.http.port}")
            typer.echo(f"export SECRETS_DIR={settings.secrets_dir}")
            typer.echo(f"export ADMIN_API_KEY={shlex.quote(key.get_secret_value())}")
            console.print("rollcall events tail")
            console.print(f"curl http://127.0.0.1:{process.http.port}/ready")
            console.print(f"\nThe admin API is described at http://127.0.0.1:{process.http.port}/docs. Ctrl-C ends it.")

        uvloop.run(run_process(settings, list(Role), tell))


def demo() -> None:
    """Start everything, feed changes, webhooks and a directory, check the books; given URLs are used, with data of its own."""
    if not perform(*given_urls()):
        raise typer.Exit(1)
