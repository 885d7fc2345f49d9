"""Real PostgreSQL and RabbitMQ for every test that asks; where they cannot be had the test fails, it is not skipped."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings

from deploy.local_stack import (
    LocalStack,
    RabbitmqNode,
    StackUnavailable,
    create_database,
    drop_database,
    in_memory,
    local_stack,
    private_rabbitmq,
)
from deploy.local_stack.databases import in_thread
from service.store.migrate import migrate
from tests.directory_rig import Upstream, running_upstream
from tests.service_rig import empty

# Every process that a test starts would compile hundreds of modules anew, which takes longer than most tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# What a shell starts in the background ignores SIGINT, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's business: no test asserts a time.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# What no local stack can start: whether it is there.
WANTED = {"jaeger": bool(os.environ.get("JAEGER_URL")), "promtool": shutil.which("promtool") is not None}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two processes, a stack each: one alone leaves half of the machine idle. Services that are given have room for one."""
    return 0 if os.environ.get("DATABASE_URL") or os.environ.get("RABBITMQ_URL") else min(2, os.cpu_count() or 1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What wants a program or a service that is not here is none of this run's tests."""
    missing = [name for name, is_there in WANTED.items() if not is_there]
    if wanting := [item for item in items if any(item.get_closest_marker(name) for name in missing)]:
        config.hook.pytest_deselected(items=wanting)
        items[:] = [item for item in items if item not in wanting]


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Iterator[LocalStack]:
    """One stack for the whole run: of DATABASE_URL and RABBITMQ_URL where they are set."""
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")

    def say(line: str) -> None:
        if capture is None:
            return
        with capture.global_and_fixture_disabled():
            if terminal is not None:
                terminal.ensure_newline()
                terminal.write_line(line)
            else:
                # One of several processes has no terminal of its own.
                sys.stderr.write(f"{os.environ.get('PYTEST_XDIST_WORKER', '')}: {line}\n")

    database_url, rabbitmq_url = os.environ.get("DATABASE_URL"), os.environ.get("RABBITMQ_URL")
    with local_stack(say, database_url=database_url, rabbitmq_url=rabbitmq_url, home=in_memory()) as running:
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
def _own_node() -> Iterator[RabbitmqNode]:
    with private_rabbitmq() as node:
        in_thread(lambda: empty(node.url))
        # RabbitMQ 3.10 may lose what it confirmed when it is killed within two seconds of a queue's declaration.
        time.sleep(3)
        yield node


@pytest.fixture
def own_broker(_own_node: RabbitmqNode) -> Iterator[RabbitmqNode]:
    """A broker for this test alone, to kill and to pause: it runs, the queues of the contracts are empty and have settled."""
    in_thread(lambda: empty(_own_node.url))
    try:
        yield _own_node
    finally:
        # However the test left it.
        try:
            _own_node.resume()
        except StackUnavailable:
            _own_node.start()


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
    with _copy(postgres_url, migrated_database) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(postgres_url: str, migrated_database: str) -> Iterator[str]:
    """The URL of a database that the tests of one file share, migrated and at first empty."""
    with _copy(postgres_url, migrated_database) as url:
        yield url


@contextmanager
def _copy(server_url: str, template: str) -> Iterator[str]:
    url = create_database(server_url, template=template)
    try:
        yield url
    finally:
        drop_database(url)


@pytest.fixture(scope="session")
def _upstream() -> Iterator[Upstream]:
    with running_upstream() as server:
        yield server


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    """A genuine Django REST framework directory, empty and without faults."""
    _upstream.reset()
    return _upstream
