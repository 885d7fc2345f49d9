"""Whatever is sent: an answer that says what is wrong and where, repeats none of it, and is found in the log by its id."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from service.entrypoints.http.admin import companies
from service.telemetry.metric_names import ADMIN_DURATION
from tests.admin_rig import Admin
from tests.relay_rig import eventually

JSON = {"content-type": "application/json"}
PERSONAL = "Ada Lovelace 010101-1234"


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["correlationId"] == answer.headers["x-correlation-id"]
    return found


async def post(admin: Admin, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return await admin.client.post("/api/companies", content=body, headers={**admin.operator, **JSON, **(headers or {})})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"null", 422),
        (b"[]", 422),
        (b"{", 400),
        (b'{"name": NaN}', 400),
        (b'{"name": "a", "name": "b"}', 400),
        (b'{"name": "a", "x": {"y": 1, "y": 2}}', 400),
        (b'{"name": "\xff"}', 400),
        (b'{"name": "\\ud800"}', 400),
        (b'{"name": "a\\u0000b"}', 422),
        (b'{"name": "a\\nb"}', 422),
        (b'{"name": "   "}', 422),
        (b'{"name": 5}', 422),
        (b'{"name": "a", "graceDays": 1.5}', 422),
        (b'{"name": "a", "graceDays": 1e30}', 422),
        (b'{"name": "a", "graceDays": 123456789012345678901234567890}', 422),
        (b'{"name": "a", "graceDays": true}', 422),
        (b'{"name": "a", "timeZone": "Mars/Olympus"}', 422),
        (b'{"name": "a", "' + PERSONAL.encode() + b'": 1}', 422),
        (b"[" * 2000 + b"]" * 2000, 400),
        (b'{"name": ' + b"[" * 300 + b"]" * 300 + b"}", 400),
        (b'{"name": ' + b"[" * 600 + b'"\\u0000"' + b"]" * 600 + b"}", 400),
        (b'{"a":' * 100 + b"1" + b"}" * 100, 422),
        (b'{"name": "' + b"x" * 2_000_000 + b'"}', 413),
    ],
)
async def test_a_body_that_does_not_fit_is_the_sender_s_fault(admin: Admin, body: bytes, status: int) -> None:
    found = problem(await post(admin, body), status)

    assert PERSONAL not in json.dumps(found)
    assert await admin.fetch("select 1 from companies") == []


async def test_errors_say_where_and_what_without_what_was_sent(admin: Admin) -> None:
    body = {"name": ["Ada"], "timeZone": PERSONAL, "graceDays": -1, PERSONAL: PERSONAL}
    found = problem(await admin.client.post("/api/companies", json=body, headers=admin.operator), 422)

    assert found["errors"] == [
        {"where": "body.name", "what": "must be a string"},
        {"where": "body.timeZone", "what": "must be a time zone such as Europe/Paris"},
        {"where": "body.graceDays", "what": "must be at least 0"},
        {"where": "body.*", "what": "unknown field"},
    ]


@pytest.mark.parametrize(
    "headers", [{"content-type": "text/plain"}, {"content-encoding": "gzip"}, {"content-type": "application/json; charset=latin-1"}]
)
async def test_only_json_is_read(admin: Admin, headers: dict[str, str]) -> None:
    problem(await post(admin, b'{"name": "a"}', headers), 415)


async def test_a_chunked_body_is_counted_while_it_comes(admin: Admin) -> None:
    async def endless() -> Any:
        for _ in range(64):
            yield b"x" * 65536

    answer = await admin.client.post("/api/companies", content=endless(), headers={**admin.operator, **JSON})
    assert problem(answer, 413)["detail"] == "a body has at most 1 MiB"
    assert answer.headers["connection"] == "close"


async def test_who_is_nobody_is_told_so_before_the_body_is_read(admin: Admin) -> None:
    problem(await admin.client.post("/api/companies", content=b"{", headers=JSON), 401)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "limit=1e9", "cursor=", "cursor=x", "cursor=%00", "cursor=WyJrZXlzIiwxXQ", "cursor=é"],
)
async def test_a_page_that_cannot_be_is_refused(admin: Admin, query: str) -> None:
    await admin.tenant()
    for path in ("/api/companies", "/api/keys", "/api/audit", "/sync/logs", "/sync/jobs", "/api/directory"):
        assert problem(await admin.client.get(f"{path}?{query}", headers=admin.operator), 422)["errors"][0]["where"].startswith(
            "query"
        )


async def test_an_id_that_is_none_is_not_there_and_a_path_that_is_none_neither(admin: Admin) -> None:
    await admin.tenant()
    for path in ("/api/directory/x", "/sync/jobs/%00", "/api/nothing", "/", "/api/companies/"):
        problem(await admin.client.get(path, headers=admin.operator), 404)
    answer = await admin.client.put("/api/companies", headers=admin.operator)
    problem(answer, 405)
    assert answer.headers["allow"] == "GET, POST"


async def test_a_database_that_is_away_is_said_so_and_asked_again_later(admin: Admin) -> None:
    tenant = await admin.tenant()
    admin.database.terminate()
    answer = await admin.client.get("/api/company", headers=tenant.headers())

    problem(answer, 503)
    assert answer.headers["retry-after"] == "5"


async def test_what_has_no_rule_is_answered_counted_and_logged_without_its_text(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError(PERSONAL)

    monkeypatch.setattr(companies, "page_companies", broken)
    with capture_logs() as logged:
        found = problem(await admin.client.get("/api/companies", headers=admin.operator), 500)
        await eventually(lambda: bool(logged))

    (line,) = logged
    assert (line["error"], line["route"], line["log_level"]) == ("ZeroDivisionError", "/api/companies", "error")
    assert PERSONAL not in json.dumps(found) + json.dumps(logged)
    await eventually(lambda: bool(admin.metrics.counted(ADMIN_DURATION)))
    assert list(admin.metrics.counted(ADMIN_DURATION)) == [("GET /api/companies", "500")]
