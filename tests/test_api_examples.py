"""The curl lines of the API's pages, run in their order against a served API: each answers the status that stands behind it."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin_rig import OPERATOR_KEY, Admin, open_admin
from tests.directory_rig import KEY, Upstream

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A command with the status that it answers, and what of the answer later commands call by a name.
COMMAND = re.compile(r"^(curl .*?) # (\d{3})(?: ([\w.]+): ([A-Z]+))?$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    return [block for block in BLOCK.findall(page.read_text(encoding="utf-8")) if "curl" in block]


def commands(page: Path) -> list[tuple[str, str, str, str]]:
    found = []
    for block in blocks(page):
        matched = list(COMMAND.finditer(block))
        assert sum(match[0].count("curl ") for match in matched) == block.count("curl "), f"no status behind some of\n{block}"
        found += [(match[1], match[2], match[3], match[4]) for match in matched]
    return found


async def shell(script: str, environment: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        "bash", "-eu", "-c", script, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, f"{script}\n{err.decode()}"
    return out.decode()


def taken(answer: str, path: str) -> str:
    value: Any = json.loads(answer)
    for step in path.split("."):
        value = value[int(step) if step.isdigit() else step]
    return str(value)


async def run_jobs(admin: Admin) -> None:
    """What a worker would do by now."""
    for (job,) in await admin.fetch("select id from jobs where state = 'queued' and next_attempt_at is null"):
        await admin.run(job)


@pytest.fixture
async def admin(database_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Admin]:
    monkeypatch.setenv("ROLLCALL_SECRET_DIRECTORY", KEY)
    upstream.reset(6)
    async with open_admin(database_url) as served:
        yield served


def environment(admin: Admin, **given: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "ROLLCALL": str(admin.client.base_url).rstrip("/"), **given}


async def grant(admin: Admin, command: str) -> None:
    """What the text says that the operator does, of the references that a command shows."""
    for reference in re.findall(r"secretReference\W+([\w:]+)", command):
        sql = "insert into secret_grants (company_id, reference) select id, $1 from companies on conflict do nothing returning 1"
        await admin.fetch(sql, reference)


async def check(example: tuple[str, str, str, str], known: dict[str, str]) -> None:
    """Run it, and let later ones know what it says that they may call by a name."""
    command, status, path, name = example
    answer, _, got = (await shell(f"{command} -sS -w '\\n%{{http_code}}'", known)).rpartition("\n")
    assert got == status, f"{command}\n{answer}"
    if name:
        known[name] = taken(answer, path)


async def test_every_example_answers_what_stands_behind_it(admin: Admin, upstream: Upstream) -> None:
    known = environment(admin, ADMIN_API_KEY=OPERATOR_KEY, MEMBERS=f"{upstream.url}/page-number")
    examples = commands(ROOT / "docs" / "api.md")
    assert len(examples) >= 30
    for example in examples:
        await grant(admin, example[0])
        await check(example, known)
        await run_jobs(admin)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "api").glob("*.md")), ids=lambda page: page.stem)
async def test_every_example_of_a_page_of_its_own_does_so_too(admin: Admin, page: Path) -> None:
    known = environment(admin, KEY=(await admin.tenant("Choir")).keys["all"])
    examples = commands(page)
    assert len(examples) >= 3
    for example in examples:
        await grant(admin, example[0])
        await check(example, known)
