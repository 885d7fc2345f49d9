"""One trace through real processes, as a real collector receives it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from contracts.channels import MEMBER_CHANGES
from service.clients.inbound import InboundPublisher
from tests.otlp_receiver import otlp_receiver
from tests.service_rig import Upstream, clean_broker, publish, running_service, subscriber
from tests.trace_rig import SENDER_SPAN, below, check_whole, new_traceparent, one, publish_one
from tests.webhook_rig import SECRET, Sender, empty, payload, write_secrets

# What must stay out of every span: of the payload, the query, the secret and the answer to who somebody is.
MARKERS = {
    "name": "Marker Nameson",
    "email": "marker@personal.example",
    "phone": "+354 555 9999",
    "kennitala": "marker0101",
    "plan": "marker-plan",
    "metadata": {"marker-key": "marker-value"},
}
TEXTS = ["Marker", "marker", "555 9999", SECRET, SECRET.removeprefix("whsec_")]


async def test_one_trace_leads_from_the_senders_request_to_the_event(database_url: str, rabbitmq_url: str, tmp_path: Path) -> None:
    """The edge sends its spans over HTTP, the worker and the relay over gRPC."""
    sender = await Sender.register(database_url)
    write_secrets(tmp_path)
    traceparent = new_traceparent()
    trace_id = traceparent.split("-")[1]
    body = json.dumps(payload("marker-external-id", **MARKERS)).encode()
    await empty(rabbitmq_url)
    with otlp_receiver() as collector:
        async with (
            clean_broker(rabbitmq_url),
            subscriber(rabbitmq_url) as seen,
            running_service(
                database_url, rabbitmq_url, "edge", SECRETS_DIR=str(tmp_path), **collector.environment("http/protobuf")
            ) as edge,
            running_service(database_url, rabbitmq_url, "worker", "relay", **collector.environment("grpc")) as worker,
        ):
            await edge.says("edge takes webhooks")
            await worker.says("worker takes messages")
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await edge.port()}", timeout=10) as client:
                answer = await client.post(
                    f"{sender.path}?token=marker", content=body, headers={**sender.headers(body), "traceparent": traceparent}
                )
                forged = await client.post(
                    sender.path, content=body, headers={**sender.headers(b"other"), "traceparent": traceparent}
                )
            assert (answer.status_code, forged.status_code) == (202, 401)
            await seen.until(lambda seen: len(seen.events) == 1, within=20)
            (refused,) = [line for line in edge.logs if line["event"] == "webhook refused"]
            assert await edge.terminate() == 0
            assert await worker.terminate() == 0
        everything = list(collector.spans)
    check_whole(everything)
    spans = [span for span in everything if span.trace_id == trace_id]

    server = one(spans, "POST /webhooks/{connection_id}")
    sent = one(spans, "send rollcall.inbound")
    handled = one(spans, "process rollcall.webhooks")
    applied = one(spans, "apply changes")
    published = one(spans, "send rollcall.events")
    window = one(spans, "relay window")
    assert (server.kind, server.parent_id) == ("SERVER", SENDER_SPAN)
    assert (sent.kind, sent.parent_id) == ("PRODUCER", server.span_id)
    assert (handled.kind, handled.parent_id) == ("CONSUMER", sent.span_id)
    assert (applied.kind, applied.parent_id) == ("INTERNAL", handled.span_id)
    assert (published.kind, published.parent_id) == ("PRODUCER", handled.span_id)
    assert (window.kind, window.parent_id) == ("INTERNAL", handled.span_id)
    assert not any(span.failed for span in spans)

    statements = below(spans, applied)
    assert (statements[0], statements[-1]) == ("BEGIN", "COMMIT")
    assert {"inbox.claim_messages", "members.lock_members", "members.insert_members", "outbox.insert_outbox"} <= set(statements)
    assert below(spans, window) == ["outbox.claim_messages", "outbox.delete_published"]
    assert all(span.kind == "CLIENT" for span in spans if span.parent_id in (applied.span_id, window.span_id))
    assert len(spans) == 6 + len(statements) + 2

    # In the order of time, as far as one waits for the other.
    assert server.began <= sent.began <= handled.began <= applied.began <= applied.ended <= handled.ended
    assert applied.ended <= published.began
    inside = [span for span in spans if span.parent_id == applied.span_id]
    assert all(applied.began <= span.began <= span.ended <= applied.ended for span in inside)

    # The answer, the subscriber's message and the audit say which trace it was.
    assert answer.headers["traceresponse"].startswith(f"00-{trace_id}-{server.span_id}-")
    assert seen.traceparents[0] is not None
    assert seen.traceparents[0].startswith(f"00-{trace_id}-{published.span_id}-")
    assert int(seen.traceparents[0][-1], 16) & 1
    audited = await _audit(database_url)
    assert audited["traceparent"].startswith(f"00-{trace_id}-{handled.span_id}-")
    assert audited["correlation_id"] == answer.headers["x-correlation-id"]

    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/webhooks/{connection_id}",
        "http.response.status_code": 202,
        "url.scheme": "http",
        "rollcall.connection.id": str(sender.connection_id),
        "rollcall.correlation.id": answer.headers["x-correlation-id"],
    }
    assert handled.attributes["rollcall.outcome"] == "applied"
    assert handled.attributes["messaging.destination.name"] == f"rollcall.inbound:webhook.{sender.connection_id}:rollcall.webhooks"
    assert one(spans, "members.lock_members").attributes == {
        "db.system.name": "postgresql",
        "db.query.summary": "members.lock_members",
        "db.operation.name": "SELECT",
        "db.collection.name": "members",
    }
    assert len({span.resource["service.instance.id"] for span in spans}) == 2
    assert {span.resource["service.name"] for span in spans} == {"rollcall"}
    assert all(span.resource["service.version"] for span in spans)

    # Who is not verified has a trace of its own, and the log says which.
    (other,) = [span for span in everything if span.trace_id != trace_id]
    assert (other.name, other.parent_id, other.attributes["http.response.status_code"]) == (server.name, None, 401)
    assert not other.failed
    assert forged.headers["traceresponse"].startswith(f"00-{other.trace_id}-{other.span_id}-")
    assert other.trace_id.encode() not in forged.content
    assert refused["correlation_id"] == forged.headers["x-correlation-id"]

    for span in everything:
        for text in TEXTS:
            assert text.encode() not in span.raw, f"{span.name} tells {text}"


async def _audit(database_url: str) -> Any:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchrow("select traceparent, correlation_id from member_events")
    finally:
        await connection.close()


async def test_work_goes_on_while_nobody_takes_the_traces_and_that_is_said_once(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    with otlp_receiver() as gone:
        environment = gone.environment("http/protobuf", OTEL_EXPORTER_OTLP_TIMEOUT="0.2")
    async with (
        clean_broker(rabbitmq_url),
        subscriber(rabbitmq_url) as seen,
        running_service(database_url, rabbitmq_url, "worker", "relay", **environment) as service,
        InboundPublisher.connected(rabbitmq_url) as publisher,
    ):
        await service.says("worker takes messages")
        for round_number in range(3):
            await publish(publisher, [upstream.upsert(f"{round_number}-{number}", 1) for number in range(40)])
            await seen.until(lambda seen, wanted=40 * (round_number + 1): len(seen.events) == wanted, within=30)
            said = await service.says("traces are not taken")
        assert said["collector"] == f"{environment['OTEL_EXPORTER_OTLP_ENDPOINT']}/v1/traces"
        assert await service.terminate() == 0
        assert [line["event"] for line in service.logs].count("traces are not taken") == 1


async def test_a_collector_that_stops_answering_holds_up_neither_the_work_nor_the_end(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    with otlp_receiver() as collector:
        async with (
            clean_broker(rabbitmq_url),
            subscriber(rabbitmq_url) as seen,
            running_service(database_url, rabbitmq_url, "worker", "relay", **collector.environment("grpc")) as service,
            InboundPublisher.connected(rabbitmq_url) as publisher,
        ):
            await service.says("worker takes messages")
            await publish(publisher, [upstream.upsert("1", 1)])
            await collector.until(lambda spans: any(span.name == "send rollcall.events" for span in spans))
            collector.hanging = True
            await publish(publisher, [upstream.upsert(str(number), 1) for number in range(2, 42)])
            await seen.until(lambda seen: len(seen.events) == 41, within=30)
            assert await service.terminate() == 0
            assert service.logs[-1]["event"] == "traces not sent before the end"


async def test_every_message_of_a_burst_has_its_spans_and_is_linked_with_its_batch(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    traceparents = {f"member-{number}": new_traceparent(sampled=number % 4 != 0) for number in range(200)}
    with otlp_receiver() as collector:
        async with (
            clean_broker(rabbitmq_url) as channel,
            subscriber(rabbitmq_url) as seen,
            running_service(database_url, rabbitmq_url, "worker", "relay", **collector.environment("grpc")) as service,
            InboundPublisher.connected(rabbitmq_url) as publisher,
        ):
            await service.says("worker takes messages")
            bodies = {key: upstream.upsert(key, 1, name="Marker", email="marker@example.com") for key in traceparents}
            await asyncio.gather(*(publish_one(publisher, bodies[key], traceparents[key]) for key in traceparents))
            # A new member needs a name: this one is refused, and parked with its trace.
            nameless = {**upstream.upsert("member-x", 1), "member": {"state": "active"}}
            await publish_one(publisher, nameless, parked_traceparent := new_traceparent())
            await seen.until(lambda seen: len(seen.events) == 200, within=40)
            said = await service.says("message parked")
            queue = await channel.get_queue(MEMBER_CHANGES.parked.name, ensure=False)
            parked = await queue.get(timeout=10)
            await parked.ack()
            assert await service.terminate() == 0
        spans = list(collector.spans)
    check_whole(spans)

    by_trace: dict[str, list[Any]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    arrived = {event["externalId"]: found for event, found in zip(seen.events, seen.traceparents, strict=True)}
    windows = {(span.trace_id, span.span_id): span for span in spans if span.name in ("apply changes", "relay window")}
    sizes = []
    for key, traceparent in traceparents.items():
        trace_id = traceparent.split("-")[1]
        if traceparent.endswith("0"):
            assert trace_id not in by_trace
            assert arrived[key] == traceparent
            continue
        own = by_trace[trace_id]
        handled, published = one(own, "process rollcall.member-changes"), one(own, "send rollcall.events")
        assert (handled.parent_id, published.parent_id) == (SENDER_SPAN, handled.span_id)
        assert arrived[key] is not None
        assert arrived[key].startswith(f"00-{trace_id}-{published.span_id}-")
        for span in (handled, published):
            for link in span.links:
                over = windows[link]
                assert (span.trace_id, span.span_id) in over.links
                assert over.parent_id is None
                sizes.append(over.attributes["messaging.batch.message_count"])
            alone = [one for one in own if one.name in ("apply changes", "relay window")]
            assert span.links or alone
    assert max(sizes) > 1, "nothing was ever batched"
    for over in windows.values():
        assert over.parent_id is not None or over.links
        assert over.trace_id in by_trace
        assert below(spans, over)

    failed = one(by_trace[parked_traceparent.split("-")[1]], "process rollcall.member-changes")
    assert (failed.failed, failed.attributes["error.type"], failed.attributes["rollcall.outcome"]) == (True, "Park", "refused")
    assert parked.headers["traceparent"] == parked_traceparent
    assert (said["trace_id"], said["span_id"]) == (failed.trace_id, failed.span_id)
    assert not any(b"arker" in span.raw for span in spans)


async def test_of_a_message_all_spans_are_there_or_none(database_url: str, rabbitmq_url: str) -> None:
    upstream = await Upstream.register(database_url)
    sampled = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    with otlp_receiver() as collector:
        async with (
            clean_broker(rabbitmq_url),
            subscriber(rabbitmq_url) as seen,
            running_service(database_url, rabbitmq_url, "worker", "relay", **collector.environment("grpc", **sampled)) as service,
            InboundPublisher.connected(rabbitmq_url) as publisher,
        ):
            await service.says("worker takes messages")
            await publish(publisher, [upstream.upsert(str(number), 1) for number in range(400)])
            await seen.until(lambda seen: len(seen.events) == 400, within=40)
            assert await service.terminate() == 0
        spans = list(collector.spans)
    check_whole(spans)
    handled = {span.trace_id for span in spans if span.name == "process rollcall.member-changes"}
    published = {span.trace_id for span in spans if span.name == "send rollcall.events"}
    told = {found.split("-")[1] for found in seen.traceparents if found is not None and int(found[-1], 16) & 1}
    assert handled == published == told
    # Four hundred throws of a die with ten sides.
    assert 10 <= len(handled) <= 90
    assert len({found.split("-")[1] for found in seen.traceparents if found is not None}) == 400


async def test_commands_begin_traces_and_a_replayed_event_keeps_its_own(
    database_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    upstream, sender = await Upstream.register(database_url), await Sender.register(database_url)
    write_secrets(tmp_path)
    await empty(rabbitmq_url)
    with otlp_receiver() as collector:
        environment = {"SECRETS_DIR": str(tmp_path), **collector.environment("http/protobuf")}

        async def rollcall(*arguments: str) -> tuple[str, str]:
            urls = {"DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url}
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service", *arguments),
                env={**os.environ, **environment, **urls},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await process.communicate()
            assert process.returncode == 0, err.decode()
            return out.decode().strip(), err.decode().strip()

        async with (
            clean_broker(rabbitmq_url),
            subscriber(rabbitmq_url) as seen,
            running_service(database_url, rabbitmq_url, "worker", "relay", "edge", **environment) as service,
        ):
            await service.says("worker takes messages")
            await service.says("edge takes webhooks")
            published, said = await rollcall("publish", str(upstream.connection_id), "ada", "--set", "name=Marker")
            assert len(published) == 36
            await seen.until(lambda seen: len(seen.events) == 1, within=20)
            url = f"http://127.0.0.1:{await service.port()}"
            answered, told = await rollcall(
                *("webhooks", "send", str(sender.connection_id), "--data", json.dumps(payload("eve")), "--url", url)
            )
            assert answered.startswith("202 ")
            await seen.until(lambda seen: len(seen.events) == 2, within=20)
            traces = [line.removeprefix("trace ") for line in (said, told)]
            assert [str(found).split("-")[1] for found in seen.traceparents] == traces
            # What comes again has no new version: only the broker's own copies are counted.
            await rollcall("events", "replay", "--since", "2026-01-01")
            await seen.until(lambda seen: seen.repeats == 2, within=20)
            assert await service.terminate() == 0
        spans = list(collector.spans)
    check_whole(spans, also=frozenset({"POST"}))
    by_hand = [span for span in spans if span.trace_id == traces[0]]
    root = one([span for span in by_hand if span.parent_id is None], "send rollcall.inbound")
    assert one(by_hand, "process rollcall.member-changes").parent_id == root.span_id
    sent = [span for span in spans if span.trace_id == traces[1]]
    client, server = one(sent, "POST"), one(sent, "POST /webhooks/{connection_id}")
    assert (client.kind, client.parent_id, server.parent_id) == ("CLIENT", None, client.span_id)
    assert client.attributes["http.response.status_code"] == 202
    assert not any(b"arker" in span.raw for span in spans)
