from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from service.cli import command_line
from service.domain.schedule_words import interval_in_words, time_in_words

FILL = """
insert into companies (id, name) values ('00000000-0000-0000-0000-0000000000c1', 'Choir [bold]'), (gen_random_uuid(), 'Other');
insert into connections (id, company_id, name, kind, version_kind, mapped_fields, directory)
values ('00000000-0000-0000-0000-0000000000d1', '00000000-0000-0000-0000-0000000000c1', 'register', 'django', 'none',
    array['name'], '{}');
insert into schedules (company_id, kind, subject_id, interval_ms, next_run_at, last_run_at, skipped)
values ('00000000-0000-0000-0000-0000000000c1', 'directory_sync', '00000000-0000-0000-0000-0000000000d1', 3600000,
    now() + interval '30 minutes 30 seconds', now() - interval '2 hours 1 second', 1234);
insert into schedules (kind, cron, time_zone, next_run_at)
values ('drift_full', '30 4 * * SUN', 'UTC', now() - interval '90 seconds');
insert into schedules (kind, interval_ms, next_run_at, enabled) values ('expiry', 300000, now(), false);
"""


@pytest.fixture
def filled(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    async def fill() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute(FILL)
        await connection.close()

    asyncio.run(fill())
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("RABBITMQ_URL", "amqp://127.0.0.1:1/unused")
    return database_url


def said(*arguments: str) -> Any:
    return CliRunner().invoke(command_line(), ["schedules", *arguments])


@pytest.mark.usefixtures("filled")
def test_they_are_listed_in_plain_words_the_next_to_run_first() -> None:
    lines = [" ".join(line.split()) for line in said().stdout.splitlines()]
    assert lines[1:] == [
        "drift_full all at 30 4 * * SUN in UTC due, 1 minute ago never",
        "expiry all every 5 minutes off never",
        "directory_sync Choir [bold] register every hour in 30 minutes 2 hours ago 1,234",
    ]


@pytest.mark.usefixtures("filled")
def test_syncs_of_what_changed_are_told_from_full_ones(filled: str) -> None:
    async def choose() -> None:
        connection = await asyncpg.connect(filled)
        await connection.execute("""update schedules set parameters = '{"mode": "incremental"}' where kind = 'directory_sync'""")
        await connection.close()

    asyncio.run(choose())
    assert "every hour, incremental" in said().stdout


@pytest.mark.usefixtures("filled")
def test_one_company_s_alone() -> None:
    assert len(said("--company", "Choir [bold]").stdout.splitlines()) == 2
    assert len(said("--company", "Other").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (timedelta(minutes=5), "every 5 minutes"),
        (timedelta(days=1), "every day"),
        (timedelta(minutes=90), "every 90 minutes"),
        (timedelta(seconds=1), "every second"),
        (timedelta(milliseconds=1500), "every 1.5 seconds"),
    ],
)
def test_an_interval_in_words(interval: timedelta, words: str) -> None:
    assert interval_in_words(interval) == words


@pytest.mark.parametrize(
    ("away", "words"),
    [
        (timedelta(0), "now"),
        (timedelta(milliseconds=-400), "now"),
        (timedelta(minutes=1, seconds=59), "in 1 minute"),
        (timedelta(hours=-49), "2 days ago"),
        (timedelta(seconds=-59), "59 seconds ago"),
    ],
)
def test_a_time_in_words(away: timedelta, words: str) -> None:
    assert time_in_words(away) == words
