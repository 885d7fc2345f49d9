"""`rollcall connections add|test|preview` for directories, as a person uses them."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from service.cli import main
from tests.directory_rig import KEY, NESTED, Upstream

Run: TypeAlias = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def run(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    environment = {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": "amqp://127.0.0.1:1/unused",
        "SECRETS_DIR": str(tmp_path),
        "CSV_DIR": str(tmp_path),
        "ALLOW_NETWORKS": "127.0.0.0/8",
        "ROLLCALL_SECRET_DIRECTORY": KEY,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

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


async def add(run: Run, *options: str) -> str:
    await run("companies", "add", "Choir")
    status, identity, said = await run("connections", "add", "Choir", "register", *options)
    assert status == 0, said
    return identity


async def test_a_django_directory_is_added_tested_and_previewed(run: Run, upstream: Upstream, tmp_path: Path) -> None:
    upstream.reset(30)
    upstream.change(update={2: {"name": " "}})
    (tmp_path / "mapping.json").write_text(json.dumps(NESTED))
    identity = await add(
        run,
        *("--django", f"{upstream.url}/cursor", "--key", "env:ROLLCALL_SECRET_DIRECTORY"),
        *("--directory", "path=/api/people/", "--directory", "paging=cursor", "--directory", "pageSize=20"),
        *("--directory", "modifiedSince=updated_since", "--directory", f"mapping=@{tmp_path / 'mapping.json'}"),
    )
    _, listed, _ = await run("connections", "list")
    assert "email, name, national_id, phone, state" in listed
    assert "updated_at" in listed
    status, said, problem = await run("connections", "test", "register")
    assert (status, problem) == (0, "")
    assert f"{upstream.url}/cursor/api/people/" in said
    assert "env:ROLLCALL_SECRET_DIRECTORY" in said
    assert "20 on the first page, 19 fit the mapping" in said
    assert KEY not in said
    status, said, _ = await run("connections", "preview", identity, "--limit", "2")
    assert status == 0
    first, second = json.loads("[" + said.replace("}\n{", "},{") + "]")
    assert first["member"]["nationalId"] == "0201800001"
    assert (first["action"], first["version"]) == ("upsert", 1793491201_000000)
    assert (second["externalId"], second["unfit"]) == ("p-2", "name: must be a string")


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (("status", {"code": 401}), "page 1: 127.0.0.1 answers 401: it does not accept the key"),
        (("html", {}), "page 1: the answer is HTML, not JSON"),
        (("status", {"code": 429, "retry_after": "900"}), "page 1: 127.0.0.1 answers 429 and asks for 900 s"),
    ],
)
async def test_what_is_wrong_is_one_line(run: Run, upstream: Upstream, fault: tuple[str, dict[str, Any]], text: str) -> None:
    upstream.fault(fault[0], **fault[1])
    await add(run, "--django", f"{upstream.url}/page-number", "--key", "env:ROLLCALL_SECRET_DIRECTORY")
    for command in ("test", "preview"):
        status, _, said = await run("connections", command, "register")
        assert status == 1
        assert said.startswith(f"rollcall: {text}")


async def test_a_closed_network_is_said_to_be_closed(run: Run, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOW_NETWORKS", " ")
    await add(run, "--django", upstream.url)
    status, said, problem = await run("connections", "test", "register")
    assert status == 1
    assert "reachable  ✗" in said
    assert "may not be called (loopback); the operator's ALLOW_NETWORKS opens networks" in problem


async def test_a_csv_is_added_tested_and_previewed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "members.csv").write_text("id;kennitala;name;email\n7;010101-1234;Anna;\n")
    await add(run, "--csv", "file:members.csv", "--directory", "delimiter=semicolon")
    status, said, problem = await run("connections", "test", "register")
    assert (status, problem) == (0, "")
    assert "1 on the first page, 1 fit the mapping" in said
    _, said, _ = await run("connections", "preview", "register")
    assert json.loads(said) == {
        "externalId": "7",
        "action": "upsert",
        "member": {"nationalId": "0101011234", "name": "Anna", "email": None},
    }


async def test_one_connection_may_be_asked_and_send_webhooks(run: Run, upstream: Upstream) -> None:
    upstream.reset(1)
    identity = await add(
        run,
        *("--django", f"{upstream.url}/page-number", "--key", "env:ROLLCALL_SECRET_DIRECTORY"),
        *("--webhook", "standard-webhooks", "--secret", "file:hooks", "--new-secret"),
    )
    status, said, problem = await run("connections", "test", identity)
    assert (status, problem) == (0, "")
    assert "1 of 1 on the first page" in said
    assert "scheme   standard-webhooks" in said
    payload = '{"id":"ada","action":"create","updated_at":"2026-11-01T12:00:00Z","name":"Ada"}'
    _, said, _ = await run("connections", "preview", identity, "--data", payload)
    assert json.loads(said)["externalId"] == "ada"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--django", "members.example"), "baseUrl is an address"),
        (("--django", "https://a.example", "--csv", "file:a.csv"), "a connection has one directory"),
        (("--key", "env:ROLLCALL_SECRET_X"), "needed with --directory and --key"),
        (("--django", "https://a.example", "--key", "env:DJANGO_API_KEY"), "must be env:ROLLCALL_SECRET_NAME"),
        (("--django", "https://a.example", "--directory", "paging"), "must be NAME=VALUE"),
        (("--django", "https://a.example", "--directory", "pageSize=0"), "pageSize is a whole number"),
        (("--django", "https://a.example", "--directory", "mapping=a.json"), "a mapping is a JSON file"),
        (("--csv", "/etc/passwd"), "location is an address"),
    ],
)
async def test_options_that_do_not_fit_are_named(run: Run, options: tuple[str, ...], text: str) -> None:
    await run("companies", "add", "Choir")
    status, _, said = await run("connections", "add", "Choir", "register", *options)
    assert status == 64
    assert text in " ".join(said.replace("│", " ").split())


async def test_a_stream_has_nothing_to_test(run: Run) -> None:
    await add(run)
    for command in ("test", "preview"):
        status, _, said = await run("connections", command, "register")
        assert status == 1
        assert "has no directory and takes no webhooks: its source publishes by itself" in " ".join(said.split())
