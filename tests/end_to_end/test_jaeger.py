"""The same trace, asked of a Jaeger: runs where JAEGER_URL is its query API, and takes OTLP on the same host at 4318."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.clients.inbound import InboundPublisher
from service.telemetry import names
from tests.service_rig import Upstream, clean_broker, running_service, subscriber
from tests.trace_rig import new_traceparent, publish_one

pytestmark = pytest.mark.jaeger


async def test_jaeger_shows_a_change_from_the_queue_to_the_event(database_url: str, rabbitmq_url: str) -> None:
    url = os.environ["JAEGER_URL"].rstrip("/")
    collector = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or f"http://{urlsplit(url).hostname}:4318"
    upstream, traceparent = await Upstream.register(database_url), new_traceparent()
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    async with (
        clean_broker(rabbitmq_url),
        subscriber(rabbitmq_url) as seen,
        running_service(database_url, rabbitmq_url, "worker", "relay", **environment) as service,
        InboundPublisher.connected(rabbitmq_url) as publisher,
    ):
        await service.says("worker takes messages")
        await publish_one(publisher, upstream.upsert("ada", 1), traceparent)
        await seen.until(lambda seen: len(seen.events) == 1, within=20)
        assert await service.terminate() == 0
    wanted = {names.process_span("rollcall.member-changes"), names.APPLY_CHANGES, names.send_span("rollcall.events"), names.COMMIT}
    async with httpx.AsyncClient(timeout=10) as client, asyncio.timeout(30):
        while not wanted <= {span["operationName"] for span in await _trace(client, url, traceparent.split("-")[1])}:
            await asyncio.sleep(0.5)


async def _trace(client: httpx.AsyncClient, url: str, trace_id: str) -> list[dict[str, Any]]:
    answer = await client.get(f"{url}/api/traces/{trace_id}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return []
    return list(answer.raise_for_status().json()["data"][0]["spans"])
