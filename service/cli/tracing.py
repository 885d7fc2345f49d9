"""Commands that begin a trace where tracing is configured, so that it can be followed from its first step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from service.settings import Settings
from service.telemetry.logs import configure_logs
from service.telemetry.setup import open_tracing
from service.telemetry.traced import Traced, ids
from service.telemetry.tracing import SpanKind

__all__ = ["traced_command"]


@contextmanager
def traced_command(settings: Settings, name: str, kind: SpanKind) -> Iterator[Traced]:
    """The first span of a trace, which the command hands on; its id is said on stderr. A collector that is away is no error."""
    tracing = open_tracing(settings)
    if tracing.on:
        configure_logs("console", "warning")
    traced = tracing.start(name, kind, None)
    try:
        yield traced
    except BaseException as error:
        traced.end(type(error).__name__)
        raise
    else:
        traced.end()
    finally:
        tracing.close()
    if traced.span is not None and (found := ids(traced.traceparent)) is not None:
        typer.echo(f"trace {found[0]}", err=True)
