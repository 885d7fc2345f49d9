"""The webhook commands as a person uses them, against a real edge."""

from __future__ import annotations

import asyncio
import io
import json
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from service.cli import main
from tests.webhook_rig import Door, open_door

Run: TypeAlias = Callable[..., Awaitable[tuple[int, str, str]]]
PAYLOAD = '{"id":"ada","action":"create","updated_at":"2026-11-01T12:00:00Z","name":"Ada"}'


@pytest.fixture
def run(database_url: str, rabbitmq_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name, value in {"DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url, "SECRETS_DIR": str(tmp_path)}.items():
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


@pytest.fixture
async def door(database_url: str, rabbitmq_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    async with open_door(database_url, rabbitmq_url, tmp_path) as opened:
        monkeypatch.setenv("PORT", str(opened.port))
        yield opened


def request_of(curl: str, door: Door) -> tuple[str, dict[str, str], str]:
    """Path, headers and body of a curl line; the machine need not have curl."""
    words = shlex.split(curl)
    assert words[:2] == ["curl", "-i"]
    host, _, path = words[2].partition("/webhooks/")
    assert host == f"http://localhost:{door.port}"
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    return f"/webhooks/{path}", headers, words[words.index("--data-binary") + 1]


@pytest.mark.parametrize("scheme", ["standard-webhooks", "github", "shopify", "stripe", "workos"])
async def test_a_new_connection_prints_a_request_that_works(run: Run, door: Door, scheme: str) -> None:
    await run("companies", "add", "Choir")
    status, identity, said = await run(
        "connections", "add", "Choir", "hooks", "--webhook", scheme, "--secret", "file:new", "--new-secret"
    )
    assert status == 0, said
    assert f"http://localhost:{door.port}/webhooks/{identity}" in said
    (line,) = [line for line in said.splitlines() if line.startswith("curl ")]
    path, headers, body = request_of(line, door)
    answer = await door.client.post(path, headers=headers, content=body)
    assert answer.status_code == 202
    status, said, _ = await run("webhooks", "send", identity, "--data", PAYLOAD)
    assert (status, said) == (0, '202 {"status":"accepted"}')
    await door.messages(2)


async def test_the_secret_is_made_for_its_owner_alone_and_never_over_another(run: Run, tmp_path: Path) -> None:
    await run("companies", "add", "Choir")
    add = ("connections", "add", "Choir", "hooks", "--webhook", "github", "--secret", "file:new", "--new-secret")
    assert (await run(*add))[0] == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    made = (tmp_path / "new").read_text()
    status, _, said = await run(*add[:3], "other", *add[4:])
    assert (status, "file:new cannot be made" in said) == (1, True)
    assert (tmp_path / "new").read_text() == made
    # The connection was not made either.
    assert "other" not in (await run("connections", "list"))[1]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--webhook", "github"), "webhooks are signed"),
        (("--webhook", "github", "--secret", "env:HOME"), "must be env:ROLLCALL_SECRET_NAME"),
        (("--webhook", "github", "--secret", "file:x", "--hmac", "header=X"), "takes no settings"),
        (("--webhook", "hmac", "--secret", "file:x", "--hmac", "header"), "must be NAME=VALUE"),
        (("--webhook", "hmac", "--secret", "file:x", "--hmac", "colour=red"), "unknown: colour"),
        (("--webhook", "github", "--secret", "file:x", "--mapping", "/nowhere.json"), "cannot be read as JSON"),
        (("--secret", "file:x"), "needed with --secret"),
        (("--webhook", "github", "--secret", "env:ROLLCALL_SECRET_X", "--new-secret"), "a new secret is made in a file"),
        (("--webhook", "github", "--secret", "file:../x", "--new-secret"), "no file below SECRETS_DIR"),
    ],
)
async def test_options_that_do_not_fit_are_refused(run: Run, options: tuple[str, ...], problem: str) -> None:
    await run("companies", "add", "Choir")
    status, _, said = await run("connections", "add", "Choir", "hooks", *options)
    assert status != 0
    assert problem in " ".join(said.replace("│", " ").split())
    assert "hooks" not in (await run("connections", "list"))[1]


async def test_the_source_owns_the_fields_of_its_mapping(run: Run, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.json"
    await run("companies", "add", "Choir")
    add = ("connections", "add", "Choir", "hooks", "--webhook", "github", "--secret", "file:current", "--mapping", str(mapping))
    for broken in ("[]", "{", '{"colour": 1}'):
        mapping.write_text(broken)
        assert (await run(*add))[0] != 0
    mapping.write_text('{"externalId": "key", "member": {"name": "n", "email": "e"}}')
    assert (await run(*add))[0] == 0
    assert "email, name" in (await run("connections", "list"))[1]
    status, said, _ = await run("connections", "preview", "hooks", "--data", '{"key": 7, "n": "Ada", "e": ""}')
    shown = json.loads(said)
    assert (status, shown["externalId"], shown["action"]) == (0, "7", "upsert")
    assert shown["member"] == {"name": "Ada", "email": None}
    status, _, said = await run("connections", "preview", "hooks", "--data", "{}")
    assert (status, "would be parked: key: required by the mapping" in said) == (1, True)


async def test_rotation_keeps_the_old_secret_for_a_while(run: Run, door: Door) -> None:
    await run("companies", "add", "Choir")
    await run("connections", "add", "Choir", "hooks", "--webhook", "github", "--secret", "file:current")
    signed_by_old = (await run("webhooks", "send", "hooks", "--data", PAYLOAD, "--dry-run"))[1]
    status, said, _ = await run("connections", "rotate", "hooks", "--secret", "file:next")
    assert (status, said) == (0, "file:current holds for 24 h more at most")
    status, said, _ = await run("connections", "test", "hooks")
    assert status == 0
    assert said.index("✓ file:next") < said.index("✓ file:current, until")
    path, headers, body = request_of(signed_by_old, door)
    assert (await door.client.post(path, headers=headers, content=body)).status_code == 202
    assert (await run("webhooks", "send", "hooks", "--data", PAYLOAD))[0] == 0


async def test_a_test_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    await run("companies", "add", "Choir")
    _, _, said = await run("connections", "add", "Choir", "hooks", "--webhook", "github", "--secret", "file:missing")
    assert "file:missing cannot be read (FileNotFoundError) here" in said
    status, said, problem = await run("connections", "test", "hooks")
    assert status == 1
    assert "✗ file:missing cannot be read" in said
    assert "no secret can be used here" in problem
    (tmp_path / "missing").write_text("hush")
    status, said, _ = await run("connections", "test", "hooks")
    assert status == 0
    assert "hush" not in said


async def test_what_cannot_be_sent_is_said_in_a_sentence(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "current").write_text("hush")
    await run("companies", "add", "Choir")
    await run("connections", "add", "Choir", "plain")
    await run("connections", "add", "Choir", "hooks", "--webhook", "github", "--secret", "file:current")
    assert "takes no webhooks" in (await run("webhooks", "send", "plain", "--data", "{}"))[2]
    assert "there is no connection nobody" in (await run("webhooks", "send", "nobody", "--data", "{}"))[2]
    monkeypatch.setenv("PORT", "1")
    assert "does not answer" in (await run("webhooks", "send", "hooks", "--data", "{}"))[2]
    assert (await run("webhooks", "send", "hooks", "--data", "{}", "--url", "ftp://x"))[0] != 0
    assert (await run("webhooks", "send", "hooks", "--data", "@/nowhere"))[0] != 0
