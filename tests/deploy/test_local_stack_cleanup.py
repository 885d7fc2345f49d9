"""Nothing is left, however the stack's owner ends, and whoever he is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import pytest

from deploy.local_stack import LocalStack, StackUnavailable, local_stack
from deploy.local_stack.databases import create_database, in_thread
from deploy.local_stack.processes import Reaper
from deploy.local_stack.reaper import birth, family

PROJECT = Path(__file__).resolve().parents[2]
GONE_WITHIN = 15.0


class Holder:
    """A child that holds a stack, with a temporary directory of its own to look at."""

    def __init__(self, prefix: list[str] | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="holder-", dir="/tmp"))
        self.home.chmod(0o777)
        given = {"PYTHONPATH": str(PROJECT), "TMPDIR": str(self.home), "ROLLCALL_STACK_HIDE": "docker"}
        inherited = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "RABBITMQ_URL"}}
        self.process = subprocess.Popen(
            [*(prefix or []), sys.executable, str(Path(__file__).with_name("stack_holder.py"))],
            env={**inherited, **given, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ready(self) -> dict[str, str]:
        assert self.process.stdout is not None
        heard = []
        for line in self.process.stdout:
            heard.append(line)
            if "database_url" in line:
                urls: dict[str, str] = json.loads(line)
                return urls
        raise AssertionError("".join(heard))

    def end_by(self, number: signal.Signals) -> None:
        """Send the signal to this process alone, and wait until nothing of it is left."""
        members = family(self.process.pid)
        assert len(members) > 1
        self.process.send_signal(number)
        assert self.process.wait(GONE_WITHIN) != 0
        living: list[int] = []
        deadline = time.monotonic() + GONE_WITHIN
        while time.monotonic() < deadline:
            living = [pid for pid, born in members.items() if birth(pid) == born]
            if not living and not list(self.home.iterdir()):
                return
            time.sleep(0.05)
        raise AssertionError(f"left: {living}, {list(self.home.iterdir())}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        shutil.rmtree(self.home, ignore_errors=True)


def ordinary_user() -> list[str]:
    """The words before a command that make it see an ordinary user, who may still reach this interpreter."""
    if os.geteuid() != 0:
        return []
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


@pytest.fixture(scope="module")
def holders() -> Iterator[list[Holder]]:
    # All at once: they also show that stacks live side by side.
    running = [Holder(), Holder(ordinary_user())]
    try:
        yield running
    finally:
        for holder in running:
            holder.close()


async def test_stacks_live_side_by_side_and_end_with_their_owner_alone(holders: list[Holder]) -> None:
    urls = [holder.ready() for holder in holders]
    assert len({urlsplit(url).port for answer in urls for url in answer.values()}) == 2 * len(holders)
    for holder, number in zip(holders, (signal.SIGINT, signal.SIGKILL), strict=True):
        later = urls[holders.index(holder) :]
        for answer in later:
            connection = await asyncpg.connect(answer["database_url"], timeout=5)
            assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 2200") == 0
            await connection.close()
            async with await aio_pika.connect(answer["rabbitmq_url"]):
                pass
        holder.end_by(number)


def test_sigterm_leaves_nothing_but_what_was_given(stack: LocalStack) -> None:
    before = databases_of(stack.postgres.url)
    for given in ({"RABBITMQ_URL": stack.rabbitmq_url}, {"DATABASE_URL": stack.postgres.url, "RABBITMQ_URL": stack.rabbitmq_url}):
        holder = Holder(environment=given)
        try:
            assert holder.ready()["rabbitmq_url"] == stack.rabbitmq_url
            holder.end_by(signal.SIGTERM)
        finally:
            holder.close()
    assert databases_of(stack.postgres.url) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_of_a_start_that_was_cut_short(number: signal.Signals) -> None:
    holder = Holder()
    try:
        deadline = time.monotonic() + GONE_WITHIN
        while not any(holder.home.glob("rollcall-*/mnesia")) and time.monotonic() < deadline:
            time.sleep(0.02)
        holder.end_by(number)
    finally:
        holder.close()


def databases_of(url: str) -> set[str]:
    async def ask() -> set[str]:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return {row[0] for row in await connection.fetch("SELECT datname FROM pg_database")}
        finally:
            await connection.close()

    return in_thread(ask)


def test_given_urls_are_used_with_a_database_of_our_own_and_left_running(stack: LocalStack) -> None:
    before, said = databases_of(stack.postgres.url), list[str]()
    with local_stack(said.append, database_url=stack.postgres.url, rabbitmq_url=stack.rabbitmq_url) as given:
        assert urlsplit(given.database_url).path.startswith("/rollcall_")
        assert given.rabbitmq_url == stack.rabbitmq_url
        assert len(databases_of(stack.postgres.url) - before) == 1
    assert [line.rpartition(": ")[2] for line in said] == ["DATABASE_URL is given", "RABBITMQ_URL is given"]
    assert databases_of(stack.postgres.url) == before


def test_given_urls_are_used_exactly_where_own_data_is_not_wanted(stack: LocalStack) -> None:
    before = databases_of(stack.postgres.url)
    with local_stack(lambda _: None, database_url=stack.postgres.url, rabbitmq_url=stack.rabbitmq_url, own_data=False) as given:
        assert (given.database_url, given.rabbitmq_url) == (stack.postgres.url, stack.rabbitmq_url)
        assert databases_of(stack.postgres.url) == before
    assert databases_of(stack.postgres.url) == before


def test_the_default_vhost_is_refused_before_anything_is_started() -> None:
    with (
        pytest.raises(StackUnavailable, match="rabbitmqctl add_vhost"),
        local_stack(lambda _: None, rabbitmq_url="amqp://127.0.0.1:1/"),
    ):
        pass


def test_the_reaper_drops_a_database_and_a_directory_left_to_it(stack: LocalStack) -> None:
    reaper = Reaper()
    url = create_database(stack.postgres.url)
    reaper.adopt_database(url)
    directory = reaper.make_directory(None)
    (directory / "data").touch()
    reaper.close()
    assert urlsplit(url).path[1:] not in databases_of(stack.postgres.url)
    assert not directory.exists()
    with pytest.raises(StackUnavailable, match="being ended"):
        reaper.adopt_database(url)
