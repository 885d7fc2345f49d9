"""One process with the roles asked for: started together, drained together."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from typing import Final, TypeVar

import structlog

from service.domain.outcome import Outcome
from service.entrypoints.http.cron import cron_routes
from service.entrypoints.http.health import health_routes
from service.entrypoints.http.metrics import metrics_routes
from service.entrypoints.http.server import HttpServer
from service.entrypoints.loops.notifier import NotifierOptions
from service.entrypoints.loops.relay import Relay, RelayOptions
from service.entrypoints.loops.ticker import Ticker
from service.settings import Settings
from service.telemetry.metric_names import WEBHOOKS_REFUSED, Stage
from service.telemetry.metrics import Metrics
from service.telemetry.setup import open_tracing
from service.telemetry.tracing import NO_TRACING, Tracing
from service.wiring.edge import Edge
from service.wiring.extensions import load_extensions, say_unusable
from service.wiring.job_kinds import job_kinds
from service.wiring.resources import declared_topology, open_database
from service.wiring.worker import Worker

__all__ = ["Process", "Role", "run_process", "until_stopped"]

T = TypeVar("T")

_DEPENDENCIES: Final = ("database", "broker")
_LOOK_EVERY_SECONDS: Final = 5.0

_log: Final = structlog.get_logger(__name__)


class Role(StrEnum):
    """What a process does; every process answers /health and /ready."""

    WORKER = "worker"
    EDGE = "edge"
    RELAY = "relay"
    TICKER = "ticker"


class Process:
    """The roles of this process, from their start to their drained end."""

    def __init__(
        self,
        settings: Settings,
        roles: Collection[Role],
        metrics: Metrics | None = None,
        tracing: Tracing = NO_TRACING,
        *,
        notifier_options: NotifierOptions | None = None,
    ) -> None:
        self._settings = settings
        self._roles = frozenset(roles)
        self.metrics = metrics if metrics is not None else Metrics(_stages(self._roles))
        self.metrics.runs(version("rollcall"), sorted(self._roles))
        self._tracing = tracing
        extensions = load_extensions()
        say_unusable(extensions.unusable)
        find_kinds = partial(job_kinds, metrics=self.metrics, extensions=extensions)
        self._worker = (
            Worker(settings, self.metrics, tracing, find_kinds=find_kinds, notifier_options=notifier_options)
            if Role.WORKER in self._roles
            else None
        )
        self._relay: Relay | None = None
        self._edge = Edge(settings, self.metrics, tracing, extensions) if Role.EDGE in self._roles else None
        broker_url = settings.rabbitmq_url.get_secret_value()
        self._ticker = Ticker(broker_url, tracing=tracing) if Role.TICKER in self._roles else None
        self.http = HttpServer(
            [
                *health_routes(self.problems),
                *metrics_routes(self.metrics),
                *(cron_routes(settings.cron_secret, self._edge.run_due, tracing) if self._edge is not None else ()),
            ],
            settings.host,
            settings.port,
            webhooks=self._edge.door if self._edge is not None else None,
            admin=self._edge.admin if self._edge is not None else None,
            trusted_proxies=settings.trusted_proxies,
        )

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """How many changes this process's worker brought to each end since the start."""
        return self._worker.outcomes if self._worker is not None else {}

    @property
    def disbelieved(self) -> Mapping[str, int]:
        """How many webhooks this process's edge did not believe since the start, by cause."""
        refused = self.metrics.counted(WEBHOOKS_REFUSED)
        return {cause: int(times) for (status, cause), times in refused.items() if status == "401"}

    async def problems(self) -> dict[str, dict[str, str]]:
        """What keeps each role from its work; empty when nothing does."""
        found: dict[str, dict[str, str]] = {}
        if self._worker is not None and (problems := await self._worker.problems()):
            found[Role.WORKER] = problems
        if Role.RELAY in self._roles and (problems := _relay_problems(self._relay)):
            found[Role.RELAY] = problems
        if self._edge is not None and (problems := self._edge.problems()):
            found[Role.EDGE] = problems
        if self._ticker is not None and not self._ticker.ready:
            found[Role.TICKER] = {"broker": "takes no ticks"}
        return found

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`, then take no more work and finish what is in flight; raises what a role could not go on from."""
        _log.info("rollcall starts", roles=sorted(self._roles), port=self.http.port)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(self.http.run(), name="http")
            watching = group.create_task(self._watch_dependencies(), name="dependency watch")
            edge = group.create_task(self._edge.run(), name="edge") if self._edge is not None else None
            async with asyncio.TaskGroup() as roles:
                if self._worker is not None:
                    roles.create_task(self._work(self._worker, stop), name="worker")
                if Role.RELAY in self._roles:
                    roles.create_task(self._relay_events(stop), name="relay")
                if self._ticker is not None:
                    roles.create_task(self._tick(self._ticker, stop), name="ticker")
                await stop.wait()
                _log.info("rollcall drains")
            # Last: the probes are answered until the last message is settled.
            watching.cancel()
            serving.cancel()
            if edge is not None:
                # Webhooks in flight are answered first, and that takes the broker's confirm.
                await asyncio.wait({serving})
                edge.cancel()
        _log.info("rollcall is done")

    async def _watch_dependencies(self) -> None:
        """Put down what /ready would say, for those who watch over time."""
        while True:
            problems = await self.problems()
            for role in self._roles:
                for name in _DEPENDENCIES:
                    self.metrics.dependency(name, used_by=role, up=name not in problems.get(role, {}))
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _work(self, worker: Worker, stop: asyncio.Event) -> None:
        try:
            await _before(stop, worker.start())
            if not stop.is_set():
                await _before(stop, worker.failed())
        finally:
            await worker.stop()

    async def _tick(self, ticker: Ticker, stop: asyncio.Event) -> None:
        # Declared first: a tick that no queue takes would be told as a failure.
        await _before(stop, declared_topology(self._settings))
        if not stop.is_set():
            await _before(stop, ticker.run())

    async def _relay_events(self, stop: asyncio.Event) -> None:
        db = await _before(stop, open_database(self._settings, "relay"))
        if db is None:
            return
        self._relay = relay = Relay(
            db,
            broker_url=self._settings.rabbitmq_url.get_secret_value(),
            listen_url=self._settings.listen_url.get_secret_value(),
            options=RelayOptions(grace=timedelta(seconds=self._settings.shutdown_grace_seconds)),
            metrics=self.metrics,
            tracing=self._tracing,
        )
        running = asyncio.ensure_future(relay.run())
        try:
            await _before(stop, asyncio.shield(running))
        finally:
            # Also where another role failed: the leases are handed over, and only then the pool goes.
            relay.stop()
            await asyncio.gather(running, return_exceptions=True)
            await db.close()
        running.result()


def _stages(roles: Collection[Role]) -> set[Stage]:
    """What a process in these roles has to tell; the worker, which has the database and the broker, looks at what waits."""
    of_role = {
        Role.WORKER: {Stage.MESSAGES, Stage.APPLY, Stage.JOBS, Stage.NOTIFY, Stage.BACKLOG},
        Role.EDGE: {Stage.WEBHOOKS, Stage.ADMIN},
        Role.RELAY: {Stage.RELAY},
        Role.TICKER: set(),
    }
    return {Stage.PROCESS}.union(*(of_role[role] for role in roles))


async def run_process(settings: Settings, roles: Collection[Role], on_start: Callable[[Process], None] | None = None) -> None:
    """Run the roles with what the environment asks for, until they are stopped."""
    tracing = open_tracing(settings)
    try:
        process = Process(settings, roles, tracing=tracing)
        if on_start is not None:
            on_start(process)
        await until_stopped(process)
    finally:
        # The last thing that is done: what is sent here tells of everything before.
        tracing.close()


async def until_stopped(process: Process) -> None:
    """Run until SIGTERM or SIGINT, and drain; a second signal gives up what is in flight."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    this = asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set() and this is not None:
            this.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await process.run(stop)


def _relay_problems(relay: Relay | None) -> dict[str, str]:
    if relay is None:
        return {"database": "not connected yet"}
    if relay.ready:
        return {}
    states = {"database": relay.database_state.ready, "broker": relay.broker_state.ready}
    return {name: "away" for name, ready in states.items() if not ready} or {"broker": "blocks publishing"}


async def _before(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The result of `work`, or None where `stop` came first and `work` was cancelled."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        return None
    finally:
        for future in (doing, stopping):
            future.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
