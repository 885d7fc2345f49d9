"""`rollcall scans` as a person uses it."""

from __future__ import annotations

import pytest

from tests.cli.test_commands import Command, as_process
from tests.scan_rig import open_scans


@pytest.fixture
def rollcall(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1/")
    # It sends its logs elsewhere, for the whole process.
    return as_process


async def run(rollcall: Command, *arguments: str) -> tuple[int, str, str]:
    ended = await rollcall("scans", *arguments)
    return ended.status, ended.out, ended.err


async def test_a_scan_is_run_followed_listed_and_its_findings_shown(rollcall: Command, database_url: str) -> None:
    async with open_scans(database_url) as scans:
        status, _, err = await run(rollcall, "run", "--wait", "0")
        assert (status, "has no scan providers" in err) == (1, True), err

        anna, berta = await scans.member("twin@choir.example"), await scans.member("Twin@choir.example")
        await scans.configure(duplicates={}, email_domain={"allowedDomains": ["choir.example"]})
        status, out, err = await run(rollcall, "run", "--wait", "0")
        assert (status, "running it here" in err) == (2, True), err
        assert out.splitlines()[0].endswith("of 2 members: succeeded")
        assert out.splitlines()[2].split()[:5] == ["duplicates", "succeeded", "2", "2", "0"]
        assert (await run(rollcall, "run", "--wait", "0"))[0] == 0

        _, listed, _ = await run(rollcall, "list")
        newest, oldest = (line.split() for line in listed.splitlines()[1:])
        assert newest[2:7] == ["succeeded", "2", "2", "0", "0"]
        assert oldest[2:7] == ["succeeded", "2", "2", "2", "0"]
        _, shown, _ = await run(rollcall, "show", oldest[-1])
        assert shown == out

        _, found, _ = await run(rollcall, "findings")
        lines = found.splitlines()[1:]
        assert {line.split()[2] for line in lines} == {str(anna), str(berta)}
        assert all(line.startswith(" medium ") for line in lines)
        assert "twin" not in found.lower()
        assert (await run(rollcall, "findings", "--scan", oldest[-1]))[1] == found
        assert len((await run(rollcall, "findings", "--member", str(anna)))[1].splitlines()) == 2
        _, cut, more = await run(rollcall, "findings", "--limit", "1")
        assert (len(cut.splitlines()), "more than 1" in more) == (2, True)


async def test_who_scans_and_how_often_is_set_and_shown(rollcall: Command, database_url: str) -> None:
    async with open_scans(database_url) as scans:
        assert (await run(rollcall, "configure"))[1] == "nobody\nwhen somebody asks"
        domains = 'email_domain={"allowedDomains":["choir.example"]}'
        asked = ("configure", "--provider", "duplicates", "--provider", domains, "--every", "1440")
        status, out, err = await run(rollcall, *asked)
        assert (status, out) == (0, f"duplicates\n{domains}\nevery day"), err
        assert (await run(rollcall, "configure", "--never"))[1] == f"duplicates\n{domains}\nwhen somebody asks"
        ((actor,),) = await scans.fetch("select distinct actor from admin_events where action = 'company.scans_configured'")
        assert actor == "cli"
        for arguments, problem, expected in (
            (("--provider", "horoscope"), "there is no such provider", 1),
            (("--provider", "email_domain"), "allowedDomains", 1),
            (("--provider", "duplicates=deep"), "a JSON object", 64),
            (("--every", "4"), "--every", 64),
            (("--every", "5", "--never"), "not both", 64),
            (("--nobody", "--provider", "duplicates"), "not both", 64),
        ):
            status, _, err = await run(rollcall, "configure", *arguments)
            assert (status, problem in err) == (expected, True), err
        assert (await run(rollcall, "configure", "--nobody"))[1] == "nobody\nwhen somebody asks"


async def test_a_provider_that_fails_is_said(rollcall: Command, database_url: str) -> None:
    async with open_scans(database_url) as scans:
        await scans.configure(duplicates={}, nobody={})
        status, out, err = await run(rollcall, "run", "--wait", "0")
        assert (status, "partial" in err) == (1, True), err
        assert "no provider of this name is installed" in out


async def test_what_is_not_there_is_said(rollcall: Command, database_url: str) -> None:
    nobody = "00000000-0000-0000-0000-000000000001"
    status, _, err = await run(rollcall, "list")
    assert (status, "there is no company yet" in err) == (1, True), err
    async with open_scans(database_url):
        for arguments, problem in (
            (("show", nobody), "there is no scan"),
            (("findings", "--scan", nobody), "there is no scan"),
            (("list", "--company", "nobody"), "nobody"),
        ):
            status, _, err = await run(rollcall, *arguments)
            assert (status, problem in err) == (1, True), err
        status, _, err = await run(rollcall, "findings", "--scan", nobody, "--severity", "low")
        assert (status, "no other filter" in err) == (64, True), err
