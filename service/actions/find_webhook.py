"""What a connection's webhooks need at both ends, asked for seldom and remembered while the database is away."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeAlias, TypeVar

from service.domain.backoff import WHILE_AWAY
from service.domain.errors import Park, Retry, Unavailable, Unforeseen
from service.domain.member import CompanyId, ConnectionId
from service.domain.webhooks.mapping import DEFAULT_MAPPING, InvalidMapping, WebhookMapping, webhook_mapping
from service.domain.webhooks.schemes import InvalidScheme, Scheme, SchemeName, Secret, scheme
from service.store.database import Database
from service.store.webhooks import find_webhook

__all__ = ["LastKnown", "OpenSecret", "SecretMissing", "WebhookSource", "find_webhook_mapping", "find_webhook_source"]

V = TypeVar("V")

_AT_ONCE: Final = 4


class SecretMissing(Exception):
    """A reference leads to no secret that its scheme can use; the text names the reference and why."""


# The value behind a reference; raises SecretMissing.
OpenSecret: TypeAlias = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class WebhookSource:
    """Who may send webhooks of a connection; `problems` says which of its secrets cannot be used, and why."""

    connection_id: ConnectionId
    company_id: CompanyId
    scheme: Scheme
    secrets: tuple[Secret, ...]
    per_second: int
    problems: tuple[str, ...] = ()


async def find_webhook_source(db: Database, connection_id: ConnectionId, open_secret: OpenSecret) -> WebhookSource | None:
    """How a connection's webhooks are signed, with its secrets opened; None where it takes none. Raises Retry errors."""
    async with db.transaction() as tx:
        row = await find_webhook(tx, connection_id)
    if row is None:
        return None
    try:
        described = scheme(SchemeName(row.scheme), row.settings)
    except InvalidScheme as error:
        message = f"the webhooks of connection {connection_id} are described wrongly: {error}"
        raise Unavailable(message) from None
    secrets: list[Secret] = []
    problems: list[str] = []
    for reference, not_after in zip(row.secret_references, row.not_afters, strict=True):
        try:
            # A file may lie on a disk that does not answer.
            secrets.append(Secret(described.key(await asyncio.to_thread(open_secret, reference)), not_after))
        except (SecretMissing, InvalidScheme) as error:
            problems.append(str(error))
    return WebhookSource(row.connection_id, row.company_id, described, tuple(secrets), row.rate_per_second, tuple(problems))


async def find_webhook_mapping(db: Database, connection_id: ConnectionId) -> WebhookMapping | None:
    """What a connection's webhooks mean; None where it takes none. Raises Retry errors, and Park."""
    async with db.transaction() as tx:
        row = await find_webhook(tx, connection_id)
    if row is None:
        return None
    try:
        return DEFAULT_MAPPING if row.mapping is None else webhook_mapping(row.mapping)
    except InvalidMapping as error:
        message = f"the connection's mapping does not fit: {error}"
        raise Park(message) from None


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    until: float


class LastKnown(Generic[V]):
    """Answers from memory for a short time, then asks again; while nobody answers, what was known last holds.

    What was found to be missing is remembered apart, so that many wrong keys push out no right one. A `patient` one waits until
    somebody answers, and lets those who wait for one key go on in the order in which they came.
    """

    def __init__(
        self,
        load: Callable[[ConnectionId], Awaitable[V | None]],
        *,
        fresh: timedelta = timedelta(seconds=5),
        missing: timedelta = timedelta(seconds=1),
        within: timedelta = timedelta(seconds=1),
        most: int = 10_000,
        patient: bool = False,
    ) -> None:
        self._load = load
        self._patient = patient
        self.available = True
        self._fresh, self._missing, self._within = (one.total_seconds() for one in (fresh, missing, within))
        self._most = most
        self._known: OrderedDict[ConnectionId, _Entry[V]] = OrderedDict()
        self._unknown: OrderedDict[ConnectionId, float] = OrderedDict()
        self._loading: dict[ConnectionId, asyncio.Task[V | None]] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def find(self, key: ConnectionId) -> V | None:
        """What is known of a key; raises Unavailable where nothing is and nobody answers, and what loading raised otherwise."""
        now = asyncio.get_running_loop().time()
        entry = self._known.get(key)
        if entry is not None and now < entry.until:
            return entry.value
        if now < self._unknown.get(key, 0):
            return None
        if (loading := self._loading.get(key)) is None:
            loading = self._loading[key] = asyncio.create_task(self._refresh(key), name="webhook look-up")
            loading.add_done_callback(lambda task: self._loaded(key, task))
        # Several may wait for one answer: one that gives up must not take it from the others.
        return await asyncio.shield(loading)

    def _loaded(self, key: ConnectionId, task: asyncio.Task[V | None]) -> None:
        del self._loading[key]
        if not task.cancelled():
            # Retrieved, also where all who waited have given up.
            task.exception()

    async def close(self) -> None:
        """Ask no more; those who still wait are cancelled."""
        loading = list(self._loading.values())
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)

    async def _refresh(self, key: ConnectionId) -> V | None:
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self._within), self._turn:
                    value = await self._load(key)
            except (Retry, TimeoutError) as error:
                if (entry := self._known.get(key)) is not None:
                    entry.until = clock() + self._missing
                    return entry.value
                if isinstance(error, Unforeseen) and self._patient:
                    raise
                if not self._patient:
                    message = str(error) if isinstance(error, Retry) else "the database does not answer"
                    raise Unavailable(message) from None
                self.available = False
                failures += 1
                await asyncio.sleep(WHILE_AWAY.after(failures).total_seconds())
            else:
                self.available = True
                return self._learnt(key, value)

    def _learnt(self, key: ConnectionId, value: V | None) -> V | None:
        clock = asyncio.get_running_loop().time
        if value is None:
            self._known.pop(key, None)
            _remember(self._unknown, key, clock() + self._missing, self._most)
        else:
            _remember(self._known, key, _Entry(value, clock() + self._fresh), self._most)
            self._unknown.pop(key, None)
        return value


T = TypeVar("T")


def _remember(memory: OrderedDict[ConnectionId, T], key: ConnectionId, value: T, most: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > most:
        memory.popitem(last=False)
