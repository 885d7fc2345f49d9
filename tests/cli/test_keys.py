"""`rollcall keys` as a person uses it; what it prints opens the served API."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, TypeAlias

import pytest

from service.cli import main
from tests.admin_rig import open_admin

Run: TypeAlias = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1/unused")

    async def command(*arguments: str) -> tuple[int, str, str]:
        def here() -> tuple[int, str, str]:
            out, err = io.StringIO(), io.StringIO()
            status: Any = 0
            with redirect_stdout(out), redirect_stderr(err):
                try:
                    main(arguments)
                except SystemExit as ended:
                    status = ended.code or 0
            return status, out.getvalue().strip(), err.getvalue().strip()

        return await asyncio.to_thread(here)

    return command


async def test_a_key_is_made_used_listed_and_revoked(run: Run, database_url: str) -> None:
    await run("companies", "add", "Choir")
    status, key, said = await run("keys", "create", "Choir", "nightly", "--scope", "read", "--scope", "sync", "--days", "30")
    identity = said.rpartition("revoke ")[2].partition("`")[0]
    headers = {"authorization": f"Bearer {key}"}

    async with open_admin(database_url) as admin:
        before = await admin.client.get("/api/company", headers=headers)
        _, listed, _ = await run("keys", "list", "Choir")
        revoked, _, _ = await run("keys", "revoke", identity)
        after = await admin.client.get("/api/company", headers=headers)
        audit = (await admin.client.get("/api/audit", headers=admin.operator)).json()["items"]

    assert (status, before.json()["name"]) == (0, "Choir")
    assert "nightly" in listed
    assert "read sync" in listed
    assert key not in listed
    assert (revoked, after.status_code) == (0, 401)
    assert [(event["action"], event["actor"]) for event in audit[:2]] == [("key.revoked", "cli"), ("key.issued", "cli")]
    assert "revoked" in (await run("keys", "list", "Choir"))[1]


async def test_what_is_not_there_is_said_in_a_sentence(run: Run) -> None:
    for arguments in (("create", "Nobody", "x"), ("list", "Nobody"), ("revoke", "019b2f6c-2f0e-7cc1-9a0d-5c1b0f8a7e11")):
        status, out, said = await run("keys", *arguments)
        assert (status, out) == (1, "")
        assert said.startswith("rollcall: there is no")
