"""OTLP over HTTP as the SDK sends it, with spans as `otlp` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from service.telemetry.otlp import SpanEncoder

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["HttpExporter"]


class HttpExporter(OTLPSpanExporter):
    """The SDK's exporter; certificates, headers, compression, retries and timeouts stay its own."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self._encoder = SpanEncoder()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send; where that fails the spans are lost."""
        # The SDK offers no way to hand it what is written already; a test of every upgrade sends over this one.
        sent = self._client.export(self._encoder.encode(spans))
        return SpanExportResult.SUCCESS if sent.success else SpanExportResult.FAILURE
