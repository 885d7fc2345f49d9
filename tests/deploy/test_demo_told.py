"""The fifth chapter's system and books: what is believed, what is told twice, and what does not balance."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from deploy.demo.evidence import Stored
from deploy.demo.hooked_system import HookedSystem, running_hooked_system
from deploy.demo.told_books import ToldBooks, told_entries
from deploy.demo.told_scenario import CHANGES, CHANGING, EDITED, JOIN, TOLD
from service.store.drift_runs import DriftRunRow

SECRET = f"whsec_{base64.b64encode(b'0' * 24).decode()}"
OTHER = f"whsec_{base64.b64encode(b'1' * 24).decode()}"


def notification(member: str, version: int, *, secret: str = SECRET, at: datetime | None = None) -> tuple[dict[str, str], bytes]:
    body = json.dumps({"data": {"memberId": member, "version": version}}).encode()
    identity, at = f"{member}:{version}", at or datetime.now(UTC)
    signature = Webhook(secret).sign(identity, at, body.decode())
    return {"webhook-id": identity, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}, body


@pytest.fixture
def system() -> Iterator[HookedSystem]:
    with running_hooked_system(SECRET) as system:
        yield system


def send(system: HookedSystem, member: str, version: int, secret: str = SECRET, at: datetime | None = None) -> int:
    headers, body = notification(member, version, secret=secret, at=at)
    return httpx.post(system.url, content=body, headers=headers, trust_env=False).status_code


class TestSystem:
    def test_takes_what_is_rightly_signed_once(self, system: HookedSystem) -> None:
        assert [send(system, "a", 1), send(system, "a", 2), send(system, "a", 2)] == [204] * 3
        assert (system.delivered, system.repeats, system.latest, system.out_of_order) == (2, 1, {"a": 2}, 0)

    def test_does_not_believe_another_secret_nor_an_old_signature(self, system: HookedSystem) -> None:
        assert send(system, "a", 1, OTHER) == 401
        assert send(system, "a", 1, at=datetime.now(UTC) - timedelta(hours=1)) == 401
        assert (system.delivered, system.unbelieved) == (0, 2)

    def test_takes_nothing_while_it_is_away(self, system: HookedSystem) -> None:
        system.away = True
        assert send(system, "a", 1) == 503
        system.away = False
        assert send(system, "a", 1) == 204
        assert (system.delivered, system.turned_away) == (1, 1)

    def test_notices_a_version_that_is_not_the_next(self, system: HookedSystem) -> None:
        send(system, "a", 2)
        send(system, "a", 1)
        assert (system.delivered, system.out_of_order, system.latest) == (2, 2, {"a": 2})


def run(verdict: str, drifted: int, *, promoted: bool = False, healed: int = 0) -> DriftRunRow:
    now = datetime.now(UTC)
    return DriftRunRow(
        id=uuid4(),
        job_id=uuid4(),
        read_model="audit",
        mode="full",
        started_at=now,
        finished_at=now,
        verdict=verdict,
        compared=7000,
        out_of_sync=drifted,
        errors=0,
        truncated=False,
        error=None,
        streak=1,
        promoted=promoted,
        healed=healed,
        correlation_id="run",
    )


@pytest.fixture
def books() -> ToldBooks:
    told = HookedSystem(SECRET)
    for number in range(JOIN):
        versions = 1 + (CHANGES if number in CHANGING else 0) + (1 if number in EDITED else 0)
        for version in range(1, versions + 1):
            told.take(*notification(str(UUID(int=number)), version))
    many = len(EDITED)
    runs = [run("breach", many), run("breach", many, promoted=True), run("breach", many, healed=many), run("clean", 0)]
    return ToldBooks(
        system=told, stored=Stored(inbox=0, audited=TOLD, outbox=0), runs=runs, promotions=1, edits_left=0, not_ended=0
    )


def wrong(books: ToldBooks) -> dict[str, int]:
    return {entry.name: entry.found for entry in told_entries(books) if not entry.balances}


class TestBooks:
    def test_balance_when_all_is_as_it_must_be(self, books: ToldBooks) -> None:
        assert wrong(books) == {}

    def test_call_an_event_that_nobody_was_told_of_lost(self, books: ToldBooks) -> None:
        stored = replace(books.stored, audited=TOLD + 1)
        assert wrong(replace(books, stored=stored)) == {"versions": TOLD + 1, "lost": 1}
        assert wrong(replace(books, not_ended=1)) == {"lost": 1}
        assert wrong(replace(books, stored=replace(books.stored, outbox=1))) == {"lost": 1}

    def test_do_not_balance_when_versions_change_places(self, books: ToldBooks) -> None:
        books.system.out_of_order = 1
        assert wrong(books) == {"out of order": 1}

    def test_do_not_balance_when_drift_is_told_of_twice_or_never(self, books: ToldBooks) -> None:
        assert wrong(replace(books, promotions=2)) == {"told of it": 2}
        assert wrong(replace(books, promotions=0)) == {"told of it": 0}

    def test_do_not_balance_when_edits_stay(self, books: ToldBooks) -> None:
        runs = [*books.runs[:2], replace(books.runs[2], healed=1), run("breach", 19)]
        found = wrong(replace(books, runs=runs, edits_left=19))
        assert found == {"breaches": 4, "healed": 1, "clean": 0, "edits left": 19}

    def test_do_not_balance_when_nothing_was_compared(self, books: ToldBooks) -> None:
        assert wrong(replace(books, runs=[])) == {"drifted": 0, "breaches": 0, "healed": 0, "clean": 0}
