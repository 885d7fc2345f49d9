"""`rollcall secrets`: what the operator grants and takes back, and that the edge and the other commands keep to it."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from tests.cli.test_commands import Command, in_process
from tests.relay_rig import eventually
from tests.webhook_rig import OTHER_SECRET, Sender, open_door, payload, write_secrets


@pytest.fixture
def rollcall(database_url: str, rabbitmq_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    for name, value in {"DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url, "SECRETS_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    write_secrets(tmp_path)
    return in_process


async def test_what_is_granted_and_revoked_is_listed_with_who_holds_it(rollcall: Command) -> None:
    await rollcall("companies", "add", "Choir")
    await rollcall("companies", "add", "Band")
    assert (await rollcall("secrets", "grant", "Choir", "env:ROLLCALL_SECRET_X")).status == 0
    await rollcall("secrets", "grant", "Band", "file:current")
    await rollcall("connections", "add", "Choir", "hooks", "--webhook", "github", "--secret", "file:current")
    ended = await rollcall("secrets", "revoke", "Choir", "file:current")
    assert (ended.status, ended.out.split(";")[0]) == (0, "connection hooks stops using it within five seconds")
    lines = [line.split() for line in (await rollcall("secrets", "list")).out.splitlines()[1:]]
    assert [(line[0], line[1], len(line)) for line in lines] == [
        ("Band", "file:current", 4),
        ("Choir", "env:ROLLCALL_SECRET_X", 4),
        ("Choir", "file:current", 8),
    ]
    assert lines[2][-2:] == ["connection", "hooks"]
    assert len((await rollcall("secrets", "list", "Band")).out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["grant", "Choir", "env:HOME"], "must be env:ROLLCALL_SECRET_NAME"),
        (["grant", "Opera", "file:current"], "there is no company Opera"),
        (["revoke", "Choir", "file:current"], "Choir may not refer to file:current"),
        (["list", "Opera"], "there is no company Opera"),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_sentence(rollcall: Command, arguments: list[str], says: str) -> None:
    await rollcall("companies", "add", "Choir")
    ended = await rollcall("secrets", *arguments)
    assert ended.status != 0
    assert says in " ".join(ended.err.replace("│", " ").split())


async def test_a_revocation_is_undone_by_a_grant_alone(rollcall: Command, database_url: str) -> None:
    await rollcall("companies", "add", "Choir")
    add = ("connections", "add", "Choir", "hooks", "--webhook", "github", "--secret")
    assert (await rollcall(*add, "file:current")).status == 0
    granted_at = await _granted_at(database_url)
    await rollcall("secrets", "grant", "Choir", "file:current")
    assert await _granted_at(database_url) == granted_at
    await rollcall("secrets", "revoke", "Choir", "file:current")
    for again in (
        ("connections", "rotate", "hooks", "--secret", "file:current"),
        ("connections", "add", "Choir", "more", *add[4:], "file:current"),
    ):
        ended = await rollcall(*again)
        assert ended.status == 1
        assert "file:current was revoked for this company; `rollcall secrets grant " in ended.err
    assert "more" not in (await rollcall("connections", "list")).out
    assert (await rollcall("connections", "test", "hooks")).status == 1
    await rollcall("secrets", "grant", "Choir", "file:current")
    assert (await rollcall("connections", "test", "hooks")).status == 0
    assert (await rollcall("connections", "rotate", "hooks", "--secret", "file:current")).status == 0
    assert await _granted_at(database_url) > granted_at


async def _granted_at(database_url: str) -> object:
    connection = await asyncpg.connect(database_url)
    try:
        return await connection.fetchval("select granted_at from secret_grants")
    finally:
        await connection.close()


async def test_the_edge_keeps_to_a_revocation_within_five_seconds(
    rollcall: Command, database_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    sender = await Sender.register(database_url, references=("file:next", "file:current"))
    company = str(sender.company_id)
    async with open_door(database_url, rabbitmq_url, tmp_path) as door:

        async def status(**signing: str) -> int:
            return (await door.post(sender, payload(), **signing)).status_code

        async def answers(expected: int, **signing: str) -> None:
            async def so() -> bool:
                return await status(**signing) == expected

            await eventually(so, within=20)

        # What the edge knows is this old at most; here it asks sooner, so that nobody waits.
        assert door.edge._sources._fresh == 5
        door.forgets_after(0.05)
        assert [await status(), await status(secret=OTHER_SECRET)] == [202, 202]
        await rollcall("secrets", "revoke", company, "file:current")
        await answers(401)
        assert await status(secret=OTHER_SECRET) == 202
        # The last one gone is ours to mend: nobody is believed, and nobody's webhook is lost.
        await rollcall("secrets", "revoke", company, "file:next")
        await answers(503, secret=OTHER_SECRET)
        await rollcall("secrets", "grant", company, "file:next")
        await answers(202, secret=OTHER_SECRET)
        assert await status() == 401
