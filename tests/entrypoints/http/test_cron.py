from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from service.actions.run_due_schedules import Begun
from service.domain.errors import Contention, Unavailable
from service.domain.jobs import JobId
from service.entrypoints.http.cron import cron_routes
from service.entrypoints.http.server import HttpServer
from service.settings import Settings
from service.wiring.schedules import run_due
from tests.clock_rig import open_clock

SECRET = "geheim-ðþ"
BEGUN = Begun(
    job_id=JobId(UUID(int=1)),
    schedule_id=UUID(int=2),
    kind="directory_sync",
    subject_id=UUID(int=3),
    slot=datetime(2026, 3, 1, 12, tzinfo=UTC),
    skipped=4,
)
# All that str.strip takes away.
WHITE_SPACE = "".join(chr(code) for code in range(0x110000) if chr(code).isspace())


@asynccontextmanager
async def door(secret: str | None, run: Callable[[], Awaitable[Sequence[Begun] | None]]) -> AsyncIterator[httpx.AsyncClient]:
    """The route, served for real."""
    server = HttpServer(cron_routes(None if secret is None else SecretStr(secret), run), "127.0.0.1", 0)
    serving = asyncio.create_task(server.run())
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            yield client
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def post(client: httpx.AsyncClient, headers: Sequence[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """A request as no library would write it: the status and all that was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    lines = [b"POST /api/cron HTTP/1.1", b"host: x", b"connection: close", b"content-length: 0"]
    lines += [name + b": " + value for name, value in headers]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1]), answer


async def one_due() -> list[Begun]:
    return [BEGUN]


async def never() -> list[Begun]:
    raise AssertionError("nobody may tick")


def bearer(token: str | bytes) -> dict[str, Any]:
    return {"headers": [(b"authorization", b"Bearer " + (token.encode() if isinstance(token, str) else token))]}


async def test_whoever_has_the_secret_is_told_what_was_enqueued() -> None:
    async with door(SECRET, one_due) as client:
        answer = await client.post("/api/cron", **bearer(SECRET))

    assert answer.status_code == 200
    assert answer.json() == {
        "enabled": True,
        "enqueued": [
            {
                "jobId": str(UUID(int=1)),
                "kind": "directory_sync",
                "subjectId": str(UUID(int=3)),
                "slot": "2026-03-01T12:00:00Z",
                "skipped": 4,
            }
        ],
        "correlationId": answer.headers["x-correlation-id"],
    }


@pytest.mark.parametrize("secret", [None, "", " ", WHITE_SPACE], ids=["unset", "empty", "space", "all white space"])
async def test_without_a_secret_nobody_may_tick(secret: str | None) -> None:
    async with door(secret, never) as client:
        for token in ("", " ", "x", "\t", "\u2003", "\xa0"):
            status, answer = await post(client, [(b"authorization", b"Bearer " + token.encode())])
            assert status == 503
            assert b"application/problem+json" in answer


def test_a_blank_secret_of_the_environment_is_none() -> None:
    urls = {"database_url": SecretStr("postgresql://x@y/z"), "rabbitmq_url": SecretStr("amqp://x@y/")}
    assert Settings(**urls, cron_secret=WHITE_SPACE).cron_secret is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer wrong")],
        [(b"authorization", b"Bearer gehe\xefm-\xf0\xfe")],
        [(b"authorization", "Bearer øøø".encode())],
        [(b"authorization", b"Basic " + SECRET.encode())],
        [(b"authorization", SECRET.encode())],
        [(b"authorization", b"Bearer " + SECRET.encode() + b"x")],
        [(b"authorization", b"Bearer " + SECRET.encode()[:-1])],
        [(b"authorization", b"Bearer " + SECRET.encode()), (b"authorization", b"Bearer " + SECRET.encode())],
    ],
)
async def test_whoever_has_another_or_none_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    async with door(SECRET, never) as client:
        status, answer = await post(client, headers)

    assert status == 401
    assert b"www-authenticate: Bearer" in answer
    assert b"application/problem+json" in answer
    assert SECRET.encode() not in answer


async def test_the_scheme_s_name_may_be_written_in_any_case() -> None:
    async with door("plain", one_due) as client:
        assert (await client.post("/api/cron", headers={"authorization": "bearer plain"})).status_code == 200
        assert (await client.post("/api/cron", headers={"authorization": "BEARER plain"})).status_code == 200


async def test_digests_are_compared_as_bytes_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("service.entrypoints.http.cron.compare_digest", compare)
    async with door(SECRET, one_due) as client:
        for token in ("x", SECRET, "much-longer-than-the-secret" * 10):
            await client.post("/api/cron", **bearer(token))

    assert [(type(one), len(one), len(other)) for one, other in compared] == [(bytes, 32, 32)] * 3


async def test_other_methods_are_refused() -> None:
    async with door(SECRET, never) as client:
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = await client.request(method, "/api/cron", **bearer(SECRET))
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("error", [Unavailable("the database does not answer"), Contention("in the way")])
async def test_while_the_database_is_away_it_says_when_to_come_again(error: Exception) -> None:
    async def away() -> list[Begun]:
        raise error

    async with door(SECRET, away) as client:
        answer = await client.post("/api/cron", **bearer(SECRET))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_tick_over_http_begins_what_is_due(database_url: str) -> None:
    urls = {"database_url": SecretStr(database_url), "rabbitmq_url": SecretStr("amqp://x@y/")}
    async with open_clock(database_url) as clock:
        await clock.fetch("insert into schedules (kind, interval_ms, next_run_at) values ('expiry', 60000, now())")

        async with door(SECRET, lambda: run_due(Settings(**urls), clock.database)) as client:
            first, second = [(await client.post("/api/cron", **bearer(SECRET))).json() for _ in range(2)]
        await clock.fetch("update schedules set next_run_at = now()")
        async with door(SECRET, lambda: run_due(Settings(**urls, cron_enabled=False), clock.database)) as client:
            third = (await client.post("/api/cron", **bearer(SECRET))).json()

        ((job, correlation_id),) = await clock.fetch("select id, correlation_id from jobs")
        assert [one["jobId"] for one in first["enqueued"]] == [str(job)]
        assert correlation_id == first["correlationId"]
        assert second["enqueued"] == []
        assert (third["enabled"], third["enqueued"]) == (False, [])
