"""Extensions as a person sees them: what is installed and what is wrong, and a connection of a kind of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_commands import Command, in_process
from tests.directory_rig import KEY, Upstream
from tests.extension_rig import build_wheel, install_module, install_wheel


@pytest.fixture
def rollcall(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    environment = {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": "amqp://127.0.0.1:1/",
        "ALLOW_NETWORKS": "127.0.0.0/8",
        "ROLLCALL_SECRET_DIRECTORY": KEY,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for example in ("json_lines", "badges"):
        install_wheel(build_wheel(example, tmp_path / example), tmp_path / f"{example}_site", monkeypatch)
    return in_process


async def test_the_doctor_lists_them_and_what_is_wrong(rollcall: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"rollcall.sources": {"ldap": "of_nothing:Ldap"}, "rollcall.reconcilers": {"audit": "of_nothing:Audit"}}
    install_module(tmp_path / "x", monkeypatch, distribution="broken", module="of_nothing", text="import ldap3\n", points=broken)

    ended = await rollcall("doctor")

    lines = [line for line in ended.out.splitlines() if " extensions: " in line]
    assert ended.status == 1
    assert lines == [
        "✓ extensions: json-lines of rollcall-json-lines 1.0.0 (rollcall.sources) can be used",
        "✗ extensions: ldap of broken 1.0 (rollcall.sources) cannot be used: of_nothing:Ldap does not load: "
        "ModuleNotFoundError: No module named 'ldap3'; mend or uninstall it",
        "✗ extensions: audit of broken 1.0 (rollcall.reconcilers) cannot be used: the name is Rollcall's own; "
        "others are audit, directory; mend or uninstall it",
        "✗ extensions: badges of rollcall-badges 1.0.0 (rollcall.reconcilers) cannot be used: it cannot be made: "
        "KeyError: 'BADGES_URL'; mend or uninstall it",
    ]


async def test_a_connection_of_a_kind_of_ones_own_is_added_and_tested(rollcall: Command, upstream: Upstream) -> None:
    upstream.reset(30)
    await rollcall("companies", "add", "Choir")
    url = f"{upstream.url}/files/members.jsonl"
    directory = ("--source", "json-lines", "--directory", f"url={url}", "--key", "env:ROLLCALL_SECRET_DIRECTORY")

    added = await rollcall("connections", "add", "Choir", "register", *directory)
    tested = await rollcall("connections", "test", "register")
    previewed = await rollcall("connections", "preview", "register", "--limit", "1")

    assert (added.status, added.err.startswith("Whether it can be asked")) == (0, True), added.err
    assert tested.status == 0, tested.err
    assert url in tested.out
    assert "30 on the first page, 30 fit the mapping" in tested.out
    assert '"name": "Member 1"' in previewed.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--source", "ldap"), "there are csv, django, json-lines, and `rollcall doctor`"),
        (("--source", "json-lines"), "url is an address such as"),
        (("--source", "json-lines", "--directory", "pages:=5"), "unknown: pages"),
        (("--source", "json-lines", "--directory", "pages:=five"), "wants JSON, such as pages:=5"),
        (("--source", "json-lines", "--csv", "file:x.csv"), "a connection has one directory"),
        (("--directory", "url=x"), "needed with --directory and --key"),
    ],
)
async def test_what_does_not_fit_is_said(rollcall: Command, arguments: tuple[str, ...], said: str) -> None:
    await rollcall("companies", "add", "Choir")
    ended = await rollcall("connections", "add", "Choir", "register", *arguments)
    assert ended.status == 64
    assert said in " ".join(ended.err.replace("│", " ").split())
