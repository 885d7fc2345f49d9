"""The second chapter: 200 webhooks of three sources posted to the edge, genuine ones and others, watched as the changes were."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from contracts.channels import WEBHOOKS
from deploy.demo.books import astray
from deploy.demo.evidence import Evidence
from deploy.demo.screen import Answered, Bar, Progress, Screen
from deploy.demo.subscriber import Subscriber
from deploy.demo.verdict import Verdict, faults
from deploy.demo.watching import end, rest_of, until_at_rest
from deploy.demo.webhook_books import ACCEPTED, WebhookBooks, webhook_entries
from deploy.demo.webhook_scenario import Webhook, WebhookScenario
from service.clients.events import listening_to_events
from service.domain.member import CompanyId
from service.domain.outcome import Outcome
from service.telemetry.metric_names import WEBHOOKS_REFUSED
from service.wiring.process import Process

__all__ = ["WebhookChapter"]

_AT_ONCE: Final = 16
_SAID_EVERY: Final = 50
_REMEMBERED: Final = 8
_PART: Final = 64 * 1024
_SECONDS: Final = 10.0
_COME_BACK: Final = (429, 503)


@dataclass(frozen=True, slots=True)
class _Before:
    """What the service had counted before the first webhook was posted."""

    duplicate: int
    settled: int


class WebhookChapter:
    """The webhooks on their way, and what became of them."""

    def __init__(self, company: CompanyId, scenario: WebhookScenario, process: Process, evidence: Evidence, screen: Screen) -> None:
        self._company = company
        self._url = f"http://127.0.0.1:{process.http.port}"
        self._scenario = scenario
        self._process = process
        self._evidence = evidence
        self._screen = screen
        self._subscriber = Subscriber()
        self._answers: Counter[int] = Counter()
        self._last: deque[Answered] = deque(maxlen=_REMEMBERED)
        self._resent = 0
        self._answered_at = time.monotonic()
        self._before = _Before(process.outcomes.get(Outcome.DUPLICATE, 0), self._settled())

    async def perform(self, rabbitmq_url: str, running: asyncio.Task[None]) -> Verdict:
        """Post, watch, check and tell; raises what the service fails with meanwhile."""
        count = len(self._scenario.webhooks)
        self._screen.chapter(f"Posting {count} webhooks, signed by standardwebhooks, stripe and as GitHub documents")
        began = time.monotonic()
        async with listening_to_events(rabbitmq_url, self._company) as events:
            tasks = [
                asyncio.create_task(self._post_all(), name="post"),
                asyncio.create_task(self._subscriber.listen(events), name="listen"),
            ]
            try:
                with self._screen.following(_SAID_EVERY):
                    missing = await until_at_rest(self._look, [*tasks, running])
            finally:
                await end(tasks)
        return await self._tell(missing, max(self._subscriber.last_at, self._answered_at) - began)

    async def _post_all(self) -> None:
        """Lane after lane over a few connections; what is in one lane is posted in its order."""
        lanes = iter(self._scenario.lanes)
        limits = httpx.Limits(max_connections=_AT_ONCE)
        # No proxy of the environment stands before this very process.
        async with httpx.AsyncClient(base_url=self._url, limits=limits, timeout=_SECONDS, trust_env=False) as client:

            async def post_lanes() -> None:
                for lane in lanes:
                    for webhook in lane:
                        await self._post(client, webhook)

            await asyncio.gather(*(post_lanes() for _ in range(_AT_ONCE)))

    async def _post(self, client: httpx.AsyncClient, webhook: Webhook) -> None:
        """As a provider does: again when it is told to come back, or not told anything."""
        while True:
            status, pause = await _posted(client, webhook)
            if status is not None:
                break
            self._resent += 1
            await asyncio.sleep(pause)
        self._answers[status] += 1
        self._answered_at = time.monotonic()
        self._last.append(Answered(datetime.now(UTC), webhook.source.name, webhook.kind.value, status))

    async def _refused(self) -> Counter[str]:
        """How many webhooks the edge says it refused since its start, by cause: as its metrics tell everybody."""
        async with httpx.AsyncClient(base_url=self._url, timeout=_SECONDS, trust_env=False) as client:
            exposed = (await client.get("/metrics")).raise_for_status().text
        refused: Counter[str] = Counter()
        for family in text_string_to_metric_families(exposed):
            for sample in family.samples:
                if sample.name == WEBHOOKS_REFUSED.name:
                    refused[sample.labels["cause"]] += int(sample.value)
        return refused

    def _settled(self) -> int:
        return sum(self._process.outcomes.values())

    async def _look(self) -> str:
        """Show how far it is, and answer what is not at rest yet."""
        total, answered, accepted = len(self._scenario.webhooks), sum(self._answers.values()), self._answers[ACCEPTED]
        stored, waiting = await self._evidence.stored(self._company), await self._evidence.waiting(WEBHOOKS)
        parked = await self._evidence.parked_count(WEBHOOKS)
        delivered = self._subscriber.delivered
        settled = self._settled() - self._before.settled
        bars = (
            Bar("answered", answered, total),
            Bar("settled", settled, max(accepted, settled, 1)),
            Bar("delivered", delivered, max(stored.audited, delivered, 1)),
        )
        said = f"webhooks answered, {accepted:,} accepted, {delivered:,} events delivered"
        self._screen.show_answers(Progress(bars, answered, total, said), self._last)
        return rest_of(
            {
                "webhooks not answered": total - answered,
                "accepted but not settled": accepted - settled - parked,
                "in the queue": waiting,
                "events in the outbox": stored.outbox,
                "events not delivered": stored.audited - delivered,
            }
        )

    async def _tell(self, missing: str, seconds: float) -> Verdict:
        parked = await self._evidence.take_parked(WEBHOOKS)
        members = await self._evidence.members(self._company)
        books = WebhookBooks(
            answers=self._answers,
            resent=self._resent,
            refused=await self._refused(),
            duplicate=self._process.outcomes.get(Outcome.DUPLICATE, 0) - self._before.duplicate,
            stored=await self._evidence.stored(self._company),
            taken_in=await self._evidence.taken_in(self._company),
            parked=len(parked),
            delivered=self._subscriber.delivered,
            out_of_order=self._subscriber.out_of_order,
            astray=astray(members, self._subscriber, self._scenario.standings),
            members=len(members),
        )
        lines = webhook_entries(books, self._scenario)
        self._screen.books(lines, "The books of the webhooks")
        self._screen.parked(parked)
        sentence = f"{sum(self._answers.values())} webhooks became {books.delivered} events in {seconds:.1f} s"
        return Verdict(f"{sentence}: {self._answers[ACCEPTED]} accepted, the others refused", faults(lines, missing))


async def _posted(client: httpx.AsyncClient, webhook: Webhook) -> tuple[int | None, float]:
    """The status that is an answer; None, and the seconds to wait, where it must be sent again."""
    content = _parts(webhook.body) if webhook.chunked else webhook.body
    try:
        answer = await client.post(f"/webhooks/{webhook.connection_id}", content=content, headers=dict(webhook.headers))
    except httpx.TransportError:
        return None, 1.0
    if answer.status_code in _COME_BACK:
        return None, float(answer.headers.get("retry-after", 1))
    return answer.status_code, 0.0


async def _parts(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PART):
        yield body[start : start + _PART]
