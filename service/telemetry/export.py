"""Spans on their way out: sampled as the settings say, and over OTLP to a collector that never slows or stops the work."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from service.settings import Settings, SettingsError, without_password
from service.telemetry.recorder import Recorder
from service.telemetry.sampling import Sampling
from service.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

__all__ = ["SayingOnce", "tracing_over_otlp", "tracing_to"]

_log: Final = structlog.get_logger(__name__)

_CLOSE_SECONDS: Final = 3.0


def tracing_over_otlp(settings: Settings, endpoint: str) -> Tracing:
    """Tracing to a collector at that endpoint, whether it is there or not; raises SettingsError."""
    try:
        exporter = SayingOnce(_exporter(settings, endpoint), without_password(endpoint))
        return tracing_to(BatchSpanProcessor(exporter, max_queue_size=settings.otel_bsp_max_queue_size), settings)
    except (ValueError, TypeError, OSError) as error:
        # Certificates and headers are read by the SDK itself, whose texts quote values.
        message = f"OTEL_*: the exporter of traces cannot be made ({type(error).__name__}); look at its certificates and timeouts"
        raise SettingsError(message) from None


def tracing_to(processor: SpanProcessor, settings: Settings) -> Tracing:
    """Tracing to a processor of the caller's, sampled as the settings say; closing it shuts the processor down within 3 s."""
    sampling = Sampling(settings.otel_traces_sampler, settings.otel_traces_sampler_arg)
    recorder = Recorder(
        sampling,
        processor,
        _resource(settings),
        most_links=settings.otel_span_link_count_limit,
        most_attributes=settings.otel_span_attribute_count_limit,
    )

    def close() -> None:
        # The SDK waits for half a minute, and for an export that hangs without limit.
        closing = threading.Thread(target=processor.shutdown, name="traces closing", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)
        if closing.is_alive():
            _log.warning("traces not sent before the end", waited_seconds=_CLOSE_SECONDS)

    return Tracing(recorder, respects_parents=sampling.respects_parents, close=close)


def _exporter(settings: Settings, endpoint: str) -> SpanExporter:
    # Each brings libraries of its own, of which one is enough.
    if settings.traces_protocol == "grpc":
        from service.telemetry.otlp_grpc import GrpcExporter

        return GrpcExporter(endpoint)
    from service.telemetry.otlp_http import HttpExporter

    return HttpExporter(endpoint)


def _resource(settings: Settings) -> Resource:
    """Who speaks: OTEL_SERVICE_NAME, else what OTEL_RESOURCE_ATTRIBUTES says, else `rollcall`."""
    given = OTELResourceDetector().detect().attributes
    name = given.get("service.name") if "otel_service_name" not in settings.model_fields_set else None
    own = {
        "service.name": name or settings.otel_service_name,
        "service.version": version("rollcall"),
        "service.instance.id": str(uuid4()),
    }
    return Resource.create(own).merge(Resource({key: value for key, value in given.items() if key != "service.name"}))


class SayingOnce(SpanExporter):
    """Another exporter, whose failures are said once, and its recovery; spans that it did not take are lost, the work goes on."""

    def __init__(self, exporter: SpanExporter, where: str) -> None:
        self._exporter = exporter
        self._where = where
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export, in the thread of the processor."""
        reason = "refused or not answered"
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001  # whatever it is, it costs spans and nothing else
            result, reason = SpanExportResult.FAILURE, type(error).__name__
        if (result is SpanExportResult.SUCCESS) is self._failing:
            self._failing = not self._failing
            if self._failing:
                _log.warning("traces are not taken", collector=self._where, reason=reason)
            else:
                _log.info("traces are taken again", collector=self._where)
        return result

    def shutdown(self) -> None:
        """Give up what is under way."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held back here."""
        return self._exporter.force_flush(timeout_millis)
