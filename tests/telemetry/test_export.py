"""Spans on their way out: to a collector by either protocol, to one that fails or hangs, and of whom."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from service.settings import SettingsError, load_settings
from service.telemetry import export
from service.telemetry.export import SayingOnce, tracing_to
from service.telemetry.setup import open_tracing
from service.telemetry.tracing import NO_TRACING, SpanKind
from tests.otlp_receiver import OtlpReceiver, otlp_receiver
from tests.telemetry.span_rig import URLS


@pytest.fixture
def collector() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_what_has_ended_is_sent_when_tracing_is_closed(protocol: str, collector: OtlpReceiver) -> None:
    tracing = open_tracing(
        load_settings(**URLS, otel_exporter_otlp_endpoint=collector.endpoint(protocol), otel_exporter_otlp_protocol=protocol)
    )
    tracing.start("one", SpanKind.INTERNAL, None).end()
    tracing.close()
    (span,) = collector.spans
    assert span.name == "one"
    assert span.resource["service.name"] == "rollcall"
    assert span.resource["service.version"]
    assert span.resource["service.instance.id"]


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "rollcall"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs,deployment.environment.name=test"}, "theirs"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs", "OTEL_SERVICE_NAME": "mine"}, "mine"),
    ],
)
def test_the_service_has_the_name_that_it_was_given(
    environment: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch, collector: OtlpReceiver
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    tracing = open_tracing(load_settings(**URLS, otel_exporter_otlp_endpoint=collector.endpoint("http/protobuf")))
    tracing.start("one", SpanKind.INTERNAL, None).end()
    tracing.close()
    (span,) = collector.spans
    assert span.resource["service.name"] == name
    assert span.resource.get("deployment.environment.name") == ("test" if "deployment" in str(environment) else None)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"},
    ],
)
def test_without_a_collector_or_switched_off_there_is_no_tracing(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert open_tracing(load_settings(**URLS)) is NO_TRACING


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ({"otel_traces_exporter": "otlp"}, "http://localhost:4318/v1/traces"),
        ({"otel_traces_exporter": "otlp", "otel_exporter_otlp_protocol": "grpc"}, "http://localhost:4317"),
        ({"otel_exporter_otlp_endpoint": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"otel_exporter_otlp_endpoint": "http://c:1", "otel_exporter_otlp_traces_protocol": "grpc"}, "http://c:1"),
        ({"otel_exporter_otlp_endpoint": "http://c:1", "otel_exporter_otlp_traces_endpoint": "https://t/in"}, "https://t/in"),
    ],
)
def test_traces_go_where_the_standard_says(given: dict[str, str], endpoint: str) -> None:
    assert load_settings(**URLS, **given).traces_endpoint == endpoint


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hush@:99999"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "jaeger-hush"),
        ("OTEL_TRACES_SAMPLER", "sometimes-hush"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_SDK_DISABLED", "perhaps-hush"),
        ("OTEL_BSP_SCHEDULE_DELAY", "soon-hush"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "hush"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "hush"),
        ("OTEL_RESOURCE_ATTRIBUTES", "hush"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/hush.pem"),
    ],
)
def test_a_wrong_value_is_a_sentence_that_names_its_variable_and_not_the_value(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as raised:
        load_settings(**URLS)
    assert f"{variable}: " in str(raised.value)
    assert "hush" not in str(raised.value)


def test_what_only_the_exporter_finds_wrong_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # To the SDK blank is a value.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "")
    settings = load_settings(**URLS, otel_exporter_otlp_endpoint="http://127.0.0.1:1", otel_exporter_otlp_protocol="grpc")
    with pytest.raises(SettingsError, match="exporter of traces cannot be made"):
        open_tracing(settings)


class Failing(SpanExporter):
    """Answers as it is told: with a result, or by raising."""

    def __init__(self, *answers: SpanExportResult | Exception) -> None:
        self.answers = list(answers)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def shutdown(self) -> None:
        pass


def test_a_collector_that_is_away_is_said_once_and_once_when_it_is_back() -> None:
    good, bad = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
    exporter = SayingOnce(Failing(good, bad, ConnectionError("hush"), bad, good, good, bad), "http://collector:1")
    with structlog.testing.capture_logs() as said:
        results = [exporter.export([]) for _ in range(7)]
    assert results == [good, bad, bad, bad, good, good, bad]
    assert [line["event"] for line in said] == ["traces are not taken", "traces are taken again", "traces are not taken"]
    assert "hush" not in str(said)


class Hanging(SpanExporter):
    """Takes spans and never comes back, whatever happens."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.released.wait()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass


def test_closing_does_not_wait_for_an_export_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_CLOSE_SECONDS", 0.1)
    exporter = Hanging()
    tracing = tracing_to(BatchSpanProcessor(exporter, schedule_delay_millis=1), load_settings(**URLS))
    tracing.start("one", SpanKind.INTERNAL, None).end()
    assert exporter.entered.wait(20)
    try:
        with structlog.testing.capture_logs() as said:
            tracing.close()
        closing = [thread for thread in threading.enumerate() if thread.name == "traces closing"]
        assert closing, "it waited until the SDK had closed"
        assert [line["event"] for line in said] == ["traces not sent before the end"]
    finally:
        exporter.released.set()
        for thread in closing:
            thread.join(20)


def test_a_span_more_than_the_queue_holds_costs_a_span_and_nothing_else() -> None:
    exporter = Hanging()
    settings = load_settings(**URLS)
    tracing = tracing_to(BatchSpanProcessor(exporter, max_queue_size=8, max_export_batch_size=8), settings)
    try:
        for _ in range(100):
            tracing.start("one", SpanKind.INTERNAL, None).end()
    finally:
        exporter.released.set()
        tracing.close()
