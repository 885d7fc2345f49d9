"""The 2,000 messages of the demo, and what must come of them, worked out without a line of the service."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any, Final
from uuid import UUID

from contracts.channels import MEMBER_CHANGED
from contracts.envelope import Envelope
from deploy.demo.people import SourceChange, life_of, standing_of, wire_time

__all__ = ["CONFLICTING", "MALFORMED", "PEOPLE", "REFUSED", "SENT", "Message", "Scenario", "Standing", "build_scenario", "tally"]

SENT: Final = 2_000
PEOPLE: Final = 600
SEED: Final = 7

_REPEATED: Final = 160
_SWAPPED: Final = 60
_OUTDATED: Final = 90
_RESENT: Final = 20
_CONTRADICTED: Final = 24
_SECOND_KEYS: Final = 6
_NAMELESS: Final = 5
_BROKEN: Final = 15
_INSERTED: Final = _REPEATED + _OUTDATED + _RESENT + _CONTRADICTED + _SECOND_KEYS + _NAMELESS + _BROKEN

# The ends that have no success: the worker parks these.
CONFLICTING: Final = "conflicting"
REFUSED: Final = "refused"
MALFORMED: Final = "malformed"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it is sent; `change` is what it says, None where nobody can read it."""

    envelope: Envelope
    body: bytes
    change: SourceChange | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member must be in the end, and what of it an event tells."""

    name: str
    email: str
    state: str
    plan: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is sent, in this order, how many messages come to each end, and what the source holds when all is said."""

    messages: Sequence[Message]
    expected: Mapping[str, int]
    standings: Mapping[str, Standing]


class _Foreign(Envelope):
    """A message of a producer that knows nothing of CloudEvents."""

    def to_headers(self) -> dict[str, str]:
        """No attributes at all."""
        return {}


def build_scenario(company_id: UUID, connection_id: UUID, now: datetime) -> Scenario:
    """The same scenario whenever it is built, but for the ids and the times, which are relative to `now` (aware)."""
    rng = Random(SEED)  # noqa: S311  # a story, no secret
    sender = _Sender(company_id, connection_id, now)
    lives = _lives(rng, now.replace(microsecond=0))
    messages = _disturbed(rng, sender, _interleaved(rng, lives))
    standings = {life[-1].external_id: _standing(life, now) for life in lives}
    return Scenario(messages, tally(messages), standings)


def tally(messages: Sequence[Message]) -> dict[str, int]:
    """How many messages come to each end when they are taken in this order: the greatest version wins, the first of two equals."""
    ends: Counter[str] = Counter()
    taken: set[str] = set()
    latest: dict[str, SourceChange] = {}
    records: dict[str, Mapping[str, Any]] = {}
    keys: dict[str, str] = {}
    for message in messages:
        change = message.change
        if change is None:
            ends[MALFORMED] += 1
            continue
        if message.envelope.id in taken:
            ends["duplicate"] += 1
            continue
        known, key = latest.get(change.external_id), change.external_id
        if known is not None and change.version <= known.version:
            same = change.version == known.version
            end = "stale" if not same else "unchanged" if change.member == known.member else CONFLICTING
        elif change.member is not None and keys.get(change.member["nationalId"], key) != key:
            end = CONFLICTING
        elif known is None and change.member is not None and "name" not in change.member:
            end = REFUSED
        else:
            record = change.member or {**records[key], "state": "removed"}
            end = "unchanged" if record == records.get(key) else "applied"
            latest[key], records[key] = change, record
            keys[record["nationalId"]] = key
        ends[end] += 1
        if end not in (CONFLICTING, REFUSED):
            taken.add(message.envelope.id)
    return dict(ends)


class _Sender:
    """Makes messages of changes, each with an id of its own."""

    def __init__(self, company_id: UUID, connection_id: UUID, now: datetime) -> None:
        self._ids = {"companyId": str(company_id), "connectionId": str(connection_id)}
        self._now = now
        self._sent = 0

    def message(self, change: SourceChange) -> Message:
        return Message(self._envelope(), json.dumps(self._body(change)).encode(), change)

    def broken(self, change: SourceChange, kind: int) -> Message:
        """One of five messages that nobody can read."""
        envelope, body = self._envelope(), self._body(change)
        kind %= 5
        if kind == 0:
            return Message(envelope, json.dumps(body).encode()[:-20], None)
        if kind == 1:
            del body["version"]
        elif kind == 2:
            body["version"] = str(body["version"])
        elif kind == 3:
            body["updatedAt"] = body["updatedAt"].removesuffix("Z")
        else:
            envelope = _Foreign(envelope.id, envelope.source, envelope.type)
        return Message(envelope, json.dumps(body).encode(), None)

    def _body(self, change: SourceChange) -> dict[str, Any]:
        body: dict[str, Any] = {
            **self._ids,
            "externalId": change.external_id,
            "action": "remove" if change.member is None else "upsert",
            "version": change.version,
            "updatedAt": wire_time(change.updated_at),
        }
        return body if change.member is None else {**body, "member": change.member}

    def _envelope(self) -> Envelope:
        self._sent += 1
        return Envelope(f"demo-{self._sent:05d}", "demo directory", MEMBER_CHANGED.message_type, self._now)


def _lives(rng: Random, now: datetime) -> list[list[SourceChange]]:
    extra = Counter(rng.choices(range(PEOPLE), k=SENT - _INSERTED - PEOPLE))
    return [life_of(rng, number, 1 + extra[number], now) for number in range(PEOPLE)]


def _interleaved(rng: Random, lives: Sequence[Sequence[SourceChange]]) -> list[SourceChange]:
    """All lives at once, each in its own order, joining all along the first half."""

    def dated(life: Sequence[SourceChange]) -> Iterator[tuple[float, str, SourceChange]]:
        joined = rng.random() / 2
        moments = [joined, *sorted(rng.uniform(joined, 1) for _ in life[1:])]
        return ((moment, change.external_id, change) for moment, change in zip(moments, life, strict=True))

    return [change for *_, change in sorted((item for life in lives for item in dated(life)), key=lambda item: item[:2])]


def _disturbed(rng: Random, sender: _Sender, changes: list[SourceChange]) -> list[Message]:
    """What a network, a retrying producer and a careless one make of it."""
    places: dict[str, list[int]] = {}
    for place, change in enumerate(changes):
        places.setdefault(change.external_id, []).append(place)
    # Two changes of one person, the later one arriving first. Not a removal: it says nothing of the record, so what the earlier
    # one altered would stay unknown.
    pairs = [pair for of_one in places.values() for pair in list(pairwise(of_one))[:1] if changes[pair[1]].member is not None]
    for earlier, later in rng.sample(pairs, _SWAPPED):
        changes[earlier], changes[later] = changes[later], changes[earlier]
    messages = [sender.message(change) for change in changes]
    disturbances = list(_disturbances(rng, sender, messages, places))
    # Stable: what belongs directly behind a message stands there.
    placed = [*((float(place), message) for place, message in enumerate(messages)), *disturbances]
    return [message for _, message in sorted(placed, key=lambda item: item[0])]


def _disturbances(
    rng: Random, sender: _Sender, messages: Sequence[Message], places: Mapping[str, Sequence[int]]
) -> Iterator[tuple[float, Message]]:
    """What comes on top of the changes, each with the place that it follows."""
    end = len(messages) - 1
    said = [message.change for message in messages if message.change is not None]
    for place in rng.sample(range(end), _REPEATED):
        yield min(place + rng.randint(0, 150), end) + 0.5, messages[place]
    for of_one in rng.sample([of_one for of_one in places.values() if len(of_one) > 1], _OUTDATED):
        yield of_one[-1] + 0.5, sender.message(said[of_one[-2]])
    for place in rng.sample(range(end), _RESENT):
        yield place + 0.5, sender.message(said[place])
    upserts = [place for place, change in enumerate(said) if change.member is not None]
    for place in rng.sample(upserts, _CONTRADICTED):
        yield place + 0.5, sender.message(replace(said[place], member={**_member(said[place]), "plan": "mistaken"}))
    for number, place in enumerate(rng.sample(upserts, _SECOND_KEYS)):
        yield end + 0.5, sender.message(replace(said[place], external_id=f"again-{number}"))
    for number, place in enumerate(rng.sample(upserts, _NAMELESS)):
        nameless = {"nationalId": f"Q9{number:04d}-000", "email": f"nobody.{number}@example.org"}
        yield place + 0.5, sender.message(replace(said[place], external_id=f"nameless-{number}", member=nameless))
    for kind, place in enumerate(rng.sample(upserts, _BROKEN)):
        # Were it readable, it would be applied: a version further than any.
        yield place + 0.5, sender.broken(replace(said[place], version=1_000_000), kind)


def _member(change: SourceChange) -> Mapping[str, Any]:
    if change.member is None:
        raise ValueError("a removal says nothing of its member")
    return change.member


def _standing(life: Sequence[SourceChange], now: datetime) -> Standing:
    record = next(change.member for change in reversed(life) if change.member is not None)
    expires_at = record["expiresAt"]
    return Standing(
        name=record["name"],
        email=record["email"],
        state=standing_of(life[-1], now + timedelta(hours=1)),
        plan=record["plan"],
        expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
    )
