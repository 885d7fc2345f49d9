"""A request to the admin API in its trace: named by its route, joined to its sender's, and what it starts below it."""

from __future__ import annotations

import pytest
from opentelemetry.trace import SpanKind

from service.telemetry import names
from tests.admin_rig import OPERATOR_KEY, open_admin
from tests.directory_rig import KEY, Upstream
from tests.relay_rig import eventually
from tests.telemetry.span_rig import SAMPLED, SPAN, TRACE, parent_id, trace_id, tracing_in_memory


async def test_who_has_a_key_is_joined_to_the_trace_that_they_name(
    database_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLLCALL_SECRET_DIRECTORY", KEY)
    with tracing_in_memory() as (tracing, spans):
        async with open_admin(database_url, tracing=tracing) as admin:
            tenant = await admin.tenant()
            await admin.directory(tenant, upstream.url)
            answer = await admin.client.post("/sync/dry-run", headers={**tenant.headers(), "traceparent": SAMPLED})
            job = (await admin.client.get(answer.headers["location"], headers=tenant.headers())).json()
            await eventually(lambda: names.request_span("POST", "/sync/dry-run") in spans.names)
        request = spans.one("POST /sync/dry-run")

    assert (trace_id(request), parent_id(request), request.kind) == (TRACE, SPAN, SpanKind.SERVER)
    assert request.attributes is not None
    assert request.attributes[names.HTTP_ROUTE] == "/sync/dry-run"
    assert request.attributes[names.HTTP_STATUS_CODE] == 202
    assert answer.headers["traceresponse"].split("-")[1] == TRACE
    assert job["correlationId"] == answer.headers["x-correlation-id"]


async def test_who_has_none_is_in_a_trace_of_their_own_and_paths_are_no_names(database_url: str) -> None:
    with tracing_in_memory() as (tracing, spans):
        async with open_admin(database_url, tracing=tracing) as admin:
            refused = await admin.client.get("/api/company", headers={"traceparent": SAMPLED})
            lost = await admin.client.get(
                "/api/somebody@example.org", headers={"traceparent": SAMPLED, "authorization": f"Bearer {OPERATOR_KEY}"}
            )
            await eventually(lambda: len(spans.all) >= 2)

    assert (refused.status_code, lost.status_code) == (401, 404)
    assert sorted(spans.names) == ["GET /api/company", f"GET {names.NO_ROUTE}"]
    assert TRACE not in {trace_id(span) for span in spans.all}
    assert refused.json()["traceId"] == refused.headers["traceresponse"].split("-")[1]
