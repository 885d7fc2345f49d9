"""Logs: one JSON object a line, or coloured text for people; never a member's data."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

from service.telemetry.handling import handling
from service.telemetry.traced import ids

__all__ = ["add_ids", "configure_logs"]


def configure_logs(log_format: Literal["json", "console"], level: str) -> None:
    """Send structlog's and the libraries' logs to stderr in one form."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_ids,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(log_format)],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # The broker libraries log every reconnect with a traceback and the address, the exporters every failure, and headers that they
    # cannot read, the HTTP client every URL and, at debug, every header; what matters of it is logged here.
    for name in ("aiormq", "aio_pika", "faststream", "opentelemetry", "httpx", "httpx_retries", "httpcore"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)


def add_ids(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Say of which message or request a line tells, by its correlation id and its place in its trace."""
    now = handling()
    if now.correlation_id is not None:
        event.setdefault("correlation_id", now.correlation_id)
    if (found := ids(now.traced.traceparent)) is not None:
        event.setdefault("trace_id", found[0])
        event.setdefault("span_id", found[1])
    return event


def _rendering(log_format: Literal["json", "console"]) -> list[structlog.typing.Processor]:
    if log_format == "console":
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    # Structured tracebacks without the values of local variables: those are members' data.
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]
