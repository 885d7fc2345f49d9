"""`rollcall subscribers` as a person uses it, with a service that sends and a system that takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cli.webhook_setup import create_secret
from service.settings import load_settings
from tests.cli.test_commands import Command, in_process
from tests.receiver import Answer, receiving
from tests.service_rig import clean_broker, running_service


@pytest.fixture
def rollcall(database_url: str, rabbitmq_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    environment = {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": rabbitmq_url,
        "SECRETS_DIR": str(tmp_path),
        "ALLOW_NETWORKS": "127.0.0.0/8",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return in_process


async def test_a_subscriber_from_its_first_day_to_its_last(
    rollcall: Command, database_url: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    answers = [Answer(), Answer(500, body=b"out of\nletters")]
    async with clean_broker(rabbitmq_url), receiving(lambda _: answers[0]) as receiver:
        environment = {"SECRETS_DIR": str(tmp_path), "ALLOW_NETWORKS": "127.0.0.0/8"}
        async with running_service(database_url, rabbitmq_url, **environment) as service:
            await service.says("worker takes messages")
            await rollcall("companies", "add", "Choir")
            added = await rollcall("subscribers", "add", "Choir", "lists", receiver.url, "--secret", "file:lists", "--new-secret")
            assert added.status == 0, added.err
            assert f"rollcall subscribers test {added.out}" in added.err

            well = await rollcall("subscribers", "test", "lists", "--wait", "60")
            assert (well.status, well.out.startswith("delivered in "), well.out.endswith("it answers 204")) == (0, True, True), well
            receiver.sent[-1].verify((tmp_path / "lists").read_text())

            answers.reverse()
            badly = await rollcall("subscribers", "test", added.out, "--wait", "60")
            assert (badly.status, badly.err.startswith("rollcall: failed in ")) == (1, True), badly

            listed = (await rollcall("subscribers", "deliveries", "lists")).out.splitlines()
            assert len(listed) == 3
            assert [line.split()[1:3] for line in listed[1:]] == [["a", "test"]] * 2
            shown = (await rollcall("subscribers", "deliveries", "lists", listed[1].split()[0])).out
            assert "out of letters" in shown
            assert listed[2].split()[3] == "delivered"

            answers.reverse()
            again = await rollcall("subscribers", "resend", "lists", listed[1].split()[0])
            assert (again.status, "once more" in again.out) == (0, True), again

            rotated = await rollcall("subscribers", "rotate", "lists", "--secret", "file:lists-2", "--new-secret")
            assert rotated.out == "file:lists signs for 24 h more at most"
            assert (await rollcall("subscribers", "test", "lists", "--wait", "60")).status == 0
            for secret in ("lists", "lists-2"):
                receiver.sent[-1].verify((tmp_path / secret).read_text())

    assert "file:lists-2, file:lists" in (await rollcall("subscribers", "show", "lists")).out
    assert (await rollcall("subscribers", "pause", "lists")).out.startswith("paused")
    line = (await rollcall("subscribers", "list", "Choir")).out.splitlines()[1].split()
    assert line[:4] == [added.out, "Choir", "lists", "paused"]
    refused = await rollcall("subscribers", "test", "lists")
    assert (refused.status, "it is paused" in refused.err) == (1, True)
    assert (await rollcall("subscribers", "resume", "lists")).out.startswith("it is called again")
    late = await rollcall("subscribers", "test", "lists", "--wait", "0")
    assert (late.status, "no worker has sent it" in late.err) == (1, True)
    replayed = await rollcall("subscribers", "replay", "lists", "--since", "2026-01-01T00:00:00Z")
    assert (replayed.status, "rollcall jobs show" in replayed.err) == (0, True)
    assert "as job" in (await rollcall("subscribers", "replay", "lists", "--since", "2026-01-01T00:00:00Z")).err
    assert (await rollcall("subscribers", "remove", "lists")).out == "removed; 1 on their way are given up"
    assert (await rollcall("subscribers", "list")).out.splitlines()[1:] == []


async def test_what_is_wrong_is_one_line_and_leaves_nothing(rollcall: Command, tmp_path: Path) -> None:
    await rollcall("companies", "add", "Choir")
    url, new = "https://lists.example.com/", ("--secret", "file:lists", "--new-secret")
    for arguments, said in (
        (("Choir", "lists", "ftp://x", *new), "url: must be a URL"),
        (("Choir", "lists", url, *new, "--state", "gone"), "newStates: unknown: gone"),
        (("Nobody", "lists", url, *new), "there is no company Nobody"),
        (("Choir", "lists", url, "--secret", "env:ROLLCALL_SECRET_X", "--new-secret"), "a new secret is made in a file"),
    ):
        ended = await rollcall("subscribers", "add", *arguments)
        assert (ended.status, said in ended.err) == (1, True), ended
    assert not (tmp_path / "lists").exists()
    assert (await rollcall("subscribers", "list")).out.splitlines()[1:] == []
    assert (await rollcall("subscribers", "add", "Choir", "lists", url, "--secret", "hush")).status == 64

    create_secret(load_settings(), "file:lists")
    assert (await rollcall("subscribers", "add", "Choir", "lists", url, "--secret", "file:lists")).status == 0
    for arguments, said in (
        (("add", "Choir", "lists", url, "--secret", "file:lists"), "named lists already"),
        (("show", "others"), "there is no subscriber others"),
        (("deliveries", "lists", "7"), "there is no delivery 7"),
        (("resend", "lists", "7"), "there is no delivery 7"),
        (("rotate", "lists", "--secret", "file:lists", "--new-secret"), "file:lists cannot be made"),
    ):
        ended = await rollcall("subscribers", *arguments)
        assert (ended.status, said in ended.err) == (1, True), ended
    future = await rollcall("subscribers", "replay", "lists", "--since", "2999-01-01T00:00:00Z")
    assert (future.status, "must be in the past" in future.err) == (64, True)
