"""Real PostgreSQL and RabbitMQ for every test that asks; where they cannot be had the test fails, it is not skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from deploy.local_stack import LocalStack, create_database, drop_database, local_stack
from deploy.local_stack.databases import in_thread
from service.store.migrate import migrate


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Iterator[LocalStack]:
    """One stack for the whole run: of DATABASE_URL and RABBITMQ_URL where they are set."""
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")

    def say(line: str) -> None:
        if terminal is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                terminal.ensure_newline()
                terminal.write_line(line)

    with local_stack(say, database_url=os.environ.get("DATABASE_URL"), rabbitmq_url=os.environ.get("RABBITMQ_URL")) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_url(stack: LocalStack) -> str:
    """The PostgreSQL server's URL, to make databases on it; its own database is not ours to fill."""
    return stack.postgres.url


@pytest.fixture(scope="session")
def rabbitmq_url(stack: LocalStack) -> str:
    """The URL of a vhost that this run may fill and empty; tests share it, so they name their queues themselves."""
    return stack.rabbitmq_url


@pytest.fixture(scope="session")
def migrated_database(postgres_url: str) -> Iterator[str]:
    """The URL of a database with all migrations, to be cloned: nobody may stay connected to it."""
    url = create_database(postgres_url)
    try:
        in_thread(lambda: migrate(url))
        yield url
    finally:
        drop_database(url)


@pytest.fixture
def database_url(postgres_url: str, migrated_database: str) -> Iterator[str]:
    """The URL of a database of the test's own, migrated and empty."""
    url = create_database(postgres_url, template=migrated_database)
    try:
        yield url
    finally:
        drop_database(url)
