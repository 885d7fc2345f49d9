"""The local stack: both services up together, for one caller, and gone with him."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local_stack.brokers import check_vhost_is_own
from deploy.local_stack.databases import create_database, drop_database
from deploy.local_stack.machine import Machine
from deploy.local_stack.picking import Origin, Pick, Picker, Service
from deploy.local_stack.processes import Reaper

__all__ = ["LocalStack", "Origin", "Service", "local_stack"]


@dataclass(frozen=True, slots=True)
class LocalStack:
    """PostgreSQL and RabbitMQ that answer: an empty database and a vhost for this caller, and their services."""

    database_url: str
    rabbitmq_url: str
    postgres: Service
    rabbitmq: Service


@contextmanager
def local_stack(
    say: Callable[[str], None],
    *,
    database_url: str | None = None,
    rabbitmq_url: str | None = None,
    own_data: bool = True,
    home: Path | None = None,
    machine: Machine | None = None,
) -> Iterator[LocalStack]:
    """Pick, start and in the end remove both services; `say` gets one line at a time, also from other threads.

    Blank URLs count as not given. With `own_data` a given server gets a database of ours, dropped in the end, and the
    default vhost is refused; without, given URLs are used exactly as they are. Servers that run privately keep their data below
    `home`, by default where temporary files lie.

    Raises:
        StackUnavailable: a given URL does not answer, or nothing is left to start; the text says what would help.
    """
    given_database, given_broker = database_url or None, rabbitmq_url or None
    if own_data and given_broker is not None:
        check_vhost_is_own(given_broker)
    picker = Picker(machine or Machine.here(), say)
    picks = [picker.postgres(given_database), picker.rabbitmq(given_broker)]
    for pick in picks:
        say(pick.described)
    with Reaper(home) as reaper:
        postgres, rabbitmq = _start_both(picks, reaper)
        try:
            if given_database is not None and not own_data:
                yield LocalStack(given_database, rabbitmq.url, postgres, rabbitmq)
            else:
                with _own_database(postgres, reaper) as url:
                    yield LocalStack(url, rabbitmq.url, postgres, rabbitmq)
        finally:
            _stop_both([postgres, rabbitmq])


@contextmanager
def _own_database(postgres: Service, reaper: Reaper) -> Iterator[str]:
    url = create_database(postgres.url)
    if postgres.origin is not Origin.EXPLICIT:
        yield url  # it ends with its server
        return
    reaper.adopt_database(url)
    try:
        yield url
    finally:
        drop_database(url)
        reaper.release_database(url)


def _start_both(picks: list[Pick], reaper: Reaper) -> tuple[Service, Service]:
    with ThreadPoolExecutor(len(picks)) as threads:
        starting = [threads.submit(pick.start, reaper) for pick in picks]
        try:
            wait(starting, return_when="FIRST_EXCEPTION")
            failed = next((future for future in starting if future.done() and future.exception()), None)
            if failed is not None:
                failed.result()
            postgres, rabbitmq = (future.result() for future in starting)
        except BaseException:
            _abandon(starting, reaper)
            raise
        return postgres, rabbitmq


def _abandon(starting: list[Future[Service]], reaper: Reaper) -> None:
    # Without its reaper a service that is still being started fails, so nobody has to wait until it is up.
    reaper.close()
    for future in starting:
        if future.exception() is None:
            future.result().stop()


def _stop_both(services: list[Service]) -> None:
    with ThreadPoolExecutor(len(services)) as threads:
        for future in [threads.submit(service.stop) for service in services]:
            future.result()
