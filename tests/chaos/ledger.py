"""The ledger of a run: the changes that the broker took against the rows and events that came of them.

Every change is sent under an id of its own, which is the correlation id of its audit row and its event, so that each effect can be
led back to the one change that it is of.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tests.service_rig import Subscriber

_EVENTS = "select member_id::text, external_id, version, correlation_id from member_events order by member_id, version"


@dataclass(frozen=True, slots=True)
class Offered:
    """What a change says of whom."""

    external_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as it was delivered: of which change it is, of which version of whom, and when by the monotonic clock."""

    change: str
    member: str
    version: int
    at: float


class Deliveries(Subscriber):
    """A subscriber that also keeps every delivery, repeats among them."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[Arrival] = []
        # Of each member, by its external id: the change of the greatest version that came.
        self.last_change: dict[str, str] = {}

    def take(self, message: Any) -> None:
        event = json.loads(message.body)
        self.arrivals.append(Arrival(message.correlation_id, event["memberId"], event["version"], time.monotonic()))
        if event["version"] > self.latest.get(event["memberId"], {"version": 0})["version"]:
            self.last_change[event["externalId"]] = message.correlation_id
        super().take(message)


@dataclass(slots=True)
class Ledger:
    """The accepting side: `accepted` has the moment of the broker's confirm, `to_park` what must not take effect."""

    offered: dict[str, Offered] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)
    to_park: set[str] = field(default_factory=set)

    def offer(self, change: str, external_id: str, version: int) -> None:
        self.offered[change] = Offered(external_id, version)

    def accept(self, change: str) -> None:
        self.accepted.setdefault(change, time.monotonic())

    @property
    def to_apply(self) -> int:
        return len(self.accepted.keys() - self.to_park)


@dataclass(frozen=True, slots=True)
class Stored:
    """The database's side, read at rest."""

    taken_in: Counter[str]
    versions: Sequence[tuple[str, str, int, str]]
    members: dict[str, int]
    outbox: int

    @classmethod
    async def read(cls, database_url: str) -> Stored:
        connection = await asyncpg.connect(database_url)
        try:
            return cls(
                Counter(row["message_id"] for row in await connection.fetch("select message_id from inbox")),
                [tuple(row) for row in await connection.fetch(_EVENTS)],
                {row["id"]: row["version"] for row in await connection.fetch("select id::text, version from members")},
                await connection.fetchval("select count(*) from outbox"),
            )
        finally:
            await connection.close()


@dataclass(frozen=True, slots=True)
class Findings:
    """What does not balance, each as a text that says what and of whom, and what only informs.

    `overtaken` are the changes and events that came for the first time after a later one of their member. The version filter drops
    such an event, and nothing is wrong by that, but only a broker that handed out anew what it had in hand may cause it.
    """

    accepted: int
    delivered: int
    lost: list[str]
    ghosts: list[str]
    twice: list[str]
    inverted: list[str]
    overtaken: list[str]
    repeated: int


def compare(ledger: Ledger, stored: Stored, seen: Deliveries) -> Findings:
    """Hold the three sides against each other; everything must have come to rest."""
    unconfirmed = ledger.offered.keys() - ledger.accepted.keys()
    assert not unconfirmed, f"{len(unconfirmed)} changes were never confirmed: the load must send each until it is"
    stale = list(_stale(ledger, stored))
    return Findings(
        accepted=len(ledger.accepted),
        delivered=len(seen.received),
        lost=[*_lost(ledger, stored, seen, set(stale)), *([f"{stored.outbox} rows left in the outbox"] if stored.outbox else [])],
        ghosts=list(_ghosts(ledger, stored, seen)),
        twice=list(_twice(stored)),
        inverted=list(_inverted(ledger, stored, seen)),
        overtaken=[*(f"change {change} was stale" for change in stale), *_overtaken(seen)],
        repeated=len(seen.arrivals) - len({(arrival.member, arrival.version) for arrival in seen.arrivals}),
    )


def _stale(ledger: Ledger, stored: Stored) -> Iterator[str]:
    """Changes that were taken in without effect because a later one of their member had been applied."""
    effective = {change for *_, change in stored.versions}
    latest: dict[str, int] = {}
    for *_, change in stored.versions:
        if (offered := ledger.offered.get(change)) is not None:
            latest[offered.external_id] = max(offered.version, latest.get(offered.external_id, 0))
    for change in ledger.accepted.keys() - effective:
        offered = ledger.offered[change]
        if change in stored.taken_in and latest.get(offered.external_id, 0) > offered.version:
            yield change


def _lost(ledger: Ledger, stored: Stored, seen: Deliveries, stale: set[str]) -> Iterator[str]:
    effective = {change for *_, change in stored.versions}
    for change in ledger.accepted.keys() - ledger.to_park:
        if change not in stored.taken_in:
            yield f"change {change} was accepted and never taken in"
        elif change not in effective | stale:
            yield f"change {change} was taken in and had no effect"
    for member, _, version, change in stored.versions:
        if (member, version) not in seen.received:
            yield f"the event of version {version} of {member} (change {change}) never came"


def _ghosts(ledger: Ledger, stored: Stored, seen: Deliveries) -> Iterator[str]:
    may_apply = ledger.accepted.keys() - ledger.to_park
    for change in stored.taken_in.keys() - may_apply:
        yield f"the inbox has {change}, which nobody sent or which must be parked"
    made = {(member, version): change for member, _, version, change in stored.versions}
    for member, external_id, version, change in stored.versions:
        if change not in may_apply or ledger.offered[change].external_id != external_id:
            yield f"version {version} of {external_id} ({member}) is of no accepted change of it"
    for member in stored.members.keys() - {member for member, *_ in stored.versions}:
        yield f"member {member} has no version"
    for arrival in seen.arrivals:
        if made.get((arrival.member, arrival.version)) != arrival.change:
            yield f"an event of version {arrival.version} of {arrival.member} says change {arrival.change}, of which it is not"


def _twice(stored: Stored) -> Iterator[str]:
    for change, rows in stored.taken_in.items():
        if rows > 1:
            yield f"change {change} was taken in {rows} times"
    for change, rows in Counter(change for *_, change in stored.versions).items():
        if rows > 1:
            yield f"change {change} made {rows} versions"
    versions = Counter(member for member, *_ in stored.versions)
    for member, version in stored.members.items():
        if versions[member] != version:
            yield f"member {member} is at version {version} and has {versions[member]} in its audit"


def _inverted(ledger: Ledger, stored: Stored, seen: Deliveries) -> Iterator[str]:
    """Versions and filtered events whose changes are not in the order of their source."""

    def in_order(kind: str, member: str, changes: Sequence[str]) -> Iterator[str]:
        said = [ledger.offered[change].version for change in changes if change in ledger.offered]
        if said != sorted(set(said)):
            yield f"the {kind} of {member} are in the order {said}"

    audited: dict[str, list[str]] = {}
    for member, _, _, change in stored.versions:
        audited.setdefault(member, []).append(change)
    for member, changes in audited.items():
        yield from in_order("versions", member, changes)
    told: dict[str, list[Arrival]] = {}
    for arrival in seen.arrivals:
        kept = told.setdefault(arrival.member, [])
        if not kept or arrival.version > kept[-1].version:
            kept.append(arrival)
    for member, kept in told.items():
        yield from in_order("events", member, [arrival.change for arrival in kept])
        if kept[-1].version != stored.members.get(member):
            yield f"the last event of {member} is version {kept[-1].version}, the row {stored.members.get(member)}"


def _overtaken(seen: Deliveries) -> Iterator[str]:
    latest: dict[str, int] = {}
    known: set[tuple[str, int]] = set()
    for arrival in seen.arrivals:
        key = (arrival.member, arrival.version)
        if key not in known and arrival.version < latest.get(arrival.member, 0):
            yield f"version {arrival.version} of {arrival.member} came after version {latest[arrival.member]}"
        known.add(key)
        latest[arrival.member] = max(arrival.version, latest.get(arrival.member, 0))


def caught_up_after(moment: float, ledger: Ledger, seen: Deliveries) -> float:
    """Seconds from a moment of the monotonic clock until all that had been accepted by then had been delivered."""
    came = _first_arrivals(seen)
    return max([0.0, *(came[change] - moment for change, at in ledger.accepted.items() if at <= moment and change in came)])


def longest_wait(since: float, ledger: Ledger, seen: Deliveries) -> float:
    """The most seconds from a change's confirm to its event, of those accepted since a moment of the monotonic clock."""
    came = _first_arrivals(seen)
    return max([0.0, *(came[change] - at for change, at in ledger.accepted.items() if at >= since and change in came)])


def _first_arrivals(seen: Deliveries) -> dict[str, float]:
    first: dict[str, float] = {}
    for arrival in seen.arrivals:
        first.setdefault(arrival.change, arrival.at)
    return first
