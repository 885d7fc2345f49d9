"""The last chapter: one webhook more, whose sender records its trace, followed from the request to the event."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import httpx
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from deploy.demo.clubs import WebhookSources
from deploy.demo.screen import Screen
from deploy.demo.trace_tree import trace_tree, tree_lines
from deploy.demo.verdict import Verdict
from deploy.demo.webhook_sources import Step
from service.clients.events import listening_to_events
from service.settings import Settings
from service.telemetry import names
from service.telemetry.export import tracing_to
from service.telemetry.tracing import Tracing
from service.wiring.process import Process

__all__ = ["TraceChapter", "recorded_tracing"]

_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.05
# What the last steps of a whole trace are called.
_LAST: Final = {names.RELAY_WINDOW, names.send_span("rollcall.events")}


def recorded_tracing(settings: Settings) -> tuple[Tracing, InMemorySpanExporter]:
    """Tracing into memory, of nothing but what a sender records: the other chapters would fill it with 10,000 spans."""
    exporter = InMemorySpanExporter()
    own = settings.model_copy(update={"otel_traces_sampler": "parentbased_always_off"})
    return tracing_to(SimpleSpanProcessor(exporter), own), exporter


@dataclass(frozen=True, slots=True)
class TraceChapter:
    """Posts as the source of a connection does, and shows what the process's spans tell."""

    process: Process
    exporter: InMemorySpanExporter
    sources: WebhookSources
    screen: Screen

    async def perform(self, rabbitmq_url: str) -> Verdict:
        """Post, wait for the trace to be whole, and show it."""
        self.screen.chapter("One webhook more, and its trace")
        trace_id = uuid4()
        deadline = time.monotonic() + _SECONDS
        # An event that nobody listens for is returned.
        async with listening_to_events(rabbitmq_url, self.sources.company):
            status = await self._post(f"00-{trace_id.hex}-{uuid4().hex[:16]}-01")
            while missing := _LAST - {span.name for span in self.exporter.get_finished_spans()}:
                if time.monotonic() > deadline:
                    return Verdict("", [f"the webhook was answered {status} and its trace has no {', '.join(sorted(missing))}"])
                await asyncio.sleep(_LOOK_SECONDS)
        roots = trace_tree(self.exporter.get_finished_spans(), trace_id.int)
        lines = tree_lines(roots)
        self.screen.tree(lines)
        whole = max(line.after + line.lasted for line in lines)
        wrong = [f"{line.name} of the traced webhook failed ({line.error})" for line in lines if line.error]
        if len(roots) != 1:
            wrong.append(f"its trace has {len(roots)} beginnings: {', '.join(root.name for root in roots)}")
        return Verdict(f"Trace {trace_id.hex}: {len(lines)} spans, {whole:.0f} ms from the request to the settled event", wrong)

    async def _post(self, traceparent: str) -> int:
        now = datetime.now(UTC)
        connection_id, source = next(iter(self.sources.by_connection.items()))
        step = Step(member="traced", name="Traced Member", plan="member", state="active", at=now.replace(microsecond=0))
        body = source.payload(step)
        signed = source.sign(body, f"msg_{uuid4().hex}", now)
        headers = {"content-type": "application/json", **signed, "traceparent": traceparent}
        url = f"http://127.0.0.1:{self.process.http.port}"
        # No proxy of the environment stands before this very process.
        async with httpx.AsyncClient(base_url=url, timeout=_SECONDS, trust_env=False) as client:
            return (await client.post(f"/webhooks/{connection_id}", content=body, headers=headers)).status_code
