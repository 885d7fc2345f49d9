"""The 200 webhooks of the demo, how each must be answered and what must come of it, worked out without a line of the service."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from random import Random
from typing import Final
from uuid import UUID, uuid5

from deploy.demo.people import invented_name
from deploy.demo.scenario import Standing
from deploy.demo.webhook_sources import Step, WebhookSource

__all__ = ["POSTED", "Kind", "Webhook", "WebhookScenario", "build_webhooks", "tally_webhooks"]

POSTED: Final = 200
SEED: Final = 11

# Of each of the three sources.
_PEOPLE: Final = 30
_SECOND_STEPS: Final = 10
_REPEATED: Final = 5
_AT_ONCE: Final = 5
_FORGED: Final = 6
_OVERSIZED: Final = 4
# Of all of them together.
_OUTDATED: Final = 12
_UNFIT: Final = 8

_LARGEST: Final = 1024 * 1024
_OLD: Final = timedelta(minutes=10)
_JSON: Final = "application/json"
_NOWHERE: Final = UUID(int=0)
_PLANS: Final = ("member", "admin", "guest")


class Kind(Enum):
    """What a webhook is; only the first two are to be believed."""

    GENUINE = "genuine"
    REPEATED = "repeated"
    FORGED = "forged"
    OUTDATED = "outdated"
    OVERSIZED = "oversized"
    UNFIT = "unfit"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One request; `chunked` hides its length, and `step` is what it would say where it were believed."""

    kind: Kind
    source: WebhookSource
    connection_id: UUID
    headers: Mapping[str, str]
    body: bytes
    step: Step
    chunked: bool = False


@dataclass(frozen=True, slots=True)
class WebhookScenario:
    """Lanes are posted side by side, what is in one in its order; `answers` says how many must be answered with each status.

    `keys` are those of the webhooks that must be taken in, by connection; `standings` what their sources hold in the end.
    """

    lanes: Sequence[Sequence[Webhook]]
    answers: Mapping[int, int]
    keys: frozenset[tuple[UUID, str]]
    standings: Mapping[str, Standing]

    @property
    def webhooks(self) -> list[Webhook]:
        """All of them."""
        return [webhook for lane in self.lanes for webhook in lane]

    def count(self, kind: Kind) -> int:
        """How many there are of a kind."""
        return sum(webhook.kind is kind for webhook in self.webhooks)


def build_webhooks(sources: Mapping[UUID, WebhookSource], now: datetime) -> WebhookScenario:
    """The same story whenever it is built, signed at `now` (aware) with the sources' secrets; by their connections' ids."""
    rng = Random(SEED)  # noqa: S311  # a story, no secret
    lanes: list[list[Webhook]] = []
    genuine: list[Webhook] = []
    for connection_id, source in sources.items():
        told = list(_told(rng, connection_id, source, now))
        genuine += [webhook for lane in told for webhook in lane]
        # Once more after all was said of him, and several times at once, in lanes of their own.
        for lane in rng.sample(told, _REPEATED):
            lane.append(replace(lane[0], kind=Kind.REPEATED))
        at_once = replace(told[rng.randrange(len(told))][0], kind=Kind.REPEATED)
        lanes += [*told, *([at_once] for _ in range(_AT_ONCE))]
    bad = [*_forged(rng, genuine, now), *_outdated(rng, genuine, now), *_oversized(rng, genuine, now), *_unfit(rng, genuine, now)]
    lanes += [[webhook] for webhook in bad]
    rng.shuffle(lanes)
    taken = [webhook for webhook in genuine if _answer(webhook) == _ACCEPTED]
    keys = frozenset((webhook.connection_id, webhook.source.key(webhook.body, webhook.headers)) for webhook in taken)
    latest = {webhook.step.member: webhook.step for webhook in taken}
    return WebhookScenario(lanes, tally_webhooks(lanes), keys, {member: _standing(step) for member, step in latest.items()})


_ACCEPTED: Final = 202


def tally_webhooks(lanes: Sequence[Sequence[Webhook]]) -> dict[int, int]:
    """How many must be answered with each status, by the order of the checks; the provider's own library judges signatures."""
    return dict(Counter(_answer(webhook) for lane in lanes for webhook in lane))


def _answer(webhook: Webhook) -> int:
    if webhook.connection_id == _NOWHERE:
        return 404
    if len(webhook.body) > _LARGEST:
        return 413
    if webhook.headers["content-type"] != _JSON:
        return 415
    if not webhook.source.believes(webhook.body, webhook.headers):
        return 401
    return _ACCEPTED if isinstance(json.loads(webhook.body), dict) else 400


def _told(rng: Random, connection_id: UUID, source: WebhookSource, now: datetime) -> Iterator[list[Webhook]]:
    """What a source tells of each of its people, each in a lane of his own."""
    more = set(rng.sample(range(_PEOPLE), _SECOND_STEPS))
    for number in range(_PEOPLE):
        first = Step(
            member=f"{source.name}-{number:02d}",
            name=invented_name(rng),
            plan=rng.choice(_PLANS),
            state=rng.choices(("active", "pending"), (9, 1))[0],
            at=(now - timedelta(days=1)).replace(microsecond=0),
        )
        steps = [first]
        if number in more:
            later = first.at + timedelta(hours=number + 1)
            other = rng.choice([plan for plan in _PLANS if plan != first.plan])
            leaves = rng.random() < 1 / 3
            steps.append(replace(first, at=later, leaves=True) if leaves else replace(first, at=later, plan=other, state="active"))
        yield [_signed(rng, Kind.GENUINE, connection_id, source, step, now) for step in steps]


def _signed(
    rng: Random, kind: Kind, connection_id: UUID, source: WebhookSource, step: Step, at: datetime, body: bytes | None = None
) -> Webhook:
    content = source.payload(step) if body is None else body
    # The ids of the story are always the same; only what is signed is of today.
    message_id = f"msg_{uuid5(_NOWHERE, f'{step.member} {step.at} {rng.random()}').hex}"
    headers = {"content-type": _JSON, **source.sign(content, message_id, at)}
    return Webhook(kind, source, connection_id, headers, content, step)


def _forged(rng: Random, genuine: Sequence[Webhook], now: datetime) -> Iterator[Webhook]:
    """Of each source: signed with somebody else's secret, altered on the way, and not signed at all."""
    for source in {webhook.source.name: webhook.source for webhook in genuine}.values():
        chosen = rng.sample([webhook for webhook in genuine if webhook.source is source], _FORGED)
        other = source.with_new_secret()
        for number, webhook in enumerate(chosen):
            match number % 3:
                case 0:
                    by_other = _signed(rng, Kind.FORGED, webhook.connection_id, other, webhook.step, now)
                    yield replace(by_other, source=source)
                case 1:
                    yield replace(webhook, kind=Kind.FORGED, body=webhook.body.replace(b"member", b"admin ", 1) + b" ")
                case _:
                    yield replace(webhook, kind=Kind.FORGED, headers={"content-type": _JSON})


def _outdated(rng: Random, genuine: Sequence[Webhook], now: datetime) -> Iterator[Webhook]:
    """Signed rightly, but some time ago: caught on the wire, and sent again. Only of those that sign a time."""
    timed = [webhook for webhook in genuine if webhook.source.signs_time]
    for webhook in rng.sample(timed, _OUTDATED):
        yield _signed(rng, Kind.OUTDATED, webhook.connection_id, webhook.source, webhook.step, now - _OLD)


def _oversized(rng: Random, genuine: Sequence[Webhook], now: datetime) -> Iterator[Webhook]:
    """Signed rightly, and too large; every other one does not say how large it is."""
    for source in {webhook.source.name: webhook.source for webhook in genuine}.values():
        chosen = rng.sample([webhook for webhook in genuine if webhook.source is source], _OVERSIZED)
        for number, webhook in enumerate(chosen):
            body = webhook.body[:-1] + b" " * _LARGEST + b"}"
            large = _signed(rng, Kind.OVERSIZED, webhook.connection_id, source, webhook.step, now, body)
            yield replace(large, chunked=number % 2 == 1)


def _unfit(rng: Random, genuine: Sequence[Webhook], now: datetime) -> Iterator[Webhook]:
    """Signed rightly, but posted to nowhere, called no JSON, or no JSON object."""
    for number, webhook in enumerate(rng.sample(genuine, _UNFIT)):
        match number % 3:
            case 0:
                yield replace(webhook, kind=Kind.UNFIT, connection_id=_NOWHERE)
            case 1:
                yield replace(webhook, kind=Kind.UNFIT, headers={**webhook.headers, "content-type": "text/plain"})
            case _:
                yield _signed(rng, Kind.UNFIT, webhook.connection_id, webhook.source, webhook.step, now, b"[" + webhook.body + b"]")


def _standing(step: Step) -> Standing:
    return Standing(name=step.name, email="", state="removed" if step.leaves else step.state, plan=step.plan, expires_at=None)
