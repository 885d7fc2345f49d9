"""A collector that keeps the spans it is sent, over gRPC and HTTP, and can be told not to answer."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True, slots=True)
class Received:
    """One span as it came."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str | None
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    failed: bool
    began: int
    ended: int
    resource: dict[str, Any]
    raw: bytes = field(repr=False)


class OtlpReceiver(TraceServiceServicer):
    """Listens on 127.0.0.1 at `grpc_port` and `http_port`; while `hanging` it takes connections and answers nothing."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.requests = 0
        self.hanging = False
        self._released = threading.Event()
        self._lock = threading.Lock()
        self.grpc_port = self.http_port = 0

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        self._take(request)
        return ExportTraceServiceResponse()

    def endpoint(self, protocol: str) -> str:
        return f"http://127.0.0.1:{self.grpc_port if protocol == 'grpc' else self.http_port}"

    def environment(self, protocol: str = "grpc", **given: str) -> dict[str, str]:
        """What a process needs to send here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint(protocol),
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            **given,
        }

    def _take(self, request: Any) -> None:
        if self.hanging:
            self._released.wait()
            return
        with self._lock:
            self.requests += 1
            for of_resource in request.resource_spans:
                resource = _attributes(of_resource.resource.attributes)
                for of_scope in of_resource.scope_spans:
                    self.spans += [_received(span, resource) for span in of_scope.spans]

    async def until(self, condition: Callable[[Sequence[Received]], bool], *, within: float = 20) -> list[Received]:
        """The spans, as soon as they fit."""
        async with asyncio.timeout(within):
            while not condition(self.spans):
                await asyncio.sleep(0.02)
        return list(self.spans)

    def release(self) -> None:
        self._released.set()


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    server = grpc.server(ThreadPoolExecutor(4))
    add_TraceServiceServicer_to_server(receiver, server)
    receiver.grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                receiver._take(ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    receiver.http_port = http.server_port
    serving = threading.Thread(target=http.serve_forever, daemon=True)
    serving.start()
    try:
        yield receiver
    finally:
        receiver.release()
        server.stop(None).wait()
        http.shutdown()
        http.server_close()
        serving.join()


def _received(span: Any, resource: dict[str, Any]) -> Received:
    return Received(
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        attributes=_attributes(span.attributes),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        resource=resource,
        raw=span.SerializeToString(),
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
