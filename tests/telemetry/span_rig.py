"""Tracing into memory, as the tests of single parts want it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.settings import load_settings
from service.telemetry.export import tracing_to
from service.telemetry.tracing import Tracing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
UNSAMPLED = f"00-{TRACE}-{SPAN}-00"
URLS = {"database_url": "postgresql://localhost/nowhere", "rabbitmq_url": "amqp://localhost/nowhere"}


class Spans:
    """Finished spans."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.all]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (found,) = self.named(name)
        return found


@contextmanager
def tracing_in_memory(**settings: Any) -> Iterator[tuple[Tracing, Spans]]:
    exporter = InMemorySpanExporter()
    tracing = tracing_to(SimpleSpanProcessor(exporter), load_settings(**URLS, **settings))
    try:
        yield tracing, Spans(exporter)
    finally:
        tracing.close()


def span_id(span: ReadableSpan) -> str:
    return f"{span.get_span_context().span_id:016x}"


def trace_id(span: ReadableSpan) -> str:
    return f"{span.get_span_context().trace_id:032x}"


def parent_id(span: ReadableSpan) -> str | None:
    return f"{span.parent.span_id:016x}" if span.parent is not None else None


def links(span: ReadableSpan) -> list[str]:
    return [f"{link.context.span_id:016x}" for link in span.links]
