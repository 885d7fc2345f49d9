"""PostgreSQL and RabbitMQ in Docker containers, through testcontainers; its own watcher removes them if we die."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deploy.local_stack.errors import StackUnavailable

POSTGRES_IMAGE = "postgres:18"
RABBITMQ_IMAGE = "rabbitmq:4"
_PING_SECONDS = 3
_DEFAULT_SOCKET = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Container:
    """A running container: where its port is reached, and how to remove it."""

    host: str
    port: int
    remove: Callable[[], None]


class DockerEngine:
    """The Docker engine of this machine, if any."""

    def version(self) -> str:
        """Return the engine's version; raise StackUnavailable with the reason why there is none to use."""
        address = os.environ.get("DOCKER_HOST", _DEFAULT_SOCKET)
        _check_socket(address)
        try:
            import docker  # type: ignore[import-untyped]  # docker-py ships no types; here, because of the extra `stack`
            from docker.errors import DockerException  # type: ignore[import-untyped]  # likewise
        except ImportError:
            raise StackUnavailable("Docker cannot be used without: pip install 'rollcall[stack]'") from None
        try:
            client = docker.from_env(timeout=_PING_SECONDS)
            try:
                client.ping()
                return str(client.version()["Version"])
            finally:
                client.close()
        except (DockerException, OSError) as error:
            raise StackUnavailable(f"no Docker engine answers at {address} ({error})") from error

    def run(self, image: str, *, port: int, environment: Mapping[str, str], command: str | None = None) -> Container:
        """Start a container with this port published on a free one; raise StackUnavailable when it cannot be."""
        try:
            from docker.errors import DockerException
            from testcontainers.core.container import DockerContainer
        except ImportError:
            raise StackUnavailable("Docker cannot be used without: pip install 'rollcall[stack]'") from None
        try:
            container = DockerContainer(image, command=command, env=dict(environment)).with_exposed_ports(port)
            try:
                container.start()
                return Container(container.get_container_host_ip(), container.get_exposed_port(port), container.stop)
            except BaseException:
                container.stop()
                raise
        except (DockerException, OSError, TimeoutError) as error:
            raise StackUnavailable(f"Docker could not start {image}: {error}") from error


def _check_socket(address: str) -> None:
    # docker-py leaks its socket when nobody answers there, hence the look before.
    if not address.startswith("unix://"):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PING_SECONDS)
        try:
            probe.connect(address.removeprefix("unix://"))
        except OSError as error:
            raise StackUnavailable("no Docker engine answers") from error
