"""What the tests of whole traces stand on: senders with a trace context, and looks into what a collector received."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any
from uuid import uuid4

import service.store
from contracts.channels import MEMBER_CHANGED
from service.clients.inbound import InboundPublisher
from service.store.queries import REGISTRY
from service.telemetry import names
from tests.otlp_receiver import Received
from tests.service_rig import envelope

SENDER_SPAN = "00f067aa0ba902b7"


def new_traceparent(*, sampled: bool = True) -> str:
    """A sender's place in a new trace."""
    return f"00-{uuid4().hex}-{SENDER_SPAN}-0{int(sampled)}"


async def publish_one(publisher: InboundPublisher, body: dict[str, Any], traceparent: str) -> None:
    await publisher.publish(MEMBER_CHANGED, replace(envelope(), traceparent=traceparent), json.dumps(body).encode())


def known_names() -> set[str]:
    """Every name that a span may have."""
    fixed = {
        names.APPLY_CHANGES,
        names.RELAY_WINDOW,
        names.ENQUEUE_DELIVERIES,
        names.NOTIFY_SUBSCRIBER,
        names.BEGIN,
        names.COMMIT,
        names.ROLLBACK,
        names.SET,
    }
    for module in pkgutil.iter_modules(service.store.__path__):
        import_module(f"service.store.{module.name}")
    statements = {names.statement_span(table, query) for table, query in REGISTRY}
    # Many rows of a table are copied into it.
    statements |= {names.statement_span(table, "copy") for table, _ in REGISTRY}
    messages = {
        names.send_span("rollcall.inbound"),
        names.send_span("rollcall.events"),
        names.process_span("rollcall.webhooks"),
        names.process_span("rollcall.member-changes"),
        names.process_span("rollcall.notifications"),
        names.send_span("rollcall.commands"),
        names.process_span("rollcall.jobs"),
        names.process_span("rollcall.ticks"),
    }
    return fixed | statements | messages | {names.request_span("POST", names.WEBHOOK_ROUTE)}


def check_whole(spans: Sequence[Received], *, also: frozenset[str] = frozenset()) -> None:
    """No span is an orphan, is unnamed or named otherwise than it may be, comes twice, or links to what is not there."""
    ids = {(span.trace_id, span.span_id) for span in spans}
    assert len(ids) == len(spans)
    known = known_names() | also
    for span in spans:
        assert span.name in known, span.name
        assert span.began <= span.ended
        if span.parent_id is not None and span.parent_id != SENDER_SPAN:
            assert (span.trace_id, span.parent_id) in ids, f"{span.name} is an orphan"
        for link in span.links:
            assert link in ids, f"{span.name} links to nothing"


def one(spans: Sequence[Received], name: str) -> Received:
    (found,) = [span for span in spans if span.name == name]
    return found


def below(spans: Sequence[Received], parent: Received) -> list[str]:
    """The names of a span's children, in the order of their beginning."""
    return [span.name for span in sorted(spans, key=lambda span: span.began) if span.parent_id == parent.span_id]
