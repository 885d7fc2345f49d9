"""`rollcall drift` as a person uses it."""

from __future__ import annotations

import pytest

from tests.cli.test_commands import Command, as_process
from tests.clock_rig import open_clock


@pytest.fixture
def rollcall(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1/")
    # It sends its logs elsewhere, for the whole process.
    return as_process


async def run(rollcall: Command, *arguments: str) -> tuple[int, str, str]:
    ended = await rollcall("drift", *arguments)
    return ended.status, ended.out, ended.err


async def test_drift_is_found_shown_and_healed(rollcall: Command, database_url: str) -> None:
    async with open_clock(database_url) as clock:
        await clock.add_members(40, None)
        status, out, err = await run(rollcall, "run", "--wait", "0")
        assert (status, "running it here" in err) == (0, True), err
        assert out.splitlines()[1].split()[2:5] == ["audit", "sampled", "clean"]

        await clock.fetch("update members set plan = 'gold' where external_id = 'm-3'")
        status, out, err = await run(rollcall, "run", "audit", "--full", "--wait", "0")
        assert status == 2, err
        line = out.splitlines()[1].split()
        assert line[2:8] == ["audit", "full", "breach", "40", "1", "2.5000%"]

        _, shown, _ = await run(rollcall, "show", line[-1])
        assert shown.splitlines()[-1].split()[1:] == ["drift", "the", "row", "differs", "from", "its", "audit", "in", "plan"]

        assert (await run(rollcall, "heal", "audit"))[1] == "what drifts in audit is repaired from now on"
        status, out, _ = await run(rollcall, "run", "--full", "--wait", "0")
        assert (status, "breach, told" in out) == (2, True)
        assert await clock.fetch("select from members where plan = 'gold'") == []
        assert (await run(rollcall, "run", "--full", "--wait", "0"))[0] == 0
        assert len((await run(rollcall, "list", "--limit", "3"))[1].splitlines()) == 4


async def test_what_is_not_there_is_said(rollcall: Command) -> None:
    for arguments, problem in (
        (("show", "00000000-0000-0000-0000-000000000001"), "there is no drift run"),
        (("heal", "directory:x"), "only audit can be healed"),
        (("run", "nothing", "--wait", "0"), "there is no such read model"),
    ):
        status, _, err = await run(rollcall, *arguments)
        assert (status, problem in err) == (1, True), err
